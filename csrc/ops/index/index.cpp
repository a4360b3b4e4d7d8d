// Indexing. Integers, ranges and new axes give views. Integer and boolean tensors gather: their
// positions are first joined to row numbers (ravel_index), by which rows are then taken or put.
// Scatters go in the order of the positions, so repeated ones always give the same bits.
#include <algorithm>
#include <numeric>

#include "base/pool.h"
#include "graph/batch.h"
#include "ops/functions.h"
#include "ops/gpu.h"
#include "ops/index/gpu.h"
#include "ops/index/scatter.h"
#include "tensor/copy.h"

namespace wengert {

namespace {

constexpr int64_t chunk_elements = 1 << 16;

// ---- ravel_index: (i, j, ...) for axes of the given sizes -> one row number ----

void infer_ravel(Tensors in, const Attrs&, SmallVector<Meta, 2>& out) {
  out.emplace_back(in[0].shape(), DType::int64, in[0].device());
}
void run_ravel(Views out, Views in, const Attrs& attrs) {
  const Dims& sizes = attrs.as<Dims>();
  int64_t* rows = out[0].as<int64_t>();
  const int64_t n = out[0].numel();
  for (int axis = 0; axis < sizes.size(); ++axis) {
    const int64_t size = sizes[axis], *index = in[static_cast<size_t>(axis)].as<int64_t>();
    serial_for(n, chunk_elements, [&](int64_t first, int64_t end) {
      for (int64_t i = first; i < end; ++i) {
        const int64_t at = index[i] < 0 ? index[i] + size : index[i];
        if (at < 0 || at >= size)
          fail<IndexError>("index ", index[i], " is out of range for an axis of size ", size,
                           " (indexed axes have sizes ", sizes, ")");
        rows[i] = (axis ? rows[i] * size : 0) + at;
      }
    });
  }
}
void describe_ravel(const Attrs& attrs, NamedAttrs& named) {
  named.emplace_back("sizes", attrs.as<Dims>());
}
const Op ravel_op{.name = "ravel_index",
                  .operands = "i, j",
                  .formula = "((i * size_j) + j) * ...",
                  .numpy = "np.ravel_multi_index(({all},), {sizes}, mode='wrap')",
                  .infer = infer_ravel,
                  .run = run_ravel,
                  .gpu = on_gpu<&GpuKernels::index, &IndexGpu::ravel>,
                  .no_gradient = "an index is piecewise constant",
                  .describe = describe_ravel,
                  .batch = batch_rows<>};

// ---- take_rows, put_rows ----

Shape taken_shape(const Shape& x, const Shape& rows, int64_t lead) {
  Shape shape = rows;
  for (int d = static_cast<int>(lead); d < x.size(); ++d) shape.push_back(x[d]);
  return shape;
}
void describe_rows(const Attrs& attrs, NamedAttrs& named) {
  named.emplace_back("lead", attrs.as<RowsAttrs>().lead);
  named.emplace_back("add", attrs.as<RowsAttrs>().add);
}

void infer_take(Tensors in, const Attrs& attrs, SmallVector<Meta, 2>& out) {
  out.emplace_back(taken_shape(in[0].shape(), in[1].shape(), attrs.as<RowsAttrs>().lead),
                   in[0].dtype(), in[0].device());
}
void run_take(Views out, Views in, const Attrs& attrs) {
  const int64_t n = row_elements(in[0].shape, attrs.as<RowsAttrs>().lead),
                bytes = n * size_of(out[0].dtype);
  copy_rows(out[0].data, in[0].data, in[1].as<int64_t>(), in[1].numel(), bytes);
}
int64_t rows_of_one(const Batch& b) {
  return b.one[0].numel()
             ? b.one[0].numel() / row_elements(b.one[0].shape(), b.attrs.as<RowsAttrs>().lead)
             : 0;
}
Tensor batch_take(const Batch& b, Tensor*) {
  if (!b.has(0)) return apply(b.op, b.all[0], contiguous(b.all[1]), b.attrs);
  return apply(b.op, b.whole(0), b.numbered(1, rows_of_one(b)),
               RowsAttrs{b.attrs.as<RowsAttrs>().lead + 1, false});
}
Saves save_rows(uint32_t, const Attrs&) { return save_input(1); }
void vjp_take(const Line& line, const Tensor& g, Gradients& dx) {
  const auto zeros = full(line.inputs[0].shape, 0, line.inputs[0].dtype, g.device());
  dx[0] =
      put_rows(zeros, g, line.input(1), static_cast<int>(line.attrs.as<RowsAttrs>().lead), true);
}
const Op take_op{.name = "take_rows",
                 .operands = "x, rows",
                 .formula = "x[rows]",
                 .gradient = {"zeros, with g added at the rows"},
                 .numpy = "rows_of({x}, {lead})[{rows}]",
                 .infer = infer_take,
                 .run = run_take,
                 .gpu = on_gpu<&GpuKernels::index, &IndexGpu::take>,
                 .vjp = vjp_take,
                 .saves = save_rows,
                 .describe = describe_rows,
                 .bfloat16 = true,
                 .batch = batch_take};

void infer_put(Tensors in, const Attrs&, SmallVector<Meta, 2>& out) {
  out.emplace_back(in[0].shape(), in[0].dtype(), in[0].device());
}
// A row of a view whose rows are anywhere: elements of the axes after the first `lead` ones.
template <class T> void put_row(T* y, const View& layout, int64_t axis, const T*& v) {
  if (axis == layout.shape.size()) {
    *y = *v++;
    return;
  }
  const int64_t size = layout.shape[static_cast<int>(axis)],
                stride = layout.strides[static_cast<int>(axis)];
  if (axis + 1 == layout.shape.size()) {
    for (int64_t i = 0; i < size; ++i) y[i * stride] = *v++;
    return;
  }
  for (int64_t i = 0; i < size; ++i) put_row(y + i * stride, layout, axis + 1, v);
}
void put_strided(const View& out, const View& value, const View& rows, int64_t lead) {
  dispatch(out.dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    const T* v = value.as<T>();
    for (int64_t i = 0; i < rows.numel(); ++i) {
      int64_t row = rows.as<int64_t>()[i], offset = 0;
      for (int axis = static_cast<int>(lead); axis-- > 0; row /= out.shape[axis])
        offset += row % out.shape[axis] * out.strides[axis];
      put_row(out.as<T>() + offset, out, lead, v);
      if (i % 4096 == 4095) poll_interrupt();
    }
  });
}

void run_put(Views out, Views in, const Attrs& attrs) {  // inputs x, value, rows
  const auto [lead, add] = attrs.as<RowsAttrs>();
  const int64_t n = row_elements(in[0].shape, lead), count = in[2].numel();
  if (out[0].data != in[0].data) copy_into(out[0], in[0]);
  if (n == 0) return;
  if (!is_contiguous(out[0].shape, out[0].strides))  // of set_item, on the CPU: no sums
    return put_strided(out[0], in[1], in[2], lead);
  // As matrices, whose index is the same for all columns.
  const auto rows_of = [n](const View& x, int64_t rows) {
    return View{x.data, Shape{rows, n}, Strides{n, 1}, x.dtype};
  };
  const View index{in[2].data, Shape{count, n}, Strides{1, 0}, DType::int64};
  scatter_on_cpu(rows_of(out[0], numel(out[0].shape) / n), rows_of(in[1], count), index, 0,
                 add ? Fold::add : Fold::set);
}
void put_with_gpu(Views out, Views in, const Attrs& attrs) {
  const auto put = [&](const View& y) {
    if (y.data != in[0].data) copy_into(y, in[0]);
    gpu_kernels().index->put(Views(&y, 1), in, attrs);
  };
  if (is_contiguous(out[0].shape, out[0].strides)) return put(out[0]);
  const Tensor aside({out[0].shape, out[0].dtype, out[0].device});  // as the kernel needs it
  put(aside.view());
  copy_into(out[0], aside.view());
}
Tensor batch_put(const Batch& b, Tensor*) {
  const auto [lead, add] = b.attrs.as<RowsAttrs>();
  const Tensor in[] = {b.whole(0), b.whole(1), b.numbered(2, rows_of_one(b))};
  return apply(b.op, Tensors(in), RowsAttrs{lead + 1, add});
}
Saves save_put(uint32_t, const Attrs&) { return save_input(2); }
void vjp_put(const Line& line, const Tensor& g, Gradients& dx) {
  const auto [lead_axes, add] = line.attrs.as<RowsAttrs>();
  const int lead = static_cast<int>(lead_axes);
  const Tensor& rows = line.input(2);
  if (line.needs(0))
    dx[0] =
        add ? g
            : put_rows(g, full(line.inputs[1].shape, 0, g.dtype(), g.device()), rows, lead, false);
  if (!line.needs(1)) return;
  dx[1] = take_rows(g, rows, lead);
  if (add) return;
  // Of values written to one place only the last is there to be seen.
  Shape leading;
  for (int d = 0; d < lead; ++d) leading.push_back(g.shape()[d]);
  const Tensor order = reshape(arange(0, 1, rows.numel(), DType::int64, g.device()), rows.shape());
  const Tensor writer =
      put_rows(full(leading, -1, DType::int64, g.device()), order, rows, lead, false);
  Shape spread = rows.shape();
  while (spread.size() < dx[1].dim()) spread.push_back(1);
  dx[1] = select(reshape(take_rows(writer, rows, lead) == order, spread), dx[1], 0.0);
}
const Op put_op{.name = "put_rows",
                .operands = "x, value, rows",
                .formula = "x, with values written at, or added to, the rows",
                .gradient = {"g, with zeros at the written rows",
                             "g[rows], and 0 for all but the last of equal rows"},
                .numpy = "put_rows({x}, {value}, {rows}, {lead}, {add})",
                .infer = infer_put,
                .run = run_put,
                .gpu = put_with_gpu,
                .vjp = vjp_put,
                .saves = save_put,
                .describe = describe_rows,
                .in_place = true,
                .batch = batch_put};

// ---- reading a key ----

struct Key {
  Tensor view;                  // x with the basic parts applied
  std::vector<Tensor> indices;  // for these axes of the view
  std::vector<int> axes;
  bool together = true;  // nothing stands between them
  Tensor mask;           // instead of indices, if it is asked for and alone: it broadcasts to view
};

std::vector<IndexPart> expand_key(const Tensor& x, const std::vector<IndexPart>& given) {
  std::vector<IndexPart> key;
  int used = 0, ellipses = 0;
  for (const IndexPart& part : given) {
    if (const Tensor* t = std::get_if<Tensor>(&part); t && t->dtype() == DType::bool_)
      used += t->dim();
    else if (std::holds_alternative<Everything>(part))
      ++ellipses;
    else if (!std::holds_alternative<NewAxis>(part))
      ++used;
  }
  if (ellipses > 1) fail<IndexError>("index: only one '...' may stand in an index");
  if (used > x.dim())
    fail<IndexError>("index: ", used, " indices for a tensor of ", x.dim(), " dimensions (shape ",
                     x.shape(), ")");
  for (const IndexPart& part : given) {
    if (std::holds_alternative<Everything>(part)) {
      for (int d = used; d < x.dim(); ++d) key.push_back(Range{});
    }
    key.push_back(part);
  }
  return key;
}

Tensor slice_range(const Tensor& x, int axis, const Range& r) {
  const int64_t size = x.shape()[axis];
  if (r.step == 0) fail<ValueError>("index: a slice's step is zero; expected any other integer");
  const bool up = r.step > 0;
  const auto clip = [&](int64_t i) {
    if (i < 0) i += size;
    return std::clamp(i, up ? int64_t{0} : int64_t{-1}, up ? size : size - 1);
  };
  const int64_t start = r.start ? clip(*r.start) : up ? 0 : size - 1;
  const int64_t stop = r.stop ? clip(*r.stop) : up ? size : -1;
  const int64_t span = up ? stop - start : start - stop, step = up ? r.step : -r.step;
  const int64_t length = span <= 0 ? 0 : (span - 1) / step + 1;
  if (length == size && r.step == 1) return x;
  return slice(x, axis, start, length > 1 ? r.step : 1, length);
}

Key read_key(const Tensor& x, const std::vector<IndexPart>& given, bool keep_mask = false) {
  const std::vector<IndexPart> parts = expand_key(x, given);
  Key key{x, {}, {}, true, {}};
  bool gathers = false;
  for (const IndexPart& part : parts)
    if (const Tensor* t = std::get_if<Tensor>(&part)) {
      keep_mask &= !gathers && t->dtype() == DType::bool_ && t->dim() > 0;
      gathers = true;
    }
  keep_mask &= gathers;
  gathers &= !keep_mask;
  int behind = 0;      // the mask: the first axis
  bool ended = false;  // something stood after an index tensor
  int axis = 0;
  const auto add = [&](const Tensor& index) {
    if (ended) key.together = false;
    key.indices.push_back(index);
    key.axes.push_back(axis++);
  };
  for (const IndexPart& part : parts) {
    if (const int64_t* i = std::get_if<int64_t>(&part)) {
      if (!gathers) {
        key.view = pick(key.view, axis, *i);
      } else {
        pick(key.view, axis, *i);  // for its check
        add(full(Shape{}, static_cast<double>(*i), DType::int64, x.device()));
      }
    } else if (const Tensor* t = std::get_if<Tensor>(&part)) {
      if (t->dtype() != DType::bool_) {
        if (!is_integer(t->dtype()))
          fail<DTypeError>("index: a tensor of ", t->dtype(),
                           " cannot index; expected an integer or bool tensor");
        add(to_device(to_dtype(*t, DType::int64), x.device()));
        continue;
      }
      for (int d = 0; d < t->dim(); ++d)
        if (t->shape()[d] != key.view.shape()[axis + d])
          fail<IndexError>("index: a mask of shape ", t->shape(), " does not fit axes ", axis,
                           " on of shape ", key.view.shape(), "; sizes must be equal");
      if (keep_mask) {
        key.mask = to_device(*t, x.device());
        behind = axis += t->dim();
        continue;
      }
      const Tensor places = to_device(nonzero(*t), x.device());
      for (int d = 0; d < t->dim(); ++d) add(pick(places, 1, d));
      if (t->dim() == 0) {  // x[True] has a new axis, of size one or zero
        key.view = unsqueeze(key.view, axis);
        add(full(Shape{places.shape()[0]}, 0, DType::int64, x.device()));
      }
    } else {
      if (!key.indices.empty()) ended = true;
      if (std::holds_alternative<Everything>(part))
        continue;  // its axes stand beside it; it parts even as none
      if (const Range* r = std::get_if<Range>(&part))
        key.view = slice_range(key.view, axis, *r);
      else
        key.view = unsqueeze(key.view, axis);
      ++axis;
    }
  }
  if (keep_mask) {
    Shape shape = key.mask.shape();
    for (int d = behind; d < key.view.dim(); ++d) shape.push_back(1);
    key.mask = reshape(key.mask, shape);
  }
  return key;
}

// What a key with index tensors names: rows of a view whose indexed axes stand in front, and in
// which order the axes of the result are then put.
struct Named {
  Tensor front, rows;
  int lead;
  Dims back;  // empty: as they are
};
Named name_rows(const Tensor& x, const Key& key) {
  const Tensor& view = key.view;
  AxisMask indexed = 0;
  Dims sizes, order;
  for (int axis : key.axes) {
    order.push_back(axis);
    sizes.push_back(view.shape()[axis]);
    indexed |= 1u << axis;
  }
  for (int d = 0; d < view.dim(); ++d)
    if (!has(indexed, d)) order.push_back(d);
  Shape common = key.indices[0].shape();
  for (const Tensor& i : key.indices) common = broadcast("index", common, i.shape());
  std::vector<Tensor> spread;
  for (const Tensor& i : key.indices) spread.push_back(contiguous(expand(i, common)));
  bool in_order = view.body() == x.body();
  for (int d = 0; d < view.dim(); ++d) in_order &= order[d] == d;
  Named named{in_order ? x : permute(view, order),
              apply(ravel_op, Tensors(spread), sizes),
              static_cast<int>(key.axes.size()),
              {}};
  if (!key.together || key.axes[0] == 0) return named;
  // The index's axes go where the first indexed axis was.
  const int dims = named.rows.dim() + view.dim() - named.lead;
  for (int d = 0; d < key.axes[0]; ++d) named.back.push_back(named.rows.dim() + d);
  for (int d = 0; d < named.rows.dim(); ++d) named.back.push_back(d);
  for (int d = named.rows.dim() + key.axes[0]; d < dims; ++d) named.back.push_back(d);
  return named;
}

}  // namespace

