#include "engine/walk.h"

#include "base/pool.h"
#include "engine/cycles.h"
#include "engine/gradient.h"

namespace wengert {

namespace {

void check_not_freed(const Line& line) {
  if (line.freed)
    fail<GradientError>(
        "backward: the list has been walked before, and what '", line.op->name, "' (",
        describe(line.origin),
        ") had saved is freed; say retain_graph=True in the first backward() to walk it again");
}

// Kernels release the GIL, so another thread may walk the same line: the last to leave frees it.
class Inside {
 public:
  explicit Inside(Line& line) : line_(line) { ++line.walkers; }
  ~Inside() {
    if (--line_.walkers == 0 && line_.freed) line_.free();
  }

 private:
  Line& line_;
};

// For the tensor that asked, by retain_grad().
void retain_gradient(const Line& line, const Tensor& gradient) {
  Tensor kept = line.retains_grad->grad;
  add_to(kept, gradient);
  if (grad_enabled() && line.retains_grad) note_cycle(line.retains_grad);
  if (line.retains_grad) line.retains_grad->grad = kept;
}

}  // namespace

void Walk::begin(const Tensor& output, Tensor cotangent) {
  if (tracer) tracer->begins_backward(output, cotangent);
  if (output->line)
    arrive(output->line, std::move(cotangent));
  else
    arrive_at_leaf(output, std::move(cotangent));
}

void Walk::run() {
  for (uint32_t lines = 1; !pending_.empty(); ++lines) {
    if (lines % 16 == 0) poll_interrupt();  // it reads the clock; long kernels do so themselves
    const auto newest = pending_.begin();
    const Pending p = std::move(newest->second);
    pending_.erase(newest);
    step(*p.line.get(), p.gradient);
  }
  for (LeafGradient& l : leaves_) l.gradient = run_hooks(l.leaf->hooks, std::move(l.gradient));
}

void Walk::step(Line& line, const Tensor& arrived) {
  check_not_freed(line);
  const Tensor gradient = run_hooks(line.hooks, arrived);
  check_not_freed(line);  // a hook, or another thread meanwhile, may have walked it
  const Inside inside(line);
  if (targets_ && targets_->has(line)) {
    reached_[&line] = gradient;
    if (!targets_->behind(line)) return;  // nothing there is asked for, so it stays as it is
  }
  if (!targets_ && line.retains_grad) retain_gradient(line, gradient);

  Gradients dx;
  ask(line, gradient, dx);
  for (size_t i = 0; i < dx.size(); ++i) {
    const Edge& edge = line.inputs[i];
    if (!dx[i].defined()) continue;
    if (edge.line)
      arrive(edge.line, std::move(dx[i]));
    else if (edge.leaf.defined())
      arrive_at_leaf(edge.leaf, std::move(dx[i]));
  }
  if (!retain_) line.freed = true;
}

void Walk::arrive(const LineRef& line, Tensor gradient) {
  if (targets_ && !targets_->leads_to(*line.get())) return;
  if (line->number < since_) return add_to(reached_[line.get()], std::move(gradient));
  Pending& p = pending_[line->number];
  if (!p.line) p.line = line;
  add_to(p.gradient, std::move(gradient));
}

void Walk::arrive_at_leaf(const Tensor& leaf, Tensor gradient) {
  if (targets_ && !targets_->has(leaf)) return;
  const auto [at, fresh] = leaf_index_.emplace(leaf.body(), leaves_.size());
  if (fresh) leaves_.push_back({leaf, Tensor()});
  add_to(leaves_[at->second].gradient, std::move(gradient));
}

Tensor Walk::gradient_of(const Tensor& target) const {
  if (target->line) {
    const auto found = reached_.find(target->line.get());
    return found == reached_.end() ? Tensor() : found->second;
  }
  const auto found = leaf_index_.find(target.body());
  return found == leaf_index_.end() ? Tensor() : leaves_[found->second].gradient;
}

}  // namespace wengert
