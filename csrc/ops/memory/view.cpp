// Views: reshape, permute, slice, expand share their input's memory; contiguous, concatenate copy.
#include <algorithm>
#include <cstring>

#include "graph/batch.h"
#include "ops/functions.h"
#include "ops/gpu.h"
#include "ops/memory/gpu.h"
#include "tensor/copy.h"

namespace wengert {

namespace {

// Strides that show `from` as `to` without a copy, if there are any: each group of axes that is
// split or joined must have strides that join.
std::optional<Strides> view_strides(const Shape& from, const Strides& strides, const Shape& to) {
  if (numel(from) == 0) return contiguous_strides(to);
  Strides result = Dims::filled(to.size(), 0);
  int t = to.size() - 1;
  for (int f = from.size() - 1; f >= 0;) {
    if (from[f] == 1) {
      --f;
      continue;
    }
    // A group: axes f .. of `from` whose strides join.
    int64_t size = from[f], stride = strides[f];
    while (f > 0 && (from[f - 1] == 1 || strides[f - 1] == stride * size)) {
      if (from[f - 1] != 1) size *= from[f - 1];
      --f;
    }
    int64_t taken = 1;
    while (t >= 0 && taken < size) {
      result[t] = stride * taken;
      taken *= to[t--];
    }
    if (taken != size) return std::nullopt;
    --f;
  }
  for (; t >= 0; --t) result[t] = 1;  // only axes of size one are left
  return result;
}

Layout alias_reshape(const Tensor& x, const Attrs& attrs) {
  const Shape& shape = attrs.as<Shape>();
  return {shape, *view_strides(x.shape(), x.strides(), shape), x->offset};
}
Attrs shape_of_all(const Batch& b) {  // of all examples (graph/batch.h); so below
  Shape shape = b.attrs.as<Shape>();
  shape.insert(0, b.size);
  return shape;
}
void vjp_reshape(const Line& line, const Tensor& g, Gradients& dx) {
  dx[0] = reshape(g, line.inputs[0].shape);
}
void describe_shape(const Attrs& attrs, NamedAttrs& named) {
  named.emplace_back("shape", attrs.as<Shape>());
}
const Op reshape_op{.name = "reshape",
                    .formula = "x in another shape",
                    .gradient = {"g in x's shape"},
                    .numpy = "np.reshape({x}, {shape})",
                    .alias = alias_reshape,
                    .vjp = vjp_reshape,
                    .describe = describe_shape,
                    .batch = batch_by<shape_of_all, false>};

Layout alias_permute(const Tensor& x, const Attrs& attrs) {
  const Dims& axes = attrs.as<Dims>();
  Layout layout{x.shape(), x.strides(), x->offset};
  for (int i = 0; i < axes.size(); ++i) {
    layout.shape[i] = x.shape()[static_cast<int>(axes[i])];
    layout.strides[i] = x.strides()[static_cast<int>(axes[i])];
  }
  return layout;
}
Attrs axes_of_all(const Batch& b) {
  Dims axes{0};
  for (int64_t axis : b.attrs.as<Dims>()) axes.push_back(axis + 1);
  return axes;
}
void vjp_permute(const Line& line, const Tensor& g, Gradients& dx) {
  const Dims& axes = line.attrs.as<Dims>();
  Dims inverse = axes;
  for (int i = 0; i < axes.size(); ++i) inverse[static_cast<int>(axes[i])] = i;
  dx[0] = permute(g, inverse);
}
void describe_axes(const Attrs& attrs, NamedAttrs& named) {
  named.emplace_back("axes", attrs.as<Dims>());
}
const Op permute_op{.name = "permute",
                    .formula = "x with its axes in another order",
                    .gradient = {"g with its axes back in order"},
                    .numpy = "np.transpose({x}, {axes})",
                    .alias = alias_permute,
                    .vjp = vjp_permute,
                    .describe = describe_axes,
                    .batch = batch_by<axes_of_all, false>};

Layout alias_expand(const Tensor& x, const Attrs& attrs) {
  const Shape& shape = attrs.as<Shape>();
  return {shape, broadcast_strides(x.shape(), x.strides(), shape), x->offset};
}
Tensor batch_expand(const Batch& b, Tensor*) {
  return apply(b.op, b.aligned(0, b.attrs.as<Shape>().size()), shape_of_all(b));
}
void vjp_expand(const Line& line, const Tensor& g, Gradients& dx) {
  dx[0] = sum_to(g, line.inputs[0].shape);
}
const Op expand_op{.name = "expand",
                   .formula = "x, repeated along new axes and along those of size one",
                   .gradient = {"sum of g over the repeated axes"},
                   .numpy = "np.broadcast_to({x}, {shape})",
                   .alias = alias_expand,
                   .vjp = vjp_expand,
                   .describe = describe_shape,
                   .batch = batch_expand};

struct SliceAttrs {
  int64_t axis, start, step, length;
};
Layout alias_slice(const Tensor& x, const Attrs& attrs) {
  const auto& [axis, start, step, length] = attrs.as<SliceAttrs>();
  const int a = static_cast<int>(axis);
  Layout layout{x.shape(), x.strides(), x->offset};
  if (length > 0) layout.offset += start * layout.strides[a];
  layout.shape[a] = length;
  layout.strides[a] *= step;
  return layout;
}
Tensor embed(const Tensor& x, const Shape& shape, const SliceAttrs& where);
void vjp_slice(const Line& line, const Tensor& g, Gradients& dx) {
  dx[0] = embed(g, line.inputs[0].shape, line.attrs.as<SliceAttrs>());
}
void describe_slice(const Attrs& attrs, NamedAttrs& named) {
  const auto& a = attrs.as<SliceAttrs>();
  named.emplace_back("axis", a.axis);
  named.emplace_back("start", a.start);
  named.emplace_back("step", a.step);
  named.emplace_back("length", a.length);
}
const Op slice_op{.name = "slice",
                  .formula = "x[start : : step] along an axis",
                  .gradient = {"zeros, with g at the slice"},
                  .alias = alias_slice,
                  .vjp = vjp_slice,
                  .describe = describe_slice,
                  .batch = batch_by<next_axis<SliceAttrs>, false>};

// The transpose of slice: zeros, with x at the slice.
struct EmbedAttrs : SliceAttrs {
  int64_t size;  // of the axis in the result
};
const SliceAttrs& slice_of(const Attrs& attrs) { return attrs.as<EmbedAttrs>(); }
void infer_embed(Tensors in, const Attrs& attrs, SmallVector<Meta, 2>& out) {
  const auto& a = attrs.as<EmbedAttrs>();
  Shape shape = in[0].shape();
  shape[static_cast<int>(a.axis)] = a.size;
  out.emplace_back(shape, in[0].dtype(), in[0].device());
}
void clear(const View& y) { std::memset(y.data, 0, static_cast<size_t>(nbytes(y.shape, y.dtype))); }
void clear_on_gpu(const View& y) {
  gpu_kernels().create->full(Views(&y, 1), {}, FullAttrs{y.shape, 0, y.dtype, y.device});
}
template <auto clear> void run_embed(Views out, Views in, const Attrs& attrs) {
  const auto& [axis, start, step, length] = slice_of(attrs);
  const int a = static_cast<int>(axis);
  clear(out[0]);
  if (length == 0) return;
  View part = out[0];
  part.data = part.as<char>() + start * part.strides[a] * size_of(part.dtype);
  part.shape[a] = length;
  part.strides[a] *= step;
  copy_into(part, in[0]);
}
void vjp_embed(const Line& line, const Tensor& g, Gradients& dx) {
  const auto& [axis, start, step, length] = slice_of(line.attrs);
  dx[0] = slice(g, static_cast<int>(axis), start, step, length);
}
void describe_embed(const Attrs& attrs, NamedAttrs& named) {
  const auto& a = attrs.as<EmbedAttrs>();
  describe_slice(slice_of(attrs), named);
  named.emplace_back("size", a.size);
}
const Op embed_op{.name = "embed",
                  .formula = "zeros, with x at a slice",
                  .gradient = {"g at the slice"},
                  .numpy = "embed({x}, {axis}, {start}, {step}, {length}, {size})",
                  .infer = infer_embed,
                  .run = run_embed<clear>,
                  .gpu = run_embed<clear_on_gpu>,
                  .vjp = vjp_embed,
                  .describe = describe_embed,
                  .bfloat16 = true,
                  .batch = batch_by<next_axis<EmbedAttrs>>};
Tensor embed(const Tensor& x, const Shape& shape, const SliceAttrs& where) {
  return apply(embed_op, x, EmbedAttrs{{where}, shape[static_cast<int>(where.axis)]});
}

Tensor put_region(const Tensor& x, const Tensor& value, const Layout& region);

// A diagonal of two axes, which becomes the last one.
struct DiagonalAttrs {
  int64_t offset, axis1, axis2;
};
Layout diagonal_of(const Shape& shape, const Strides& strides, int64_t at,
                   const DiagonalAttrs& attrs) {
  const auto& [offset, axis1, axis2] = attrs;
  const int rows = static_cast<int>(axis1), columns = static_cast<int>(axis2);
  Layout layout{{}, {}, at};
  for (int d = 0; d < shape.size(); ++d)
    if (d != rows && d != columns) {
      layout.shape.push_back(shape[d]);
      layout.strides.push_back(strides[d]);
    }
  const int64_t length = offset < 0 ? std::min(shape[rows] + offset, shape[columns])
                                    : std::min(shape[rows], shape[columns] - offset);
  if (length > 0) layout.offset += offset < 0 ? -offset * strides[rows] : offset * strides[columns];
  layout.shape.push_back(std::max<int64_t>(length, 0));
  layout.strides.push_back(strides[rows] + strides[columns]);
  return layout;
}
Layout alias_diagonal(const Tensor& x, const Attrs& attrs) {
  return diagonal_of(x.shape(), x.strides(), x->offset, attrs.as<DiagonalAttrs>());
}
Attrs diagonal_of_all(const Batch& b) {
  const auto& [offset, axis1, axis2] = b.attrs.as<DiagonalAttrs>();
  return DiagonalAttrs{offset, axis1 + 1, axis2 + 1};
}
void vjp_diagonal(const Line& line, const Tensor& g, Gradients& dx) {
  const Edge& x = line.inputs[0];
  dx[0] = put_region(
      full(x.shape, 0, x.dtype, g.device()), g,
      diagonal_of(x.shape, contiguous_strides(x.shape), 0, line.attrs.as<DiagonalAttrs>()));
}
void describe_diagonal(const Attrs& attrs, NamedAttrs& named) {
  const auto& a = attrs.as<DiagonalAttrs>();
  named.emplace_back("offset", a.offset);
  named.emplace_back("axis1", a.axis1);
  named.emplace_back("axis2", a.axis2);
}
const Op diagonal_op{.name = "diagonal",
                     .formula = "x[..., i, i + offset] of two axes",
                     .gradient = {"zeros, with g on the diagonal"},
                     .numpy = "np.diagonal({x}, {offset}, {axis1}, {axis2})",
                     .alias = alias_diagonal,
                     .vjp = vjp_diagonal,
                     .describe = describe_diagonal,
                     .batch = batch_by<diagonal_of_all, false>};

// ---- regions: how an edit of a view is recorded for the tensor that it is a view of ----

void describe_region(const Attrs& attrs, NamedAttrs& named) {
  const auto& region = attrs.as<Layout>();
  named.emplace_back("shape", region.shape);
  named.emplace_back("strides", region.strides);
  named.emplace_back("offset", region.offset);
}
Layout alias_region(const Tensor& x, const Attrs& attrs) {
  Layout region = attrs.as<Layout>();
  region.offset += x->offset;
  return region;
}
Tensor put_region(const Tensor& x, const Tensor& value, const Layout& region) {
  return apply(put_region_op, contiguous(x), value, region);
}
Attrs region_of_all(const Batch& b) {
  Layout region = b.attrs.as<Layout>();
  region.shape.insert(0, b.size);
  region.strides.insert(0, b.one[0].numel());
  return region;
}
void vjp_region(const Line& line, const Tensor& g, Gradients& dx) {
  const Edge& x = line.inputs[0];
  Layout region = line.attrs.as<Layout>();
  AxisMask repeated = 0;  // elements that share a place
  for (int d = 0; d < region.shape.size(); ++d)
    if (region.strides[d] == 0 && region.shape[d] > 1) {
      repeated |= 1u << d;
      region.shape[d] = 1;
    }
  dx[0] = put_region(full(x.shape, 0, x.dtype, g.device()), repeated ? sum(g, repeated, true) : g,
                     region);
}
const Op the_region_op{.name = "region",
                       .formula = "x's elements at a region, a view",
                       .gradient = {"zeros, with g at the region"},
                       .numpy = "region({x}, {shape}, {strides}, {offset})",
                       .alias = alias_region,
                       .vjp = vjp_region,
                       .describe = describe_region,
                       .batch = batch_by<region_of_all>};

void infer_put_region(Tensors in, const Attrs&, SmallVector<Meta, 2>& out) {
  out.emplace_back(in[0].shape(), in[0].dtype(), in[0].device());
}
void run_put_region(Views out, Views in, const Attrs& attrs) {
  const auto& region = attrs.as<Layout>();
  copy_into(out[0], in[0]);
  View part{out[0].as<char>() + region.offset * size_of(out[0].dtype), region.shape, region.strides,
            out[0].dtype, out[0].device};
  copy_into(part, in[1]);
}
void vjp_put_region(const Line& line, const Tensor& g, Gradients& dx) {
  const auto& region = line.attrs.as<Layout>();
  if (line.needs(0)) dx[0] = put_region(g, full(region.shape, 0, g.dtype(), g.device()), region);
  if (line.needs(1)) dx[1] = apply(region_op, contiguous(g), region);
}
const Op the_put_region_op{.name = "put_region",
                           .operands = "x, value",
                           .formula = "x, with values written at a region",
                           .gradient = {"g with zeros at the region", "g at the region"},
                           .numpy = "put_region({x}, {value}, {shape}, {strides}, {offset})",
                           .infer = infer_put_region,
                           .run = run_put_region,
                           .gpu = run_put_region,
                           .vjp = vjp_put_region,
                           .describe = describe_region,
                           .bfloat16 = true,
                           .batch = batch_by<region_of_all>};

// ---- copies ----

void infer_concatenate(Tensors in, const Attrs& attrs, SmallVector<Meta, 2>& out) {
  const int axis = static_cast<int>(attrs.as<int64_t>());
  Shape shape = in[0].shape();
  for (size_t i = 1; i < in.size(); ++i) {
    Shape other = in[i].shape();
    const bool fits = other.size() == shape.size();
    const int64_t more = fits ? other[axis] : 0;
    if (fits) other[axis] = shape[axis];
    if (!fits || !(other == shape))
      fail<ShapeError>("concatenate: tensor 0 has shape ", in[0].shape(), " and tensor ", i,
                       " has shape ", in[i].shape(), "; all sizes but that of axis ", axis,
                       " must be equal");
    if (__builtin_add_overflow(shape[axis], more, &shape[axis]))
      fail<ShapeError>("concatenate: the sizes along axis ", axis, " add up to more than 2**63");
  }
  out.emplace_back(shape, in[0].dtype(), in[0].device());
}
void run_concatenate(Views out, Views in, const Attrs& attrs) {
  const int axis = static_cast<int>(attrs.as<int64_t>());
  View part = out[0];
  for (const View& x : in) {
    part.shape[axis] = x.shape[axis];
    copy_into(part, x);
    part.data = part.as<char>() + x.shape[axis] * part.strides[axis] * size_of(part.dtype);
  }
}
void vjp_concatenate(const Line& line, const Tensor& g, Gradients& dx) {
  const int axis = static_cast<int>(line.attrs.as<int64_t>());
  int64_t start = 0;
  for (size_t i = 0; i < line.inputs.size(); ++i) {
    const int64_t length = line.inputs[i].shape[axis];
    if (line.needs(static_cast<int>(i))) dx[i] = slice(g, axis, start, 1, length);
    start += length;
  }
}
Attrs axis_of_all(const Batch& b) { return b.attrs.as<int64_t>() + 1; }
void describe_axis(const Attrs& attrs, NamedAttrs& named) {
  named.emplace_back("axis", attrs.as<int64_t>());
}
const Op concatenate_op{.name = "concatenate",
                        .formula = "the inputs end to end along an axis",
                        .gradient = {"each input's part of g"},
                        .numpy = "np.concatenate([{all}], axis={axis})",
                        .infer = infer_concatenate,
                        .run = run_concatenate,
                        .gpu = run_concatenate,
                        .vjp = vjp_concatenate,
                        .describe = describe_axis,
                        .bfloat16 = true,
                        .batch = batch_by<axis_of_all, false>};

struct MoveAttrs {
  Device from, to;
  bool non_blocking;
};
void infer_move(Tensors in, const Attrs& attrs, SmallVector<Meta, 2>& out) {
  out.emplace_back(in[0].shape(), in[0].dtype(), attrs.as<MoveAttrs>().to);
}
void run_move(Views out, Views in, const Attrs& attrs) {
  copy_into(out[0], in[0], !attrs.as<MoveAttrs>().non_blocking);
}
void vjp_move(const Line& line, const Tensor& g, Gradients& dx) {
  dx[0] = to_device(g, line.attrs.as<MoveAttrs>().from);
}
void describe_move(const Attrs& attrs, NamedAttrs& named) {
  named.emplace_back("device", name(attrs.as<MoveAttrs>().to));
}
const Op move_op{.name = "move",
                 .formula = "x, on another device",
                 .gradient = {"g, moved back"},
                 .infer = infer_move,
                 .run = run_move,
                 .gpu = run_move,
                 .vjp = vjp_move,
                 .describe = describe_move,
                 .batch = batch_rows<>};

}  // namespace

const Op &region_op = the_region_op, &put_region_op = the_put_region_op;

void add_view_ops(std::vector<const Op*>& ops) {
  for (const Op* op : {&reshape_op, &permute_op, &expand_op, &slice_op, &embed_op, &diagonal_op,
                       &region_op, &put_region_op, &copy_op, &concatenate_op, &move_op})
    ops.push_back(op);
}

Tensor reshape(const Tensor& x, Shape shape) {
  int unknown = -1;
  for (int i = 0; i < shape.size(); ++i) {
    if (shape[i] != -1) continue;
    if (unknown >= 0) fail<ShapeError>("reshape: only one size may be -1, got ", shape);
    unknown = i;
  }
  if (unknown >= 0) {
    Shape known = shape;
    known[unknown] = 1;
    const int64_t rest = numel(known);
    if (rest == 0 || x.numel() % rest != 0)
      fail<ShapeError>("reshape: cannot make ", shape, " of shape ", x.shape(), " (", x.numel(),
                       " elements): no size for -1 fits");
    shape[unknown] = x.numel() / rest;
  }
  if (numel(shape) != x.numel())
    fail<ShapeError>("reshape: shape ", x.shape(), " has ", x.numel(), " elements, ", shape,
                     " has ", numel(shape),
                     "; they must be equal, and one size may be -1 to be worked out");
  if (shape == x.shape()) return x;
  return apply(reshape_op, view_strides(x.shape(), x.strides(), shape) ? x : contiguous(x), shape);
}

Tensor another_view(const Tensor& x) { return apply(reshape_op, x, x.shape()); }

Tensor permute(const Tensor& x, const Dims& axes) {
  if (axes.size() != x.dim())
    fail<ShapeError>("permute: got ", axes.size(), " axes ", axes, " for a tensor of shape ",
                     x.shape(), "; name each axis once");
  Dims order = axes;
  AxisMask seen = 0;
  for (int i = 0; i < axes.size(); ++i) {
    order[i] = normalize_axis("permute", axes[i], x.dim());
    if (has(seen, static_cast<int>(order[i])))
      fail<ShapeError>("permute: axis ", axes[i], " is named twice in ", axes);
    seen |= 1u << order[i];
  }
  return apply(permute_op, x, order);
}

Tensor transpose(const Tensor& x, int64_t a, int64_t b) {
  const int first = normalize_axis("transpose", a, x.dim()),
            second = normalize_axis("transpose", b, x.dim());
  Dims order;
  for (int i = 0; i < x.dim(); ++i) order.push_back(i == first ? second : i == second ? first : i);
  return apply(permute_op, x, order);
}

Tensor expand(const Tensor& x, const Shape& wanted, const char* op) {
  Shape shape = wanted;
  const int shift = shape.size() - x.dim();
  bool fits = shift >= 0;
  for (int i = 0; i < shape.size() && fits; ++i) {
    const int64_t size = i < shift ? 0 : x.shape()[i - shift];
    if (shape[i] == -1 && i >= shift) shape[i] = size;
    fits = shape[i] >= 0 && (i < shift || size == 1 || size == shape[i]);
  }
  if (!fits)
    fail<ShapeError>(op, ": shape ", x.shape(), " does not expand to ", wanted,
                     "; counted from the right, a size must be equal, or 1, or absent");
  nbytes(shape, x.dtype());  // refuses sizes that overflow
  return shape == x.shape() ? x : apply(expand_op, x, shape);
}

Tensor slice(const Tensor& x, int axis, int64_t start, int64_t step, int64_t length) {
  return apply(slice_op, x, SliceAttrs{axis, start, step, length});
}

Tensor diagonal(const Tensor& x, int64_t offset, int64_t axis1, int64_t axis2) {
  const int rows = normalize_axis("diagonal", axis1, x.dim()),
            columns = normalize_axis("diagonal", axis2, x.dim());
  if (rows == columns)
    fail<ValueError>("diagonal: axis1 and axis2 are both axis ", rows, " of shape ", x.shape(),
                     "; name two");
  return apply(diagonal_op, x, DiagonalAttrs{offset, rows, columns});
}

Tensor squeeze(const Tensor& x, AxisMask axes) {
  for (int i = 0; i < x.dim(); ++i)
    if (has(axes, i) && x.shape()[i] != 1)
      fail<ShapeError>("squeeze: axis ", i, " of shape ", x.shape(), " has size ", x.shape()[i],
                       "; expected 1");
  return reshape(x, reduced_shape(x.shape(), axes, false));
}

Tensor unsqueeze(const Tensor& x, int64_t axis) {
  Shape shape = x.shape();
  shape.insert(normalize_axis("unsqueeze", axis, x.dim() + 1), 1);
  return reshape(x, shape);
}

Tensor contiguous(const Tensor& x) { return x.is_contiguous() ? x : clone(x); }
Tensor clone(const Tensor& x) { return apply(copy_op, x); }

Tensor to_device(const Tensor& x, Device device, bool non_blocking) {
  return x.device() == device ? x : apply(move_op, x, MoveAttrs{x.device(), device, non_blocking});
}

Tensor concatenate(Tensors parts, int64_t axis) {
  if (parts.empty()) fail<ValueError>("concatenate: got no tensors; expected at least one");
  DType dtype = parts[0].dtype();
  for (const Tensor& x : parts) dtype = promote(dtype, x.dtype());
  std::vector<Tensor> same;
  for (const Tensor& x : parts) same.push_back(to_dtype(x, dtype));
  return apply(concatenate_op, Tensors(same),
               int64_t{normalize_axis("concatenate", axis, parts[0].dim())});
}

}  // namespace wengert
