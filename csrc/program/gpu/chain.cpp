#include "program/gpu/chain.h"

#include <algorithm>
#include <cstring>

#include "gpu/loader.h"
#include "program/cpu/chain.h"
#include "program/plan.h"

namespace wengert {

namespace {

size_t at(int i) { return static_cast<size_t>(i); }

const char* type_of(DType t) {
  constexpr const char* types[] = {"bool",     "uint8_t", "int32_t", "int64_t",
                                   "bfloat16", "float",   "double"};
  return types[static_cast<int>(t)];
}

struct Given {  // a value on the CPU, which is read at each launch
  int operand;
  const char* value;
  size_t bytes;
};

// Writes the source, and the arguments that go with it.
class Writer {
 public:
  Writer(const StepList& list, std::span<const StepList::Line> lines, const Grid& grid,
         std::span<char* const> base)
      : list_(list), base_(base), grid_(grid), shape_(list.value(lines[0].outputs[0]).shape) {
    arguments.n = grid.rows * grid.columns;
    write(lines);
  }

  std::string source;
  ChainArguments arguments;
  std::vector<Given> given;
  int64_t width = 1;  // elements that a thread takes together

 private:
  // Whether W adjacent elements from a multiple of W on lie so in every operand: then they are
  // moved together, 16 bytes at a time where they have as many.
  bool wide(std::span<const StepList::Line> lines, int64_t w) const {
    const auto fits = [&](int v) {
      const StepList::Value& x = list_.value(v);
      const char* start = base_[at(x.slot)];
      const auto [row, column, period] = *strides_of(x, shape_, split_for(shape_, grid_));
      if (!start || (row == 0 && column == 0)) return true;
      const bool flat = column == 1 && (row == grid_.columns || grid_.rows == 1);
      if (!flat && (grid_.columns % w || (column == 1 && row % w))) return false;
      const auto bytes = static_cast<uintptr_t>(std::min<int64_t>(16, w * size_of(x.dtype)));
      return column == 0 || reinterpret_cast<uintptr_t>(start + x.offset) % bytes == 0;
    };
    return std::all_of(lines.begin(), lines.end(), [&](const StepList::Line& line) {
      return fits(line.outputs[0]) && std::all_of(line.inputs.begin(), line.inputs.end(), fits);
    });
  }

  // The number of the operand that is this value; and the source that reads it, the first time.
  int operand(int v) {
    const auto known = std::find(operands_.begin(), operands_.end(), v);
    if (known != operands_.end()) return static_cast<int>(known - operands_.begin());
    const int k = static_cast<int>(operands_.size());
    operands_.push_back(v);
    const StepList::Value& x = list_.value(v);
    const StepList::Slot& slot = list_.slot(v);
    const char* start = base_[at(x.slot)] + x.offset;
    const auto [row, column, period] = *strides_of(x, shape_, split_for(shape_, grid_));
    arguments.at[k] = reinterpret_cast<uintptr_t>(start);
    std::string how;
    if (slot.storage && !is_cuda(slot.storage->device)) {
      arguments.given |= 1u << k;
      given.push_back({k, start, at(static_cast<int>(size_of(x.dtype)))});
      arguments.at[k] = 0;
      how = concat("given<", type_of(x.dtype), ">(a, ", k, ")");
    } else if (row == 0 && column == 0) {
      how = concat("repeat<", type_of(x.dtype), ">(a.at[", k, "], 0)");
    } else if (column == 1 && (row == grid_.columns || grid_.rows == 1)) {
      how = concat("load<W, ", type_of(x.dtype), ">(a.at[", k, "], i)");
    } else {
      const bool long_rows = arguments.n >= int64_t{1} << 31;  // a short division is a quick one
      by_rows_ = concat("  const int64_t row = static_cast<", long_rows ? "int64_t" : "uint32_t",
                        ">(i) / ", grid_.columns, long_rows ? "" : "u", ";\n",
                        "  const int64_t column = i - row * ", grid_.columns, ";\n");
      const std::string offset = concat(row ? concat("row * ", row) : "",
                                        row && column ? " + " : "", column ? "column" : "");
      how = concat(column ? "load<W, " : "repeat<", type_of(x.dtype), ">(a.at[", k, "], ", offset,
                   ")");
    }
    reads_ += concat("  const auto x", k, " = ", how, ";\n");
    return k;
  }

