#include "program/gpu/matmul.h"

#include <algorithm>

#include "ops/gpu.h"
#include "ops/matmul/gpu.h"
#include "ops/update/update.h"
#include "program/cpu/chain.h"
#include "program/passes.h"
#include "program/plan.h"

namespace wengert {

namespace {

size_t at(int i) { return static_cast<size_t>(i); }

Grid grid_of_matmul(const Shape& shape) { return {numel(shape) / shape.back(), shape.back()}; }

const StepList::Line& matmul_of(const StepList::Line& line) {
  return line.body.empty() ? line : line.body[0];
}

// Whether v is x, maybe in another shape: a linear layer makes one matrix of its batch axes.
bool is_same(const StepList& list, int v, int x) {
  const StepList::Value &a = list.value(v), &b = list.value(x);
  return a.slot == b.slot && a.offset == b.offset && a.dtype == b.dtype &&
         numel(a.shape) == numel(b.shape) && is_contiguous(a.shape, a.strides);
}

// Behind the matmul: elementwise lines, then perhaps the slices, then perhaps an update.
bool is_step(const StepList::Line& part) { return part.op != &slices_op && !is_update(*part.op); }

class GpuMatmul final : public Ready {
 public:
  GpuMatmul(const View& y, const View& a, const View& b, MatmulPrecision precision,
            const KeptSlices& kept, const CudaEpilogue& epilogue,
            std::unique_ptr<ReadyUpdate> update)
      : y_(y),
        a_(a),
        b_(b),
        precision_(precision),
        kept_(kept),
        epilogue_(epilogue),
        update_(std::move(update)) {}

  void run() const override {
    const View in[] = {a_, b_};
    const auto matmul = gpu_kernels().matmul->matmul;
    if (!epilogue_.finishes() && !update_)
      return matmul(Views(&y_, 1), Views(in), MatmulGpuAttrs{precision_, kept_});
    CudaEpilogue epilogue = epilogue_;
    if (update_) {
      update_->begin();
      epilogue.update = update_->in_matmul();
    }
    matmul(Views(&y_, 1), Views(in), MatmulGpuAttrs{precision_, kept_, &epilogue});
  }

 private:
  View y_, a_, b_;
  MatmulPrecision precision_;
  KeptSlices kept_;
  CudaEpilogue epilogue_;
  std::unique_ptr<ReadyUpdate> update_;
};

}  // namespace

bool is_gpu_matmul(const StepList& list, const StepList::Line& line) {
  if (line.op != &matmul_op) return false;
  const StepList::Value& y = list.value(line.outputs[0]);
  return y.dtype == DType::float32 && numel(y.shape) > 0 &&
         numel(y.shape) / y.shape.back() < INT32_MAX && is_cuda(device_of(list, line));
}

int last_value(const StepList::Line& line) {
  int last = line.outputs[0];
  for (size_t i = 1; i < line.body.size() && is_step(line.body[i]); ++i)
    last = line.body[i].outputs[0];
  return last;
}

bool takes_step(const StepList& list, const StepList::Line& line, const StepList::Line& next) {
  const int formula = CudaEpilogue::number_of(next.op->name);
  const auto is_last = [&, x = last_value(line)](int v) { return is_same(list, v, x); };
  if (formula < 0 || !chainable(list, next) || line.body.size() > CudaEpilogue::most_steps ||
      std::count_if(next.inputs.begin(), next.inputs.end(), is_last) != 1 ||
      (CudaEpilogue::is_vjp(formula) && !is_last(next.inputs[0])))
    return false;
  for (const StepList::Line& part : line.body)
    if (part.op != &matmul_op && !is_step(part)) return false;
  const Shape& shape = list.value(line.outputs[0]).shape;
  const StepList::Value& y = list.value(next.outputs[0]);
  for (int other : next.inputs) {
    const StepList::Value& o = list.value(other);
    if (o.dtype != DType::float32) return false;
    if (is_last(other)) continue;
    for (int made : line.outputs)
      if (list.value(made).slot == o.slot) return false;
    const Device device = list.slot(other).storage->device;
    if (device != device_of(list, line) && (is_cuda(device) || numel(o.shape) != 1)) return false;
  }
  return y.dtype == DType::float32 && numel(y.shape) == numel(shape) &&
         fits_grid(list, std::span(&next, 1), grid_of_matmul(shape), false);
}

bool takes_update(const StepList& list, const StepList::Line& line, int gradient) {
  return is_gpu_matmul(list, line) && gradient == last_value(line) &&
         (line.body.empty() || !is_update(*line.body.back().op));
}

bool lies_as_slices(const StepList::Value& x, int operand) {
  const int n = x.shape.size();
  if (operand == 0) return is_contiguous(x.shape, x.strides);
  Shape shape = x.shape;
  Strides strides = x.strides;
  std::swap(shape[n - 2], shape[n - 1]);
  std::swap(strides[n - 2], strides[n - 1]);
  return is_contiguous(shape, strides);
}

std::unique_ptr<Ready> ready_gpu_matmul(const Plan& plan, const StepList::Line& line) {
  const StepList& list = plan.list();
  const StepList::Line& matmul = matmul_of(line);
  const Grid grid = grid_of_matmul(list.value(matmul.outputs[0]).shape);
  CudaEpilogue e;
  e.keeps_product = plan.stored(matmul.outputs[0]);
  std::unique_ptr<ReadyUpdate> update;
  int x = matmul.outputs[0];
  for (size_t i = 1; i < line.body.size(); ++i) {
    const StepList::Line& part = line.body[i];
    if (is_update(*part.op)) {
      update = ready_update(*part.op, Views(plan.views(part.inputs)), part.attrs);
      continue;
    }
    const View y = plan.view(part.outputs[0]);
    if (part.op == &slices_op) {
      e.slices = y.as<uint16_t>();
      e.slice_count = static_cast<int>(y.shape[0]);
      e.slice = y.numel() / y.shape[0];
      continue;
    }
    CudaEpilogue::Step& step = e.step[e.steps];
    step = {.formula = CudaEpilogue::number_of(part.op->name),
            .swapped = !is_same(list, part.inputs[0], x),
            .out = plan.stored(part.outputs[0]) ? y.as<float>() : nullptr,
            .params = part.attrs.as<Params>()};
    for (int v : part.inputs)
      if (!is_same(list, v, x)) {
        const View other = plan.view(v);
        const auto [row, column, period] =
            *strides_of(list.value(v), y.shape, split_for(y.shape, grid));
        step.other = other.as<float>();
        step.row = row;
        step.column = column;
        if (!is_cuda(other.device)) e.given |= 1u << e.steps;
      }
    ++e.steps;
    x = part.outputs[0];
  }
  KeptSlices kept;
  for (size_t i = 2; i < matmul.inputs.size(); ++i) {
    const int slices = matmul.inputs[i];
    for (const StepList::Line& maker : list.lines)
      for (const StepList::Line& part : maker.body) {
        if (part.op != &slices_op || part.outputs[0] != slices) continue;
        const int slot = list.value(part.inputs[0]).slot;
        for (int operand : {0, 1}) {
          const StepList::Value& v = list.value(matmul.inputs[at(operand)]);
          if (v.slot == slot && lies_as_slices(v, operand))
            (operand ? kept.b : kept.a) = plan.view(slices).as<uint16_t>();
        }
      }
  }
  return std::make_unique<GpuMatmul>(plan.view(matmul.outputs[0]), plan.view(matmul.inputs[0]),
                                     plan.view(matmul.inputs[1]), precision_of(matmul.attrs), kept,
                                     e, std::move(update));
}

}  // namespace wengert
