// losses: cross-entropy and its gradient, where what arrives at the loss is known before it (1 / n
// of a mean), are one line that makes both row by row.
//
//   v8, k = cross_entropy(v7, arg1)       v8, k, v14 = cross_entropy_with_gradient(v7, arg1, v13)
//   v9 = mean(v8)                    ->   v9 = mean(v8)
//   v14 = cross_entropy_vjp(v13, v7, arg1, k)
#include "ops/rows/softmax.h"
#include "program/passes.h"

namespace wengert {

void fuse_losses(StepList& list) {
  for (size_t i = 0; i < list.lines.size(); ++i) {
    const StepList::Line loss = list.lines[i];
    if (loss.op != &cross_entropy_ops.value) continue;
    for (size_t j = i + 1; j < list.lines.size(); ++j) {
      const StepList::Line& vjp = list.lines[j];
      if (vjp.op != &cross_entropy_ops.vjp || vjp.inputs[1] != loss.inputs[0] ||
          vjp.inputs[2] != loss.inputs[1] || vjp.inputs[3] != loss.outputs[1] ||
          list.value(vjp.inputs[0]).slot == list.value(loss.outputs[0]).slot ||
          !can_move(list, j, i))
        continue;
      StepList::Line both = fused(cross_entropy_ops.both, {loss, vjp});
      both.inputs = {loss.inputs[0], loss.inputs[1], vjp.inputs[0]};
      both.outputs = {loss.outputs[0], loss.outputs[1], vjp.outputs[0]};
      list.lines[i] = std::move(both);
      list.lines.erase(list.lines.begin() + static_cast<std::ptrdiff_t>(j));
      break;
    }
  }
}

}  // namespace wengert
