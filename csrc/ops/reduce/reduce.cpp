// Reductions: the way to blocks (see ops/reduce/reduce.h), and the ops.
#include "ops/reduce/reduce.h"

#include <algorithm>
#include <bit>

#include "base/pool.h"
#include "graph/batch.h"
#include "ops/functions.h"
#include "ops/gpu.h"
#include "ops/reduce/gpu.h"
#include "tensor/copy.h"
#include "tensor/loop.h"

namespace wengert {

namespace {

constexpr int64_t chunk_elements = 1 << 16;
constexpr int64_t column_tile = 512;
constexpr int64_t largest_accumulator = 16;

struct ReduceAttrs {
  AxisMask axes;
  bool keepdims;
};

const ReduceKernels& table() {
  static const ReduceKernels& t = WENGERT_PICK_KERNELS(reduce_kernels);
  return t;
}

struct Axis {
  int64_t size, stride;
};
// Adjacent axes whose strides join become one; axes of size one are dropped.
void append(SmallVector<Axis, max_dims>& axes, int64_t size, int64_t stride) {
  if (size == 1) return;
  if (!axes.empty() && axes[axes.size() - 1].stride == stride * size) {
    axes[axes.size() - 1] = {axes[axes.size() - 1].size * size, stride};
    return;
  }
  axes.emplace_back(size, stride);
}

// [outer kept axes], then the reduced run, then `inner` adjacent kept elements.
struct Block {
  SmallVector<Axis, max_dims> outer;
  int64_t rows = 1, row_stride = 1, inner = 1;
  Axis again{1, 0};  // such runs of each of many, say of images: all of them are one result

