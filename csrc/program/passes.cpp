#include "program/passes.h"

#include <algorithm>

namespace wengert {

const Op fused_op{.name = "fused",
                  .formula = "its lines, one after another on each tile",
                  .gradient = "",
                  .no_gradient = "a compiled step is not differentiated"};

std::span<const Pass> all_passes() {
  static constexpr Pass passes[] = {
      {"constants", fold_constants},    {"dead", drop_dead},
      {"common", share_common},         {"views", fold_views},
      {"chains", fuse_chains},          {"epilogues", fuse_epilogues},
      {"losses", fuse_losses},          {"planes", keep_planes},
      {"updates", fuse_updates},        {"memory", [](StepList&) {}},
      {"packing", [](StepList&) {}},    {"graph", [](StepList&) {}},
      {"persistent", [](StepList&) {}},
  };
  return passes;
}

StepList::Line fused(const Op& op, std::vector<StepList::Line> body) {
  StepList::Line line{.op = &op, .attrs = body.front().attrs, .place = body.front().place};
  const auto add = [](std::vector<int>& to, int v) {
    if (std::find(to.begin(), to.end(), v) == to.end()) to.push_back(v);
  };
  std::vector<int> edited;
  for (const StepList::Line& part : body) {
    for (int i = 0; i < part.edited; ++i) add(edited, part.inputs[static_cast<size_t>(i)]);
    for (int y : part.outputs) add(line.outputs, y);
    line.cost.flops += part.cost.flops;
  }
  line.inputs = edited;
  line.edited = static_cast<int>(edited.size());
  for (const StepList::Line& part : body)
    for (int x : part.inputs)
      if (std::find(line.outputs.begin(), line.outputs.end(), x) == line.outputs.end())
        add(line.inputs, x);
  line.body = std::move(body);
  return line;
}

}  // namespace wengert
