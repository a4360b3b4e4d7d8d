// Recurrent layers: each time of n sequences of one length, whose states a cell makes of the states
// before (cells.h). What does not wait for the time before is left to others: the products of the
// input are one matmul before, the gradient of the weight is one after.
//
// x (T, n, gates * h) holds the input's products with all biases, w (gates * h, h), and each state
// (n, h) the start; y (T, n, h), of two states (2, T, n, h). Time runs backwards if `reverse`.
// Sequences that end one before another, and projections, take lines of each time
// (python/wengert/nn/recurrent.py).
#include "ops/recurrent/recurrent.h"

#include <algorithm>

#include "base/pool.h"
#include "graph/batch.h"
#include "ops/functions.h"
#include "ops/gpu.h"
#include "ops/matmul/gpu.h"
#include "ops/matmul/ready.h"
#include "ops/recurrent/gpu.h"
#include "tensor/copy.h"

namespace wengert {

namespace {

constexpr int64_t chunk_elements = 1 << 10;  // of states, that threads share
constexpr int64_t together = 16;             // sequences that a thread takes through all times, ...
constexpr int64_t near_elements = 1 << 18;   // ... if b has at most this many: it stays in L2
constexpr int64_t few = 3;                   // sequences for which b is read in place

struct RecurrentAttrs {
  bool reverse;
  MatmulPrecision precision;
};
struct Sizes {
  Sizes(const View& x, const View& w)
      : times(x.shape[0]), rows(x.shape[1]), width(w.shape[1]), state(rows * width) {}
  int64_t times, rows, width, state;
};
View transposed(View x) {
  std::swap(x.shape[0], x.shape[1]);
  std::swap(x.strides[0], x.strides[1]);
  return x;
}
template <class C, class... All> constexpr int number_of(CellList<All...>) {
  int n = 0, found = 0;
  ((std::is_same_v<C, All> ? void(found = n) : void(), ++n), ...);
  return found;
}
template <class C, class T, class Table> const auto& kernel_of(const Table& table) {
  if constexpr (std::is_same_v<T, float>)
    return table.f32[number_of<C>(Cells{})];
  else
    return table.f64[number_of<C>(Cells{})];
}

// What one time after another asks for: c = a @ b for one b, and the cell's kernels.
template <class C, class T> class OnCpu {
 public:
  // b is put into the order of matmul's kernel once.
  OnCpu(const View& b, const Sizes& s, MatmulPrecision)
      : s_(s),
        gemm_{.m = s.rows,
              .n = b.shape[1],
              .k = b.shape[0],
              .a = nullptr,
              .a_row = b.shape[0],
              .a_col = 1,
              .b = b.data,
              .b_row = b.strides[0],
              .b_col = b.strides[1],
              .c = nullptr,
              .c_row = b.shape[1]} {
    if (s.times < 2) return;
    if (const int64_t bytes = packed_bytes(b.dtype, gemm_); bytes > 0 && s.rows > few) {
      room_ = Tensor(Shape{bytes}, DType::uint8);
      pack(b.dtype, gemm_, room_.data());
      gemm_.packed = room_.data();
    } else if (gemm_.b_col != 1) {
      room_ = Tensor(b.shape, b.dtype);
      copy_into(room_.view(), b);
      gemm_.b = room_.data(), gemm_.b_row = gemm_.n, gemm_.b_col = 1;
    }
  }
  // f(times, first, end) for parts of the sequences
  template <class F> void each_part(const F& f) const {
    const int64_t parts = gemm_.n * gemm_.k > near_elements ? 1 : ceil_div(s_.rows, together);
    parallel_for(parts, [&](int64_t part) {
      const auto each_time = [&](const auto& step) {
        serial_for(s_.times, 1, [&](int64_t t, int64_t) { step(t); });
      };
      f(each_time, part * s_.rows / parts, (part + 1) * s_.rows / parts);
    });
  }
  void multiply(const T* a, T* c, int64_t first, int64_t end) const {
    Gemm gemm = gemm_;
    gemm.m = end - first, gemm.a = a + first * gemm.k, gemm.c = c + first * gemm.n;
    static const GemmKernel kernel = gemm_kernel(dtype_of<T>());
    kernel(gemm);
  }
  template <class Rows> void cell(const Rows& rows, int64_t from, int64_t to) const {
    static const RecurrentKernels& table = WENGERT_PICK_KERNELS(recurrent_kernels);
    const int64_t each = std::max<int64_t>(1, chunk_elements / s_.width);
    parallel_for(ceil_div(to - from, each), [&](int64_t chunk) {
      const int64_t first = from + chunk * each, end = std::min(to, first + each);
      if constexpr (std::is_same_v<Rows, CellRows<T>>)
        kernel_of<C, T>(table).next(rows, first, end);
      else
        kernel_of<C, T>(table).back(rows, first, end);
    });
  }

 private:
  const Sizes& s_;
  Gemm gemm_;
  Tensor room_;
};

template <class C, class T> class OnGpu {
 public:
  OnGpu(const View& b, const Sizes& s, MatmulPrecision precision)
      : s_(s), b_(b), attrs_(MatmulGpuAttrs{precision}) {}
  template <class F> void each_part(const F& f) const {
    const auto each_time = [&](const auto& step) {
      for (int64_t t = 0; t < s_.times; ++t) step(t);
    };
    f(each_time, 0, s_.rows);
  }
  void multiply(const T* a, T* c, int64_t, int64_t) const {
    const auto rows = [&](const T* data, int64_t n) {
      const Shape shape{s_.rows, n};
      return View{const_cast<T*>(data), shape, contiguous_strides(shape), b_.dtype, b_.device};
    };
    const View out = rows(c, b_.shape[1]), in[] = {rows(a, b_.shape[0]), b_};
    gpu_kernels().matmul->matmul(Views(&out, 1), Views(in), attrs_);
  }
  template <class Rows> void cell(const Rows& rows, int64_t, int64_t) const {
    const auto& kernel = kernel_of<C, T>(*gpu_kernels().recurrent);
    if constexpr (std::is_same_v<Rows, CellRows<T>>)
      kernel.next(b_.device, rows, s_.rows);
    else
      kernel.back(b_.device, rows, s_.rows);
  }

 private:
  const Sizes& s_;
  const View& b_;
  Attrs attrs_;
};

// ---- forward: y, and what each time keeps ----

template <class C> void infer(Tensors in, const Attrs&, SmallVector<Meta, 2>& out) {
  const Shape &x = in[0].shape(), &w = in[1].shape();
  const int64_t h = w.back();
  bool fits = x.size() == 3 && x[0] > 0 && w.size() == 2 && w[0] == C::gates * h && x[2] == w[0];
  for (int i = 0; fits && i < C::states; ++i) fits = in[2 + i].shape() == Shape{x[1], h};
  if (fits && C::biased) fits = in[2 + C::states].shape() == Shape{h};
  if (!fits)
    fail<ShapeError>(C::name, ": x has shape ", x, ", w ", w, " and h ", in[2].shape(),
                     "; expected (T, n, ", C::gates, " * h), (", C::gates,
                     " * h, h), (n, h) for each state, and (h,) for a bias");
  for (const Tensor& t : in)
    if (!is_floating(t.dtype()) || t.dtype() != in[0].dtype())
      fail<DTypeError>(C::name, ": got ", in[0].dtype(), " and ", t.dtype(),
                       "; expected one floating dtype");
  Shape y{x[0], x[1], h};
  if (C::states > 1) y.insert(0, C::states);
  out.emplace_back(y, in[0].dtype(), in[0].device());
  out.emplace_back(Shape{x[0], x[1], C::keeps * h}, in[0].dtype(), in[0].device());
}

template <class C, template <class, class> class Machine>
void run(Views out, Views in, const Attrs& attrs) {
  const Sizes s(in[0], in[1]);
  if (s.state == 0) return;
  const auto [reverse, precision] = attrs.as<RecurrentAttrs>();
  const View b = transposed(in[1]), &last = in.back();
  of_floats(in[0].dtype, [&, reverse = reverse, precision = precision](auto type) {
    using T = decltype(type);
    Machine<C, T> machine(b, s, precision);
    const Tensor products({Shape{C::gates * s.state}, b.dtype, b.device});
    machine.each_part([&](const auto& each_time, int64_t first, int64_t end) {
      CellRows<T> r{};
      r.width = s.width, r.products = products.data<T>();
      r.bias = last.as<T>();  // of a cell that has one
      for (int j = 0; j < C::states; ++j) r.state[j] = in[2 + j].as<T>();
      each_time([&](int64_t step) {
        const int64_t t = reverse ? s.times - 1 - step : step;
        r.x = in[0].as<T>() + t * C::gates * s.state;
        r.kept = out[1].as<T>() + t * C::keeps * s.state;
        for (int j = 0; j < C::states; ++j) {
          r.before[j] = r.state[j];
          r.state[j] = out[0].as<T>() + (j * s.times + t) * s.state;
        }
        machine.multiply(r.before[0], products.data<T>(), first, end);
        machine.cell(r, first, end);
      });
    });
  });
}

double terms(const Shape& x, int64_t h) { return static_cast<double>(numel(x)) * (2.0 * h + 8); }
template <class C> Cost cost(Tensors in, const Tensor& out, const Attrs&) {
  Cost c = default_cost(in, out);
  c.flops = terms(in[0].shape(), out.shape().back());
  return c;
}
void describe(const Attrs& attrs, NamedAttrs& named) {
  named.emplace_back("reverse", attrs.as<RecurrentAttrs>().reverse);
}

// ---- backward: `made` for each time, and the gradients of the first states ----

// The product's share of the gradient of the first state stands apart if the cell carries another.
template <class C> constexpr int product_at = C::carries(0) ? C::states : 0;

// g, kept, y, w, and the states
template <class C> void infer_vjp(Tensors in, const Attrs&, SmallVector<Meta, 2>& out) {
  const Shape &kept = in[1].shape(), &h = in[4].shape();
  const Device at = in[0].device();
  out.emplace_back(Shape{kept[0], kept[1], C::makes * h[1]}, in[0].dtype(), at);
  out.emplace_back(Shape{std::max(C::states, product_at<C> + 1), h[0], h[1]}, in[0].dtype(), at);
}

template <class C, template <class, class> class Machine>
void run_vjp(Views out, Views in, const Attrs& attrs) {
  const Sizes s(in[1], in[3]);
  if (s.state == 0) return;
  const auto [reverse, precision] = attrs.as<RecurrentAttrs>();
  constexpr bool apart = C::makes != C::gates;
  of_floats(in[0].dtype, [&, reverse = reverse, precision = precision](auto type) {
    using T = decltype(type);
    Machine<C, T> machine(in[3], s, precision);
    const Tensor room({Shape{(apart ? C::gates : 0) * s.state}, in[0].dtype, in[0].device});
    T *const starts = out[1].as<T>(), *const product = starts + product_at<C> * s.state;
    machine.each_part([&](const auto& each_time, int64_t first, int64_t end) {
      CellGradient<T> r{};
      r.width = s.width, r.product = product, r.back = room.data<T>();
      for (int j = 0; j < C::states; ++j) r.carry[j] = starts + j * s.state;
      each_time([&](int64_t step) {
        const int64_t t = reverse ? step : s.times - 1 - step, before = reverse ? t + 1 : t - 1;
        r.last = step == 0;
        r.kept = in[1].as<T>() + t * C::keeps * s.state;
        r.made = out[0].as<T>() + t * C::makes * s.state;
        for (int j = 0; j < C::states; ++j) {
          const T* const y = in[2].as<T>() + j * s.times * s.state;
          r.g[j] = in[0].as<T>() + (j * s.times + t) * s.state;
          r.state[j] = y + t * s.state;
          r.before[j] = step + 1 < s.times ? y + before * s.state : in[4 + j].as<T>();
        }
        machine.cell(r, first, end);
        machine.multiply(apart ? r.back : r.made, product, first, end);
      });
    });
  });
}
template <class C> Cost cost_vjp(Tensors in, const Tensor& out, const Attrs&) {
  Cost c = default_cost(in, out);
  c.flops = terms(out.shape(), in[4].shape()[1]);
  return c;
}

// The sequences of all examples side by side, where they share the weight (and the bias).
template <int weight, int bias> Tensor batch(const Batch& b, Tensor* auxiliary) {
  if (b.has(weight) || (bias > 0 && b.has(bias))) return batch_each(b, auxiliary);
  SmallVector<Tensor, 8> in;
  for (size_t i = 0; i < b.all.size(); ++i) {
    if (i == weight || (bias > 0 && i == bias)) {
      in.emplace_back(b.all[i]);
      continue;
    }
    const int axis = b.one[i].dim() - 2;
    const Tensor x = b.whole(i);
    Dims order;
    for (int d = 1; d <= axis; ++d) order.push_back(d);
    for (int d : {0, axis + 1, axis + 2}) order.push_back(d);
    Shape shape = b.one[i].shape();
    shape[axis] *= b.size;
    in.emplace_back(contiguous(reshape(permute(x, order), shape)));
  }
  const auto unfolded = [&](const Tensor& y) {
    Shape shape = y.shape();
    const int axis = y.dim() - 2;
    shape[axis] /= b.size;
    shape.insert(axis, b.size);
    Dims order{axis};
    for (int d = 0; d < shape.size(); ++d)
      if (d != axis) order.push_back(d);
    return contiguous(permute(reshape(y, shape), order));
  };
  const Tensor y = apply(b.op, Tensors(in.begin(), in.size()), b.attrs, auxiliary);
  if (auxiliary) *auxiliary = unfolded(*auxiliary);
  return unfolded(y);
}

template <class C>
const Op vjp_op{.name = C::vjp_name,
                .operands = "g, kept, y, w, h, c",
                .formula = "gradients of the products of each time, from the last to the first",
                .numpy = C::vjp_numpy,
                .infer = infer_vjp<C>,
                .run = run_vjp<C, OnCpu>,
                .gpu = run_vjp<C, OnGpu>,
                .no_gradient = fused_only,
                .cost = cost_vjp<C>,
                .describe = describe,
                .batch = batch<3, 0>};

Saves saves(uint32_t, const Attrs&) { return 0xf | save_output | save_auxiliary; }

// ---- the gradients ----

Tensor state_of(const Tensor& y, int j) { return y.dim() == 4 ? pick(y, 0, j) : y; }
// What a state was before each time.
Tensor before(const Tensor& start, const Tensor& y, bool reverse) {
  const Tensor first = unsqueeze(start, 0), rest = slice(y, 0, reverse, 1, y.shape()[0] - 1);
  const Tensor parts[] = {reverse ? rest : first, reverse ? first : rest};
  return concatenate(Tensors(parts), 0);
}
Tensor part(const Tensor& x, int64_t h, int first, int count) {
  return slice(x, x.dim() - 1, first * h, 1, count * h);
}
Tensor flat_rows(const Tensor& x) { return reshape(x, Shape{-1, x.shape().back()}); }

// As run_vjp, in ops.
template <class C>
Tensor gradients(const Line& line, const Tensor& g, const Tensor (&start)[2],
                 const Tensor (&states)[2], Tensor& first) {
  const bool reverse = line.attrs.as<RecurrentAttrs>().reverse;
  const Tensor &x = line.input(0), &w = line.input(1);
  const int64_t times = x.shape()[0], h = w.shape()[1];
  Tensor in[C::gates], p[C::gates], kept[C::keeps], again[C::states], earlier[C::states];
  for (int j = 0; j < C::states; ++j) earlier[j] = before(start[j], states[j], reverse);
  const Tensor product = reshape(matmul(flat_rows(earlier[0]), transpose(w, 0, 1)), x.shape());
  for (int j = 0; j < C::gates; ++j) in[j] = part(x, h, j, 1), p[j] = part(product, h, j, 1);
  C::template next<Tensor>(in, p, C::biased ? line.input(2 + C::states) : x, earlier, kept, again);
  std::vector<Tensor> rows(times);
  Tensor carry[C::states], back;
  for (int64_t step = 0; step < times; ++step) {
    const int64_t t = reverse ? step : times - 1 - step;
    const auto at = [&](const Tensor& all) { return pick(all, 0, t); };
    Tensor keep[C::keeps], now[C::states], was[C::states], d[C::states], made[C::makes];
    for (int j = 0; j < C::keeps; ++j) keep[j] = at(kept[j]);
    for (int j = 0; j < C::states; ++j) {
      now[j] = at(states[j]), was[j] = at(earlier[j]), d[j] = at(state_of(g, j));
      if (step > 0 && j == 0) d[j] = d[j] + back;
      if (step > 0 && C::carries(j)) d[j] = d[j] + carry[j];
    }
    C::template back<Tensor>(keep, now, was, d, made, carry);
    Tensor of_products[C::gates];
    for (int j = 0; j < C::gates; ++j) of_products[j] = made[C::of_products(j)];
    back = matmul(concatenate(Tensors(of_products), 1), w);
    rows[t] = unsqueeze(concatenate(Tensors(made), 1), 0);
  }
  Tensor firsts[C::states];
  for (int j = 0; j < C::states; ++j)
    firsts[j] = unsqueeze(j > 0 ? carry[j] : C::carries(0) ? carry[0] + back : back, 0);
  first = concatenate(Tensors(firsts), 0);
  return concatenate(Tensors(rows), 0);
}

template <class C> void vjp(const Line& line, const Tensor& g, Gradients& dx) {
  const bool reverse = line.attrs.as<RecurrentAttrs>().reverse;
  const int64_t h = line.input(1).shape()[1];
  Tensor start[2], states[2], first;
  bool fuse = may_fuse(g, line.input(0)) && may_fuse(g, line.input(1));
  for (int j = 0; j < C::states; ++j) {
    start[j] = line.input(2 + j);
    states[j] = state_of(line.result(), j);
    fuse = fuse && may_fuse(g, start[j]);
  }
  if (C::biased) fuse = fuse && may_fuse(g, line.input(2 + C::states));
  Tensor made;
  if (fuse) {
    const Tensor in[] = {contiguous(g), line.auxiliary(), line.result(),
                         line.input(1), start[0],         start[1]};
    made = apply(vjp_op<C>, Tensors(in, 4 + C::states), line.attrs, &first);
  } else {
    made = gradients<C>(line, g, start, states, first);
  }
  if (line.needs(0)) dx[0] = C::makes == C::gates ? made : part(made, h, 0, C::gates);
  if (line.needs(1)) {
    const Tensor earlier = flat_rows(before(start[0], states[0], reverse));
    const auto product = [&](int from, int count) {
      return matmul(transpose(flat_rows(part(made, h, from, count)), 0, 1), earlier);
    };
    if (C::makes == C::gates) {
      dx[1] = product(0, C::gates);
    } else {
      const Tensor parts[] = {product(0, C::gates - 1), product(C::gates, 1)};
      dx[1] = concatenate(Tensors(parts), 0);
    }
  }
  for (int j = 0; j < C::states; ++j)
    if (line.needs(2 + j)) dx[2 + j] = pick(first, 0, j);
  if (fuse && C::carries(0) && line.needs(2)) dx[2] = dx[2] + pick(first, 0, product_at<C>);
  if (C::biased && line.needs(2 + C::states))
    dx[2 + C::states] = sum(part(made, h, C::makes - 1, 1), 3, false);
}

template <class C> Op make_op() {
  Op op{.name = C::name,
        .operands = C::operands,
        .formula = C::formula,
        .numpy = C::numpy,
        .infer = infer<C>,
        .run = run<C, OnCpu>,
        .gpu = run<C, OnGpu>,
        .vjp = vjp<C>,
        .saves = saves,
        .cost = cost<C>,
        .describe = describe,
        .batch = batch < 1,
        C::biased ? 2 + C::states : 0 > };
  std::copy(std::begin(C::gradient), std::end(C::gradient), op.gradient);
  return op;
}
template <class C> const Op recurrent_op = make_op<C>();

template <class... C> std::vector<const Op*> ops_of(CellList<C...>) {
  return {&recurrent_op<C>..., &vjp_op<C>...};
}

}  // namespace

void add_recurrent_ops(std::vector<const Op*>& ops) {
  for (const Op* op : ops_of(Cells{})) ops.push_back(op);
}

Tensor recurrent(const std::string& cell, Tensors given, bool reverse) {
  std::vector<Tensor> in;
  for (const Tensor& x : given) in.push_back(contiguous(x));
  for (const Op* op : ops_of(Cells{}))
    if (op->name == cell)
      return apply(*op, Tensors(in), RecurrentAttrs{reverse, matmul_precision()});
  fail<ValueError>("recurrent: there is no cell '", cell, "'");
}

}  // namespace wengert
