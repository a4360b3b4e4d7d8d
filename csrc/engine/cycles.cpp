// Counting by trial: all that the noted leaves lead to is walked, and for each tensor and line the
// owners that were met are counted. One with more owners than that is reached from outside, and so
// is all that it leads to. Leaves that are left have only each other.
#include "engine/cycles.h"

#include <unordered_map>
#include <vector>

#include "graph/line.h"

namespace wengert {

namespace {

// All are used by threads that hold the interpreter's lock.
std::vector<Tensor>& noted() {
  static auto* leaves = new std::vector<Tensor>;
  return *leaves;
}

struct Node {
  TensorBody* body = nullptr;  // either
  Line* line = nullptr;
  int owners = 0;  // that were met
  bool reached = false;
};
using Nodes = std::unordered_map<const void*, Node>;

template <class F> void each_owned(const Node& node, const F& f) {
  const auto body = [&](const Tensor& t) {
    if (t.defined()) f(t.body(), Node{t.body(), nullptr, 0, false});
  };
  const auto line = [&](const LineRef& l) {
    if (l) f(l.get(), Node{nullptr, l.get(), 0, false});
  };
  if (node.body) {
    body(node.body->grad);
    body(node.body->base);
    line(node.body->line);
    return;
  }
  for (const Edge& edge : node.line->inputs) {
    line(edge.line);
    body(edge.leaf);
  }
  for (const Saved& saved : node.line->saved) body(saved.value);
}

}  // namespace

void note_cycle(const Tensor& leaf) {
  for (const Tensor& known : noted())
    if (known.body() == leaf.body()) return;
  noted().push_back(leaf);
}

bool has_cycles() { return !noted().empty(); }

int collect_cycles() {
  std::erase_if(noted(), [](const Tensor& leaf) {
    return !leaf->grad.defined() || !leaf->grad.requires_grad() || leaf->refs.load() == 1;
  });
  Nodes nodes;
  std::vector<const void*> todo;
  const auto meet = [&](const void* key, const Node& node) {
    const auto [at, fresh] = nodes.emplace(key, node);
    ++at->second.owners;
    if (fresh) todo.push_back(key);
  };
  for (const Tensor& leaf : noted()) meet(leaf.body(), {leaf.body(), nullptr, 0, false});
  while (!todo.empty()) {
    const Node node = nodes.at(todo.back());
    todo.pop_back();
    each_owned(node, meet);
  }
  for (auto& [key, node] : nodes) {
    const int32_t owners = node.body ? node.body->refs.load() : node.line->refs.load();
    if (owners > node.owners) todo.push_back(key);
  }
  while (!todo.empty()) {
    Node& node = nodes.at(todo.back());
    todo.pop_back();
    if (node.reached) continue;
    node.reached = true;
    each_owned(node, [&](const void* key, const Node&) { todo.push_back(key); });
  }
  std::vector<Tensor> gone, kept, gradients;
  for (const Tensor& leaf : noted()) (nodes.at(leaf.body()).reached ? kept : gone).push_back(leaf);
  noted().swap(kept);
  for (const Tensor& leaf : gone) gradients.push_back(std::exchange(leaf->grad, Tensor()));
  return static_cast<int>(gone.size());  // freed here, when all cycles are open
}

}  // namespace wengert
