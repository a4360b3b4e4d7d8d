// embedding: rows of a table by number, y[..., :] = table[ids[...], :]; its gradient; and one_hot.
//
// The gradient of the table gathers what comes for one row in float64, in the order of the ids, so
// that it has the same bits for any number of threads, and a row asked for often loses nothing.
#include <algorithm>
#include <cstring>

#include "base/pool.h"
#include "graph/batch.h"
#include "ops/functions.h"
#include "ops/gpu.h"
#include "ops/index/gpu.h"
#include "tensor/copy.h"

namespace wengert {

namespace {

constexpr int64_t chunk_elements = 1 << 16;

void describe(const Attrs& attrs, NamedAttrs& named) {
  const auto [rows, padding] = attrs.as<EmbeddingAttrs>();
  named.emplace_back("rows", rows);
  if (padding >= 0) named.emplace_back("padding_idx", padding);
}

// Unlike an index, an id is not counted from the end.
void check_ids(const char* op, const View& ids, int64_t rows, const char* what) {
  const int64_t *id = ids.as<int64_t>(), n = ids.numel();
  serial_for(n, chunk_elements, [&](int64_t first, int64_t end) {
    for (int64_t i = first; i < end; ++i)
      if (id[i] < 0 || id[i] >= rows)
        fail<IndexError>(op, ": id ", id[i], ", number ", i, " of ids of shape ", ids.shape,
                         ", is out of range; ", what, " ", rows, ": 0 to ", rows - 1);
  });
}

void clear(void* data, int64_t bytes) {
  constexpr int64_t piece = 1 << 20;
  parallel_for(ceil_div(bytes, piece), [=](int64_t chunk) {
    std::memset(static_cast<char*>(data) + chunk * piece, 0,
                static_cast<size_t>(std::min(piece, bytes - chunk * piece)));
  });
}

void infer_embedding(Tensors in, const Attrs&, SmallVector<Meta, 2>& out) {
  Shape shape = in[1].shape();
  shape.push_back(in[0].shape()[1]);
  out.emplace_back(shape, in[0].dtype(), in[0].device());
}
void run_embedding(Views out, Views in, const Attrs&) {  // inputs table, ids
  check_ids("embedding", in[1], in[0].shape[0], "the table's rows are");
  copy_rows(out[0].data, in[0].data, in[1].as<int64_t>(), in[1].numel(),
            in[0].shape[1] * size_of(out[0].dtype));
}
Tensor batch_embedding(const Batch& b, Tensor* none) {
  return b.has(0) ? batch_each(b, none) : apply(b.op, b.all[0], contiguous(b.all[1]), b.attrs);
}
Saves save_ids(uint32_t, const Attrs&) { return save_input(1); }
void vjp_embedding(const Line& line, const Tensor& g, Gradients& dx);
const Op embedding_op{.name = "embedding",
                      .operands = "table, ids",
                      .formula = "table[ids]",
                      .gradient = {"zeros, with g added at the rows of ids"},
                      .numpy = "{table}[{ids}]",
                      .infer = infer_embedding,
                      .run = run_embedding,
                      .gpu = on_gpu<&GpuKernels::index, &IndexGpu::embedding>,
                      .vjp = vjp_embedding,
                      .saves = save_ids,
                      .describe = describe,
                      .bfloat16 = true,
                      .batch = batch_embedding};

void infer_embedding_vjp(Tensors in, const Attrs& attrs, SmallVector<Meta, 2>& out) {
  out.emplace_back(Shape{attrs.as<EmbeddingAttrs>().rows, in[0].shape().back()}, in[0].dtype(),
                   in[0].device());
}
void run_embedding_vjp(Views out, Views in, const Attrs& attrs) {  // inputs g, ids
  const auto [rows, padding] = attrs.as<EmbeddingAttrs>();
  const int64_t n = out[0].shape[1], *ids = in[1].as<int64_t>();
  check_ids("embedding", in[1], rows, "the table's rows are");
  // Places with equal ids together, in their order: counted, then dealt out.
  const int64_t count = in[1].numel();
  std::vector<int64_t> order(static_cast<size_t>(count)), next(static_cast<size_t>(rows) + 1);
  const auto place = [](int64_t i) { return static_cast<size_t>(i); };
  serial_for(count, chunk_elements, [&](int64_t first, int64_t end) {
    for (int64_t i = first; i < end; ++i) ++next[place(ids[i]) + 1];
  });
  std::vector<int64_t> starts;  // of each group of equal ids
  serial_for(rows, chunk_elements, [&](int64_t first, int64_t end) {
    for (int64_t row = first; row < end; ++row) {
      if (next[place(row) + 1]) starts.push_back(next[place(row)]);
      next[place(row) + 1] += next[place(row)];
    }
  });
  starts.push_back(count);
  serial_for(count, chunk_elements, [&](int64_t first, int64_t end) {
    for (int64_t i = first; i < end; ++i) order[place(next[place(ids[i])]++)] = i;
  });

  clear(out[0].data, nbytes(out[0].shape, out[0].dtype));
  constexpr int64_t width = 128;  // columns at a time
  const int64_t groups = static_cast<int64_t>(starts.size()) - 1, across = ceil_div(n, width);
  const auto add_group = [&](auto type, int64_t group, int64_t first) {
    using T = typename decltype(type)::type;
    const int64_t begin = starts[static_cast<size_t>(group)],
                  end = starts[static_cast<size_t>(group) + 1],
                  columns = std::min(width, n - first),
                  row = ids[order[static_cast<size_t>(begin)]];
    if (row == padding) return;
    double sum[width] = {};
    for (int64_t i = begin; i < end; ++i) {
      const T* g = in[0].as<T>() + order[static_cast<size_t>(i)] * n + first;
      for (int64_t c = 0; c < columns; ++c) sum[c] += static_cast<double>(g[c]);
      if (i % 4096 == 4095) poll_interrupt();
    }
    T* y = out[0].as<T>() + row * n + first;
    for (int64_t c = 0; c < columns; ++c) y[c] = static_cast<T>(sum[c]);
  };
  dispatch(out[0].dtype, [&](auto type) {
    parallel_for(groups * across,
                 [&](int64_t chunk) { add_group(type, chunk / across, chunk % across * width); });
  });
}
void vjp_embedding_vjp(const Line& line, const Tensor& g, Gradients& dx) {
  const Tensor& ids = line.input(1);
  const int64_t padding = line.attrs.as<EmbeddingAttrs>().padding;
  dx[0] = embedding(ids, g);
  if (padding >= 0) dx[0] = select(unsqueeze(ids, -1) == static_cast<double>(padding), 0.0, dx[0]);
}
const Op embedding_vjp_op{.name = "embedding_vjp",
                          .operands = "g, ids",
                          .formula = "zeros, with g added at the rows of ids",
                          .gradient = {"g[ids]"},
                          .numpy = "embedding_vjp({g}, {ids}, {rows})",
                          .infer = infer_embedding_vjp,
                          .run = run_embedding_vjp,
                          .gpu = on_gpu<&GpuKernels::index, &IndexGpu::embedding_vjp>,
                          .vjp = vjp_embedding_vjp,
                          .saves = save_ids,
                          .describe = describe,
                          .bfloat16 = true};
void vjp_embedding(const Line& line, const Tensor& g, Gradients& dx) {
  dx[0] = apply(embedding_vjp_op, contiguous(g), line.input(1), line.attrs);
}

// ---- one_hot ----

struct OneHotAttrs {
  int64_t classes;
  DType dtype;
};
void infer_one_hot(Tensors in, const Attrs& attrs, SmallVector<Meta, 2>& out) {
  Shape shape = in[0].shape();
  shape.push_back(attrs.as<OneHotAttrs>().classes);
  out.emplace_back(shape, attrs.as<OneHotAttrs>().dtype, in[0].device());
}
void run_one_hot(Views out, Views in, const Attrs& attrs) {
  const int64_t classes = attrs.as<OneHotAttrs>().classes, *ids = in[0].as<int64_t>();
  check_ids("one_hot", in[0], classes, "num_classes is");
  clear(out[0].data, nbytes(out[0].shape, out[0].dtype));
  dispatch(out[0].dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    serial_for(in[0].numel(), chunk_elements, [&](int64_t first, int64_t end) {
      for (int64_t i = first; i < end; ++i) out[0].as<T>()[i * classes + ids[i]] = T(1);
    });
  });
}
void describe_one_hot(const Attrs& attrs, NamedAttrs& named) {
  named.emplace_back("num_classes", attrs.as<OneHotAttrs>().classes);
  named.emplace_back("dtype", name(attrs.as<OneHotAttrs>().dtype));
}
const Op one_hot_op{.name = "one_hot",
                    .formula = "1 where the last axis's index equals the id, else 0",
                    .numpy = "np.equal.outer({x}, np.arange({num_classes})).astype({dtype!r})",
                    .infer = infer_one_hot,
                    .run = run_one_hot,
                    .gpu = on_gpu<&GpuKernels::index, &IndexGpu::one_hot>,
                    .no_gradient = "it is piecewise constant",
                    .describe = describe_one_hot,
                    .batch = batch_rows<>};

Tensor integers(const char* op, const Tensor& ids) {
  if (!is_integer(ids.dtype()))
    fail<DTypeError>(op, ": ids have dtype ", ids.dtype(), "; expected an integer dtype");
  return contiguous(to_dtype(ids, DType::int64));
}

}  // namespace

void add_embedding_ops(std::vector<const Op*>& ops) {
  for (const Op* op : {&embedding_op, &embedding_vjp_op, &one_hot_op}) ops.push_back(op);
}

Tensor embedding(const Tensor& ids, const Tensor& table, int64_t padding) {
  if (table.dim() != 2)
    fail<ShapeError>("embedding: the table has shape ", table.shape(),
                     "; expected 2 axes, (rows, features)");
  if (!is_floating(table.dtype()))
    fail<DTypeError>("embedding: the table has dtype ", table.dtype(),
                     "; expected float32 or float64");
  const int64_t rows = table.shape()[0];
  if (padding < -1 || padding >= rows)
    fail<IndexError>("embedding: padding_idx ", padding, " is out of range for ", rows, " rows");
  return apply(embedding_op, contiguous(table), integers("embedding", ids),
               EmbeddingAttrs{rows, padding});
}

Tensor one_hot(const Tensor& ids, int64_t classes, DType dtype) {
  if (classes < 1) fail<ValueError>("one_hot: got num_classes = ", classes, "; expected 1 or more");
  return apply(one_hot_op, integers("one_hot", ids), OneHotAttrs{classes, dtype});
}

}  // namespace wengert
