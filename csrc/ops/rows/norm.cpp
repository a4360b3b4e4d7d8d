// layer_norm over the last axis: y = (x - mean) / sqrt(var + eps) * w + b (Ba, Kiros and Hinton
// 2016, arXiv 1607.06450). Inputs x (..., n), and, where they are wanted, w and b (n,).
#include "ops/rows/norm.h"

#include <algorithm>

#include "base/pool.h"
#include "graph/batch.h"
#include "ops/functions.h"
#include "ops/gpu.h"
#include "ops/rows/gpu.h"

namespace wengert {

namespace {

constexpr int64_t chunk_elements = 1 << 14;
constexpr int64_t rows_summed = norm_rows_summed;

template <class Body> void with_kernel(DType dtype, const Body& body) {
  static const NormKernels& table = WENGERT_PICK_KERNELS(norm_kernels);
  if (dtype == DType::float32)
    body(table.f32, Type<float>{});
  else
    body(table.f64, Type<double>{});
}
int64_t row_count(const View& x) { return x.shape.back() ? x.numel() / x.shape.back() : 0; }
void describe(const Attrs& attrs, NamedAttrs& named) {
  named.emplace_back("eps", attrs.as<NormAttrs>().eps);
}
Cost cost(Tensors in, const Tensor& out, const Attrs&) {
  Cost c = default_cost(in, out);
  c.flops = 8 * static_cast<double>(in[0].numel());  // two sums, difference, square, scale, shift
  return c;
}

void infer(Tensors in, const Attrs&, SmallVector<Meta, 2>& out) {
  out.emplace_back(in[0].shape(), in[0].dtype(), in[0].device());
  Shape kept = in[0].shape();
  kept[kept.size() - 1] = 2;
  out.emplace_back(kept, in[0].dtype(), in[0].device());
}
void run(Views out, Views in, const Attrs& attrs) {
  const int64_t n = in[0].shape.back(), rows = row_count(in[0]);
  const int64_t per_chunk = std::max<int64_t>(1, chunk_elements / std::max<int64_t>(1, n));
  with_kernel(out[0].dtype, [&](const auto& k, auto type) {
    using T = typename decltype(type)::type;
    const T *w = in.size() > 1 ? in[1].as<T>() : nullptr,
            *b = in.size() > 2 ? in[2].as<T>() : nullptr;
    parallel_for(ceil_div(rows, per_chunk), [&](int64_t chunk) {
      const int64_t first = chunk * per_chunk;
      k.layer_norm(std::min(per_chunk, rows - first), n, out[0].as<T>() + first * n,
                   out[1].as<T>() + first * 2, in[0].as<T>() + first * n, w, b,
                   attrs.as<NormAttrs>().eps);
    });
  });
}
Saves saves(uint32_t, const Attrs&) { return save_input(0) | save_input(1) | save_auxiliary; }

// dx, of inputs g, x, kept, and w if there is one.
void infer_vjp(Tensors in, const Attrs&, SmallVector<Meta, 2>& out) {
  out.emplace_back(in[1].shape(), in[1].dtype(), in[1].device());
}
void run_vjp(Views out, Views in, const Attrs&) {
  const int64_t n = in[1].shape.back(), rows = row_count(in[1]);
  const int64_t per_chunk = std::max<int64_t>(1, chunk_elements / std::max<int64_t>(1, n));
  with_kernel(out[0].dtype, [&](const auto& k, auto type) {
    using T = typename decltype(type)::type;
    const T* w = in.size() > 3 ? in[3].as<T>() : nullptr;
    parallel_for(ceil_div(rows, per_chunk), [&](int64_t chunk) {
      const int64_t first = chunk * per_chunk;
      k.layer_norm_vjp(std::min(per_chunk, rows - first), n, out[0].as<T>() + first * n,
                       in[0].as<T>() + first * n, in[1].as<T>() + first * n, w,
                       in[2].as<T>() + first * 2);
    });
  });
}
const Op vjp_op{.name = "layer_norm_vjp",
                .operands = "g, x, kept, w",
                .formula = "rstd * (h - mean(h) - xhat * mean(h * xhat)), h = g * w",
                .numpy = "layer_norm_vjp({all})",
                .infer = infer_vjp,
                .run = run_vjp,
                .gpu = on_gpu<&GpuKernels::norm, &NormGpu::layer_norm_vjp>,
                .no_gradient = fused_only,
                .cost = cost,
                .batch = batch_rows<3>};

// (dw, db) as (2, n), of inputs g, x, kept.
void infer_affine(Tensors in, const Attrs&, SmallVector<Meta, 2>& out) {
  const int64_t n = in[1].shape().back();
  const int64_t rows = n ? in[1].numel() / n : 0;
  out.emplace_back(Shape{2, n}, in[1].dtype(), in[1].device());
  out.emplace_back(Shape{ceil_div(rows, rows_summed), 2, n}, in[1].dtype(), in[1].device());
}
void run_affine(Views out, Views in, const Attrs&) {
  const int64_t n = in[1].shape.back(), rows = row_count(in[1]), parts = out[1].shape[0];
  with_kernel(out[0].dtype, [&](const auto& k, auto type) {
    using T = typename decltype(type)::type;
    T* const sums = out[1].as<T>();  // of the parts
    parallel_for(parts, [&](int64_t part) {
      const int64_t first = part * rows_summed;
      T* const dw = sums + part * 2 * n;
      k.affine_vjp(std::min(rows_summed, rows - first), n, dw, dw + n, in[0].as<T>() + first * n,
                   in[1].as<T>() + first * n, in[2].as<T>() + first * 2);
    });
    const int64_t width = 256;
    parallel_for(ceil_div(2 * n, width), [&](int64_t chunk) {
      const int64_t first = chunk * width, count = std::min(width, 2 * n - first);
      double total[width] = {};
      for (int64_t part = 0; part < parts; ++part)
        for (int64_t c = 0; c < count; ++c)
          total[c] += static_cast<double>(sums[part * 2 * n + first + c]);
      for (int64_t c = 0; c < count; ++c) out[0].as<T>()[first + c] = static_cast<T>(total[c]);
    });
  });
}
const Op affine_op{.name = "layer_norm_affine_vjp",
                   .operands = "g, x, kept",
                   .formula = "sum(g * xhat) and sum(g), over the rows",
                   .numpy = "layer_norm_affine_vjp({all})",
                   .infer = infer_affine,
                   .run = run_affine,
                   .gpu = on_gpu<&GpuKernels::norm, &NormGpu::affine_vjp>,
                   .no_gradient = fused_only,
                   .cost = cost};

void vjp(const Line& line, const Tensor& g_given, Gradients& dx) {
  const Tensor& x = line.input(0);
  const int last = x.dim() - 1;
  const bool affine = line.inputs.size() > 1, shifted = line.inputs.size() > 2;
  const bool fuse = may_fuse(g_given, x) && (!affine || may_fuse(g_given, line.input(1)));
  if (fuse) {
    const Tensor g = contiguous(g_given);
    if (line.needs(0)) {
      const Tensor in[] = {g, x, line.auxiliary(), affine ? line.input(1) : x};
      dx[0] = apply(vjp_op, Tensors(in, affine ? 4 : 3), line.attrs);
    }
    if (affine && (line.needs(1) || (shifted && line.needs(2)))) {
      const Tensor in[] = {g, x, line.auxiliary()};
      const Tensor both = apply(affine_op, Tensors(in), line.attrs);
      if (line.needs(1)) dx[1] = pick(both, 0, 0);
      if (shifted && line.needs(2)) dx[2] = pick(both, 0, 1);
    }
    return;
  }
  const AxisMask axis = 1u << last;
  const Tensor centred = x - mean(x, axis, true);
  const Tensor rstd =
      unary<Rsqrt>(mean(square(centred), axis, true) + line.attrs.as<NormAttrs>().eps);
  const Tensor xhat = centred * rstd, h = affine ? g_given * line.input(1) : g_given;
  if (line.needs(0)) dx[0] = rstd * (h - mean(h, axis, true) - xhat * mean(h * xhat, axis, true));
  if (affine && line.needs(1)) dx[1] = g_given * xhat;  // the engine sums them over the rows
  if (shifted && line.needs(2)) dx[2] = g_given;
}
const Op layer_norm_op{
    .name = "layer_norm",
    .operands = "x, w, b",
    .formula =
        "xhat * w + b, xhat = (x - mean) * rstd, rstd = 1 / sqrt(var + eps), along the last "
        "axis",
    .gradient = {"rstd * (h - mean(h) - xhat * mean(h * xhat)), h = g * w", "sum(g * xhat)",
                 "sum(g)"},
    .numpy = "layer_norm({all}, eps={eps})",
    .infer = infer,
    .run = run,
    .gpu = on_gpu<&GpuKernels::norm, &NormGpu::layer_norm>,
    .vjp = vjp,
    .saves = saves,
    .cost = cost,
    .describe = describe,
    .batch = batch_rows<1>};

}  // namespace

void add_norm_ops(std::vector<const Op*>& ops) {
  for (const Op* op : {&layer_norm_op, &vjp_op, &affine_op}) ops.push_back(op);
}

Tensor layer_norm(const Tensor& given, const Shape& normalized, const Tensor& weight_given,
                  const Tensor& bias, double eps) {
  const int kept = given.dim() - normalized.size();
  bool fits = !normalized.empty() && kept >= 0;
  for (int d = 0; fits && d < normalized.size(); ++d)
    fits = given.shape()[kept + d] == normalized[d];
  if (!fits)
    fail<ShapeError>("layer_norm: x has shape ", given.shape(), " and normalized_shape is ",
                     normalized, "; x's last axes must be those");
  if (!(eps >= 0)) fail<ValueError>("layer_norm: got eps = ", eps, "; expected 0 or more");
  const Tensor x = to_dtype(given, to_floating(given.dtype()));
  const Tensor weight = bias.defined() && !weight_given.defined()
                            ? full(normalized, 1, x.dtype(), x.device())
                            : weight_given;
  Shape rows;
  for (int d = 0; d < kept; ++d) rows.push_back(x.shape()[d]);
  const int64_t n = numel(normalized);
  rows.push_back(n);
  std::vector<Tensor> in{contiguous(reshape(x, rows))};
  for (const Tensor* t : {&weight, &bias}) {
    if (!t->defined()) continue;
    if (!(t->shape() == normalized))
      fail<ShapeError>("layer_norm: ", t == &weight ? "the weight" : "the bias", " has shape ",
                       t->shape(), "; expected normalized_shape, ", normalized);
    if (t->dtype() != x.dtype())
      fail<DTypeError>("layer_norm: x is ", x.dtype(), " and ",
                       t == &weight ? "the weight" : "the bias", " is ", t->dtype(),
                       "; convert one with .to()");
    in.push_back(contiguous(reshape(*t, Shape{n})));
  }
  return reshape(apply(layer_norm_op, Tensors(in), NormAttrs{eps}), x.shape());
}

}  // namespace wengert
