// overlap: what goes on by itself (a message between machines) begins right after the line that its
// operands wait for, and its end is awaited right before the first line that needs it, or that
// changes what is outside the step. The lines in between run meanwhile.
//
//   v9 = matmul(v8.T, v4)                 v9 = matmul(v8.T, v4)
//   v10 = matmul(v8, c2.T)                allreduce_start(c0, v9)
//   v11 = matmul(v10.T, arg0)        ->   v10 = matmul(v8, c2.T)
//   allreduce_start(c0, v9)               v11 = matmul(v10.T, arg0)
//   allreduce_start(c0, v11)              allreduce_start(c0, v11)
//   allreduce_wait(c0, v9)                allreduce_wait(c0, v9)
//
// Those that are begun keep their order (all of them edit c0), since all machines begin them alike.
#include <algorithm>

#include "ops/custom/host.h"
#include "program/passes.h"

namespace wengert {

namespace {

const HostCall* call_of(const StepList::Line& line) { return host_call(*line.op, line.attrs); }

// Line `at` and the lines that it has to wait for come before all others.
void raise(StepList& list, size_t at) {
  std::vector<bool> touched(list.slots.size(), false), written(list.slots.size(), false);
  std::vector<StepList::Line> first, others;
  for (size_t i = at + 1; i-- > 0;) {
    StepList::Line& line = list.lines[i];
    bool waited_for = i == at;
    each_slot(list, line, [&](int m, bool writes) {
      waited_for |= writes ? touched[static_cast<size_t>(m)] : written[static_cast<size_t>(m)];
    });
    if (waited_for)
      each_slot(list, line, [&](int m, bool writes) {
        touched[static_cast<size_t>(m)] = true;
        if (writes) written[static_cast<size_t>(m)] = true;
      });
    (waited_for ? first : others).push_back(std::move(line));
  }
  const auto begin = list.lines.begin();
  std::move(first.rbegin(), first.rend(), begin);
  std::move(others.rbegin(), others.rend(), begin + static_cast<std::ptrdiff_t>(first.size()));
}

bool changes_outside(const StepList& list, const StepList::Line& line) {
  bool found = false;
  each_slot(list, line, [&](int m, bool written) {
    found |= written && list.slots[static_cast<size_t>(m)].kind == StepList::Slot::outside;
  });
  return found;
}

void sink(StepList& list, size_t at) {
  size_t to = at + 1;
  while (to < list.lines.size() && !conflict(list, list.lines[at], list.lines[to]) &&
         !changes_outside(list, list.lines[to]))
    ++to;
  if (to > at + 1) move_line(list, at, to);
}

}  // namespace

void overlap(StepList& list) {
  for (size_t i = 0; i < list.lines.size(); ++i)
    if (const HostCall* call = call_of(list.lines[i]); call && call->begins) raise(list, i);
  for (size_t i = list.lines.size(); i-- > 0;)
    if (const HostCall* call = call_of(list.lines[i]); call && call->waits) sink(list, i);
}

}  // namespace wengert
