#include "program/list.h"

#include <algorithm>

namespace wengert {

View StepList::view(int v) const {
  const Value& x = value(v);
  const Storage& storage = *slot(v).storage.get();
  return {static_cast<char*>(storage.data) + x.offset, x.shape, x.strides, x.dtype, storage.device};
}

void StepList::run(const Line& line) const {
  std::vector<View> in, out;
  for (int y : line.outputs) {
    slot(y).storage->provide();
    out.push_back(view(y));
  }
  for (int x : line.inputs) in.push_back(view(x));
  const OpKernel kernel = kernel_on(*line.op, device_for(Views(out), Views(in)));
  kernel(Views(out), Views(in), line.attrs);
}

std::vector<int> StepList::writers() const {
  std::vector<int> count(slots.size(), 0);
  for (const Line& line : lines) {
    if (line.op->alias) continue;
    each_slot(*this, line, [&](int m, bool written) { count[static_cast<size_t>(m)] += written; });
  }
  return count;
}

int64_t StepList::bytes_made() const {
  int64_t total = 0;
  for (const Slot& m : slots)
    if (m.kind == Slot::made) total += m.bytes;
  return total;
}

bool conflict(const StepList& list, const StepList::Line& a, const StepList::Line& b) {
  bool found = false;
  each_slot(list, a, [&](int m, bool m_written) {
    each_slot(list, b, [&](int n, bool n_written) { found |= m == n && (m_written || n_written); });
  });
  return found;
}

bool can_move(const StepList& list, size_t from, size_t to) {
  const auto [first, last] = to < from ? std::pair(to + 1, from) : std::pair(from + 1, to);
  for (size_t i = first; i < last; ++i)
    if (conflict(list, list.lines[i], list.lines[from])) return false;
  return true;
}

void move_line(StepList& list, size_t from, size_t to) {
  const auto at = list.lines.begin();
  const auto place = [&](size_t i) { return at + static_cast<std::ptrdiff_t>(i); };
  if (to < from)
    std::rotate(place(to + 1), place(from), place(from + 1));
  else
    std::rotate(place(from), place(from + 1), place(to));
}

}  // namespace wengert
