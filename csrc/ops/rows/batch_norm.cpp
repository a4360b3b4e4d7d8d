// batch_norm in training: y = (x - mean) / sqrt(var + eps) * w + b, mean and var those of a channel
// over all images (Ioffe and Szegedy 2015, arXiv 1502.03167). Inputs x (n, channels, ...), and w
// and b (channels, 1, ...). A channel is read from memory once: it is in the caches for all but the
// first of its sums.
#include "ops/rows/batch_norm.h"

#include <algorithm>

#include "base/pool.h"
#include "ops/functions.h"
#include "ops/rows/gpu.h"
#include "ops/rows/norm.h"

namespace wengert {

namespace {

constexpr int64_t chunk_elements = 1 << 14;

int64_t elements_of(const Shape& x) {  // of a channel of an image
  int64_t n = 1;
  for (int d = 2; d < x.size(); ++d) n *= x[d];
  return n;
}
// Calls body(kernels, type, channel) for all channels of x, and `then` for each that is made.
template <class Body> void each_channel(const View& x, const Then& then, const Body& body) {
  static const NormKernels& table = WENGERT_PICK_KERNELS(norm_kernels);
  const int64_t images = x.shape[0], channels = x.shape[1], elements = elements_of(x.shape);
  const int64_t together =
      std::max<int64_t>(1, chunk_elements / std::max<int64_t>(1, images * elements));
  parallel_for(ceil_div(channels, together), [&](int64_t chunk) {
    for (int64_t c = chunk * together; c < std::min(channels, (chunk + 1) * together); ++c) {
      x.dtype == DType::float32 ? body(table.f32, float(), c) : body(table.f64, double(), c);
      for (int64_t n = 0; n < images; ++n) then(n * channels + c, 1, 0, elements);
    }
  });
}
void describe(const Attrs& attrs, NamedAttrs& named) {
  named.emplace_back("eps", attrs.as<NormAttrs>().eps);
}
template <int x> Cost cost(Tensors in, const Tensor& out, const Attrs&) {
  Cost c = default_cost(in, out);
  c.flops = 8 * static_cast<double>(in[x].numel());  // as layer_norm's
  return c;
}
template <int x> void infer(Tensors in, const Attrs&, SmallVector<Meta, 2>& out) {
  const Shape& shape = in[x].shape();
  out.emplace_back(shape, in[x].dtype(), in[x].device());
  out.emplace_back(Shape{2, shape[1]}, in[x].dtype(), in[x].device());
}

void run_then(Views out, Views in, const Attrs& attrs, const Then& then) {
  const int64_t images = in[0].shape[0], channels = in[0].shape[1], n = elements_of(in[0].shape);
  each_channel(in[0], then, [&](const auto& k, auto zero, int64_t c) {
    using T = decltype(zero);
    T* const kept = out[1].as<T>() + c;
    k.batch_norm(images, channels * n, n, out[0].as<T>() + c * n, kept, kept + channels,
                 in[0].as<T>() + c * n, in[1].as<T>()[c], in[2].as<T>()[c],
                 attrs.as<NormAttrs>().eps);
  });
}
Saves saves(uint32_t, const Attrs&) { return save_input(0) | save_input(1) | save_auxiliary; }

// dx, and (dw, db) as (2, channels), of inputs g, x, kept and w.
void vjp_then(Views out, Views in, const Attrs& attrs, const Then& then) {
  const int64_t images = in[1].shape[0], channels = in[1].shape[1], n = elements_of(in[1].shape);
  each_channel(in[1], then, [&](const auto& k, auto zero, int64_t c) {
    using T = decltype(zero);
    T* const sums = out[1].as<T>() + c;
    const T* const kept = in[2].as<T>() + c;
    k.batch_norm_vjp(images, channels * n, n, out[0].as<T>() + c * n, sums, sums + channels,
                     in[0].as<T>() + c * n, in[1].as<T>() + c * n, in[3].as<T>()[c], kept[0],
                     kept[channels], attrs.as<NormAttrs>().eps);
  });
}
const Op vjp_op{
    .name = "batch_norm_vjp",
    .operands = "g, x, kept, w",
    .formula = "w * rstd * (g - mean(g) - xhat * mean(g * xhat)); and sum(g * xhat), sum(g)",
    .numpy = "batch_norm_vjp({all}, eps={eps})",
    .infer = infer<1>,
    .run = run_only<vjp_then>,
    .no_gradient = fused_only,
    .cost = cost<1>,
    .describe = describe};

void vjp(const Line& line, const Tensor& g, Gradients& dx) {
  const Tensor &x = line.input(0), &w = line.input(1);
  if (may_fuse(g, x) && may_fuse(g, w)) {
    const Tensor in[] = {contiguous(g), x, line.auxiliary(), w};
    Tensor sums;
    dx[0] = apply(vjp_op, Tensors(in), line.attrs, &sums);
    for (int i = 0; i < 2; ++i)
      if (line.needs(1 + i)) dx[1 + i] = reshape(pick(sums, 0, i), w.shape());
    return;
  }
  AxisMask all_but_channels = 1;
  for (int d = 2; d < x.dim(); ++d) all_but_channels |= 1u << d;
  const Tensor centred = x - mean(x, all_but_channels, true);
  const Tensor rstd =
      unary<Rsqrt>(mean(square(centred), all_but_channels, true) + line.attrs.as<NormAttrs>().eps);
  const Tensor xhat = centred * rstd;
  if (line.needs(0))
    dx[0] = w * rstd *
            (g - mean(g, all_but_channels, true) - xhat * mean(g * xhat, all_but_channels, true));
  if (line.needs(1)) dx[1] = g * xhat;  // the engine sums them
  if (line.needs(2)) dx[2] = g;
}
const Op batch_norm_op{
    .name = "batch_norm",
    .operands = "x, w, b",
    .formula =
        "xhat * w + b, xhat = (x - mean) * rstd, rstd = 1 / sqrt(var + eps), over all axes but "
        "the channels'",
    .gradient = {"w * rstd * (g - mean(g) - xhat * mean(g * xhat))", "sum(g * xhat)", "sum(g)"},
    .numpy = "batch_norm({all}, eps={eps})",
    .infer = infer<0>,
    .run = run_only<run_then>,
    .vjp = vjp,
    .saves = saves,
    .cost = cost<0>,
    .describe = describe};

}  // namespace

RunThen batch_norm_then(const Op& op) {
  return &op == &batch_norm_op ? run_then : &op == &vjp_op ? vjp_then : nullptr;
}

void add_batch_norm_ops(std::vector<const Op*>& ops) {
  for (const Op* op : {&batch_norm_op, &vjp_op}) ops.push_back(op);
}

std::pair<Tensor, Tensor> batch_norm(const Tensor& x, const Tensor& weight, const Tensor& bias,
                                     double eps) {
  Shape channels{x.shape()[1]};
  while (channels.size() + 1 < x.dim()) channels.push_back(1);
  const Tensor in[] = {contiguous(x), contiguous(reshape(weight, channels)),
                       contiguous(reshape(bias, channels))};
  Tensor kept;
  const Tensor y = apply(batch_norm_op, Tensors(in), NormAttrs{eps}, &kept);
  return {y, kept};
}

}  // namespace wengert
