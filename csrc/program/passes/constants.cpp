// constants: a line whose operands never change is run here, once and for all.
//
//   v12 = full(shape=(), value=1)
//   v14 = div(v12, c19)              ->   (nothing; v14 is there)
#include <algorithm>

#include "program/passes.h"

namespace wengert {

void fold_constants(StepList& list) {
  const std::vector<int> writers = list.writers();
  const auto constant = [&](int v) { return list.slot(v).kind == StepList::Slot::constant; };
  std::erase_if(list.lines, [&](const StepList::Line& line) {
    if (line.op->alias || line.edited || line.outputs.empty()) return false;
    const bool known = std::all_of(line.inputs.begin(), line.inputs.end(), constant);
    const bool its_own = std::all_of(line.outputs.begin(), line.outputs.end(), [&](int y) {
      const StepList::Slot& m = list.slot(y);
      return m.kind == StepList::Slot::made && !m.kept &&
             writers[static_cast<size_t>(list.value(y).slot)] == 1;
    });
    if (!known || !its_own) return false;
    list.run(line);
    for (int y : line.outputs) list.slot(y).kind = StepList::Slot::constant;
    return true;
  });
}

}  // namespace wengert
