// epilogues: elementwise lines that need a matmul's result become a part of its line. Small
// products take them block by block, by the thread that has just made the block, while it is in the
// cache; the product lies where the last result will, so it has no memory of its own.
//
//   v2 = matmul(arg0, c2.T)               v2 = matmul(arg0, c2.T), then
//   fused:                           ->     v3 = add(v2, c5)
//     v3 = add(v2, c5)                      v4 = sigmoid(v3)
//     v4 = sigmoid(v3)
#include <algorithm>

#include "ops/matmul/matmul.h"
#include "program/cpu/chain.h"
#include "program/gpu/matmul.h"
#include "program/passes.h"

namespace wengert {

namespace {

// The product as lines may chain to it: in one piece, and no other line writes it. A stack of
// matrices is one tall one.
bool takes_epilogue(const StepList& list, const StepList::Line& line,
                    const std::vector<int>& writers) {
  if (line.op != &matmul_op || line.edit || !line.body.empty()) return false;
  const StepList::Value& c = list.value(line.outputs[0]);
  return is_floating(c.dtype) && c.dtype != DType::bfloat16 && numel(c.shape) > 0 &&
         writers[static_cast<size_t>(c.memory)] == 1;
}

bool is_epilogue(const StepList& list, const StepList::Line& line, int product) {
  if (line.op != &fused_op && !chainable(list, line)) return false;
  const StepList::Value& c = list.value(product);
  bool reads = false;
  for (int x : line.inputs) {
    reads |= x == product;
    if (x != product && list.value(x).memory == c.memory) return false;  // seen in another way
  }
  const std::span<const StepList::Line> parts =
      line.body.empty() ? std::span(&line, 1) : std::span(line.body);
  return reads && list.value(line.outputs[0]).shape == c.shape &&
         fits_grid(list, parts, {numel(c.shape) / c.shape.back(), c.shape.back()});
}

// Makes the first line behind line i that `fits(line, next)` a part of it, where one of the two can
// move to the other; false if there is none.
template <class Fits> bool take_next(StepList& list, size_t i, const Fits& fits) {
  for (size_t j = i + 1; j < list.lines.size(); ++j) {
    if (!fits(list.lines[i], list.lines[j])) continue;
    size_t at = i;
    if (can_move(list, j, i)) {  // up to the product
      move_line(list, j, i);
    } else if (can_move(list, i, j)) {  // the product down to it
      move_line(list, i, j);
      at = j - 1;
    } else {
      continue;
    }
    std::vector<StepList::Line> body = list.lines[at].body;
    if (body.empty()) body.push_back(list.lines[at]);
    const StepList::Line& then = list.lines[at + 1];
    if (then.body.empty())
      body.push_back(then);
    else
      body.insert(body.end(), then.body.begin(), then.body.end());
    list.lines[at] = fused(matmul_op, std::move(body));
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
        !take_next(list, i, [&](const StepList::Line& product, const StepList::Line& next) {
          return is_epilogue(list, next, product.outputs[0]);
        }))
      ++i;
}

// There a line takes one after another, and only such as its kernel knows.
void fuse_device_epilogues(StepList& list) {
  const std::vector<int> writers = list.writers();
  for (size_t i = 0; i < list.lines.size();)
    if (!device_product(list, list.lines[i]) ||
        writers[static_cast<size_t>(list.value(list.lines[i].outputs[0]).memory)] != 1 ||
        !take_next(list, i, [&](const StepList::Line& product, const StepList::Line& next) {
          return takes_step(list, product, next);
        }))
      ++i;
}

}  // namespace wengert
