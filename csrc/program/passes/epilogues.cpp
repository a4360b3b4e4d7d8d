// epilogues: elementwise lines that read the result of a matmul, a convolution or another op that
// makes it in blocks (graph/blocks.h) become a part of its line, which runs them on each block
// while it is in the cache; large matmuls run them on the whole result (program/cpu/matmul.cpp says
// why). The op writes to where the last result will lie, so it has no memory of its own. On a GPU
// they run in the matmul's kernel (program/gpu/matmul.h).
//
//   v2 = matmul(arg0, c2.T)               v2, v3, v4 = matmul:
//   fused:                                  v2 = matmul(arg0, c2.T)
//     v3 = add(v2, c5)               ->     v3 = add(v2, c5)
//     v4 = sigmoid(v3)                      v4 = sigmoid(v3)
#include <algorithm>

#include "ops/matmul/matmul.h"
#include "program/cpu/chain.h"
#include "program/cpu/matmul.h"
#include "program/gpu/matmul.h"
#include "program/passes.h"

namespace wengert {

namespace {

constexpr int64_t least_columns = 16;  // of blocks whose rows may come one by one

// Whether lines may be added: no other line writes its result. A stack of matrices is one tall one.
bool takes_epilogue(const StepList& list, const StepList::Line& line,
                    const std::vector<int>& writers) {
  if ((line.op != &matmul_op && !then_of(*line.op)) || !line.body.empty()) return false;
  const StepList::Value& c = list.value(line.outputs[0]);
  return is_floating(c.dtype) && c.dtype != DType::bfloat16 && numel(c.shape) > 0 &&
         (!then_of(*line.op) || grid_of_blocks(*line.op, c.shape).columns >= least_columns) &&
         writers[static_cast<size_t>(c.slot)] == 1;
}

bool is_epilogue(const StepList& list, const Op& op, const StepList::Line& line, int made) {
  if (line.op != &fused_op && !chainable(list, line)) return false;
  const StepList::Value& c = list.value(made);
  bool reads = false;
  for (int x : line.inputs) {
    reads |= x == made;
    if (x != made && list.value(x).slot == c.slot) return false;  // seen in another way
  }
  const std::span<const StepList::Line> parts =
      line.body.empty() ? std::span(&line, 1) : std::span(line.body);
  return reads && list.value(line.outputs[0]).shape == c.shape &&
         fits_grid(list, parts, grid_of_blocks(op, c.shape), true);
}

// Makes the first line behind line i that `fits(line, next)` a part of it, where one of the two can
// move to the other; false if there is none.
template <class Fits>
bool take_next(StepList& list, size_t i, decltype(StepList::Line::ready) ready, const Fits& fits) {
  for (size_t j = i + 1; j < list.lines.size(); ++j) {
    if (!fits(list.lines[i], list.lines[j])) continue;
    size_t at = i;
    if (can_move(list, j, i)) {  // up to the first
      move_line(list, j, i);
    } else if (can_move(list, i, j)) {  // the first down to it
      move_line(list, i, j);
      at = j - 1;
    } else {
      continue;
    }
    std::vector<StepList::Line> body = body_of(list.lines[at]);
    const std::vector<StepList::Line> then = body_of(list.lines[at + 1]);
    body.insert(body.end(), then.begin(), then.end());
    const Op& op = *body[0].op;
    list.lines[at] = fused(op, std::move(body), ready);
    list.lines.erase(list.lines.begin() + static_cast<std::ptrdiff_t>(at + 1));
    return true;
  }
  return false;
}

}  // namespace

void fuse_epilogues(StepList& list) {
  const std::vector<int> writers = list.writers();
  for (size_t i = 0; i < list.lines.size();)
    if (!takes_epilogue(list, list.lines[i], writers) ||
        !take_next(list, i, then_of(*list.lines[i].op) ? ready_then : ready_matmul,
                   [&](const StepList::Line& line, const StepList::Line& next) {
                     return is_epilogue(list, *line.op, next, line.outputs[0]);
                   }))
      ++i;
}

// A matmul takes one line after another, and only those that its kernel knows.
void fuse_gpu_epilogues(StepList& list) {
  const std::vector<int> writers = list.writers();
  for (size_t i = 0; i < list.lines.size();)
    if (!is_gpu_matmul(list, list.lines[i]) ||
        writers[static_cast<size_t>(list.value(list.lines[i].outputs[0]).slot)] != 1 ||
        !take_next(list, i, ready_gpu_matmul,
                   [&](const StepList::Line& matmul, const StepList::Line& next) {
                     return takes_step(list, matmul, next);
                   }))
      ++i;
}

}  // namespace wengert