void add_index_ops(std::vector<const Op*>& ops) {
  for (const Op* op : {&ravel_op, &take_op, &put_op}) ops.push_back(op);
}

Tensor take_rows(const Tensor& x, const Tensor& rows, int lead) {
  return apply(take_op, contiguous(x), rows, RowsAttrs{lead, false});
}

Tensor put_rows(const Tensor& x, const Tensor& value, const Tensor& rows, int lead, bool add) {
  const Tensor in[] = {contiguous(x), contiguous(value), rows};
  return apply(put_op, Tensors(in), RowsAttrs{lead, add});
}

Tensor get_item(const Tensor& x, const std::vector<IndexPart>& parts) {
  const Key key = read_key(x, parts);
  if (key.indices.empty()) return key.view.body() == x.body() ? another_view(x) : key.view;
  const Named named = name_rows(x, key);
  const Tensor taken = take_rows(named.front, named.rows, named.lead);
  return named.back.empty() ? taken : permute(taken, named.back);
}

void set_item(const Tensor& x, const std::vector<IndexPart>& parts, const Tensor& given) {
  const bool recorded = grad_enabled() && (x.requires_grad() || given.requires_grad());
  const Tensor value = to_device(to_dtype(given, x.dtype()), x.device());
  const GradMode mode(recorded);
  const Key key = read_key(x, parts, value.dim() == 0);
  if (key.mask.defined()) {  // without a look at where it is true
    set_where(key.view, key.mask, value, "setitem");
  } else if (key.indices.empty()) {
    const Tensor in[] = {expand(value, key.view.shape(), "setitem")};
    apply_in_place(key.view, cast_op, Tensors(in), x.dtype(), "setitem");
  } else {
    const Named named = name_rows(x, key);
    const Shape rows_first = taken_shape(named.front.shape(), named.rows.shape(), named.lead);
    Shape shape = rows_first;
    Dims inverse = named.back;
    for (int d = 0; d < inverse.size(); ++d) {
      shape[d] = rows_first[static_cast<int>(named.back[d])];
      inverse[static_cast<int>(named.back[d])] = d;
    }
    Tensor v = expand(value, shape, "setitem");
    if (!inverse.empty()) v = permute(v, inverse);
    const Tensor in[] = {named.front, contiguous(v), named.rows};
    apply_in_place(named.front, put_op, Tensors(in), RowsAttrs{named.lead, false}, "setitem");
  }
}

