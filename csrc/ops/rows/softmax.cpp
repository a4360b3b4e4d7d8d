// softmax, log_softmax, logsumexp and cross-entropy: ops on rows, the axis in question last.
#include "ops/rows/softmax.h"

#include <algorithm>
#include <limits>

#include "base/pool.h"
#include "graph/batch.h"
#include "ops/functions.h"
#include "ops/gpu.h"
#include "ops/rows/gpu.h"

namespace wengert {

namespace {

constexpr int64_t chunk_elements = 1 << 14;

const SoftmaxKernels& table() {
  static const SoftmaxKernels& t = WENGERT_PICK_KERNELS(softmax_kernels);
  return t;
}

// Calls body(kernels, T, first row, rows) for chunks of rows of n.
template <class Body> void by_rows(DType dtype, int64_t rows, int64_t n, const Body& body) {
  const int64_t per_chunk = std::max<int64_t>(1, chunk_elements / std::max<int64_t>(1, n));
  parallel_for(ceil_div(rows, per_chunk), [&](int64_t chunk) {
    const int64_t first = chunk * per_chunk, count = std::min(per_chunk, rows - first);
    if (dtype == DType::float32)
      body(table().f32, Type<float>{}, first, count);
    else
      body(table().f64, Type<double>{}, first, count);
  });
}

int64_t row_length(const View& x) { return x.shape.back(); }
int64_t row_count(const View& x) { return row_length(x) ? x.numel() / row_length(x) : 0; }

void infer_same(Tensors in, const Attrs&, SmallVector<Meta, 2>& out) {
  out.emplace_back(in[0].shape(), in[0].dtype(), in[0].device());
}
Cost cost_rows(Tensors in, const Tensor& out, const Attrs&) {
  Cost cost = default_cost(in, out);
  cost.flops = 5 * static_cast<double>(in[0].numel());  // maximum, difference, exp, sum, scale
  return cost;
}

// y = f(x) and dx = f_vjp(g, y), both row by row.
template <auto member> void run_rows(Views out, Views in, const Attrs&) {
  const int64_t n = row_length(in[0]);
  by_rows(out[0].dtype, row_count(in[0]), n,
          [&](const auto& k, auto type, int64_t first, int64_t rows) {
            using T = typename decltype(type)::type;
            const auto kernel = member(k);
            if constexpr (requires(T* p) { kernel(rows, n, p, p, p); })
              kernel(rows, n, out[0].as<T>() + first * n, in[0].as<T>() + first * n,
                     in[1].as<T>() + first * n);
            else
              kernel(rows, n, out[0].as<T>() + first * n, in[0].as<T>() + first * n);
          });
}
Saves save_y(uint32_t, const Attrs&) { return save_output; }

const Op softmax_vjp_op{.name = "softmax_vjp",
                        .operands = "g, y",
                        .formula = "y * (g - sum(g * y))",
                        .numpy = "times({g} - times({g}, {y}).sum(axis=-1, keepdims=True), {y})",
                        .infer = infer_same,
                        .run = run_rows<[](const auto& k) { return k.softmax_vjp; }>,
                        .gpu = on_gpu<&GpuKernels::softmax, &SoftmaxGpu::softmax_vjp>,
                        .no_gradient = fused_only,
                        .cost = cost_rows,
                        .batch = batch_rows<>};
void vjp_softmax(const Line& line, const Tensor& g, Gradients& dx) {
  const Tensor y = line.result();
  dx[0] = may_fuse(g, y) ? apply(softmax_vjp_op, contiguous(g), y)
                         : times(g - sum(times(g, y), 1u << (y.dim() - 1), true), y);
}
const Op softmax_op{.name = "softmax",
                    .formula = "exp(x - m) / sum(exp(x - m)), m = max(x), along the last axis",
                    .gradient = {"y * (g - sum(g * y))"},
                    .numpy = "softmax({x})",
                    .infer = infer_same,
                    .run = run_rows<[](const auto& k) { return k.softmax; }>,
                    .gpu = on_gpu<&GpuKernels::softmax, &SoftmaxGpu::softmax>,
                    .vjp = vjp_softmax,
                    .saves = save_y,
                    .cost = cost_rows,
                    .batch = batch_rows<>};

const Op log_softmax_vjp_op{.name = "log_softmax_vjp",
                            .operands = "g, y",
                            .formula = "g - exp(y) * sum(g)",
                            .numpy = "{g} - times({g}.sum(axis=-1, keepdims=True), np.exp({y}))",
                            .infer = infer_same,
                            .run = run_rows<[](const auto& k) { return k.log_softmax_vjp; }>,
                            .gpu = on_gpu<&GpuKernels::softmax, &SoftmaxGpu::log_softmax_vjp>,
                            .no_gradient = fused_only,
                            .cost = cost_rows,
                            .batch = batch_rows<>};
void vjp_log_softmax(const Line& line, const Tensor& g, Gradients& dx) {
  const Tensor y = line.result();
  dx[0] = may_fuse(g, y) ? apply(log_softmax_vjp_op, contiguous(g), y)
                         : g - times(sum(g, 1u << (y.dim() - 1), true), exp(y));
}
const Op log_softmax_op{.name = "log_softmax",
                        .formula = "x - m - log(sum(exp(x - m))), m = max(x), along the last axis",
                        .gradient = {"g - exp(y) * sum(g)"},
                        .numpy = "log_softmax({x})",
                        .infer = infer_same,
                        .run = run_rows<[](const auto& k) { return k.log_softmax; }>,
                        .gpu = on_gpu<&GpuKernels::softmax, &SoftmaxGpu::log_softmax>,
                        .vjp = vjp_log_softmax,
                        .saves = save_y,
                        .cost = cost_rows,
                        .batch = batch_rows<>};

void infer_logsumexp(Tensors in, const Attrs&, SmallVector<Meta, 2>& out) {
  out.emplace_back(reduced_shape(in[0].shape(), 1u << (in[0].dim() - 1), false), in[0].dtype(),
                   in[0].device());
}
void run_logsumexp(Views out, Views in, const Attrs&) {
  const int64_t n = row_length(in[0]);
  by_rows(out[0].dtype, out[0].numel(), n,
          [&](const auto& k, auto type, int64_t first, int64_t rows) {
            using T = typename decltype(type)::type;
            k.logsumexp(rows, n, out[0].as<T>() + first, in[0].as<T>() + first * n);
          });
}
Saves save_x_and_y(uint32_t, const Attrs&) { return save_input(0) | save_output; }
void vjp_logsumexp(const Line& line, const Tensor& g, Gradients& dx) {
  const Tensor& x = line.input(0);
  const Tensor y = unsqueeze(line.result(), -1);
  // exp(x - y), where y is infinite too: 0 for x = -inf, equal shares for x = inf.
  constexpr double inf = std::numeric_limits<double>::infinity();
  const Tensor weight = select(x == -inf, 0.0, select(x == y, 1.0, exp(x - y)));
  const Tensor total = select(y == inf, sum(weight, 1u << (x.dim() - 1), true), 1.0);
  dx[0] = times(unsqueeze(g, -1), weight / total);
}
const Op logsumexp_op{.name = "logsumexp",
                      .formula = "m + log(sum(exp(x - m))), m = max(x), along the last axis",
                      .gradient = {"g * exp(x - y)"},
                      .numpy = "logsumexp({x})",
                      .infer = infer_logsumexp,
                      .run = run_logsumexp,
                      .gpu = on_gpu<&GpuKernels::softmax, &SoftmaxGpu::logsumexp>,
                      .vjp = vjp_logsumexp,
                      .saves = save_x_and_y,
                      .cost = cost_rows,
                      .batch = batch_rows<>};

// ---- cross-entropy against class indices ----

void infer_cross_entropy(Tensors in, const Attrs&, SmallVector<Meta, 2>& out) {
  const Shape &x = in[0].shape(), &target = in[1].shape();
  if (x.size() != 2 || target.size() != 1 || x[0] != target[0])
    fail<ShapeError>("cross_entropy: got logits of shape ", x, " and class indices of shape ",
                     target, "; expected (n, classes) and (n,)");
  out.emplace_back(target, in[0].dtype(), in[0].device());
  out.emplace_back(Shape{x[0], 2}, in[0].dtype(), in[0].device());
}
void check_classes(const View& x, const View& classes) {
  const int64_t n = x.shape[1], *target = classes.as<int64_t>();
  serial_for(x.shape[0], chunk_elements, [&](int64_t first, int64_t end) {
    for (int64_t r = first; r < end; ++r)
      if (target[r] < 0 || target[r] >= n)
        fail<IndexError>("cross_entropy: class index ", target[r], " at row ", r,
                         " is out of range; logits of shape ", x.shape, " have classes 0 to ",
                         n - 1, target[r] == -100 ? ": write ignore_index=-100" : "");
  });
}
void run_cross_entropy(Views out, Views in, const Attrs&) {
  check_classes(in[0], in[1]);
  const int64_t n = in[0].shape[1], *target = in[1].as<int64_t>();
  by_rows(out[0].dtype, in[0].shape[0], n,
          [&](const auto& k, auto type, int64_t first, int64_t rows) {
            using T = typename decltype(type)::type;
            k.cross_entropy(rows, n, out[0].as<T>() + first, out[1].as<T>() + 2 * first,
                            in[0].as<T>() + first * n, target + first);
          });
}
Saves save_cross_entropy(uint32_t, const Attrs&) {
  return save_input(0) | save_input(1) | save_auxiliary;
}

void run_cross_entropy_vjp(Views out, Views in, const Attrs&) {  // inputs g, x, target, kept
  const int64_t n = in[1].shape[1];
  by_rows(out[0].dtype, in[1].shape[0], n,
          [&](const auto& k, auto type, int64_t first, int64_t rows) {
            using T = typename decltype(type)::type;
            const int64_t stride = in[0].strides[0];
            k.cross_entropy_vjp(rows, n, out[0].as<T>() + first * n, in[0].as<T>() + first * stride,
                                stride, in[1].as<T>() + first * n, in[2].as<int64_t>() + first,
                                in[3].as<T>() + 2 * first);
          });
}
// Both, while the rows are in L1: inputs x, target, g; outputs loss, kept, dx.
void run_cross_entropy_both(Views out, Views in, const Attrs&) {
  check_classes(in[0], in[1]);
  const int64_t n = in[0].shape[1], stride = in[2].strides[0];
  by_rows(out[0].dtype, in[0].shape[0], n,
          [&](const auto& k, auto type, int64_t first, int64_t rows) {
            using T = typename decltype(type)::type;
            const T* const x = in[0].as<T>() + first * n;
            const int64_t* const target = in[1].as<int64_t>() + first;
            T* const kept = out[1].as<T>() + 2 * first;
            k.cross_entropy(rows, n, out[0].as<T>() + first, kept, x, target);
            k.cross_entropy_vjp(rows, n, out[2].as<T>() + first * n, in[2].as<T>() + first * stride,
                                stride, x, target, kept);
          });
}
const Op cross_entropy_both_op{.name = "cross_entropy_with_gradient",
                               .formula = "its lines, row by row",
                               .run = run_cross_entropy_both,
                               .no_gradient = "a compiled step is not differentiated"};
void infer_cross_entropy_vjp(Tensors in, const Attrs&, SmallVector<Meta, 2>& out) {
  out.emplace_back(in[1].shape(), in[1].dtype(), in[1].device());
}
const Op cross_entropy_vjp_op{
    .name = "cross_entropy_vjp",
    .operands = "g, x, target, kept",
    .formula = "g * (softmax(x) - onehot(target))",
    .numpy =
        "times({g}.reshape(-1, 1), softmax({x}) - np.eye({x}.shape[1], dtype={x}.dtype)[{target}])",
    .infer = infer_cross_entropy_vjp,
    .run = run_cross_entropy_vjp,
    .gpu = on_gpu<&GpuKernels::softmax, &SoftmaxGpu::cross_entropy_vjp>,
    .no_gradient = fused_only,
    .cost = cost_rows,
    .batch = batch_folded<>};
void vjp_cross_entropy(const Line& line, const Tensor& g, Gradients& dx) {
  const Tensor &x = line.input(0), &target = line.input(1);
  if (may_fuse(g, x)) {
    const Tensor in[] = {g, x, target, line.auxiliary()};
    dx[0] = apply(cross_entropy_vjp_op, Tensors(in));
    return;
  }
  const Tensor classes = arange(0, 1, x.shape()[1], DType::int64, x.device());
  const Tensor onehot = to_dtype(unsqueeze(target, 1) == classes, x.dtype());
  dx[0] = times(unsqueeze(g, 1), softmax(x, 1) - onehot);
}
const Op cross_entropy_op{.name = "cross_entropy",
                          .operands = "x, target",
                          .formula = "log(sum(exp(x))) - x[target], for each row",
                          .gradient = {"g * (softmax(x) - onehot(target))"},
                          .numpy = "logsumexp({x}) - {x}[np.arange(len({x})), {target}]",
                          .infer = infer_cross_entropy,
                          .run = run_cross_entropy,
                          .gpu = on_gpu<&GpuKernels::softmax, &SoftmaxGpu::cross_entropy>,
                          .vjp = vjp_cross_entropy,
                          .saves = save_cross_entropy,
                          .cost = cost_rows,
                          .batch = batch_folded<>};

// Applies a row op along any axis: the axis is brought last, and back.
Tensor along(const Op& op, const Tensor& given, int64_t axis_given) {
  if (axis_mask(op.name, axis_given, given.dim()) == 0)
    return reshape(along(op, reshape(given, Shape{1}), 0), Shape{});
  const int axis = normalize_axis(op.name, axis_given, given.dim());
  const Tensor x = to_dtype(given, to_floating(given.dtype()));
  const int last = x.dim() - 1;
  if (axis == last) return apply(op, contiguous(x));
  return transpose(apply(op, contiguous(transpose(x, axis, last))), axis, last);
}

}  // namespace

const CrossEntropyOps cross_entropy_ops{cross_entropy_op, cross_entropy_vjp_op,
                                        cross_entropy_both_op};

void add_softmax_ops(std::vector<const Op*>& ops) {
  for (const Op* op : {&softmax_op, &softmax_vjp_op, &log_softmax_op, &log_softmax_vjp_op,
                       &logsumexp_op, &cross_entropy_op, &cross_entropy_vjp_op})
    ops.push_back(op);
}

Tensor softmax(const Tensor& x, int64_t axis) { return along(softmax_op, x, axis); }
Tensor log_softmax(const Tensor& x, int64_t axis) { return along(log_softmax_op, x, axis); }

Tensor logsumexp(const Tensor& given, AxisMask axes, bool keepdims) {
  const Tensor x = to_dtype(given, to_floating(given.dtype()));
  Dims order;
  Shape rows;
  int64_t n = 1;
  for (int d = 0; d < x.dim(); ++d)
    if (!has(axes, d)) {
      order.push_back(d);
      rows.push_back(x.shape()[d]);
    }
  for (int d = 0; d < x.dim(); ++d)
    if (has(axes, d)) {
      order.push_back(d);
      n *= x.shape()[d];
    }
  rows.push_back(n);
  const Tensor y = apply(logsumexp_op, contiguous(reshape(permute(x, order), rows)));
  return reshape(y, reduced_shape(x.shape(), axes, keepdims));
}

Tensor cross_entropy_rows(const Tensor& logits, const Tensor& target) {
  if (!is_integer(target.dtype()))
    fail<DTypeError>("cross_entropy: class indices have dtype ", target.dtype(),
                     "; expected an integer dtype");
  const Tensor x = to_dtype(logits, to_floating(logits.dtype()));
  return apply(cross_entropy_op, contiguous(x), contiguous(to_dtype(target, DType::int64)));
}

}  // namespace wengert
