// The lines whose gradient has begun to arrive wait in a map ordered by number. The newest of them
// has all its consumers behind it, so its gradient is complete: it is taken out, its vjp written,
// and what that gives added to the lines of its inputs. No recursion, and no pass to count
// consumers.
#include "engine/backward.h"

#include <pthread.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <unordered_map>
#include <unordered_set>

#include "base/pool.h"
#include "engine/cycles.h"
#include "ops/functions.h"

namespace wengert {

namespace {

struct Pending {
  LineRef line;
  Tensor gradient;
};

struct LeafGradient {
  Tensor leaf, gradient;
};

bool sole_owner(const Tensor& t) {
  if (tracer) return tracer->sole_owner(t);
  return t->refs.load(std::memory_order_relaxed) == 1 &&
         t->storage->refs.load(std::memory_order_relaxed) == 1;
}

// The first gradient is kept as it is, later ones are added: in place if nobody else can see the
// sum.
void add_to(Tensor& sum, Tensor more) {
  if (!sum.defined()) {
    sum = std::move(more);
    return;
  }
  if (!grad_enabled() && !sum.requires_grad() && sole_owner(sum) && sum.is_contiguous()) {
    const Tensor in[] = {sum, more};
    apply_in_place(sum, binary_op<Add>(), Tensors(in));
  } else {
    sum = sum + more;
  }
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

class Walk {
 public:
  explicit Walk(bool retain_graph) : retain_(retain_graph) {}

  // Limits the walk to lines from which a target can be reached, and gathers the targets'
  // gradients.
  void aim(Tensors outputs, Tensors targets) {
    aimed_ = true;
    for (const Tensor& t : targets) {
      if (t->line) line_targets_[t->line.get()];
      leaf_targets_.insert(t.body());
    }
    // Every line that can be reached, oldest first: a line leads to a target if one of its inputs
    // does.
    std::map<uint64_t, Line*> reached;
    std::vector<Line*> stack;
    const auto visit = [&](Line* line) {
      if (line && reached.emplace(line->number, line).second) stack.push_back(line);
    };
    for (const Tensor& y : outputs) visit(y->line.get());
    while (!stack.empty()) {
      Line* line = stack.back();
      stack.pop_back();
      for (const Edge& edge : line->inputs) visit(edge.line.get());
    }
    for (const auto& [number, line] : reached) {
      bool leads =
          line->freed || line_targets_.count(line);  // a freed line is walked to, to say so
      if (leads || leads_on(*line)) useful_.insert(line);
    }
  }

  void begin(const Tensor& output, Tensor cotangent) {
    if (tracer) tracer->begins_backward(output, cotangent);
    if (output->line)
      arrive(output->line, std::move(cotangent));
    else
      arrive_at_leaf(output, std::move(cotangent));
  }

  void run() {
    while (!pending_.empty()) {
      poll_interrupt();
      const auto newest = pending_.begin();
      const Pending p = std::move(newest->second);
      pending_.erase(newest);
      step(*p.line.get(), p.gradient);
    }
    for (LeafGradient& l : leaves_) l.gradient = run_hooks(l.leaf->hooks, std::move(l.gradient));
  }

  const std::vector<LeafGradient>& leaves() const { return leaves_; }
  // What reached a target.
  Tensor gradient_of(const Tensor& target) const {
    if (target->line) return line_targets_.at(target->line.get());
    const auto found = leaf_index_.find(target.body());
    return found == leaf_index_.end() ? Tensor() : leaves_[found->second].gradient;
  }

 private:
  bool leads_on(const Line& line) const {
    return std::any_of(line.inputs.begin(), line.inputs.end(), [&](const Edge& edge) {
      return (edge.line && useful_.count(edge.line.get())) ||
             (edge.leaf.defined() && leaf_targets_.count(edge.leaf.body()));
    });
  }

  static void check_not_freed(const Line& line) {
    if (line.freed)
      fail<GradientError>(
          "backward: the list has been walked before, and what '", line.op->name, "' (",
          describe(line.origin),
          ") had saved is freed; say retain_graph=True in the first backward() to walk it again");
  }

  void step(Line& line, const Tensor& arrived) {
    check_not_freed(line);
    const Tensor gradient = run_hooks(line.hooks, arrived);
    check_not_freed(line);  // a hook, or another thread meanwhile, may have walked it
    // Kernels let go of Python's lock, so another walk may come by: the last to leave frees.
    struct Inside {
      Line& line;
      explicit Inside(Line& l) : line(l) { ++line.walkers; }
      ~Inside() {
        if (--line.walkers == 0 && line.freed) line.free();
      }
    } inside(line);
    if (line.retains_grad && !aimed_) {
      Tensor kept = line.retains_grad->grad;
      add_to(kept, gradient);
      if (grad_enabled() && line.retains_grad) note_cycle(line.retains_grad);
      if (line.retains_grad) line.retains_grad->grad = kept;
    }
    if (const auto target = line_targets_.find(&line); target != line_targets_.end()) {
      target->second = gradient;
      if (!leads_on(line)) return;  // nothing behind it is asked for, so it stays as it is
    }

    Gradients dx;
    dx.resize(line.inputs.size());
    {
      const Line* before = std::exchange(backward_of, &line);
      struct Restore {
        const Line* before;
        ~Restore() { backward_of = before; }
      } restore{before};
      if (tracer) tracer->asks(line, gradient);
      line.op->vjp(line, gradient, dx);
      for (size_t i = 0; i < dx.size(); ++i)
        if (dx[i].defined() && line.needs(static_cast<int>(i))) dx[i] = fit(line, i, dx[i]);
      if (tracer) tracer->answers(line, dx);
    }
    for (size_t i = 0; i < dx.size(); ++i) {
      const Edge& edge = line.inputs[i];
      if (!dx[i].defined() || !edge.needs_grad()) continue;
      if (edge.line)
        arrive(edge.line, std::move(dx[i]));
      else
        arrive_at_leaf(edge.leaf, std::move(dx[i]));
    }
    if (!retain_) line.freed = true;
  }

  void arrive(const LineRef& line, Tensor gradient) {
    if (aimed_ && !useful_.count(line.get())) return;
    Pending& p = pending_[line->number];
    if (!p.line) p.line = line;
    add_to(p.gradient, std::move(gradient));
  }

  void arrive_at_leaf(const Tensor& leaf, Tensor gradient) {
    if (aimed_ && !leaf_targets_.count(leaf.body())) return;
    const auto [at, fresh] = leaf_index_.emplace(leaf.body(), leaves_.size());
    if (fresh) leaves_.push_back({leaf, Tensor()});
    add_to(leaves_[at->second].gradient, std::move(gradient));
  }

  bool retain_, aimed_ = false;
  std::map<uint64_t, Pending, std::greater<>> pending_;  // newest first
  std::vector<LeafGradient> leaves_;                     // in order of arrival
  std::unordered_map<const TensorBody*, size_t> leaf_index_;
  std::unordered_set<const Line*> useful_;
  std::unordered_map<const Line*, Tensor> line_targets_;
  std::unordered_set<const TensorBody*> leaf_targets_;
};

void check_output(const Tensor& y) {
  if (y.requires_grad()) return check_history("backward", y);
  if (y->made_by && y->made_by->no_gradient)
    fail<GradientError>("backward: the tensor was made by '", y->made_by->name,
                        "', which has no gradient: ", y->made_by->no_gradient);
  fail<GradientError>(
      "backward: the tensor", y->made_by ? concat(" (made by '", y->made_by->name, "')") : "",
      " has no history: no input required a gradient, or it was made under no_grad(); set "
      "requires_grad=True on what you want the gradient of, before computing");
}

Tensor cotangent_for(const Tensor& y, const Tensor& given) {
  if (!given.defined()) {
    if (y.numel() != 1)
      fail<GradientError>("backward: the output has shape ", y.shape(),
                          ", not one element, so it needs a gradient of that shape: "
                          "y.backward(gradient), or reduce it "
                          "first, y.sum().backward()");
    return full_like(y, 1);
  }
  if (!(given.shape() == y.shape()))
    fail<ShapeError>("backward: got a gradient of shape ", given.shape(),
                     " for an output of shape ", y.shape(), "; they must be equal");
  return to_device(to_dtype(given, y.dtype()), y.device());
}

Walk walk(Tensors outputs, Tensors inputs, Tensors cotangents, bool retain_graph,
          bool create_graph) {
  const GradMode mode(create_graph);
  Walk w(retain_graph || create_graph);
  if (!inputs.empty()) w.aim(outputs, inputs);
  for (size_t i = 0; i < outputs.size(); ++i) {
    check_output(outputs[i]);
    w.begin(outputs[i],
            cotangent_for(outputs[i], i < cotangents.size() ? cotangents[i] : Tensor()));
  }
  w.run();
  return w;
}

// Waits for a lock without holding the interpreter's: its owner may want that.
class LeafLock {
 public:
  LeafLock() {
    if (mutex().try_lock()) return;
    const WithoutHostLock unlocked;
    mutex().lock();
  }
  ~LeafLock() { mutex().unlock(); }
  LeafLock(const LeafLock&) = delete;

 private:
  static std::mutex& mutex() {
    static std::mutex* m = new std::mutex;
    // A forked child must not inherit a lock whose owner it does not have.
    [[maybe_unused]] static const int once =
        pthread_atfork(nullptr, nullptr, [] { m = new std::mutex; });
    return *m;
  }
};

// A leaf's next gradient; undefined where it is added to the one that is there.
Tensor next_gradient(const LeafGradient& l) {
  const Tensor grad = l.leaf->grad;  // a share of it: another thread may take it away meanwhile
  if (grad.defined()) return grad_enabled() || grad.requires_grad() ? grad + l.gradient : Tensor();
  // It may be shared: with another leaf (c = a + b), or with the caller's cotangent.
  const bool ours = l.gradient.is_contiguous() && sole_owner(l.gradient);
  return grad_enabled() || ours ? l.gradient : clone(l.gradient);
}

}  // namespace

void backward(Tensors outputs, Tensors cotangents, bool retain_graph, bool create_graph) {
  // Nothing is added to any leaf until the whole walk has gone well.
  const Walk w = walk(outputs, {}, cotangents, retain_graph, create_graph);
  const LeafLock lock;
  const WithoutInterrupts whole;
  const GradMode mode(create_graph);
  std::vector<Tensor> next;  // made before the first change: memory may run out
  for (const LeafGradient& l : w.leaves()) {
    if (tracer) tracer->reads_grad(l.leaf);
    if (create_graph) note_cycle(l.leaf.body());
    next.push_back(next_gradient(l));
  }
  for (size_t i = 0; i < next.size(); ++i) {
    const auto& [leaf, gradient] = w.leaves()[i];
    const Tensor grad = leaf->grad;
    if (next[i].defined() || !grad.defined()) {
      leaf->grad = next[i].defined() ? next[i] : clone(gradient);
    } else {
      const Tensor in[] = {grad, gradient};
      apply_in_place(grad, binary_op<Add>(), Tensors(in));
    }
  }
}

std::vector<Tensor> gradients(Tensors outputs, Tensors inputs, Tensors cotangents,
                              bool retain_graph, bool create_graph) {
  for (size_t i = 0; i < inputs.size(); ++i)
    if (!inputs[i].requires_grad())
      fail<GradientError>(
          "grad: input ", i,
          " does not require a gradient; set requires_grad=True on it before computing");
    else
      check_history("grad", inputs[i]);
  const Walk w = walk(outputs, inputs, cotangents, retain_graph, create_graph);
  std::vector<Tensor> result;
  for (const Tensor& x : inputs) result.push_back(w.gradient_of(x));
  return result;
}

}  // namespace wengert
