#include "engine/walk.h"

#include "base/pool.h"
#include "engine/gradient.h"

namespace wengert {

void Walk::begin(const Tensor& output, Tensor cotangent) {
  if (tracer) tracer->begins_backward(output, cotangent);
  arrive(output->line, output, std::move(cotangent));
}

void Walk::run() {
  for (uint32_t lines = 1; !arrivals_.empty(); ++lines) {
    if (lines % 16 == 0) poll_interrupt();  // it reads the clock; long kernels do so themselves
    const Arrivals::Waiting newest = arrivals_.take_newest();
    step(*newest.line.get(), newest.gradient);
  }
  for (LeafGradient& l : arrivals_.leaves())
    l.gradient = run_hooks(l.leaf->hooks, std::move(l.gradient));
}

void Walk::step(Line& line, const Tensor& arrived) {
  line.check_not_freed();
  const Tensor gradient = run_hooks(line.hooks, arrived);
  line.check_not_freed();  // a hook, or another thread meanwhile, may have walked it
  const Visit visit(line);
  if (targets_ && targets_->has(line)) {
    arrivals_.keep(line, gradient);
    if (!targets_->behind(line)) return;  // nothing there is asked for, so it stays as it is
  }
  if (!targets_ && line.retains_grad) retain_gradient(line, gradient);

  Gradients dx;
  ask(line, gradient, dx);
  for (size_t i = 0; i < dx.size(); ++i)
    if (dx[i].defined()) arrive(line.inputs[i].line, line.inputs[i].leaf, std::move(dx[i]));
  if (!retain_) line.freed = true;
}

void Walk::arrive(const LineRef& line, const Tensor& leaf, Tensor gradient) {
  if (line)
    arrivals_.at_line(line, std::move(gradient));
  else if (leaf.defined())
    arrivals_.at_leaf(leaf, std::move(gradient));
}

}  // namespace wengert
