#include "engine/gradient.h"

#include "engine/cycles.h"
#include "ops/functions.h"

namespace wengert {

bool sole_owner(const Tensor& t) {
  if (tracer) return tracer->sole_owner(t);
  return t->refs.load(std::memory_order_relaxed) == 1 &&
         t->storage->refs.load(std::memory_order_relaxed) == 1;
}

void add_to(Tensor& sum, Tensor more) {
  if (!sum.defined()) {
    sum = std::move(more);
    return;
  }
  // A compiled step gives the sum a place itself, and may make it where another line ends.
  if (!tracer && !grad_enabled() && !sum.requires_grad() && sole_owner(sum) &&
      sum.is_contiguous()) {
    const Tensor in[] = {sum, more};
    apply_in_place(sum, binary_op<Add>(), Tensors(in));
  } else {
    sum = sum + more;
  }
}

void retain_gradient(const Line& line, const Tensor& gradient) {
  Tensor kept = line.retains_grad->grad;
  add_to(kept, gradient);
  if (grad_enabled() && line.retains_grad) note_cycle(line.retains_grad);
  if (line.retains_grad) line.retains_grad->grad = kept;
}

Tensor run_hooks(const std::shared_ptr<Hooks>& hooks, Tensor gradient) {
  if (!hooks) return gradient;
  std::vector<int64_t> ids;  // a hook may remove itself or others
  for (const auto& [id, hook] : *hooks) ids.push_back(id);
  for (int64_t id : ids)
    for (size_t i = 0; i < hooks->size(); ++i) {
      if ((*hooks)[i].first != id) continue;
      const uint32_t version = gradient->storage->version;
      const Tensor replaced = (*hooks)[i].second->call(gradient);
      if (gradient->storage->version != version)
        fail<GradientError>(
            "hook: changed its gradient in place, which other tensors may share; return a new "
            "tensor instead");
      if (replaced.defined()) {
        if (!(replaced.shape() == gradient.shape()) || replaced.dtype() != gradient.dtype())
          fail<ShapeError>("hook: returned a gradient of shape ", replaced.shape(), " and dtype ",
                           replaced.dtype(), "; expected ", gradient.shape(), " and ",
                           gradient.dtype());
        gradient = replaced;
      }
      break;
    }
  return gradient;
}

namespace {

// A gradient as the tensor has it: broadcasting undone, its dtype, its device.
Tensor fit(const Line& line, size_t i, const Tensor& gradient) {
  const Edge& edge = line.inputs[i];
  const Device device = edge.line ? edge.line->output.device : edge.leaf.device();
  if (gradient.shape() == edge.shape && gradient.dtype() == edge.dtype &&
      gradient.device() == device)
    return gradient;
  const Tensor fitted = to_device(to_dtype(sum_to(gradient, edge.shape), edge.dtype), device);
  if (!(fitted.shape() == edge.shape))
    fail<GradientError>("backward: '", line.op->name, "' gave a gradient of shape ",
                        gradient.shape(), " for its input ", i, " of shape ", edge.shape,
                        " (a defect in its op)");
  return fitted;
}

// The line whose vjp is being written, for messages.
class BackwardOf {
 public:
  explicit BackwardOf(const Line& line) : before_(std::exchange(backward_of, &line)) {}
  ~BackwardOf() { backward_of = before_; }

 private:
  const Line* before_;
};

}  // namespace

void ask(const Line& line, const Tensor& gradient, Gradients& dx) {
  dx.resize(line.inputs.size());
  const BackwardOf named(line);
  if (tracer) tracer->asks(line, gradient);
  line.op->vjp(line, gradient, dx);
  for (size_t i = 0; i < dx.size(); ++i)
    if (dx[i].defined() && line.needs(static_cast<int>(i))) dx[i] = fit(line, i, dx[i]);
  if (tracer) tracer->answers(line, dx);
}

}  // namespace wengert
