// gather and scatter: elements of x along an axis, named by an index that has as many axes. gather
// takes them; scatter writes values to them, or folds values into them.
//
// Both walk lines: at each place of the other axes, the index along the axis, in order. Threads
// share out the lines, so that a fold has the same bits for any number of them.
#include "ops/index/scatter.h"

#include <algorithm>

#include "base/pool.h"
#include "graph/batch.h"
#include "ops/functions.h"
#include "ops/gpu.h"
#include "tensor/copy.h"
#include "tensor/loop.h"

namespace wengert {

namespace {

constexpr int64_t chunk_elements = 1 << 15;

// each(x, v): an element of x, and the one of `listed` whose index names it. Not in order: a line,
// too, may be cut.
template <class T, bool in_order, class Each>
void walk(const View& x, const View& listed, const View& index, int axis, const Each& each) {
  Shape others = index.shape;
  others[axis] = 1;
  const Loop<3> lines(others, {&x.strides, &listed.strides, &index.strides});
  const int64_t count = index.shape[axis], size = x.shape[axis], last = lines.dims - 1,
                n = lines.inner(),
                step[] = {x.strides[axis], listed.strides[axis], index.strides[axis]};
  if (index.numel() == 0) return;
  const auto inner = [&](int of) { return lines.stride[of][last]; };
  // Neighbours in memory side by side: lines, or, along the last axis, elements of one line.
  const bool together = std::abs(inner(0)) < std::abs(step[0]);
  const bool adjacent = step[0] == 1 && step[1] == 1 && step[2] == 1;
  const int64_t width = together ? std::min(n, std::max<int64_t>(64, chunk_elements / count)) : 1;
  const int64_t length = in_order ? count : std::min(count, chunk_elements),
                pieces = ceil_div(count, length), tiles = ceil_div(n, width),
                units = lines.outer() * tiles * pieces,
                per_chunk = std::max<int64_t>(1, chunk_elements / (length * width));
  parallel_for(ceil_div(units, per_chunk), [&](int64_t chunk) {
    const int64_t end = std::min(units, (chunk + 1) * per_chunk);
    for (int64_t unit = chunk * per_chunk; unit < end; ++unit) {
      const int64_t piece = unit % pieces * length, tile = unit / pieces % tiles * width,
                    row = unit / pieces / tiles, wide = std::min(width, n - tile),
                    after = std::min(count, piece + length);
      const auto start = [&](int of) { return lines.offset(of, row) + tile * inner(of); };
      T* const y = x.as<T>() + start(0);
      T* v = listed.as<T>() + start(1) + piece * step[1];
      const int64_t* i = index.as<int64_t>() + start(2) + piece * step[2];
      const auto place = [&](int64_t at) { return y + (at < 0 ? at + size : at) * step[0]; };
      const auto run = [&](T* to, int64_t to_step, int64_t from_step) {
        for (int64_t c = 0; c < wide; ++c) each(to[c * to_step], v[c * from_step]);
      };
      if (wide == 1) {
        for (int64_t j = piece; j < after; j += 4096, poll_interrupt())
          if (const int64_t some = std::min(after - j, int64_t{4096}); adjacent) {
            for (int64_t e = 0; e < some; ++e) each(y[i[e] < 0 ? i[e] + size : i[e]], v[e]);
            v += some, i += some;
          } else {
            for (int64_t e = 0; e < some; ++e, v += step[1], i += step[2]) each(*place(*i), *v);
          }
        continue;
      }
      for (int64_t j = piece; j < after; ++j, v += step[1], i += step[2]) {
        if (inner(2) != 0)
          for (int64_t c = 0; c < wide; ++c)
            each(place(i[c * inner(2)])[c * inner(0)], v[c * inner(1)]);
        else if (inner(0) == 1 && inner(1) == 1)
          run(place(*i), 1, 1);
        else
          run(place(*i), inner(0), inner(1));
        if (j % 4096 == 4095) poll_interrupt();
      }
    }
  });
}

void check(const View& given, const View& x, const ScatterAttrs& attrs) {
  View index = given;  // without what an expansion repeats
  for (int d = 0; d < index.shape.size(); ++d)
    if (index.strides[d] == 0 && index.shape[d] > 1) index.shape[d] = 1;
  const int axis = static_cast<int>(attrs.axis);
  const int64_t *id = index.as<int64_t>(), n = index.numel(), size = x.shape[axis];
  const auto low = static_cast<uint64_t>(size), high = low - 1;
  constexpr int64_t piece = 1 << 16;
  uint64_t outside = 0;  // its upper bit, once one is
  parallel_for(ceil_div(n, piece), [&](int64_t chunk) {
    uint64_t found = 0;
    for (int64_t i = chunk * piece, end = std::min(n, i + piece); i < end; ++i)
      found |= (static_cast<uint64_t>(id[i]) + low) | (high - static_cast<uint64_t>(id[i]));
    __atomic_fetch_or(&outside, found, __ATOMIC_RELAXED);
  });
  if (outside >> 63 == 0) return;
  serial_for(n, piece, [&](int64_t first, int64_t end) {
    for (int64_t i = first; i < end; ++i)
      if (id[i] < -size || id[i] >= size)
        fail<IndexError>(attrs.by, ": index ", id[i], ", number ", i, ", is out of range for axis ",
                         axis, " of x, of size ", size, " (shape ", x.shape, ")");
  });
}

void describe(const Attrs& attrs, NamedAttrs& named) {
  constexpr const char* names[] = {"set", "sum", "prod", "amax", "amin"};
  const auto& a = attrs.as<ScatterAttrs>();
  named.emplace_back("axis", a.axis);
  named.emplace_back("reduce", names[static_cast<int>(a.fold)]);
  named.emplace_back("include_self", a.include_self != 0);
}
void describe_gather(const Attrs& attrs, NamedAttrs& named) {
  named.emplace_back("axis", attrs.as<ScatterAttrs>().axis);
}

// ---- gather ----

void infer_gather(Tensors in, const Attrs&, SmallVector<Meta, 2>& out) {
  out.emplace_back(in[1].shape(), in[0].dtype(), in[0].device());
}
void run_gather(Views out, Views in, const Attrs& attrs) {  // inputs x, index
  const auto& a = attrs.as<ScatterAttrs>();
  check(in[1], in[0], a);
  by_size(size_of(in[0].dtype), [&](auto type) {
    using T = typename decltype(type)::type;
    walk<T, false>(in[0], out[0], in[1], static_cast<int>(a.axis), [](const T& x, T& y) { y = x; });
  });
}
Saves save_index(uint32_t, const Attrs&) { return save_input(1); }
void vjp_gather(const Line& line, const Tensor& g, Gradients& dx) {
  const Edge& x = line.inputs[0];
  dx[0] = scatter(full(x.shape, 0, g.dtype(), g.device()), line.attrs.as<ScatterAttrs>().axis,
                  line.input(1), g, {"gather", Fold::add});
}
const Op gather_op{.name = "gather",
                   .operands = "x, index",
                   .formula = "x[index] along an axis, element by element",
                   .gradient = {"zeros, with g added at the index"},
                   .numpy = "{x}[places({index}, {axis})]",
                   .infer = infer_gather,
                   .run = run_gather,
                   .gpu = on_gpu<&GpuKernels::index, &IndexGpu::gather>,
                   .vjp = vjp_gather,
                   .saves = save_index,
                   .describe = describe_gather,
                   .bfloat16 = true,
                   .batch = batch_by<next_axis<ScatterAttrs>>};

// ---- scatter ----

void infer_scatter(Tensors in, const Attrs&, SmallVector<Meta, 2>& out) {
  out.emplace_back(in[0].shape(), in[0].dtype(), in[0].device());
}
void run_scatter(Views out, Views in, const Attrs& attrs) {  // inputs x, value, index
  const auto& a = attrs.as<ScatterAttrs>();
  const int axis = static_cast<int>(a.axis);
  check(in[2], in[0], a);
  if (out[0].data != in[0].data) copy_into(out[0], in[0]);
  if (!a.include_self) {
    const Tensor start = full(Shape{}, start_of(a.fold, out[0].dtype), out[0].dtype);
    View repeated = start.view();
    repeated.shape = in[2].shape;
    repeated.strides = Dims::filled(in[2].shape.size(), 0);
    scatter_on_cpu(out[0], repeated, in[2], axis, Fold::set);
  }
  scatter_on_cpu(out[0], in[1], in[2], axis, a.fold);
}
void scatter_with_gpu(Views out, Views in, const Attrs& attrs) {
  if (out[0].data != in[0].data) copy_into(out[0], in[0]);
  gpu_kernels().index->scatter(out, in, attrs);
}
Saves save_scatter(uint32_t, const Attrs& attrs) {
  const Fold fold = attrs.as<ScatterAttrs>().fold;
  return save_input(2) |
         (fold == Fold::set || fold == Fold::add ? 0 : save_input(0) | save_input(1) | save_output);
}
void vjp_scatter(const Line& line, const Tensor& g, Gradients& dx);
const Op scatter_op{
    .name = "scatter",
    .operands = "x, value, index",
    .formula = "x, with values written to, or folded into, the elements that index names",
    .gradient =
        {"set: g, with zeros at the index; sum: g; prod: g * the product of the others; amax, "
         "amin: g where x is the result, shared out by ties",
         "the same, at the index; set: g, and 0 for all but the last of equal places"},
    .numpy = "scatter({x}, {value}, places({index}, {axis}), {reduce!r}, {include_self})",
    .infer = infer_scatter,
    .run = run_scatter,
    .gpu = scatter_with_gpu,
    .vjp = vjp_scatter,
    .saves = save_scatter,
    .describe = describe,
    .in_place = true,
    .bfloat16 = true,
    .batch = batch_by<next_axis<ScatterAttrs>>};

Tensor put(const Tensor& x, const Tensor& value, const Tensor& index, int64_t axis, Fold fold) {
  const Tensor in[] = {x, value, index};
  return apply(scatter_op, Tensors(in), ScatterAttrs{axis, fold, 1, "scatter"});
}
Tensor constant(const Tensor& like, Number value) {
  return expand(full(Shape{}, value, like.dtype(), like.device()), like.shape());
}
void vjp_scatter(const Line& line, const Tensor& g, Gradients& dx) {
  const auto& a = line.attrs.as<ScatterAttrs>();
  const Tensor& index = line.input(2);
  const auto taken = [&](const Tensor& y) {
    return apply(gather_op, y, index, ScatterAttrs{a.axis, Fold::set, 1, "scatter"});
  };
  const auto without_named = [&](const Tensor& y) {
    return put(y, expand(full(Shape{}, 0, y.dtype(), y.device()), index.shape()), index, a.axis,
               Fold::set);
  };
  const auto own = [&](const Tensor& y) { return a.include_self ? y : without_named(y); };
  if (a.fold == Fold::add) {
    if (line.needs(0)) dx[0] = own(g);
    if (line.needs(1)) dx[1] = taken(g);
  } else if (a.fold == Fold::set) {
    if (line.needs(0)) dx[0] = without_named(g);
    if (!line.needs(1)) return;
    // Of values written to one place only the last is there to be seen.
    const Tensor order =
        reshape(arange(0, 1, index.numel(), DType::int64, g.device()), index.shape());
    const Tensor writer =
        put(full(g.shape(), -1, DType::int64, g.device()), order, index, a.axis, Fold::set);
    dx[1] = select(taken(writer) == order, taken(g), 0.0);
  } else if (a.fold == Fold::prod) {
    const Tensor &x = line.input(0), &value = line.input(1), y = line.result();
    const auto add = [&](const Tensor& to, const Tensor& v) {
      return put(to, v, index, a.axis, Fold::add);
    };
    // A place's only zero gets the product of the others; all others there get 0.
    const Tensor zero_x = x == 0.0, zero_v = value == 0.0;
    const Tensor zeros = add(own(to_dtype(zero_x, g.dtype())), to_dtype(zero_v, g.dtype()));
    if (grad_enabled() && any_element(zeros > 1.0))
      fail<GradientError>(line.op->name,
                          ": a product with two zeros or more at one place has no "
                          "gradient of its gradient here; call backward() without create_graph");
    const Tensor rest = put(a.include_self ? select(zero_x, 1.0, x)
                                           : put(x, constant(value, 1), index, a.axis, Fold::set),
                            select(zero_v, 1.0, value), index, a.axis, Fold::prod);
    const Tensor whole = times(g, y), others = select(zeros == 1.0, times(g, rest), 0.0);
    if (line.needs(0)) dx[0] = own(select(zero_x, others, over(whole, select(zero_x, 1.0, x))));
    if (line.needs(1))
      dx[1] = select(zero_v, taken(others), over(taken(whole), select(zero_v, 1.0, value)));
  } else {
    const Tensor &x = line.input(0), &value = line.input(1), y = line.result();
    const Tensor mine = x == y, theirs = value == taken(y);
    const Tensor n =
        put(own(to_dtype(mine, g.dtype())), to_dtype(theirs, g.dtype()), index, a.axis, Fold::add);
    // Nothing equals NaN: the NaN goes to all.
    const Tensor share = over(g, maximum(n, 1)), rest = select(y == y, 0.0, times(g, y));
    if (line.needs(0)) dx[0] = own(select(mine, share, rest));
    if (line.needs(1)) dx[1] = select(theirs, taken(share), taken(rest));
  }
}

// ---- what callers give ----

Tensor integers(const char* op, const Tensor& x, const Tensor& index) {
  if (!is_integer(index.dtype()))
    fail<DTypeError>(op, ": index has dtype ", index.dtype(), "; expected an integer dtype");
  const Tensor y = to_device(to_dtype(index, DType::int64), x.device());
  // In one piece, or repeated from what is.
  Shape once = y.shape();
  for (int d = 0; d < y.dim(); ++d)
    if (y.strides()[d] == 0) once[d] = 1;
  return is_contiguous(once, y.strides()) ? y : contiguous(y);
}
void check_shapes(const char* op, const Tensor& x, int axis, const Tensor& index) {
  bool fits = index.dim() == x.dim();
  for (int d = 0; fits && d < x.dim(); ++d) fits = d == axis || index.shape()[d] <= x.shape()[d];
  if (!fits)
    fail<ShapeError>(op, ": the index has shape ", index.shape(), " and x has shape ", x.shape(),
                     "; expected as many axes, none longer than x's but axis ", axis);
}
Tensor at_least_1d(const Tensor& x) { return x.dim() ? x : reshape(x, Shape{1}); }

// x as it is changed: a new tensor, or x itself.
Tensor changed(const Tensor& x, const Tensor& y, const ScatterHow& how) {
  if (how.in_place) apply_in_place(x, copy_op, Tensors(&y, 1), {}, how.by);
  return how.in_place ? x : y;
}
void check_mask(const char* op, const Tensor& mask) {
  if (mask.dtype() != DType::bool_)
    fail<DTypeError>(op, ": the mask is ", mask.dtype(), "; expected bool: write mask != 0");
}
void check_same(const char* op, const Tensor& x, const char* name, const Tensor& value) {
  if (value.dtype() != x.dtype())
    fail<DTypeError>(op, ": x is ", x.dtype(), " and ", name, " is ", value.dtype(), "; convert ",
                     name, " with .to(\"", x.dtype(), "\")");
}
Tensor in_one_row(const Tensor& x) { return reshape(x, Shape{x.numel()}); }

// Checked and of equal shapes.
Tensor scatter_checked(const Tensor& x, int axis, const Tensor& index, const Tensor& value,
                       const ScatterHow& how) {
  const ScatterHow apart{how.by, how.fold, how.include_self, false};
  const auto in_dtype = [&](DType wide) {
    const Tensor y = scatter_checked(to_dtype(x, wide), axis, index, to_dtype(value, wide), apart);
    return changed(x, to_dtype(y, x.dtype()), how);
  };
  if (how.fold != Fold::set && x.dtype() == DType::bfloat16) return in_dtype(DType::float32);
  if (how.fold == Fold::mean) {
    if (x.dtype() == DType::bool_)
      fail<DTypeError>(how.by, ": the mean of bools is none; convert with .float()");
    if (!is_floating(x.dtype()) && x.dtype() != DType::int64) return in_dtype(DType::int64);
    const ScatterHow add{how.by, Fold::add, how.include_self, false};
    const Tensor total = scatter_checked(x, axis, index, value, add);
    const Tensor n =
        maximum(scatter_checked(full_like(x, 1), axis, index, constant(value, 1), add), 1);
    return changed(x, is_floating(x.dtype()) ? total / n : floor_divide(total, n), how);
  }
  const Tensor in[] = {x, value, index};
  const ScatterAttrs attrs{axis, how.fold, how.include_self || how.fold == Fold::set, how.by};
  if (!how.in_place) return apply(scatter_op, Tensors(in), attrs);
  apply_in_place(x, scatter_op, Tensors(in), attrs, how.by);
  return x;
}

}  // namespace

void scatter_on_cpu(const View& out, const View& value, const View& index, int axis, Fold fold) {
  dispatch_fold(out.dtype, fold, [&](auto type, auto of) {
    using T = typename decltype(type)::type;
    walk<T, true>(out, value, index, axis,
                  [](T& y, const T& v) { y = folded<decltype(of)::value>(y, v); });
  });
}

void add_scatter_ops(std::vector<const Op*>& ops) {
  for (const Op* op : {&gather_op, &scatter_op}) ops.push_back(op);
}

Tensor gather(const Tensor& given, int64_t axis_given, const Tensor& named, const char* by) {
  const Tensor x = at_least_1d(given), index = integers(by, x, at_least_1d(named));
  const int axis = normalize_axis(by, axis_given, x.dim());
  check_shapes(by, x, axis, index);
  const Tensor y = apply(gather_op, x, index, ScatterAttrs{axis, Fold::set, 1, by});
  return named.dim() ? y : reshape(y, Shape{});
}

Tensor scatter(const Tensor& given, int64_t axis_given, const Tensor& named, const Tensor& src,
               const ScatterHow& how) {
  const Tensor x = at_least_1d(given), index = integers(how.by, x, at_least_1d(named));
  const int axis = normalize_axis(how.by, axis_given, x.dim());
  check_shapes(how.by, x, axis, index);
  check_same(how.by, x, "src", src);
  Tensor value = to_device(at_least_1d(src), x.device());
  if (src.dim() == 0) value = expand(value, index.shape());
  bool fits = value.dim() == index.dim();
  for (int d = 0; fits && d < index.dim(); ++d) fits = index.shape()[d] <= value.shape()[d];
  if (!fits)
    fail<ShapeError>(how.by, ": src has shape ", src.shape(), " and the index has shape ",
                     index.shape(), "; expected as many axes, none shorter than the index's");
  for (int d = 0; d < index.dim(); ++d)
    if (index.shape()[d] < value.shape()[d]) value = slice(value, d, 0, 1, index.shape()[d]);
  const Tensor y = scatter_checked(x, axis, index, value, how);
  return how.in_place ? given : given.dim() ? y : reshape(y, Shape{});
}

Tensor index_scatter(const Tensor& given, int64_t axis_given, const Tensor& named,
                     const Tensor& src, const ScatterHow& how) {
  const Tensor x = at_least_1d(given), index = integers(how.by, x, at_least_1d(named));
  const int axis = normalize_axis(how.by, axis_given, x.dim());
  if (index.dim() != 1)
    fail<ShapeError>(how.by, ": the index has shape ", named.shape(), "; expected one axis");
  Shape shape = x.shape(), along = Dims::filled(x.dim(), 1);
  shape[axis] = along[axis] = index.numel();
  check_same(how.by, x, "source", src);
  if (src.dim() > 0 ? !(src.shape() == shape) : how.fold != Fold::set && shape.size() > 1)
    fail<ShapeError>(how.by, ": source has shape ", src.shape(), "; expected ", shape,
                     ", x's with the index's size along axis ", axis);
  const Tensor value = expand(to_device(src, x.device()), shape);
  const Tensor y = scatter_checked(x, axis, expand(reshape(index, along), shape), value, how);
  return how.in_place ? given : given.dim() ? y : reshape(y, Shape{});
}

// ---- composed of these ----

Tensor masked_fill(const Tensor& x, const Tensor& mask, const Tensor& value,
                   const ScatterHow& how) {
  check_mask(how.by, mask);
  check_same(how.by, x, "value", value);
  if (value.dim() > 0)
    fail<ShapeError>(how.by, ": value has shape ", value.shape(), "; expected one number");
  if (!how.in_place) return where(mask, value, x);
  set_where(x, mask, value, how.by);
  return x;
}

Tensor masked_scatter(const Tensor& x, const Tensor& given, const Tensor& source,
                      const ScatterHow& how) {
  check_mask(how.by, given);
  check_same(how.by, x, "source", source);
  const Shape shape = broadcast(how.by, x.shape(), given.shape());
  const Tensor mask = in_one_row(expand(given, shape)), rows = pick(nonzero(mask), 1, 0);
  if (rows.numel() > source.numel())
    fail<ShapeError>(how.by, ": the mask is true ", rows.numel(), " times and source has ",
                     source.numel(), " elements; expected as many or more");
  const Tensor value = slice(in_one_row(source), 0, 0, 1, rows.numel());
  return changed(x, reshape(put_rows(in_one_row(expand(x, shape)), value, rows, 1, false), shape),
                 how);
}

Tensor masked_select(const Tensor& x, const Tensor& mask) {
  check_mask("masked_select", mask);
  const Shape shape = broadcast("masked_select", x.shape(), mask.shape());
  return get_item(expand(x, shape), {expand(mask, shape)});
}

Tensor take(const Tensor& x, const Tensor& index) {
  return reshape(gather(in_one_row(x), 0, in_one_row(index), "take"), index.shape());
}
Tensor put(const Tensor& x, const Tensor& index, const Tensor& source, const ScatterHow& how) {
  if (source.numel() != index.numel())
    fail<ShapeError>(how.by, ": source has shape ", source.shape(), " and the index has shape ",
                     index.shape(), "; expected as many elements");
  const ScatterHow apart{how.by, how.fold, true, false};
  const Tensor y = scatter(in_one_row(x), 0, in_one_row(index), in_one_row(source), apart);
  return changed(x, reshape(y, x.shape()), how);
}

Tensor index_select(const Tensor& x, int64_t axis_given, const Tensor& index) {
  if (index.dim() > 1)
    fail<ShapeError>("index_select: the index has shape ", index.shape(), "; expected one axis");
  if (x.dim() == 0) return gather(x, axis_given, reshape(index, Shape{}), "index_select");
  const int axis = normalize_axis("index_select", axis_given, x.dim());
  Shape shape = x.shape(), along = Dims::filled(x.dim(), 1);
  shape[axis] = along[axis] = index.numel();
  return gather(x, axis, expand(reshape(contiguous(index), along), shape), "index_select");
}

Tensor take_along_axis(const Tensor& x, const Tensor& index, std::optional<int64_t> given,
                       const char* op) {
  if (!given) return gather(in_one_row(x), 0, in_one_row(index), op);
  const int axis = normalize_axis(op, *given, x.dim());
  if (index.dim() != x.dim())
    fail<ShapeError>(op, ": the index has shape ", index.shape(), " and x has shape ", x.shape(),
                     "; expected as many axes");
  if (x.dim() == 0) return gather(x, axis, index, op);
  Shape from = x.shape(), to = index.shape();
  from[axis] = to[axis] = 1;
  from = to = broadcast(op, from, to);
  from[axis] = x.shape()[axis];
  to[axis] = index.shape()[axis];
  return gather(expand(x, from), axis, expand(index, to), op);
}

}  // namespace wengert
