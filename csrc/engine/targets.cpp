#include "engine/targets.h"

#include <algorithm>
#include <map>

namespace wengert {

Targets::Targets(Tensors outputs, Tensors targets) {
  for (const Tensor& t : targets) {
    if (t->line) lines_.insert(t->line.get());
    leaves_.insert(t.body());
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
  for (const auto& [number, line] : reached)  // a freed line is walked to, to say so
    if (line->freed || has(*line) || behind(*line)) useful_.insert(line);
}

bool Targets::behind(const Line& line) const {
  return std::any_of(line.inputs.begin(), line.inputs.end(), [&](const Edge& edge) {
    return (edge.line && leads_to(*edge.line.get())) || (edge.leaf.defined() && has(edge.leaf));
  });
}

}  // namespace wengert
