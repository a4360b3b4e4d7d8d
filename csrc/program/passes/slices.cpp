// slices: on a GPU's tensor cores a matmul takes its operands as slices of bfloat16. Where another
// matmul makes an operand, its epilogue writes the slices too; without this pass a kernel reads the
// operand again to write them.
//
//   v2, v3 = matmul:                        v2, v3, p4 = matmul:
//     v2 = matmul(arg0, c2.T)                 v2 = matmul(arg0, c2.T)
//     v3 = add(v2, c5)                 ->     v3 = add(v2, c5)
//   v4 = matmul(v3, c6.T)                     p4 = slices(v3)
//                                           v4 = matmul(v3, c6.T, p4)
#include "ops/gpu.h"
#include "ops/matmul/gpu.h"
#include "program/gpu/matmul.h"
#include "program/passes.h"

namespace wengert {

const Op slices_op{.name = "slices",
                   .formula = "x as a sum of bfloat16",
                   .no_gradient = "a compiled step is not differentiated"};

namespace {

// The line before `end` that ends with x's memory as it is read; null: no matmul does.
StepList::Line* maker_of(StepList& list, const std::vector<int>& writers, size_t end,
                         const StepList::Value& x) {
  if (writers[static_cast<size_t>(x.slot)] != 1) return nullptr;
  for (size_t i = 0; i < end; ++i) {
    StepList::Line& line = list.lines[i];
    if (!is_gpu_matmul(list, line)) continue;
    const StepList::Value& made = list.value(last_value(line));
    if (made.slot == x.slot)
      return made.offset == x.offset && numel(made.shape) == numel(x.shape) ? &line : nullptr;
  }
  return nullptr;
}

// The slices of what `maker` ends with, made by it from now on; -1 if it makes another number.
int slices_by(StepList& list, StepList::Line& maker, int count) {
  for (const StepList::Line& part : maker.body)
    if (part.op == &slices_op) {
      const int known = part.outputs[0];
      return list.value(known).shape[0] == count ? known : -1;
    }
  const int x = last_value(maker), slices = static_cast<int>(list.values.size());
  const StepList::Value& of = list.value(x);
  const Shape shape{count, numel(of.shape) / of.shape.back(), of.shape.back()};
  list.slots.push_back(
      {.storage = Storage::promise(shape, DType::bfloat16, list.slot(x).storage->device),
       .kind = StepList::Slot::made,
       .bytes = nbytes(shape, DType::bfloat16)});
  list.values.push_back({concat("p", slices + 1), shape, contiguous_strides(shape), DType::bfloat16,
                         static_cast<int>(list.slots.size()) - 1, 0});
  std::vector<StepList::Line> body = body_of(maker);
  body.push_back({.op = &slices_op, .origin = maker.origin, .inputs = {x}, .outputs = {slices}});
  maker = fused(matmul_op, std::move(body), ready_gpu_matmul);
  return slices;
}

}  // namespace

void keep_slices(StepList& list) {
  const std::vector<int> writers = list.writers();
  for (size_t i = 0; i < list.lines.size(); ++i) {
    StepList::Line& line = list.lines[i];
    if (!is_gpu_matmul(list, line)) continue;
    StepList::Line& matmul = line.body.empty() ? line : line.body[0];
    const int y = matmul.outputs[0], a = matmul.inputs[0], b = matmul.inputs[1];
    const int count = gpu_kernels().matmul->slices(list.view(y), list.view(a), list.view(b),
                                                   precision_of(matmul.attrs));
    const int64_t k = list.value(a).shape.back();
    if (count == 0 || k % 8) continue;  // else rows of slices are padded
    for (int operand : {0, 1}) {
      const StepList::Value& x = list.value(operand ? b : a);
      StepList::Line* const maker = maker_of(list, writers, i, x);
      if (!maker || !lies_as_slices(x, operand) || list.value(last_value(*maker)).shape.back() != k)
        continue;
      const int slices = slices_by(list, *maker, count);
      if (slices < 0) continue;
      const auto add = [&](std::vector<int>& to) {
        if (to.back() != slices) to.push_back(slices);
      };
      add(matmul.inputs);
      if (&matmul != &line) add(line.inputs);
      line.ready = ready_gpu_matmul;
    }
  }
}

}  // namespace wengert
