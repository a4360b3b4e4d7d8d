#include "ops/conv/conv.h"

#include "graph/batch.h"
#include "ops/conv/gpu.h"
#include "ops/functions.h"
#include "ops/gpu.h"

namespace wengert {

namespace {

// Elements along an axis that the taps reach.
int64_t reach(int64_t taps, int64_t dilation) { return (taps - 1) * dilation + 1; }

int axis_of(const ConvAttrs& a, int i) { return 2 + i - (most_axes - a.axes); }  // in a shape

Shape spatial(Shape shape, const ConvAttrs& a) {
  for (int i = most_axes - a.axes; i < most_axes; ++i) shape.push_back(a.size[i]);
  return shape;
}

void infer(Tensors in, const Attrs& attrs, SmallVector<Meta, 2>& out) {
  const auto& a = attrs.as<ConvAttrs>();
  const Shape &x = in[0].shape(), &w = in[1].shape();
  Shape y{x[0], w[0]};
  for (int i = most_axes - a.axes; i < most_axes; ++i) {
    const int d = axis_of(a, i);
    y.push_back((x[d] + a.before[i] + a.after[i] - reach(w[d], a.dilation[i])) / a.stride[i] + 1);
  }
  out.emplace_back(y, in[0].dtype(), in[0].device());
}
void infer_input(Tensors in, const Attrs& attrs, SmallVector<Meta, 2>& out) {
  const auto& a = attrs.as<ConvAttrs>();
  out.emplace_back(spatial(Shape{in[0].shape()[0], in[1].shape()[1] * a.groups}, a), in[0].dtype(),
                   in[0].device());
}
void infer_weight(Tensors in, const Attrs& attrs, SmallVector<Meta, 2>& out) {
  const auto& a = attrs.as<ConvAttrs>();
  out.emplace_back(spatial(Shape{in[1].shape()[1], in[0].shape()[1] / a.groups}, a), in[0].dtype(),
                   in[0].device());
}

void run_weight(Views out, Views in, const Attrs& attrs) {
  convolve_weights(out[0], in[0], in[1], attrs.as<ConvAttrs>());
}
template <auto convolve> void run_then(Views out, Views in, const Attrs& attrs, const Then& then) {
  convolve(out[0], in[0], in[1], attrs.as<ConvAttrs>(), then);
}

Saves saves(uint32_t needs, const Attrs&) {
  return (needs & 1 ? save_input(1) : 0) | (needs & 2 ? save_input(0) : 0);
}
// Multiplications and additions: each weight with each output that sees it.
template <int y, int w> Cost cost(Tensors in, const Tensor& out, const Attrs&) {
  const Shape &of_y = y < 2 ? in[y].shape() : out.shape(),
              &of_w = w < 2 ? in[w].shape() : out.shape();
  Cost c = default_cost(in, out);
  double terms = 2;
  for (int d = 1; d < of_w.size(); ++d) terms *= static_cast<double>(of_w[d]);
  c.flops = static_cast<double>(numel(of_y)) * terms;
  return c;
}
void describe(const Attrs& attrs, NamedAttrs& named) {
  const auto& a = attrs.as<ConvAttrs>();
  named.emplace_back("stride", used_axes(a.stride, a.axes));
  named.emplace_back("padding", used_axes(a.before, a.axes));
  named.emplace_back("dilation", used_axes(a.dilation, a.axes));
  named.emplace_back("groups", a.groups);
}

extern const Op input_op, weight_op, conv_op;
Tensor apply_conv(const Op& op, const Tensor& a, const Tensor& b, const ConvAttrs& attrs) {
  return apply(op, contiguous(a), contiguous(b), attrs);
}
// Of x or of w, whose shape `like` is.
Tensor input_of(const Tensor& g, const Tensor& w, const Shape& like, ConvAttrs a) {
  for (int i = most_axes - a.axes; i < most_axes; ++i) a.size[i] = like[axis_of(a, i)];
  return apply_conv(input_op, g, w, a);
}
Tensor weight_of(const Tensor& x, const Tensor& g, const Shape& like, ConvAttrs a) {
  for (int i = most_axes - a.axes; i < most_axes; ++i) a.size[i] = like[axis_of(a, i)];
  return apply_conv(weight_op, x, g, a);
}

void vjp(const Line& line, const Tensor& g, Gradients& dx) {
  const auto& a = line.attrs.as<ConvAttrs>();
  if (line.needs(0)) dx[0] = input_of(g, line.input(1), line.inputs[0].shape, a);
  if (line.needs(1)) dx[1] = weight_of(line.input(0), g, line.inputs[1].shape, a);
}
void vjp_input(const Line& line, const Tensor& u, Gradients& dx) {
  const auto& a = line.attrs.as<ConvAttrs>();
  if (line.needs(0)) dx[0] = apply_conv(conv_op, u, line.input(1), a);
  if (line.needs(1)) dx[1] = weight_of(u, line.input(0), line.inputs[1].shape, a);
}
void vjp_weight(const Line& line, const Tensor& u, Gradients& dx) {
  const auto& a = line.attrs.as<ConvAttrs>();
  if (line.needs(0)) dx[0] = input_of(line.input(1), u, line.inputs[0].shape, a);
  if (line.needs(1)) dx[1] = apply_conv(conv_op, line.input(0), u, a);
}

const Op conv_op{
    .name = "convolution",
    .operands = "x, w",
    .formula =
        "y[n, o, p] = sum over c, t of w[o, c, t] * x[n, c, p * stride + t * dilation - "
        "padding], 0 outside",
    .gradient = {"convolution_input(g, w)", "convolution_weight(x, g)"},
    .numpy = "convolution({x}, {w}, {out}, {stride}, {padding}, {dilation}, {groups})",
    .infer = infer,
    .run = run_only<run_then<convolve>>,
    .gpu = on_gpu<&GpuKernels::conv, &ConvGpu::convolution>,
    .vjp = vjp,
    .saves = saves,
    .cost = cost<2, 1>,
    .describe = describe,
    .batch = batch_folded<1>};
const Op input_op{
    .name = "convolution_input",
    .operands = "g, w",
    .formula =
        "y[n, c, i] = sum over o, t of w[o, c, t] * g[n, o, p], where p * stride + t * "
        "dilation - padding = i",
    .gradient = {"convolution(u, w), u the gradient of y", "convolution_weight(u, g)"},
    .numpy = "convolution_input({g}, {w}, {out}, {stride}, {padding}, {dilation}, {groups})",
    .infer = infer_input,
    .run = run_only<run_then<convolve_back>>,
    .gpu = on_gpu<&GpuKernels::conv, &ConvGpu::input>,
    .vjp = vjp_input,
    .saves = saves,
    .cost = cost<0, 1>,
    .describe = describe,
    .batch = batch_folded<1>};
const Op weight_op{
    .name = "convolution_weight",
    .operands = "x, g",
    .formula =
        "y[o, c, t] = sum over n, p of g[n, o, p] * x[n, c, p * stride + t * dilation - "
        "padding]",
    .gradient = {"convolution_input(g, u), u the gradient of y", "convolution(x, u)"},
    .numpy = "convolution_weight({x}, {g}, {out}, {stride}, {padding}, {dilation}, {groups})",
    .infer = infer_weight,
    .run = run_weight,
    .gpu = on_gpu<&GpuKernels::conv, &ConvGpu::weight>,
    .vjp = vjp_weight,
    .saves = saves,
    .cost = cost<1, 2>,
    .describe = describe};

// What all three need of x and w; the messages speak of `by`.
void check(const char* by, const char* first, const Tensor& x, const Tensor& w, int axes,
           int64_t groups) {
  if (x.dim() != axes + 2 || w.dim() != axes + 2)
    fail<ShapeError>(by, ": ", first, " has shape ", x.shape(), " and weight ", w.shape(),
                     "; expected ", axes, " axes behind (n, channels) and (channels, channels)");
  if (x.dtype() != w.dtype() || !is_floating(x.dtype()))
    fail<DTypeError>(by, ": ", first, " is ", x.dtype(), " and the weight is ", w.dtype(),
                     "; expected one floating dtype: convert with .to(...)");
  if (groups < 1) fail<ValueError>(by, ": groups is ", groups, "; expected 1 or more");
}
ConvAttrs attrs_of(const Window& window, int64_t groups) {
  const int n = window.stride.size();
  ConvAttrs a{n, {1, 1, 1}, {}, {}, {1, 1, 1}, {1, 1, 1}, groups};
  for (int i = 0; i < n; ++i) {
    const int to = most_axes - n + i;
    a.stride[to] = window.stride[i], a.dilation[to] = window.dilation[i];
    a.before[to] = window.before[i], a.after[to] = window.after[i];
  }
  return a;
}

}  // namespace

void check_window(const char* by, const Dims& whole, const Dims& size, const Window& w) {
  constexpr int64_t most = int64_t{1} << 40;
  const auto within = [&](const char* what, const Dims& given, int64_t least) {
    for (const int64_t n : given)
      if (n < least || n > most)
        fail<ValueError>(by, ": ", what, " is ", n, "; expected ", least, " or more",
                         n > most ? ", and at most 2^40" : "");
  };
  within("the kernel's size", size, 1);
  within("stride", w.stride, 1);
  within("dilation", w.dilation, 1);
  within("padding", w.before, 0);
  within("padding", w.after, -most);
  for (int i = 0; i < size.size(); ++i) {
    const int64_t room = whole[i] + w.before[i] + w.after[i];
    if (__int128{size[i] - 1} * w.dilation[i] + 1 > room)
      fail<ShapeError>(by, ": along axis ", i, " of ", size.size(), " a kernel of ", size[i],
                       w.dilation[i] > 1 ? concat(" with dilation ", w.dilation[i]) : "",
                       " is longer than the ", room, " elements there, padding included");
  }
}
int64_t window_count(int64_t whole, int64_t size, const Window& w, int i) {
  return (whole + w.before[i] + w.after[i] - reach(size, w.dilation[i])) / w.stride[i] + 1;
}

Tensor convolution(const char* by, const Tensor& x, const Tensor& w, const Window& window,
                   int64_t groups) {
  check(by, "x", x, w, window.stride.size(), groups);
  const int axes = window.stride.size();
  check_window(by, last_axes(x.shape(), axes), last_axes(w.shape(), axes), window);
  if (x.shape()[1] != w.shape()[1] * groups || w.shape()[0] % groups)
    fail<ShapeError>(by, ": x has ", x.shape()[1], " channels and the weight shape ", w.shape(),
                     "; with groups ", groups, " expected ", w.shape()[1] * groups,
                     " channels, and outputs that are a multiple of ", groups);
  return apply_conv(conv_op, x, w, attrs_of(window, groups));
}
Tensor convolution_input(const char* by, const Tensor& g, const Tensor& w, const Dims& size,
                         const Window& window, int64_t groups) {
  check(by, "x", g, w, window.stride.size(), groups);
  check_window(by, size, last_axes(w.shape(), size.size()), window);
  if (g.shape()[1] != w.shape()[0] || w.shape()[0] % groups)
    fail<ShapeError>(by, ": x has ", g.shape()[1], " channels and the weight shape ", w.shape(),
                     "; its first axis must be as many, and a multiple of groups, ", groups);
  ConvAttrs a = attrs_of(window, groups);
  for (int i = 0; i < size.size(); ++i) {
    a.size[most_axes - size.size() + i] = size[i];
    const int64_t made = window_count(size[i], w.shape()[2 + i], window, i);
    if (made != g.shape()[2 + i])
      fail<ShapeError>(by, ": along axis ", i, " of ", size.size(), " x has ", g.shape()[2 + i],
                       " elements, but an output of ", size[i], " needs ", made);
  }
  return apply_conv(input_op, g, w, a);
}

RunThen conv_then(const Op& op) {
  return &op == &conv_op    ? run_then<convolve>
         : &op == &input_op ? run_then<convolve_back>
                            : nullptr;
}

void add_conv_ops(std::vector<const Op*>& ops) {
  for (const Op* op : {&conv_op, &input_op, &weight_op}) ops.push_back(op);
}

}  // namespace wengert
