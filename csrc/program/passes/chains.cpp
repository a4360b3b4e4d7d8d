// chains: elementwise lines over one shape that feed each other become one line, which runs them
// tile by tile while the tile is in L1 (program/cpu/chain.h), with the tile functions of the ops'
// own tables, or, where NVRTC is there, in one kernel of a GPU (program/gpu/chain.h). Results that
// only they need are never stored. Operands may be broadcast along rows or columns, and
// on a CPU have one number for each channel of each image.
//
//   v9 = sub(v8, arg1)                    fused:
//   v10 = square(v9)                 ->     v9 = sub(v8, arg1)
//   v16 = square_vjp(v15, v9)               v10 = square(v9)
//                                           v16 = square_vjp(v15, v9)
#include <algorithm>

#include "gpu/loader.h"
#include "program/cpu/chain.h"
#include "program/gpu/chain.h"
#include "program/passes.h"

namespace wengert {

namespace {

constexpr size_t longest = 10;  // lines: beyond, tiles and operands no longer fit in L1
static_assert(longest <= ChainArguments::max_lines);

bool feeds(const StepList::Line& from, const StepList::Line& to) {
  return std::any_of(to.inputs.begin(), to.inputs.end(), [&](int x) {
    return std::find(from.outputs.begin(), from.outputs.end(), x) != from.outputs.end();
  });
}

// Whether every operand that the body makes is read as it was made, not through another view.
bool reads_whole(const StepList& list, const std::vector<StepList::Line>& body,
                 const StepList::Line& next) {
  for (int x : next.inputs)
    for (const StepList::Line& part : body)
      if (list.value(part.outputs[0]).slot == list.value(x).slot && part.outputs[0] != x)
        return false;
  return true;
}

}  // namespace

void fuse_chains(StepList& list) {
  const std::vector<int> writers = list.writers();
  const auto fusable = [&](const StepList::Line& line) {
    return chainable(list, line) && (!is_cuda(device_of(list, line)) || cuda_fuses()) &&
           writers[static_cast<size_t>(list.value(line.outputs[0]).slot)] == 1;
  };
  for (size_t i = 0; i < list.lines.size(); ++i) {
    if (!fusable(list.lines[i])) continue;
    std::vector<StepList::Line> body{list.lines[i]};
    const Shape shape = list.value(body[0].outputs[0]).shape;
    const bool on_gpu = is_cuda(device_of(list, body[0]));
    // The next lines that can come up to it: `end` is the last line of the chain so far.
    size_t end = i;
    for (size_t j = i + 1; j < list.lines.size() && body.size() < longest; ++j) {
      const StepList::Line& next = list.lines[j];
      if (!fusable(next) || !(list.value(next.outputs[0]).shape == shape) ||
          device_of(list, next) != device_of(list, body[0]) ||
          !std::any_of(body.begin(), body.end(),
                       [&](const StepList::Line& part) { return feeds(part, next); }) ||
          !reads_whole(list, body, next) || !can_move(list, j, end))
        continue;
      body.push_back(next);
      if (!grid_of(list, body, !on_gpu)) {
        body.pop_back();
        continue;
      }
      move_line(list, j, end);
      ++end;
    }
    if (body.size() < 2) continue;
    list.lines[i] = fused(fused_op, std::move(body), on_gpu ? ready_gpu_chain : ready_chain);
    list.lines.erase(list.lines.begin() + static_cast<std::ptrdiff_t>(i + 1),
                     list.lines.begin() + static_cast<std::ptrdiff_t>(end + 1));
  }
}

}  // namespace wengert
