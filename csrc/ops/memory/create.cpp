// Lines without inputs: constants and ranges.
#include <algorithm>

#include "base/pool.h"
#include "ops/functions.h"
#include "ops/gpu.h"
#include "ops/memory/gpu.h"

namespace wengert {

namespace {

constexpr int64_t chunk_elements = 1 << 16;

// y[i] = value(i)
template <class T, class Value> void fill(const View& y, const Value& value) {
  const int64_t n = y.numel();
  parallel_for(ceil_div(n, chunk_elements), [&](int64_t chunk) {
    const int64_t end = std::min(n, (chunk + 1) * chunk_elements);
    for (int64_t i = chunk * chunk_elements; i < end; ++i) y.as<T>()[i] = value(i);
  });
}

void infer_full(Tensors, const Attrs& attrs, SmallVector<Meta, 2>& out) {
  const auto& a = attrs.as<FullAttrs>();
  out.emplace_back(a.shape, a.dtype, a.device);
}
void run_full(Views out, Views, const Attrs& attrs) {
  dispatch(out[0].dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    const T value = attrs.as<FullAttrs>().value.template as<T>();
    fill<T>(out[0], [value](int64_t) { return value; });
  });
}
void describe_full(const Attrs& attrs, NamedAttrs& named) {
  const auto& a = attrs.as<FullAttrs>();
  named.emplace_back("shape", a.shape);
  named.emplace_back("value", a.value);
  named.emplace_back("dtype", name(a.dtype));
  if (is_cuda(a.device)) named.emplace_back("device", name(a.device));
}
const Op full_op{.name = "full",
                 .operands = "",
                 .formula = "a constant",
                 .numpy = "np.full({shape}, {value}, {dtype!r})",
                 .infer = infer_full,
                 .run = run_full,
                 .gpu = on_gpu<&GpuKernels::create, &CreateGpu::full>,
                 .no_gradient = "it has no inputs",
                 .describe = describe_full};

void infer_arange(Tensors, const Attrs& attrs, SmallVector<Meta, 2>& out) {
  const auto& a = attrs.as<RangeAttrs>();
  out.emplace_back(Shape{a.count}, a.dtype, a.device);
}
void run_arange(Views out, Views, const Attrs& attrs) {
  const auto& a = attrs.as<RangeAttrs>();
  dispatch(out[0].dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    fill<T>(out[0], [&a](int64_t i) {
      if constexpr (std::is_integral_v<T>)
        return static_cast<T>(static_cast<uint64_t>(a.start.as<int64_t>()) +
                              static_cast<uint64_t>(i) *
                                  static_cast<uint64_t>(a.step.as<int64_t>()));
      else
        return static_cast<T>(a.start.as() + static_cast<double>(i) * a.step.as());
    });
  });
}
void describe_arange(const Attrs& attrs, NamedAttrs& named) {
  const auto& a = attrs.as<RangeAttrs>();
  named.emplace_back("start", a.start);
  named.emplace_back("step", a.step);
  named.emplace_back("count", a.count);
  named.emplace_back("dtype", name(a.dtype));
  if (is_cuda(a.device)) named.emplace_back("device", name(a.device));
}
const Op arange_op{.name = "arange",
                   .operands = "",
                   .formula = "start + step * (0, 1, ... count - 1)",
                   .numpy = "({start} + {step} * np.arange({count})).astype({dtype!r})",
                   .infer = infer_arange,
                   .run = run_arange,
                   .gpu = on_gpu<&GpuKernels::create, &CreateGpu::arange>,
                   .no_gradient = "it has no inputs",
                   .describe = describe_arange};

}  // namespace

void add_create_ops(std::vector<const Op*>& ops) {
  ops.push_back(&full_op);
  ops.push_back(&arange_op);
}

Tensor full(const Shape& shape, Number value, DType dtype, Device device) {
  if (!dispatch(dtype, [&](auto type) { return value.fits<typename decltype(type)::type>(); }))
    fail<ValueError>("full: the number ", value, " does not fit into ", dtype);
  return apply(full_op, Tensors(), FullAttrs{shape, value, dtype, device});
}
Tensor full_like(const Tensor& x, Number value) {
  return full(x.shape(), value, x.dtype(), x.device());
}
Tensor arange(Number start, Number step, int64_t count, DType dtype, Device device) {
  return apply(arange_op, Tensors(), RangeAttrs{start, step, count, dtype, device});
}

}  // namespace wengert
