#include "program/passes.h"

#include <algorithm>

namespace wengert {

const Op fused_op{.name = "fused",
                  .formula = "its lines, one after another on each tile",
                  .no_gradient = "a compiled step is not differentiated"};

StepList::Line fused(const Op& op, std::vector<StepList::Line> body,
                     decltype(StepList::Line::ready) ready) {
  StepList::Line line{.op = &op, .attrs = body.front().attrs, .place = body.front().place};
  const auto add = [](std::vector<int>& to, int v) {
    if (std::find(to.begin(), to.end(), v) == to.end()) to.push_back(v);
  };
  for (const StepList::Line& part : body) {
    for (int i = 0; i < part.edited; ++i) add(line.inputs, part.inputs[static_cast<size_t>(i)]);
    for (int y : part.outputs) add(line.outputs, y);
    line.cost.flops += part.cost.flops;
  }
  line.edited = static_cast<int>(line.inputs.size());
  for (const StepList::Line& part : body)
    for (int x : part.inputs)
      if (std::find(line.outputs.begin(), line.outputs.end(), x) == line.outputs.end())
        add(line.inputs, x);
  line.body = std::move(body);
  line.ready = ready;
  return line;
}

std::vector<StepList::Line> body_of(const StepList::Line& line) {
  return line.body.empty() ? std::vector{line} : line.body;
}

}  // namespace wengert