  // `t3` of a line, or `x2[k]` of an operand from outside.
  std::string name_of(std::span<const StepList::Line> lines, size_t end, int v) {
    for (size_t i = 0; i < end; ++i)
      if (lines[i].outputs[0] == v) return concat("t", i);
    return concat("x", operand(v), "[k]");
  }

  // Numbers stand for values, so that equal chains have equal sources, wherever they come from.
  void write(std::span<const StepList::Line> lines) {
    width = wide(lines, 4) ? 4 : 1;
    std::string made, body, stores;
    for (size_t i = 0; i < lines.size(); ++i) {
      const StepList::Line& line = lines[i];
      const StepList::Value& y = list_.value(line.outputs[0]);
      const std::string name = line.op->name, type = type_of(y.dtype);
      arguments.params[i] = line.attrs.as<Params>();
      std::string call;
      if (name == "cast")
        call = concat("convert<", type, ">(");
      else if (name == "where")
        call = concat("where<", type, ">(a.params[", i, "]");
      else if (name.ends_with("_vjp"))
        call = concat("vjp<\"", name.substr(0, name.size() - 4), "\">(a.params[", i, "]");
      else
        call = concat("value<\"", name, "\">(a.params[", i, "]");
      for (const int x : line.inputs)
        call += concat(call.back() == '(' ? "" : ", ", name_of(lines, i, x));
      body += concat("    const ", type, " t", i, " = ", call, ");\n");
      if (char* const start = base_[at(y.slot)]) {
        const size_t k = operands_.size();
        operands_.push_back(-1);
        arguments.at[k] = reinterpret_cast<uintptr_t>(start + y.offset);
        made += concat("  Pack<", type, ", W> y", i, ";\n");
        body += concat("    y", i, ".v[k] = t", i, ";\n");
        stores += concat("  store(a.at[", k, "], i, y", i, ");\n");
      }
    }
    source = concat(
        "#include \"ops/elementwise/chain_kernel.h\"\n\n"
        "namespace wengert::WENGERT_ISA {\n"
        "template <int W> __device__ void chain(const ChainArguments& a, int64_t i) {\n",
        by_rows_, reads_, made, "#pragma unroll\n  for (int k = 0; k < W; ++k) {\n", body, "  }\n",
        stores, "}\n}  // namespace wengert::WENGERT_ISA\n\n",
        "WENGERT_CHAIN_KERNEL { wengert::WENGERT_ISA::each_element<", width, ">(a); }\n");
  }

  const StepList& list_;
  std::span<char* const> base_;
  Grid grid_;
  Shape shape_;
  std::string by_rows_, reads_;
  std::vector<int> operands_;  // values, by number; -1: a result
};

class GpuChain final : public Ready {
 public:
  GpuChain(Device device, const Writer& writer)
      : device_(device),
        kernel_(cuda().chain_kernel(device, writer.source.c_str())),
        arguments_(writer.arguments),
        given_(writer.given),
        threads_((writer.arguments.n + writer.width - 1) / writer.width) {}

  void run() const override {
    ChainArguments arguments = arguments_;
    for (const Given& x : given_) std::memcpy(&arguments.at[x.operand], x.value, x.bytes);
    cuda().launch_chain(device_, kernel_, arguments, threads_);
  }

 private:
  Device device_;
  const void* kernel_;
  ChainArguments arguments_;
  std::vector<Given> given_;
  int64_t threads_;
};

}  // namespace

std::unique_ptr<Ready> ready_gpu_chain(const Plan& plan, const StepList::Line& line) {
  const Device device = plan.view(line.outputs[0]).device;
  return std::make_unique<GpuChain>(
      device, Writer(plan.list(), line.body, *grid_of(plan.list(), line.body, false), plan.base()));
}

}  // namespace wengert
