// views: a line that only looks at memory in another way has nothing to run; its readers name what
// they look at.
//
//   v1 = permute(c2, axes=(1, 0))
//   v2 = matmul(arg0, v1)            ->   v2 = matmul(arg0, c2.T)
#include "program/passes.h"

namespace wengert {

namespace {

std::string seen_through(const StepList& list, const StepList::Line& line) {
  const StepList::Value &x = list.value(line.inputs[0]), &y = list.value(line.outputs[0]);
  const std::string_view op = line.op->name;
  if (op == "reshape" || op == "expand") return x.name;  // the shape says it
  if (op == "permute" && y.shape.size() == 2) return x.name + ".T";
  std::string text = concat(op, "(", x.name);
  for (const auto& [key, value] : attributes_of(*line.op, line.attrs))
    text += concat(", ", key, "=", value);
  return text + ")";
}

}  // namespace

void fold_views(StepList& list) {
  std::vector<bool> named(list.values.size(), false);  // by another line, or from outside
  for (const StepList::Line& line : list.lines) {
    for (int x : line.inputs) named[static_cast<size_t>(x)] = true;
    if (line.op->alias && !named[static_cast<size_t>(line.outputs[0])])
      list.values[static_cast<size_t>(line.outputs[0])].name = seen_through(list, line);
    for (int y : line.outputs) named[static_cast<size_t>(y)] = true;
  }
  std::erase_if(list.lines, [](const StepList::Line& line) { return line.op->alias != nullptr; });
}

}  // namespace wengert
