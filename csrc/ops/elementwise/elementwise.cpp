// Elementwise ops: the loop over views, and from each row an Op.
#include "ops/elementwise/elementwise.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/pool.h"
#include "ops/elementwise/gpu.h"
#include "ops/elementwise/text.h"
#include "ops/functions.h"
#include "ops/gpu.h"
#include "tensor/copy.h"
#include "tensor/loop.h"

namespace wengert {

namespace {

constexpr int64_t chunk_elements = 1 << 14;
constexpr int64_t stream_bytes = int64_t{32} << 20;  // copying gains from 4 MiB on where memory is
                                                     // the limit; a smaller result may be read soon
constexpr int64_t tile_elements = 512;  // strided operands pass through buffers of this many, in L1

template <class T> void gather(T* to, const T* from, int64_t stride, int64_t n) {
  for (int64_t i = 0; i < n; ++i) to[i] = from[i * stride];
}
template <class T> void scatter(T* to, int64_t stride, const T* from, int64_t n) {
  for (int64_t i = 0; i < n; ++i) to[i * stride] = from[i];
}

// The bfloat16 operands of a tile pass through buffers of float32, in L1: whatever the op, it
// computes in float32 and rounds its result once.
constexpr uint32_t narrow_output = 1u << 31;  // of a mask whose bit i is input i
template <int N>
void run_narrow(TileFn tile, int64_t n, char* y, const void* const* x, uint32_t scalars,
                uint32_t narrow, int64_t y_size, const int64_t* x_size, const Params& params) {
  alignas(64) float buffers[N + 1][tile_elements];
  const ElementwiseKernels& table = elementwise_table();
  for (int64_t at = 0; at < n; at += tile_elements) {
    const int64_t count = std::min(tile_elements, n - at);
    const void* in[N];
    for (int i = 0; i < N; ++i) {
      const bool scalar = scalars >> i & 1;
      in[i] = static_cast<const char*>(x[i]) + (scalar ? 0 : at * x_size[i]);
      if (!(narrow >> i & 1)) continue;
      table.widen(scalar ? 1 : count, buffers[i], &in[i], 0, params);
      in[i] = buffers[i];
    }
    char* const to = y + at * y_size;
    if (!(narrow & narrow_output)) {
      tile(count, to, in, scalars, params);
      continue;
    }
    tile(count, buffers[N], in, scalars, params);
    const void* const exact = buffers[N];
    table.round(count, to, &exact, 0, params);
  }
}

// One inner run: every operand has one stride.
template <int N> struct Run {
  TileFn kernel;
  const Params& params;
  int64_t size[N + 1];    // bytes an element, output first
  int64_t stride[N + 1];  // elements
  uint32_t narrow = 0;    // which are bfloat16
  uint32_t scalars = 0;
  bool direct = true;  // adjacent or repeated operands only

  void tile(int64_t n, void* y, const void* const* x) const {
    if (!narrow) return kernel(n, y, x, scalars, params);
    run_narrow<N>(kernel, n, static_cast<char*>(y), x, scalars, narrow, size[0], size + 1, params);
  }
  void prepare() {
    direct = stride[0] == 1;
    for (int i = 0; i < N; ++i) {
      if (stride[i + 1] == 0) scalars |= 1u << i;
      direct &= stride[i + 1] == 0 || stride[i + 1] == 1;
    }
  }
  void operator()(char* y, const char* const* x, int64_t n) const {
    const void* in[N];
    if (direct) {
      for (int i = 0; i < N; ++i) in[i] = x[i];
      return tile(n, y, in);
    }
    alignas(64) char buffers[N + 1][tile_elements * 8];
    for (int64_t at = 0; at < n; at += tile_elements) {
      const int64_t count = n - at < tile_elements ? n - at : tile_elements;
      for (int i = 0; i < N; ++i) {
        const char* from = x[i] + at * stride[i + 1] * size[i + 1];
        if (stride[i + 1] == 0 || stride[i + 1] == 1) {
          in[i] = from;
          continue;
        }
        by_size(size[i + 1], [&](auto type) {
          using T = typename decltype(type)::type;
          gather(reinterpret_cast<T*>(buffers[i + 1]), reinterpret_cast<const T*>(from),
                 stride[i + 1], count);
        });
        in[i] = buffers[i + 1];
      }
      char* to = y + at * stride[0] * size[0];
      if (stride[0] == 1) {
        tile(count, to, in);
        continue;
      }
      tile(count, buffers[0], in);
      by_size(size[0], [&](auto type) {
        using T = typename decltype(type)::type;
        scatter(reinterpret_cast<T*>(to), stride[0], reinterpret_cast<const T*>(buffers[0]), count);
      });
    }
  }
};

// Short rows that share an operand, such as a batch and its bias, are joined: the operand is
// repeated in a buffer, and many rows become one run. False if the operands' strides do not allow
// it.
template <int N> bool run_joined(Run<N> run, const Loop<N + 1>& loop, char* y, const View* in) {
  const int64_t columns = loop.inner(), rows = loop.outer(), joined = tile_elements / columns;
  if (loop.dims != 2 || joined < 8 || !run.direct || loop.stride[0][0] != columns) return false;
  alignas(64) char repeated[N][tile_elements * 8];
  bool whole[N];
  for (int i = 0; i < N; ++i) {
    const int64_t row = loop.stride[i + 1][0], column = run.stride[i + 1],
                  bytes = columns * run.size[i + 1];
    whole[i] = row == columns && column == 1;
    if (!whole[i] && row != 0) return false;
    if (row != 0 || column != 1) continue;
    std::memcpy(repeated[i], in[i].data, static_cast<size_t>(bytes));
    for (int64_t have = bytes; have < joined * bytes; have *= 2)
      std::memcpy(repeated[i] + have, repeated[i],
                  static_cast<size_t>(std::min(have, joined * bytes - have)));
  }
  const int64_t blocks = ceil_div(rows, joined), per_chunk = chunk_elements / tile_elements;
  parallel_for(ceil_div(blocks, per_chunk), [&](int64_t chunk) {
    for (int64_t b = chunk * per_chunk; b < (chunk + 1) * per_chunk && b < blocks; ++b) {
      const int64_t at = b * joined * columns, left = rows * columns - at;
      const char* x[N];
      for (int i = 0; i < N; ++i)
        x[i] = whole[i]            ? in[i].template as<char>() + at * run.size[i + 1]
               : run.stride[i + 1] ? repeated[i]
                                   : in[i].template as<char>();
      run(y + at * run.size[0], x, left < joined * columns ? left : joined * columns);
    }
  });
  return true;
}

template <int N>
void run_views(TileFn tile, const View& out, const View* in, const Params& params) {
  const int64_t total = out.numel();
  if (total == 0) return;
  Run<N> run{tile, params, {}, {}};
  run.size[0] = size_of(out.dtype);
  if (out.dtype == DType::bfloat16) run.narrow = narrow_output;
  for (int i = 0; i < N; ++i) {
    run.size[i + 1] = size_of(in[i].dtype);
    if (in[i].dtype == DType::bfloat16) run.narrow |= 1u << i;
  }
  char* const y = out.as<char>();

  // The common case: each operand is contiguous, or is one element.
  bool flat = is_contiguous(out.shape, out.strides);
  run.stride[0] = 1;
  for (int i = 0; i < N && flat; ++i) {
    const bool whole = in[i].shape == out.shape && is_contiguous(in[i].shape, in[i].strides);
    run.stride[i + 1] = whole ? 1 : 0;
    flat = whole || in[i].numel() == 1;
  }
  if (flat) {
    run.prepare();
    // A result that no cache holds goes past them, unless it overwrites what it is computed from.
    bool apart = run.scalars == 0 && !run.narrow && reinterpret_cast<uintptr_t>(y) % 64 == 0;
    for (int i = 0; i < N; ++i) apart &= in[i].data != out.data;
    if (apart && total * run.size[0] >= stream_bytes) run.scalars = stream;
    parallel_for(ceil_div(total, chunk_elements), [&](int64_t chunk) {
      const int64_t at = chunk * chunk_elements;
      const char* x[N];
      for (int i = 0; i < N; ++i)
        x[i] = in[i].template as<char>() + at * run.stride[i + 1] * run.size[i + 1];
      run(y + at * run.size[0], x, total - at < chunk_elements ? total - at : chunk_elements);
    });
    return;
  }

  Strides strides[N];
  for (int i = 0; i < N; ++i) strides[i] = broadcast_strides(in[i].shape, in[i].strides, out.shape);
  const Loop<N + 1> loop = [&] {
    const Strides* all[N + 1] = {&out.strides};
    for (int i = 0; i < N; ++i) all[i + 1] = &strides[i];
    return Loop<N + 1>(out.shape, all);
  }();
  for (int i = 0; i <= N; ++i) run.stride[i] = loop.stride[i][loop.dims - 1];
  run.prepare();
  if (run_joined<N>(run, loop, y, in)) return;
  const int64_t columns = loop.inner(), rows = loop.outer();
  const int64_t pieces = ceil_div(columns, chunk_elements);
  const int64_t per_chunk = columns >= chunk_elements ? 1 : chunk_elements / columns;
  parallel_for(ceil_div(rows * pieces, per_chunk), [&](int64_t chunk) {
    const int64_t end =
        (chunk + 1) * per_chunk < rows * pieces ? (chunk + 1) * per_chunk : rows * pieces;
    for (int64_t p = chunk * per_chunk; p < end; ++p) {
      const int64_t row = p / pieces, c = p % pieces * chunk_elements;
      const char* x[N];
      for (int i = 0; i < N; ++i)
        x[i] = in[i].template as<char>() +
               (loop.offset(i + 1, row) + c * run.stride[i + 1]) * run.size[i + 1];
      run(y + (loop.offset(0, row) + c * run.stride[0]) * run.size[0], x,
          columns - c < chunk_elements ? columns - c : chunk_elements);
    }
  });
}

}  // namespace

void run_elementwise(TileFn tile, const View& out, std::span<const View> in, const Params& params) {
  if (in.size() == 1) return run_views<1>(tile, out, in.data(), params);
  if (in.size() == 2) return run_views<2>(tile, out, in.data(), params);
  return run_views<3>(tile, out, in.data(), params);
}

// ---- Ops from rows ----

namespace {

// The kernel that run_elementwise() needs.
TileFn kernel_of(const ByDType& by, DType dtype) {
  return by[static_cast<size_t>(dtype == DType::bfloat16 ? DType::float32 : dtype)];
}
void check_takes(const Op* op, const ByDType& by, DType dtype) {
  if (!kernel_of(by, dtype))
    fail<DTypeError>(op->name, ": does not support ", dtype,
                     is_floating(dtype) ? "; it is of bools and integers: compare first, or convert"
                                        : "; convert with .to(\"int64\") or another dtype first");
}

// Run a row's kernel; `Of` picks it from a table. The dtype is the output's, or, of a test, the
// first input's.
template <class Of, bool by_input = false> void run(Views out, Views in, const Attrs& attrs) {
  const DType dtype = by_input ? in[0].dtype : out[0].dtype;
  run_elementwise(kernel_of(Of{}(elementwise_table()), dtype), out[0], in, attrs.as<Params>());
}
template <class Of, bool by_input = false> void gpu(Views out, Views in, const Attrs& attrs) {
  const DType dtype = by_input ? in[0].dtype : out[0].dtype;
  Of{}(*gpu_kernels().elementwise)[static_cast<size_t>(dtype)](out, in, attrs);
}

template <class Row> struct UnaryOp {
  static constexpr int row = index_of<Row>(UnaryRows{});
  static constexpr auto of = [](const auto& table) -> auto& { return table.unary[row]; };
  static constexpr auto of_vjp = [](const auto& table) -> auto& { return table.unary_vjp[row]; };
  static constexpr bool has_params = requires { Row::params; };

  static void describe(const Attrs& attrs, NamedAttrs& named) {
    if constexpr (has_params)
      for (size_t i = 0; i < std::size(Row::params); ++i)
        named.emplace_back(Row::params[i], i ? attrs.as<Params>().b : attrs.as<Params>().a);
  }

  static constexpr bool keeps_output = Row::saves == Keep::output;
  [[gnu::cold]] static Source write(Dialect dialect, int of) {
    const Text x("x"), g("g"), kept(keeps_output ? "y" : "x");
    if constexpr (has_params) {
      const ParamsOf<Text> p{Text(Row::params[0]), Text(*std::rbegin(Row::params))};
      return (of ? Row::vjp(g, kept, p) : Row::value(x, p)).write(dialect);
    } else {
      return (of ? Row::vjp(g, kept) : Row::value(x)).write(dialect);
    }
  }
  static Source write_vjp(Dialect dialect, int) { return write(dialect, 1); }

  static TileFn tile(DType out, DType) { return of(elementwise_table())[static_cast<size_t>(out)]; }
  static TileFn vjp_tile(DType out, DType) {
    return of_vjp(elementwise_table())[static_cast<size_t>(out)];
  }

  static void infer(Tensors in, const Attrs&, SmallVector<Meta, 2>& out) {
    check_takes(&op, of(elementwise_table()), in[0].dtype());
    out.emplace_back(in[0].shape(), in[0].dtype(), in[0].device());
  }
  static Saves saves(uint32_t, const Attrs&) {
    return Row::saves == Keep::input ? save_input(0) : Row::saves == Keep::output ? save_output : 0;
  }
  static void vjp(const Line& line, const Tensor& g, Gradients& dx) {
    const Tensor kept = Row::saves == Keep::input    ? line.input(0)
                        : Row::saves == Keep::output ? line.result()
                                                     : g;
    // One fused line; where the gradient itself must be differentiable, the same formula written
    // out in lines.
    if (may_fuse(g, kept))
      dx[0] = apply(vjp_op, g, kept, line.attrs);
    else if constexpr (has_params)
      dx[0] = Row::vjp(g, kept, line.attrs.as<Params>());
    else
      dx[0] = Row::vjp(g, kept);
  }
  static void infer_vjp(Tensors in, const Attrs&, SmallVector<Meta, 2>& out) {
    out.emplace_back(broadcast(vjp_op.name, in[0].shape(), in[1].shape()), in[0].dtype(),
                     in[0].device());
  }

  static const Op op, vjp_op;
};

// The row's name and "_vjp", joined at compile time: ops are ready before any code runs.
template <class Row>
constexpr auto vjp_name = [] {
  std::array<char, std::char_traits<char>::length(Row::name) + 5> text{};
  std::copy_n("_vjp", 4, std::copy_n(Row::name, text.size() - 5, text.begin()));
  return text;
}();

template <class Row>
const Op UnaryOp<Row>::op{.name = Row::name,
                          .formula = Row::texts[0],
                          .gradient = {Row::texts[1]},
                          .infer = infer,
                          .run = run<decltype(of)>,
                          .gpu = gpu<decltype(of)>,
                          .vjp = vjp,
                          .saves = saves,
                          .describe = has_params ? describe : nullptr,
                          .write = write,
                          .elementwise = true,
                          .tile = tile};
template <class Row>
const Op UnaryOp<Row>::vjp_op{.name = vjp_name<Row>.data(),
                              .operands = keeps_output ? "g, y" : "g, x",
                              .formula = Row::texts[1],
                              .infer = infer_vjp,
                              .run = run<decltype(of_vjp)>,
                              .gpu = gpu<decltype(of_vjp)>,
                              .no_gradient = fused_only,
                              .describe = has_params ? describe : nullptr,
                              .write = write_vjp,
                              .elementwise = true,
                              .tile = vjp_tile};

template <class Row> struct BinaryOp {
  static constexpr auto of = [](const auto& table) -> auto& {
    return table.binary[index_of<Row>(BinaryRows{})];
  };
  static TileFn tile(DType out, DType) { return of(elementwise_table())[static_cast<size_t>(out)]; }

  static void infer(Tensors in, const Attrs&, SmallVector<Meta, 2>& out) {
    check_takes(&op, of(elementwise_table()), in[0].dtype());
    out.emplace_back(broadcast(Row::name, in[0].shape(), in[1].shape()), in[0].dtype(),
                     in[0].device());
  }
  static Saves saves(uint32_t needs, const Attrs&) {
    if (Row::saves == Keep::nothing) return 0;
    if (Row::saves == Keep::input) return save_input(0) | save_input(1);
    return (needs & 1 ? save_input(1) : 0) | (needs & 2 ? save_input(0) : 0);
  }
  static void vjp(const Line& line, const Tensor& g, Gradients& dx) {
    constexpr bool both = Row::saves == Keep::input, other = Row::saves == Keep::other;
    const Tensor a = both || (other && line.needs(1)) ? line.input(0) : Tensor();
    const Tensor b = both || (other && line.needs(0)) ? line.input(1) : Tensor();
    if (line.needs(0)) dx[0] = Row::da(g, a, b);
    if (line.needs(1)) dx[1] = Row::db(g, a, b);
  }

  [[gnu::cold]] static Source write(Dialect dialect, int of) {
    const Text a("a"), b("b"), g("g");
    return (of == 0   ? Row::value(a, b)
            : of == 1 ? Row::da(g, a, b)
                      : Row::db(g, a, b))
        .write(dialect);
  }

  static const Op op;
};
template <class Row>
const Op BinaryOp<Row>::op{.name = Row::name,
                           .operands = "a, b",
                           .formula = Row::texts[0],
                           .gradient = {Row::texts[1], Row::texts[2]},
                           .infer = infer,
                           .run = run<decltype(of)>,
                           .gpu = gpu<decltype(of)>,
                           .vjp = vjp,
                           .saves = saves,
                           .write = write,
                           .elementwise = true,
                           .tile = tile};

// Comparisons and logic.
template <class Row, class Rows> struct PlainOp {
  static constexpr bool compares = std::is_same_v<Rows, TestRows>;
  static constexpr auto of = [](const auto& table) -> auto& {
    if constexpr (compares)
      return table.test[index_of<Row>(Rows{})];
    else
      return table.logic[index_of<Row>(Rows{})];
  };
  static TileFn tile(DType, DType in) { return of(elementwise_table())[static_cast<size_t>(in)]; }
  static void infer(Tensors in, const Attrs&, SmallVector<Meta, 2>& out) {
    check_takes(&op, of(elementwise_table()), in[0].dtype());
    out.emplace_back(broadcast(Row::name, in[0].shape(), in[1].shape()),
                     compares ? DType::bool_ : in[0].dtype(), in[0].device());
  }
  [[gnu::cold]] static Source write(Dialect dialect, int) {
    return Row::value(Text("a"), Text("b")).write(dialect);
  }
  static const Op op;
};
template <class Row, class Rows>
const Op PlainOp<Row, Rows>::op{.name = Row::name,
                                .operands = "a, b",
                                .infer = infer,
                                .run = run<decltype(of), compares>,
                                .gpu = gpu<decltype(of), compares>,
                                .no_gradient = "its result is piecewise constant",
                                .write = write,
                                .elementwise = true,
                                .tile = tile};

// ---- where ----

void infer_where(Tensors in, const Attrs&, SmallVector<Meta, 2>& out) {
  const Shape branches = broadcast("where", in[1].shape(), in[2].shape());
  out.emplace_back(broadcast("where", in[0].shape(), branches), in[1].dtype(), in[1].device());
}
TileFn tile_where(DType out, DType) { return elementwise_table().where[static_cast<size_t>(out)]; }
using OfWhere = decltype([](const auto& table) -> auto& { return table.where; });
Saves saves_where(uint32_t, const Attrs&) { return save_input(0); }
void vjp_where(const Line& line, const Tensor& g, Gradients& dx) {
  const Tensor& condition = line.input(0);
  if (line.needs(1)) dx[1] = select(condition, g, 0.0);
  if (line.needs(2)) dx[2] = select(condition, 0.0, g);
}
Source write_where(Dialect dialect, int) {
  return select(Text("c"), Text("a"), Text("b")).write(dialect);
}
const Op where_op{.name = "where",
                  .operands = "c, a, b",
                  .gradient = {"", "g where c, else 0", "0 where c, else g"},
                  .infer = infer_where,
                  .run = run<OfWhere>,
                  .gpu = gpu<OfWhere>,
                  .vjp = vjp_where,
                  .saves = saves_where,
                  .write = write_where,
                  .elementwise = true,
                  .tile = tile_where};

template <class Row> using TestOp = PlainOp<Row, TestRows>;
template <class Row> using LogicOp = PlainOp<Row, LogicRows>;
template <template <class> class OpOf, class... Rows> const Op& op_at(List<Rows...>, int row) {
  static constexpr const Op* ops[] = {&OpOf<Rows>::op...};
  return *ops[row];
}
template <class... Rows> void add_vjps(List<Rows...>, std::vector<const Op*>& ops) {
  (ops.push_back(&UnaryOp<Rows>::vjp_op), ...);
}

}  // namespace

const Op& unary_op_at(int row) { return op_at<UnaryOp>(UnaryRows{}, row); }
const Op& binary_op_at(int row) { return op_at<BinaryOp>(BinaryRows{}, row); }
const Op& test_op_at(int row) { return op_at<TestOp>(TestRows{}, row); }
const Op& logic_op_at(int row) { return op_at<LogicOp>(LogicRows{}, row); }

void add_elementwise_ops(std::vector<const Op*>& ops) {
  for (int i = 0; i < UnaryRows::size; ++i) ops.push_back(&unary_op_at(i));
  add_vjps(UnaryRows{}, ops);
  for (int i = 0; i < BinaryRows::size; ++i) ops.push_back(&binary_op_at(i));
  for (int i = 0; i < TestRows::size; ++i) ops.push_back(&test_op_at(i));
  for (int i = 0; i < LogicRows::size; ++i) ops.push_back(&logic_op_at(i));
  ops.push_back(&where_op);
  ops.push_back(&cast_op);
}

Tensor to_dtype(const Tensor& x, DType dtype) {
  return x.dtype() == dtype ? x : apply(cast_op, x, dtype);
}

std::pair<Tensor, Tensor> promote_both(const Tensor& a, const Tensor& b, DType at_least) {
  const DType common = promote(promote(a.dtype(), b.dtype()), at_least);
  return {to_dtype(a, common), to_dtype(b, common)};
}

const Op& op_of_bools(const Op& op) {
  const bool any = &op == &binary_op<Add>() || &op == &binary_op<Maximum>();
  const bool all = &op == &binary_op<Mul>() || &op == &binary_op<Minimum>();
  return any ? logic_op<Or>() : all ? logic_op<And>() : op;
}

Tensor binary(const Op& op, const Tensor& a, const Tensor& b, bool floating) {
  if (a.dtype() == DType::bool_ && b.dtype() == DType::bool_ && !floating)
    return apply(op_of_bools(op), a, b);
  if (a.dtype() == b.dtype() && (!floating || is_floating(a.dtype()))) return apply(op, a, b);
  const auto [x, y] = promote_both(a, b, floating ? DType::float32 : DType::bool_);
  return apply(op, x, y);
}

Tensor where(const Tensor& condition, const Tensor& a, const Tensor& b) {
  if (condition.dtype() != DType::bool_)
    fail<DTypeError>("where: the condition has dtype ", condition.dtype(),
                     "; expected bool: write a comparison, x != 0");
  const auto [x, y] = promote_both(a, b, DType::bool_);
  const Tensor in[] = {condition, x, y};
  return apply(where_op, Tensors(in));
}
void set_where(const Tensor& x, const Tensor& mask, const Tensor& value, const char* by) {
  const Tensor in[] = {mask, value, x};
  apply_in_place(x, where_op, Tensors(in), {}, by);
}

bool any_element(const Tensor& x) {
  if (x->all.defined()) return any_element(x->all);  // of any example
  const Tensor found = any(x, all_axes(x), false);
  refuse_in_trace("the check of integer operands", found);
  return *on_host(found).data<bool>();
}

Tensor scalar_like(Number value, const Tensor& x) {
  const auto v = value.as();
  const bool whole = value.is_whole() || (std::abs(v) < 0x1p62 && v == std::floor(v));
  return Tensor::scalar(value,
                        whole && x.dtype() != DType::bool_ ? x.dtype() : to_floating(x.dtype()));
}

}  // namespace wengert