Tensor nonzero(const Tensor& given) {
  const Tensor found = contiguous(given != 0.0);
  refuse_in_trace("nonzero, or a boolean mask as an index,", found);
  // How many there are the host must know: so it also finds them, once it waits.
  const Tensor mask = on_host(found);
  const bool* m = mask.data<bool>();
  const int64_t n = mask.numel(), chunks = ceil_div(n, chunk_elements);
  std::vector<int64_t> before(static_cast<size_t>(chunks) + 1);  // found before each chunk
  const auto end = [&](int64_t chunk) { return std::min(n, (chunk + 1) * chunk_elements); };
  parallel_for(chunks, [&](int64_t c) {
    before[static_cast<size_t>(c) + 1] = std::count(m + c * chunk_elements, m + end(c), true);
  });
  std::partial_sum(before.begin(), before.end(), before.begin());
  const int dim = mask.dim();
  const Shape& shape = mask.shape();
  Tensor places(Shape{before.back(), dim}, DType::int64);
  parallel_for(chunks, [&](int64_t c) {
    int64_t* to = places.data<int64_t>() + before[static_cast<size_t>(c)] * dim;
    for (int64_t i = c * chunk_elements; i < end(c); ++i) {
      if (!m[i]) continue;
      int64_t rest = i;
      for (int d = dim - 1; d >= 0; --d) {
        to[d] = rest % shape[d];
        rest /= shape[d];
      }
      to += dim;
    }
  });
  return to_device(places, given.device());
}

}  // namespace wengert
