// common: a line that does to the same operands what an earlier line has done is left out, and its
// readers read the earlier result.
//
//   v3 = exp(v1)
//   v4 = exp(v1)                     ->   v3 = exp(v1)
//   v5 = add(v3, v4)                      v5 = add(v3, v3)
#include <cstring>

#include "program/passes.h"

namespace wengert {

namespace {

bool same_work(const StepList::Line& a, const StepList::Line& b) {
  return a.op == b.op && a.inputs == b.inputs &&
         std::memcmp(&a.attrs, &b.attrs, sizeof a.attrs) == 0;
}

bool same_layout(const StepList::Value& a, const StepList::Value& b) {
  return a.slot == b.slot && a.offset == b.offset && a.shape == b.shape && a.strides == b.strides &&
         a.dtype == b.dtype;
}

// Every value of memory `from` becomes one of memory `to`, the one that is there already if it has
// the same layout.
void redirect(StepList& list, int from, int to) {
  std::vector<int> replaced(list.values.size());
  for (size_t v = 0; v < list.values.size(); ++v) {
    replaced[v] = static_cast<int>(v);
    if (list.values[v].slot != from) continue;
    list.values[v].slot = to;
    for (size_t w = 0; w < list.values.size(); ++w)
      if (w != v && list.values[w].slot == to && same_layout(list.values[w], list.values[v])) {
        replaced[v] = static_cast<int>(w);
        break;
      }
  }
  for (StepList::Line& line : list.lines) {
    for (int& x : line.inputs) x = replaced[static_cast<size_t>(x)];
    for (int& y : line.outputs) y = replaced[static_cast<size_t>(y)];
  }
}

}  // namespace

void share_common(StepList& list) {
  const std::vector<int> writers = list.writers();
  const auto its_own = [&](const StepList::Line& line, bool may_be_kept) {
    for (int y : line.outputs) {
      const StepList::Slot& m = list.slot(y);
      if (m.kind != StepList::Slot::made || (m.kept && !may_be_kept) ||
          writers[static_cast<size_t>(list.value(y).slot)] != 1)
        return false;
    }
    return !line.op->alias && !line.edited && !line.outputs.empty();
  };
  for (size_t i = 0; i < list.lines.size(); ++i) {
    if (!its_own(list.lines[i], true)) continue;
    for (size_t j = i + 1; j < list.lines.size();) {
      const bool again = same_work(list.lines[i], list.lines[j]) && its_own(list.lines[j], false);
      if (again && can_move(list, j, i)) {
        const StepList::Line twin = list.lines[j];
        list.lines.erase(list.lines.begin() + static_cast<std::ptrdiff_t>(j));
        for (size_t k = 0; k < twin.outputs.size(); ++k)
          redirect(list, list.value(twin.outputs[k]).slot,
                   list.value(list.lines[i].outputs[k]).slot);
        continue;
      }
      ++j;
    }
  }
}

}  // namespace wengert
