#include "engine/backward.h"

#include <pthread.h>

#include <algorithm>
#include <mutex>
#include <optional>

#include "base/pool.h"
#include "engine/cycles.h"
#include "engine/gradient.h"
#include "engine/walk.h"
#include "ops/functions.h"

namespace wengert {

namespace {

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

void walk(Walk& w, Tensors outputs, Tensors cotangents) {
  for (size_t i = 0; i < outputs.size(); ++i) {
    check_output(outputs[i]);
    w.begin(outputs[i],
            cotangent_for(outputs[i], i < cotangents.size() ? cotangents[i] : Tensor()));
  }
  w.run();
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
  const Tensor grad = l.leaf->grad;  // co-owned: another thread may replace it meanwhile
  if (grad.defined()) return grad_enabled() || grad.requires_grad() ? grad + l.gradient : Tensor();
  // It may be shared: with another leaf (c = a + b), or with the caller's cotangent.
  const bool ours = l.gradient.is_contiguous() && sole_owner(l.gradient);
  return grad_enabled() || ours ? l.gradient : clone(l.gradient);
}

void check_inputs(const char* op, Tensors inputs) {
  for (size_t i = 0; i < inputs.size(); ++i)
    if (!inputs[i].requires_grad())
      fail<GradientError>(
          op, ": input ", i,
          " does not require a gradient; set requires_grad=True on it before computing");
    else
      check_history(op, inputs[i]);
}

std::vector<LeafGradient> gradients_at(Tensors inputs, Walk& w) {
  std::vector<LeafGradient> found;
  for (const Tensor& x : inputs) {
    const auto same = [&](const LeafGradient& l) { return l.leaf.body() == x.body(); };
    const Tensor gradient = w.arrivals().of(x);
    if (gradient.defined() && std::none_of(found.begin(), found.end(), same))
      found.push_back({x, gradient});
  }
  return found;
}

}  // namespace

void backward(Tensors outputs, Tensors cotangents, bool retain_graph, bool create_graph,
              Tensors inputs) {
  check_inputs("backward", inputs);
  // Nothing is added to any leaf until the whole walk has gone well.
  const GradMode mode(create_graph);
  std::optional<Targets> targets;
  if (!inputs.empty()) targets.emplace(outputs, inputs);
  Walk w(retain_graph || create_graph, targets ? &*targets : nullptr);
  walk(w, outputs, cotangents);
  std::vector<LeafGradient> asked;
  if (!inputs.empty()) asked = gradients_at(inputs, w);
  const std::vector<LeafGradient>& found = inputs.empty() ? w.arrivals().leaves() : asked;
  const LeafLock lock;
  const WithoutInterrupts whole;
  std::vector<Tensor> next;  // made before the first change: memory may run out
  for (const LeafGradient& l : found) {
    if (tracer) tracer->reads_grad(l.leaf);
    if (create_graph) note_cycle(l.leaf.body());
    next.push_back(next_gradient(l));
  }
  for (size_t i = 0; i < next.size(); ++i) {
    const auto& [leaf, gradient] = found[i];
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
  check_inputs("grad", inputs);
  const GradMode mode(create_graph);
  const Targets targets(outputs, inputs);
  Walk w(retain_graph || create_graph, &targets);
  walk(w, outputs, cotangents);
  std::vector<Tensor> result;
  for (const Tensor& x : inputs) result.push_back(w.arrivals().of(x));
  return result;
}

std::vector<Tensor> sources(Tensors outputs, uint64_t since) {
  std::vector<Tensor> found;
  std::unordered_set<const void*> seen;
  std::vector<const Line*> todo;
  const auto visit = [&](const LineRef& line, const Tensor& leaf) {
    if (leaf.defined() && seen.insert(leaf.body()).second) found.push_back(leaf);
    if (!line || !seen.insert(line.get()).second) return;
    if (line->number >= since) {
      todo.push_back(line.get());
      return;
    }
    found.push_back(Tensor::promise(line->output));
    found.back()->line = line;
    found.back()->made_by = line->op;
  };
  for (const Tensor& y : outputs) visit(y->line, y->leaf_requires_grad ? y : Tensor());
  while (!todo.empty()) {
    const Line& line = *todo.back();
    todo.pop_back();
    for (const Edge& edge : line.inputs) visit(edge.line, edge.leaf);
  }
  return found;
}

std::vector<Tensor> gradients_since(Tensors outputs, Tensors sources, Tensors cotangents,
                                    uint64_t since, bool create_graph) {
  const GradMode mode(create_graph);
  Walk w(create_graph, nullptr, since);
  walk(w, outputs, cotangents);
  std::vector<Tensor> result;
  size_t lines = 0;
  for (const Tensor& x : sources) {
    result.push_back(w.arrivals().of(x));
    lines += x->line && result.back().defined();
  }
  // Leaves that the function made have no Python object any more. One that has, and is no source,
  // was swapped in.
  const bool swapped =
      std::any_of(w.arrivals().leaves().begin(), w.arrivals().leaves().end(), [&](const auto& l) {
        const auto same = [&](const Tensor& x) { return x.body() == l.leaf.body(); };
        return l.leaf->object && std::none_of(sources.begin(), sources.end(), same);
      });
  if (swapped || lines != w.arrivals().lines_kept())
    fail<GradientError>(
        "checkpoint: the function, run again for the gradient, used other tensors than at first; "
        "let it depend on its arguments, and on what does not change until backward() has passed");
  return result;
}

}  // namespace wengert
