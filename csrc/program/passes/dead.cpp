// dead: lines whose results nothing reads, in the step or after it, are dropped.
//
//   v7 = mul(v6, v6)
//   v8 = sum(v7)                     ->   v9 = mean(v6)
//   v9 = mean(v6)
#include <algorithm>

#include "program/passes.h"

namespace wengert {

void drop_dead(StepList& list) {
  std::vector<bool> live;  // by memory
  for (const StepList::Slot& m : list.slots)
    live.push_back(m.kept || m.kind != StepList::Slot::made);
  std::vector<bool> used(list.values.size(), false);  // of views, which have no memory of their own
  for (size_t i = list.lines.size(); i-- > 0;) {
    const StepList::Line& line = list.lines[i];
    bool needed = false;
    if (line.op->alias)
      needed = used[static_cast<size_t>(line.outputs[0])];
    else
      each_slot(list, line,
                [&](int m, bool written) { needed |= written && live[static_cast<size_t>(m)]; });
    if (!needed) {
      list.lines.erase(list.lines.begin() + static_cast<std::ptrdiff_t>(i));
      continue;
    }
    for (int x : line.inputs) {
      used[static_cast<size_t>(x)] = true;
      if (!line.op->alias) live[static_cast<size_t>(list.value(x).slot)] = true;
    }
  }
}

}  // namespace wengert
