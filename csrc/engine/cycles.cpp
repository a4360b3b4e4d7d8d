// Counting by trial: all that the noted tensors and lines lead to is walked, and for each thing the
// owners that were met are counted. A thing with more owners than that is reached from outside, and
// so is all that it leads to. The rest have only each other.
#include "engine/cycles.h"

#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "ops/custom/custom.h"

namespace wengert {

namespace {

// All are used by threads that hold the interpreter's lock.
struct Noted {
  std::unordered_set<TensorBody*> bodies;
  std::unordered_set<Line*> lines;
};
Noted& noted() {
  static auto* all = new Noted;
  return *all;
}

struct Node {
  TensorBody* body = nullptr;  // one of the five
  Line* line = nullptr;
  std::shared_ptr<Hooks>* hooks = nullptr;  // co-owned
  CustomCall* call = nullptr;
  void* object = nullptr;
  int64_t met = 0;  // owners
  bool reached = false;

  const void* key() const {
    if (hooks) return hooks->get();
    if (call) return call;
    return body ? body : line ? static_cast<const void*>(line) : object;
  }
  int64_t owners(const Objects& objects) const {
    if (hooks) return hooks->use_count();
    if (call) return call->refs.load();
    return body ? body->refs.load() : line ? line->refs.load() : objects.owners(object);
  }
};

template <class F> void each_owned(const Node& node, const Objects& objects, const F& f) {
  const auto body = [&](const Tensor& t) {
    if (t.defined()) f(Node{.body = t.body()});
  };
  const auto line = [&](const LineRef& l) {
    if (l) f(Node{.line = l.get()});
  };
  const auto hooks = [&](std::shared_ptr<Hooks>& h) {
    if (h) f(Node{.hooks = &h});
  };
  const auto object = [&](void* o) {
    if (o) f(Node{.object = o});
  };
  if (node.body) {
    body(node.body->grad);
    body(node.body->base);
    line(node.body->line);
    hooks(node.body->hooks);
  } else if (node.line) {
    for (const Edge& edge : node.line->inputs) {
      line(edge.line);
      body(edge.leaf);
    }
    for (const Saved& saved : node.line->saved) body(saved.value);
    hooks(node.line->hooks);
    if (CustomCall* call = custom_call(*node.line->op, node.line->attrs)) f(Node{.call = call});
  } else if (node.call) {
    object(node.call->object());
  } else if (node.hooks) {
    for (const auto& [id, hook] : **node.hooks) object(hook->object());
  } else {
    objects.each_owned(node.object, object, body);
  }
}

}  // namespace

void note_cycle(TensorBody* body) {
  if (body->noted) return;
  noted().bodies.insert(body);
  body->noted = true;
}
void note_cycle(Line* line) {
  if (line->noted) return;
  noted().lines.insert(line);
  line->noted = true;
}
void forget_cycle(TensorBody* body) { noted().bodies.erase(body); }
void forget_cycle(Line* line) { noted().lines.erase(line); }

bool has_cycles() { return !noted().bodies.empty() || !noted().lines.empty(); }

void collect_cycles(const Objects& objects) {
  std::erase_if(noted().bodies, [](TensorBody* body) {
    body->noted = body->grad.defined() || body->hooks;
    return !body->noted;
  });
  std::unordered_map<const void*, Node> nodes;
  std::vector<Node*> todo;
  const auto find = [&](const Node& node) {
    const auto [at, fresh] = nodes.emplace(node.key(), node);
    if (fresh) todo.push_back(&at->second);
    return &at->second;
  };
  const auto each_todo = [&](const auto& f) {
    while (!todo.empty()) {
      Node& node = *todo.back();
      todo.pop_back();
      f(node);
    }
  };
  for (TensorBody* body : noted().bodies) find(Node{.body = body});
  for (Line* line : noted().lines) find(Node{.line = line});
  each_todo([&](Node& node) {
    each_owned(node, objects, [&](const Node& owned) { ++find(owned)->met; });
  });
  for (auto& [key, node] : nodes)
    if (node.owners(objects) > node.met) todo.push_back(&node);
  each_todo([&](Node& node) {
    if (std::exchange(node.reached, true)) return;
    each_owned(node, objects, [&](const Node& owned) { todo.push_back(&nodes.at(owned.key())); });
  });
  std::vector<Tensor> gradients;
  std::vector<Hooks> hooks;
  std::vector<Ref<CustomCall>> calls;
  for (auto& [key, node] : nodes) {
    if (node.reached) continue;
    if (node.body) gradients.push_back(std::exchange(node.body->grad, Tensor()));
    if (node.hooks) hooks.push_back(std::exchange(**node.hooks, Hooks()));
    if (node.call) calls.emplace_back(node.call);
  }
  for (const Ref<CustomCall>& call : calls) call->clear();
}  // freed here, when all cycles are open

}  // namespace wengert
