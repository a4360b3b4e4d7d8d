#include "graph/op.h"

#include <string_view>

namespace wengert {

std::ostream& operator<<(std::ostream& out, const Attribute& x) {
  if (const bool* b = std::get_if<bool>(&x)) return out << (*b ? "True" : "False");
  std::visit([&](const auto& value) { out << value; }, x);
  return out;
}

Device device_for(Tensors out, Tensors in) {
  for (const Tensors tensors : {out, in})
    for (const Tensor& x : tensors)
      if (is_cuda(x.device())) return x.device();
  return Device::cpu;
}
Device device_for(Views out, Views in) {
  for (const Views views : {out, in})
    for (const View& x : views)
      if (is_cuda(x.device)) return x.device;
  return Device::cpu;
}

OpKernel kernel_on(const Op& op, Device device) {
  if (!is_cuda(device)) return op.run;
  if (!op.gpu)
    fail<DeviceError>(op.name, ": has no CUDA kernel; move its inputs to the CPU with .cpu()");
  return op.gpu;
}

Cost default_cost(Tensors in, const Tensor& out) {
  Cost cost;
  cost.flops = static_cast<double>(out.numel());
  cost.bytes = static_cast<double>(nbytes(out.shape(), out.dtype()));
  for (const Tensor& x : in) cost.bytes += static_cast<double>(nbytes(x.shape(), x.dtype()));
  return cost;
}
Cost cost_of(const Op& op, Tensors in, const Tensor& out, const Attrs& attrs) {
  if (op.alias) return {};
  return op.cost ? op.cost(in, out, attrs) : default_cost(in, out);
}

NamedAttrs attributes_of(const Op& op, const Attrs& attrs) {
  NamedAttrs named;
  if (op.describe) op.describe(attrs, named);
  return named;
}

std::vector<std::string> operands_of(const Op& op) {
  std::vector<std::string> names;
  for (std::string_view rest = op.operands; !rest.empty();) {
    const size_t end = std::min(rest.find(", "), rest.size());
    names.emplace_back(rest.substr(0, end));
    rest.remove_prefix(std::min(end + 2, rest.size()));
  }
  return names;
}

static std::string text_of(const Op& op, const char* own, int of) {
  if (own || !op.write) return own ? own : "";
  const Source lines = op.write(Dialect::reader, of);
  std::string text = lines.back();
  for (size_t i = 0; i + 1 < lines.size(); ++i) text += ", " + lines[i];
  return text;
}
std::string formula_of(const Op& op) { return text_of(op, op.formula, 0); }
std::vector<std::string> gradients_of(const Op& op) {
  std::vector<std::string> texts;
  const int operands = op.no_gradient ? 0 : static_cast<int>(operands_of(op).size());
  for (int i = 0; i < operands; ++i) texts.push_back(text_of(op, op.gradient[i], i + 1));
  return texts;
}

}  // namespace wengert