  int64_t outers() const {
    int64_t n = 1;
    for (const Axis& a : outer) n *= a.size;
    return n;
  }
  int64_t offset(int64_t o) const {
    int64_t at = 0;
    for (size_t i = outer.size(); i-- > 0;) {
      at += o % outer[i].size * outer[i].stride;
      o /= outer[i].size;
    }
    return at;
  }
};

// False if the reduced axes cannot be joined, nor are adjacent elements of one and another axis.
bool to_block(const View& x, AxisMask axes, Block& block) {
  SmallVector<Axis, max_dims> reduced;
  for (int d = 0; d < x.shape.size(); ++d)
    append(has(axes, d) ? reduced : block.outer, x.shape[d], x.strides[d]);
  if (reduced.size() > 2 || (reduced.size() == 2 && reduced[1].stride != 1)) return false;
  if (reduced.size() == 2) block.again = reduced[0];
  if (!reduced.empty()) {
    block.rows = reduced[reduced.size() - 1].size;
    block.row_stride = reduced[reduced.size() - 1].stride;
  }
  if (block.again.size == 0) block.rows = 0, block.again = {1, 0};
  if (block.row_stride != 1 && !block.outer.empty() &&
      block.outer[block.outer.size() - 1].stride == 1) {
    block.inner = block.outer[block.outer.size() - 1].size;
    block.outer[block.outer.size() - 1] = {1, 0};
  }
  return true;
}

void block_on_gpu(Reduction kind, const View& out, const View& x, const Block& b, double divisor) {
  ReduceBlock plain{.dims = static_cast<int>(b.outer.size()),
                    .size = {},
                    .stride = {},
                    .rows = b.rows,
                    .row_stride = b.row_stride,
                    .inner = b.inner};
  for (size_t i = 0; i < b.outer.size(); ++i) {
    plain.size[i] = b.outer[i].size;
    plain.stride[i] = b.outer[i].stride;
  }
  gpu_kernels().reduce->by[static_cast<int>(kind)](Views(&out, 1), Views(&x, 1),
                                                   ReduceBlockAttrs{&plain, divisor});
}

// Runs of some images make one piece, whose accumulators are merged as those of pieces are: in
// order.
void runs_on_cpu(const ReduceKernel& k, const View& out, const View& x, const Block& b,
                 double divisor) {
  const int64_t outers = b.outers(), unit = outers * k.accumulator;
  const int64_t images =
      std::max<int64_t>(1, chunk_elements / std::max<int64_t>(1, b.rows * outers));
  const int64_t pieces = ceil_div(b.again.size, images);
  const Axis last = b.outer.empty() ? Axis{1, 0} : b.outer[b.outer.size() - 1];
  const Tensor partial(Shape{pieces, unit}, DType::uint8);
  char* const acc = partial.data<char>();
  parallel_for(pieces, [&](int64_t piece) {
    alignas(64) char more[column_tile * largest_accumulator];
    const int64_t first = piece * images, end = std::min(b.again.size, first + images);
    for (int64_t image = first; image < end; ++image)
      for (int64_t o = 0, count = 0; o < outers; o += count) {
        count = std::min({outers - o, last.size - o % last.size, column_tile});
        const int64_t at = b.offset(o) + image * b.again.stride;
        char* const into = acc + piece * unit + o * k.accumulator;
        k.fold_runs(count, b.rows, image == first ? into : more,
                    x.as<char>() + at * size_of(x.dtype), last.stride, 0);
        if (image > first) k.merge(count, into, more);
      }
  });
  for (int64_t piece = 1; piece < pieces; ++piece) k.merge(outers, acc, acc + piece * unit);
  k.finish(outers, out.data, acc, divisor);
}

void block_on_cpu(Reduction kind, const View& out, const View& x, const Block& b, double divisor) {
  const ReduceKernel& k = table().by[static_cast<size_t>(kind)][static_cast<size_t>(x.dtype)];
  if (b.again.size > 1) return runs_on_cpu(k, out, x, b, divisor);
  const int64_t outers = b.outers();
  const int64_t columns = b.inner < column_tile ? b.inner : column_tile;
  const int64_t tiles = ceil_div(b.inner, columns);
  const int64_t rows_a_chunk = std::max<int64_t>(1, chunk_elements / columns);
  const int64_t pieces = std::max<int64_t>(1, ceil_div(b.rows, rows_a_chunk));
  const int64_t element = size_of(x.dtype), out_element = size_of(out.dtype);

  // Of adjacent rows: several outputs at once, whose runs have the same distance.
  const bool runs = b.row_stride == 1;
  const Axis last = runs && !b.outer.empty() ? b.outer[b.outer.size() - 1] : Axis{1, 0};

  const auto fold = [&](int64_t o, int64_t tile, int64_t piece, void* acc, int64_t count = 1) {
    const int64_t first = piece * rows_a_chunk, c = tile * columns;
    const int64_t rows = std::min(rows_a_chunk, b.rows - first),
                  width = std::min(columns, b.inner - c);
    const char* from = x.as<char>() + (b.offset(o) + first * b.row_stride + c) * element;
    if (runs) return k.fold_runs(count, rows, acc, from, last.stride, first);
    k.start(width, acc);
    k.fold_rows(rows, width, acc, from, b.row_stride, first);
  };
  const auto finish = [&](int64_t o, int64_t tile, const void* acc, int64_t count = 1) {
    const int64_t c = tile * columns;
    k.finish(runs ? count : std::min(columns, b.inner - c),
             out.as<char>() + (o * b.inner + c) * out_element, acc, divisor);
  };

  if (pieces == 1) {
    const int64_t units = outers * tiles;
    const int64_t per_chunk =
        std::max<int64_t>(1, chunk_elements / (std::max<int64_t>(1, b.rows) * columns));
    parallel_for(ceil_div(units, per_chunk), [&](int64_t chunk) {
      alignas(64) char acc[column_tile * largest_accumulator];
      const int64_t end = std::min(units, (chunk + 1) * per_chunk);
      for (int64_t u = chunk * per_chunk, count = 1; u < end; u += count) {
        if (runs) count = std::min({end - u, last.size - u % last.size, column_tile});
        fold(u / tiles, u % tiles, 0, acc, count);
        finish(u / tiles, u % tiles, acc, count);
      }
    });
    return;
  }

  // Long runs: every piece has its own accumulators, merged in order.
  const int64_t unit = columns * k.accumulator;
  const Tensor partial(Shape{outers, tiles, pieces, unit}, DType::uint8);
  char* const acc = partial.data<char>();
  parallel_for(outers * tiles * pieces, [&](int64_t i) {
    fold(i / pieces / tiles, i / pieces % tiles, i % pieces, acc + i * unit);
  });
  for (int64_t u = 0; u < outers * tiles; ++u) {
    char* const first = acc + u * pieces * unit;
    const int64_t width = std::min(columns, b.inner - u % tiles * columns);
    for (int64_t p = 1; p < pieces; ++p) k.merge(width, first, first + p * unit);
    finish(u / tiles, u % tiles, first);
  }
}

template <auto reduce_block>
void reduce(Reduction kind, const View& out, const View& x, AxisMask axes, double divisor = 1) {
  if (out.numel() == 0) return;
  Block block;
  if (to_block(x, axes, block) && (block.again.size == 1 || reduce_block == block_on_cpu))
    return reduce_block(kind, out, x, block, divisor);
  // Reduced axes that are not adjacent: copied, reduced axes last. Argmax never comes here with
  // more than one.
  Shape shape;
  Strides strides;
  int64_t rows = 1;
  for (int kept = 1; kept >= 0; --kept)
    for (int d = 0; d < x.shape.size(); ++d) {
      if (has(axes, d) == static_cast<bool>(kept)) continue;
      shape.push_back(x.shape[d]);
      strides.push_back(x.strides[d]);
      if (!kept) rows *= x.shape[d];
    }
  const Tensor copy({shape, x.dtype, x.device});
  copy_into(copy.view(), {x.data, shape, strides, x.dtype, x.device});
  Block flat;
  flat.outer.emplace_back(out.numel(), rows);
  flat.rows = rows;
  reduce_block(kind, out, copy.view(), flat, divisor);
}

// g, which lacks the reduced axes or has them as ones, with them as ones.
Tensor keep_axes(const Tensor& g, const Shape& x, AxisMask axes) {
  return reshape(g, reduced_shape(x, axes, true));
}

void describe(const Attrs& attrs, NamedAttrs& named) {
  const auto& a = attrs.as<ReduceAttrs>();
  Dims axes;
  for (int d = 0; d < max_dims; ++d)
    if (has(a.axes, d)) axes.push_back(d);
  named.emplace_back("axis", axes);
  named.emplace_back("keepdims", a.keepdims);
}

Attrs axes_of_all(const Batch& b) {
  const auto& [axes, keepdims] = b.attrs.as<ReduceAttrs>();
  return ReduceAttrs{axes << 1, keepdims};
}

DType sum_dtype(DType t) { return is_floating(t) ? t : DType::int64; }

template <Reduction kind, auto reduce_block = block_on_cpu>
void run(Views out, Views in, const Attrs& attrs) {
  reduce<reduce_block>(kind, out[0], in[0], attrs.as<ReduceAttrs>().axes);
}

void infer_sum(Tensors in, const Attrs& attrs, SmallVector<Meta, 2>& out) {
  const auto& a = attrs.as<ReduceAttrs>();
  out.emplace_back(reduced_shape(in[0].shape(), a.axes, a.keepdims), sum_dtype(in[0].dtype()),
                   in[0].device());
}
Cost cost_reduce(Tensors in, const Tensor& out, const Attrs&) {
  Cost cost = default_cost(in, out);
  cost.flops = static_cast<double>(in[0].numel());
  return cost;
}
void vjp_sum(const Line& line, const Tensor& g, Gradients& dx) {
  const Shape& shape = line.inputs[0].shape;
  dx[0] = expand(keep_axes(g, shape, line.attrs.as<ReduceAttrs>().axes), shape);
}
const Op sum_op{.name = "sum",
                .formula = "sum of x over the axes",
                .gradient = {"g, repeated over the axes"},
                .numpy = "{x}.sum(axis={axis}, keepdims={keepdims})",
                .infer = infer_sum,
                .run = run<Reduction::sum>,
                .gpu = run<Reduction::sum, block_on_gpu>,
                .vjp = vjp_sum,
                .cost = cost_reduce,
                .describe = describe,
                .batch = batch_by<axes_of_all, false>};

void infer_mean(Tensors in, const Attrs& attrs, SmallVector<Meta, 2>& out) {
  const auto& a = attrs.as<ReduceAttrs>();
  out.emplace_back(reduced_shape(in[0].shape(), a.axes, a.keepdims), in[0].dtype(), in[0].device());
}
template <auto reduce_block> void run_mean(Views out, Views in, const Attrs& attrs) {
  const AxisMask axes = attrs.as<ReduceAttrs>().axes;
  reduce<reduce_block>(Reduction::sum, out[0], in[0], axes,
                       static_cast<double>(count(in[0].shape, axes)));
}
void vjp_mean(const Line& line, const Tensor& g, Gradients& dx) {
  const Shape& shape = line.inputs[0].shape;
  const AxisMask axes = line.attrs.as<ReduceAttrs>().axes;
  dx[0] = expand(keep_axes(g, shape, axes) / static_cast<double>(count(shape, axes)), shape);
}
const Op mean_op{.name = "mean",
                 .formula = "sum of x over the axes / n",
                 .gradient = {"g / n, repeated over the axes"},
                 .numpy = "{x}.mean(axis={axis}, keepdims={keepdims})",
                 .infer = infer_mean,
                 .run = run_mean<block_on_cpu>,
                 .gpu = run_mean<block_on_gpu>,
                 .vjp = vjp_mean,
                 .cost = cost_reduce,
                 .describe = describe,
                 .batch = batch_by<axes_of_all, false>};

void infer_squares(Tensors in, const Attrs& attrs, SmallVector<Meta, 2>& out) {
  const auto& a = attrs.as<ReduceAttrs>();
  out.emplace_back(reduced_shape(in[0].shape(), a.axes, a.keepdims), DType::float64,
                   in[0].device());
}
const Op squares_op{.name = "sum_squares",
                    .formula = "sum of x * x over the axes, float64",
                    .numpy = "np.square({x}, dtype=float).sum(axis={axis})",
                    .infer = infer_squares,
                    .run = run<Reduction::sum_squares>,
                    .gpu = run<Reduction::sum_squares, block_on_gpu>,
                    .no_gradient = "it measures gradients (clip_grad_norm_)",
                    .cost = cost_reduce,
                    .describe = describe,
                    .batch = batch_by<axes_of_all, false>};

Saves save_x(uint32_t, const Attrs&) { return save_input(0); }
// Of each element of x (outer, n, inner) the product of the others along n, without a division,
// which zeros, infinities and large products would spoil: that of its counterpart in the other half
// of n and of all other such pairs. As ops, which have gradients and run on GPUs, in float64:
Tensor pairwise_others(const Tensor& x) {
  const int64_t outer = x.shape()[0], n = x.shape()[1], inner = x.shape()[2], pairs = (n + 1) / 2;
  if (n <= 1) return full_like(x, 1);
  Tensor even = x;
  if (n % 2) {
    const Tensor parts[] = {x, full(Shape{outer, 1, inner}, 1, x.dtype(), x.device())};
    even = concatenate(Tensors(parts), 1);
  }
  const Tensor halves = reshape(even, Shape{outer, 2, pairs, inner});
  const Tensor counterpart = slice(halves, 1, 1, -1, 2);
  const Tensor above = pairwise_others(pick(halves, 1, 0) * pick(halves, 1, 1));
  return slice(reshape(unsqueeze(above, 1) * counterpart, Shape{outer, 2 * pairs, inner}), 1, 0, 1,
               n);
}
// As a kernel, with the same bits, in place: behind x[n][inner] is room for pairs, their pairs, ...
void pairwise_others(double* x, int64_t n, int64_t inner) {
  if (n == 1) return void(std::fill_n(x, inner, 1.0));
  const int64_t pairs = (n + 1) / 2, size = pairs * inner;
  double *const counterpart = x + size, *const above = counterpart + size;
  const auto each = [&](const auto& body) {
    parallel_for(ceil_div(size, chunk_elements), [&](int64_t chunk) {
      const int64_t first = chunk * chunk_elements, end = std::min(size, first + chunk_elements);
      for (int64_t i = first; i < end; ++i) body(i);
    });
  };
  if (n % 2) std::fill_n(x + n * inner, inner, 1.0);
  each([&](int64_t i) { above[i] = x[i] * counterpart[i]; });
  pairwise_others(above, pairs, inner);
  each([&](int64_t i) {
    const double first = std::exchange(x[i], above[i] * counterpart[i]);
    counterpart[i] = above[i] * first;
  });
}
void infer_others(Tensors in, const Attrs&, SmallVector<Meta, 2>& out) {
  out.emplace_back(in[0].shape(), in[0].dtype(), in[0].device());
}
void run_others(Views out, Views in, const Attrs&) {
  if (in[0].numel() == 0) return;
  const int64_t outer = in[0].shape[0], n = in[0].shape[1], inner = in[0].shape[2];
  const int64_t width = std::min<int64_t>(inner, 16), tiles = ceil_div(inner, width);
  const int64_t rows = std::clamp<int64_t>(chunk_elements / 8 / (n * width), 1, outer);
  parallel_for(ceil_div(outer, rows) * tiles, [&](int64_t chunk) {
    const int64_t row = chunk / tiles * rows, column = chunk % tiles * width;
    const Shape shape{std::min(rows, outer - row), n, std::min(width, inner - column)};
    const int64_t side = shape[0] * shape[2];
    const auto part = [&](const View& x) {
      const int64_t at = (row * x.strides[0] + column * x.strides[2]) * size_of(x.dtype);
      return View{x.as<char>() + at, shape, x.strides, x.dtype, x.device};
    };
    const int64_t levels = 64 - std::countl_zero(static_cast<uint64_t>(n));
    const Tensor room({2 * (n + levels) * side}, DType::float64);
    const View work{room.data(), shape, Strides{shape[2], side, 1}, DType::float64, Device::cpu};
    copy_into(work, part(in[0]));
    pairwise_others(work.as<double>(), n, side);
    copy_into(part(out[0]), work);
  });
}
const Op others_op{.name = "product_of_others",
                   .formula = "product of the other x along axis 1",
                   .numpy = "product_of_others({x})",
                   .infer = infer_others,
                   .run = run_others,
                   .no_gradient = "a gradient of prod that is recorded is made of pairs instead",
                   .batch = batch_folded<>};

void vjp_prod(const Line& line, const Tensor& g, Gradients& dx) {
  const Tensor& x = line.input(0);
  const AxisMask axes = line.attrs.as<ReduceAttrs>().axes;
  // Axes apart are brought together, to where the first is.
  const int lead = std::countr_zero(axes);
  Dims order;
  int64_t size[] = {1, 1, 1};
  for (int part = 0; part < 3; ++part)
    for (int d = 0; d < x.dim(); ++d)
      if (part == (has(axes, d) ? 1 : d < lead ? 0 : 2)) {
        order.push_back(d);
        size[part] *= x.shape()[d];
      }
  Dims back = order;
  for (int i = 0; i < order.size(); ++i) back[static_cast<int>(order[i])] = i;
  const Tensor moved = permute(x, order), rows = reshape(moved, Shape{size[0], size[1], size[2]});
  const Tensor others = grad_enabled() || is_cuda(x.device())
                            ? to_dtype(pairwise_others(to_dtype(rows, DType::float64)), x.dtype())
                            : apply(others_op, rows);
  dx[0] = times(keep_axes(g, x.shape(), axes), permute(reshape(others, moved.shape()), back));
}
const Op prod_op{.name = "prod",
                 .formula = "product of x over the axes",
                 .gradient = {"g * the product of the other elements"},
                 .numpy = "{x}.prod(axis={axis}, keepdims={keepdims})",
                 .infer = infer_sum,
                 .run = run<Reduction::prod>,
                 .gpu = run<Reduction::prod, block_on_gpu>,
                 .vjp = vjp_prod,
                 .saves = save_x,
                 .cost = cost_reduce,
                 .describe = describe,
                 .batch = batch_by<axes_of_all, false>};

template <const Op& op>
void infer_extreme(Tensors in, const Attrs& attrs, SmallVector<Meta, 2>& out) {
  const auto& a = attrs.as<ReduceAttrs>();
  const Shape shape = reduced_shape(in[0].shape(), a.axes, a.keepdims);
  if (count(in[0].shape(), a.axes) == 0 && numel(shape) > 0)
    fail<ValueError>(op.name, ": no elements to choose from: shape ", in[0].shape(),
                     " is empty along the reduced axes");
  const bool gives_index = op.no_gradient;
  out.emplace_back(shape, gives_index ? DType::int64 : in[0].dtype(), in[0].device());
}
Saves save_x_and_y(uint32_t, const Attrs&) { return save_input(0) | save_output; }
void vjp_extreme(const Line& line, const Tensor& g, Gradients& dx) {
  const Tensor& x = line.input(0);
  const AxisMask axes = line.attrs.as<ReduceAttrs>().axes;
  const Tensor y = keep_axes(line.result(), x.shape(), axes);
  const Tensor hit = x == y, whole = keep_axes(g, x.shape(), axes);
  const Tensor share = whole / to_dtype(sum(hit, axes, true), x.dtype());
  // Nothing equals NaN: the NaN goes to all.
  const Tensor rest = select(y == y, 0.0, times(whole, y));
  dx[0] = flat(select(hit, expand(share, x.shape()), rest), x);
}
extern const Op max_op, min_op, argmax_op, argmin_op;
const Op max_op{.name = "max",
                .formula = "largest x over the axes; NaN if there is one",
                .gradient = {"g to the largest, in equal shares where several are equal"},
                .numpy = "{x}.max(axis={axis}, keepdims={keepdims})",
                .infer = infer_extreme<max_op>,
                .run = run<Reduction::max>,
                .gpu = run<Reduction::max, block_on_gpu>,
                .vjp = vjp_extreme,
                .saves = save_x_and_y,
                .cost = cost_reduce,
                .describe = describe,
                .batch = batch_by<axes_of_all, false>};
const Op min_op{.name = "min",
                .formula = "smallest x over the axes; NaN if there is one",
                .gradient = {"g to the smallest, in equal shares where several are equal"},
                .numpy = "{x}.min(axis={axis}, keepdims={keepdims})",
                .infer = infer_extreme<min_op>,
                .run = run<Reduction::min>,
                .gpu = run<Reduction::min, block_on_gpu>,
                .vjp = vjp_extreme,
                .saves = save_x_and_y,
                .cost = cost_reduce,
                .describe = describe,
                .batch = batch_by<axes_of_all, false>};
const Op argmax_op{.name = "argmax",
                   .formula = "index of the first largest x",
                   .numpy = "np.argmax({x}, axis={axis[0]}, keepdims={keepdims})",
                   .infer = infer_extreme<argmax_op>,
                   .run = run<Reduction::argmax>,
                   .gpu = run<Reduction::argmax, block_on_gpu>,
                   .no_gradient = "an index is piecewise constant",
                   .cost = cost_reduce,
                   .describe = describe,
                   .batch = batch_by<axes_of_all, false>};
const Op argmin_op{.name = "argmin",
                   .formula = "index of the first smallest x",
                   .numpy = "np.argmin({x}, axis={axis[0]}, keepdims={keepdims})",
                   .infer = infer_extreme<argmin_op>,
                   .run = run<Reduction::argmin>,
                   .gpu = run<Reduction::argmin, block_on_gpu>,
                   .no_gradient = "an index is piecewise constant",
                   .cost = cost_reduce,
                   .describe = describe,
                   .batch = batch_by<axes_of_all, false>};

void infer_bool(Tensors in, const Attrs& attrs, SmallVector<Meta, 2>& out) {
  const auto& a = attrs.as<ReduceAttrs>();
  out.emplace_back(reduced_shape(in[0].shape(), a.axes, a.keepdims), DType::bool_, in[0].device());
}
const Op any_op{.name = "any",
                .formula = "is any x not zero?",
                .numpy = "{x}.any(axis={axis}, keepdims={keepdims})",
                .infer = infer_bool,
                .run = run<Reduction::any>,
                .gpu = run<Reduction::any, block_on_gpu>,
                .no_gradient = "its result is piecewise constant",
                .cost = cost_reduce,
                .describe = describe,
                .batch = batch_by<axes_of_all, false>};
const Op all_op{.name = "all",
                .formula = "is no x zero?",
                .numpy = "{x}.all(axis={axis}, keepdims={keepdims})",
                .infer = infer_bool,
                .run = run<Reduction::all>,
                .gpu = run<Reduction::all, block_on_gpu>,
                .no_gradient = "its result is piecewise constant",
                .cost = cost_reduce,
                .describe = describe,
                .batch = batch_by<axes_of_all, false>};

Tensor arg_extreme(const Op& op, const Tensor& x, std::optional<int64_t> axis, bool keepdims) {
  if (axis) return apply(op, x, ReduceAttrs{axis_mask(op.name, *axis, x.dim()), keepdims});
  const Tensor at = apply(op, reshape(x, Shape{x.numel()}), ReduceAttrs{1, false});
  return keepdims ? reshape(at, Dims::filled(x.dim(), 1)) : at;
}

}  // namespace

void add_reduce_ops(std::vector<const Op*>& ops) {
  for (const Op* op : {&sum_op, &mean_op, &prod_op, &others_op, &squares_op, &max_op, &min_op,
                       &argmax_op, &argmin_op, &any_op, &all_op})
    ops.push_back(op);
}

AxisMask all_axes(const Tensor& x) { return (1u << x.dim()) - 1; }
Tensor sum(const Tensor& x, AxisMask axes, bool keepdims) {
  return apply(sum_op, x, ReduceAttrs{axes, keepdims});
}
Tensor mean(const Tensor& x, AxisMask axes, bool keepdims) {
  if (!is_floating(x.dtype()))  // the sum is exact
    return sum(x, axes, keepdims) / static_cast<double>(count(x.shape(), axes));
  return apply(mean_op, x, ReduceAttrs{axes, keepdims});
}
Tensor prod(const Tensor& x, AxisMask axes, bool keepdims) {
  return apply(prod_op, x, ReduceAttrs{axes, keepdims});
}
Tensor amax(const Tensor& x, AxisMask axes, bool keepdims) {
  return apply(max_op, x, ReduceAttrs{axes, keepdims});
}
Tensor amin(const Tensor& x, AxisMask axes, bool keepdims) {
  return apply(min_op, x, ReduceAttrs{axes, keepdims});
}
Tensor any(const Tensor& x, AxisMask axes, bool keepdims) {
  return apply(any_op, x, ReduceAttrs{axes, keepdims});
}
Tensor all(const Tensor& x, AxisMask axes, bool keepdims) {
  return apply(all_op, x, ReduceAttrs{axes, keepdims});
}
Tensor argmax(const Tensor& x, std::optional<int64_t> axis, bool keepdims) {
  return arg_extreme(argmax_op, x, axis, keepdims);
}
Tensor argmin(const Tensor& x, std::optional<int64_t> axis, bool keepdims) {
  return arg_extreme(argmin_op, x, axis, keepdims);
}

Tensor sum_to(const Tensor& x, const Shape& shape) {
  if (x.shape() == shape) return x;
  const int shift = x.dim() - shape.size();
  AxisMask axes = 0;
  for (int d = 0; d < x.dim(); ++d)
    if (d < shift || (shape[d - shift] == 1 && x.shape()[d] != 1)) axes |= 1u << d;
  return reshape(sum(x, axes, true), shape);
}

Tensor sum_squares(const Tensor& x) {
  return apply(squares_op, x, ReduceAttrs{all_axes(x), false});
}

}  // namespace wengert
