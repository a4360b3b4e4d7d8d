// windows, a view in which each window has axes of its own; its vjp overlap_add, whose vjp is
// windows; and max_pool. unfold, fold and most kinds of pooling are written with these and with
// convolution (python/wengert/nn/convolution.py).
#include <algorithm>
#include <limits>

#include "base/pool.h"
#include "graph/batch.h"
#include "ops/conv/gpu.h"
#include "ops/functions.h"
#include "ops/gpu.h"

namespace wengert {

namespace {

int first_axis(const Shape& shape, const WindowAttrs& a) { return shape.size() - a.axes; }

Layout alias_windows(const Tensor& x, const Attrs& attrs) {
  const auto& a = attrs.as<WindowAttrs>();
  const int first = first_axis(x.shape(), a);
  Layout y{x.shape(), x.strides(), x->offset};
  for (int i = 0; i < a.axes; ++i) {
    const int of = most_axes - a.axes + i;
    const int64_t stride = x.strides()[first + i];
    y.shape[first + i] = a.out[of];
    y.strides[first + i] = stride * a.stride[of];
    y.shape.push_back(a.size[of]);
    y.strides.push_back(stride * a.dilation[of]);
  }
  return y;
}
Tensor batch_windows(const Batch& b, Tensor*) { return apply(b.op, b.all[0], b.attrs); }
extern const Op overlap_add_op;
void vjp_windows(const Line& line, const Tensor& g, Gradients& dx) {
  dx[0] = apply(overlap_add_op, contiguous(g), line.attrs);
}
void describe(const Attrs& attrs, NamedAttrs& named) {
  const auto& a = attrs.as<WindowAttrs>();
  named.emplace_back("size", used_axes(a.size, a.axes));
  named.emplace_back("stride", used_axes(a.stride, a.axes));
  named.emplace_back("padding", used_axes(a.before, a.axes));
  named.emplace_back("dilation", used_axes(a.dilation, a.axes));
}
const Op windows_op{.name = "windows",
                    .formula = "y[..., o, t] = x[..., o * stride + t * dilation]",
                    .gradient = {"overlap_add(g)"},
                    .numpy = "windows({x}, {out}, {size}, {stride}, {padding}, {dilation})",
                    .alias = alias_windows,
                    .vjp = vjp_windows,
                    .describe = describe,
                    .batch = batch_windows};

void infer_overlap_add(Tensors in, const Attrs& attrs, SmallVector<Meta, 2>& out) {
  const auto& a = attrs.as<WindowAttrs>();
  Shape shape;
  for (int d = 0; d < in[0].dim() - 2 * a.axes; ++d) shape.push_back(in[0].shape()[d]);
  for (int i = most_axes - a.axes; i < most_axes; ++i) shape.push_back(a.in[i]);
  out.emplace_back(shape, in[0].dtype(), in[0].device());
}
int64_t product(const int64_t (&n)[most_axes]) { return n[0] * n[1] * n[2]; }

// All windows of a plane, added up.
template <class T> void add_plane(const WindowAttrs& a, const T* x, T* y) {
  std::fill(y, y + product(a.in), T(0));
  for (int64_t z = 0; z < a.out[0]; ++z)
    for (int64_t v = 0; v < a.out[1]; ++v) {
      for (int64_t u = 0; u < a.out[2]; ++u)
        for (int64_t k = 0; k < a.size[0]; ++k)
          for (int64_t l = 0; l < a.size[1]; ++l) {
            T* const row = y +
                           ((z * a.stride[0] + k * a.dilation[0]) * a.in[1] + v * a.stride[1] +
                            l * a.dilation[1]) *
                               a.in[2] +
                           u * a.stride[2];
            for (int64_t m = 0; m < a.size[2]; ++m) {
              T& to = row[m * a.dilation[2]];
              to = static_cast<T>(to + *x++);
            }
          }
      poll_interrupt();
    }
}
constexpr int64_t chunk_elements = 1 << 14;
// Calls one(plane) for all planes.
template <class One> void each_plane(int64_t planes, int64_t work, const One& one) {
  const int64_t together = std::max<int64_t>(1, chunk_elements / std::max<int64_t>(1, work));
  parallel_for(ceil_div(planes, together), [&](int64_t chunk) {
    for (int64_t p = chunk * together; p < std::min(planes, (chunk + 1) * together); ++p) one(p);
  });
}
void run_overlap_add(Views out, Views in, const Attrs& attrs) {
  const auto& a = attrs.as<WindowAttrs>();
  if (out[0].numel() == 0) return;
  const int64_t size = product(a.in), from = product(a.out) * product(a.size);
  of_numbers(out[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    each_plane(out[0].numel() / size, from, [&](int64_t p) {
      add_plane(a, in[0].as<T>() + p * from, out[0].as<T>() + p * size);
    });
  });
}
void vjp_overlap_add(const Line& line, const Tensor& g, Gradients& dx) {
  dx[0] = apply(windows_op, g, line.attrs);
}
const Op overlap_add_op{
    .name = "overlap_add",
    .formula = "y[..., i] = sum of x[..., o, t] where o * stride + t * dilation = i",
    .gradient = {"windows(g)"},
    .numpy = "overlap_add({x}, {out}, {size}, {stride}, {padding}, {dilation})",
    .infer = infer_overlap_add,
    .run = run_overlap_add,
    .gpu = on_gpu<&GpuKernels::conv, &ConvGpu::overlap_add>,
    .vjp = vjp_overlap_add,
    .describe = describe,
    .batch = batch_rows<>};

void infer_max_pool(Tensors in, const Attrs& attrs, SmallVector<Meta, 2>& out) {
  const auto& a = attrs.as<WindowAttrs>();
  Shape shape = in[0].shape();
  for (int i = 0; i < a.axes; ++i) shape[first_axis(shape, a) + i] = a.out[most_axes - a.axes + i];
  out.emplace_back(shape, in[0].dtype(), in[0].device());
  out.emplace_back(shape, DType::int64, in[0].device());
}
template <class T> void pool_plane(const WindowAttrs& a, const T* x, T* y, int64_t* at) {
  for (int64_t z = 0; z < a.out[0]; ++z)
    for (int64_t v = 0; v < a.out[1]; ++v) {
      for (int64_t u = 0; u < a.out[2]; ++u, ++y, ++at) {
        T best = 0;
        int64_t place = -1;
        for (int64_t k = 0; k < a.size[0]; ++k) {
          const int64_t i = z * a.stride[0] + k * a.dilation[0] - a.before[0];
          if (i < 0 || i >= a.in[0]) continue;
          for (int64_t l = 0; l < a.size[1]; ++l) {
            const int64_t j = v * a.stride[1] + l * a.dilation[1] - a.before[1];
            if (j < 0 || j >= a.in[1]) continue;
            const int64_t row = (i * a.in[1] + j) * a.in[2];
            for (int64_t m = 0; m < a.size[2]; ++m) {
              const int64_t w = u * a.stride[2] + m * a.dilation[2] - a.before[2];
              if (w < 0 || w >= a.in[2]) continue;
              const T value = x[row + w];
              if (place < 0 || value > best || value != value) best = value, place = row + w;
            }
          }
        }
        *y = best, *at = place;
      }
      poll_interrupt();
    }
}
void run_max_pool(Views out, Views in, const Attrs& attrs) {
  const auto& a = attrs.as<WindowAttrs>();
  if (out[0].numel() == 0) return;
  const int64_t size = product(a.in), made = product(a.out);
  of_numbers(out[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    each_plane(out[0].numel() / made, made * product(a.size), [&](int64_t p) {
      pool_plane(a, in[0].as<T>() + p * size, out[0].as<T>() + p * made,
                 out[1].as<int64_t>() + p * made);
    });
  });
}
Saves save_places(uint32_t, const Attrs&) { return save_auxiliary; }
void vjp_max_pool(const Line& line, const Tensor& g, Gradients& dx) {
  const auto& a = line.attrs.as<WindowAttrs>();
  const Shape& shape = line.inputs[0].shape;
  Shape planes;
  for (int d = 0; d < first_axis(shape, a); ++d) planes.push_back(shape[d]);
  const int axis = planes.size();
  planes.push_back(product(a.in));
  const Tensor zeros = full(planes, 0, g.dtype(), g.device());
  planes[axis] = product(a.out);
  dx[0] = reshape(scatter(zeros, axis, reshape(line.auxiliary(), planes), reshape(g, planes),
                          {"max_pool", Fold::add}),
                  shape);
}
Cost cost_max_pool(Tensors in, const Tensor& out, const Attrs& attrs) {
  Cost c = default_cost(in, out);
  c.flops =
      static_cast<double>(out.numel()) * static_cast<double>(product(attrs.as<WindowAttrs>().size));
  return c;
}
const Op max_pool_op{.name = "max_pool",
                     .formula =
                         "y[..., o] = largest x[..., o * stride + t * dilation - padding]; "
                         "NaN if there is one",
                     .gradient = {"g, added at the first place of each largest x"},
                     .numpy = "max_pool({x}, {out}, {size}, {stride}, {padding}, {dilation})",
                     .infer = infer_max_pool,
                     .run = run_max_pool,
                     .gpu = on_gpu<&GpuKernels::conv, &ConvGpu::max_pool>,
                     .vjp = vjp_max_pool,
                     .saves = save_places,
                     .cost = cost_max_pool,
                     .describe = describe,
                     .batch = batch_rows<>};

// `whole`: the sizes of x's axes where x is not at hand.
WindowAttrs attrs_of(const char* by, const Dims& whole, const Dims& size, const Window& w) {
  check_window(by, whole, size, w);
  WindowAttrs a{size.size(), {1, 1, 1}, {1, 1, 1}, {1, 1, 1}, {}, {1, 1, 1}, {1, 1, 1}};
  for (int i = 0; i < size.size(); ++i) {
    const int to = most_axes - size.size() + i;
    a.size[to] = size[i], a.stride[to] = w.stride[i], a.dilation[to] = w.dilation[i];
    a.before[to] = w.before[i], a.in[to] = whole[i];
    a.out[to] = window_count(whole[i], size[i], w, i);
  }
  return a;
}

}  // namespace

void add_window_ops(std::vector<const Op*>& ops) {
  for (const Op* op : {&windows_op, &overlap_add_op, &max_pool_op}) ops.push_back(op);
}

Tensor windows(const char* by, const Tensor& x, const Dims& size, const Window& window) {
  if (x.dim() < size.size())
    fail<ShapeError>(by, ": x has shape ", x.shape(), "; expected ", size.size(), " axes or more");
  return apply(windows_op, x, attrs_of(by, last_axes(x.shape(), size.size()), size, window));
}
Tensor overlap_add(const char* by, const Tensor& x, const Dims& whole, const Window& window) {
  const int n = whole.size();
  if (x.dim() < 2 * n)
    fail<ShapeError>(by, ": x has shape ", x.shape(), "; expected ", n,
                     " axes of windows and as many within them, or more");
  const WindowAttrs a = attrs_of(by, whole, last_axes(x.shape(), n), window);
  for (int i = 0; i < n; ++i)
    if (const int64_t given = x.shape()[x.dim() - 2 * n + i], made = a.out[most_axes - n + i];
        given != made)
      fail<ShapeError>(by, ": x has ", given, " windows along axis ", i, " of ", n, ", but ", made,
                       " fit into ", whole[i], " elements");
  if (x.dtype() == DType::bool_) fail<DTypeError>(by, ": does not add bools; convert them first");
  return apply(overlap_add_op, contiguous(x), a);
}
std::pair<Tensor, Tensor> max_pool(const char* by, const Tensor& x, const Dims& size,
                                   const Window& window) {
  if (x.dim() < size.size())
    fail<ShapeError>(by, ": x has shape ", x.shape(), "; expected ", size.size(), " axes or more");
  const WindowAttrs a = attrs_of(by, last_axes(x.shape(), size.size()), size, window);
  for (int i = most_axes - a.axes; i < most_axes; ++i)
    for (int64_t o = 0; o < a.out[i]; ++o) {
      const int64_t at = o * a.stride[i] - a.before[i];
      if (at >= 0 && at < a.in[i]) {  // on to the first window that begins behind x
        o = ceil_div(a.in[i] + a.before[i], a.stride[i]) - 1;
        continue;
      }
      // The first tap that is not before x's first element.
      const int64_t inside = at < 0 ? at + ceil_div(-at, a.dilation[i]) * a.dilation[i] : at;
      if (inside < a.in[i] && inside <= at + (a.size[i] - 1) * a.dilation[i]) continue;
      fail<ValueError>(by, ": window ", o, " along axis ", i - (most_axes - a.axes),
                       " is padding alone; take less padding or dilation");
    }
  const Tensor in = contiguous(x);
  Tensor at;
  const Tensor y = apply(max_pool_op, Tensors(&in, 1), a, &at);
  return {y, at};
}

}  // namespace wengert
