// attention: y = softmax(scale * q @ transpose(k) + mask) @ v, for each sample and head, without
// the whole matrix of scores: a block of queries meets one block of keys after another (Milakov and
// Gimelshein 2018, arXiv 1805.02867; Dao et al. 2022, arXiv 2205.14135). The backward pass computes
// each block of weights again, from the logarithm of each row's sum.
//
// The op takes q (B, Tq, H, D), k (B, Tk, H, D), v (B, Tk, H, E), any strides, and gives (B, Tq, H,
// E): heads beside features, as projections make and take them, so that nothing is copied. The
// mask, if any, is (B, H, Tq, Tk), bool (true: looked at) or added. A query that may look at no key
// gets zeros. `attention_weights` is the plain twin, in ops: it serves second gradients, masks that
// are trained, dropout, and the tests.
#include "ops/attention/attention.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/pool.h"
#include "base/scratch.h"
#include "graph/batch.h"
#include "ops/attention/gpu.h"
#include "ops/functions.h"
#include "ops/gpu.h"
#include "ops/matmul/matmul.h"

namespace wengert {

namespace {

template <class T> struct Kernels {
  const AttentionKernel<T>& rows;
  void (*gemm)(const Gemm&);
};
template <class Body> void with_kernels(DType dtype, const Body& body) {
  static const AttentionKernels& rows = WENGERT_PICK_KERNELS(attention_kernels);
  static const MatmulKernels& products = WENGERT_PICK_KERNELS(matmul_kernels);
  if (dtype == DType::float32)
    body(Kernels<float>{rows.f32, products.f32});
  else
    body(Kernels<double>{rows.f64, products.f64});
}

// One head of one sample: a matrix with its strides.
template <class T> struct Matrix {
  T* data;
  int64_t row, col;
  Matrix from(int64_t r) const { return {data + r * row, row, col}; }
  Matrix t() const { return {data, col, row}; }
};
template <class T> Matrix<T> head(const View& x, int64_t sample, int64_t h) {
  return {x.as<T>() + sample * x.strides[0] + h * x.strides[2], x.strides[1], x.strides[3]};
}
// c[m, n] = a[m, k] @ b[k, n]
template <class T>
void product(const Kernels<T>& kernels, int64_t m, int64_t n, int64_t k, const Matrix<T>& a,
             const Matrix<T>& b, T* c, int64_t c_row) {
  kernels.gemm(Gemm{.m = m,
                    .n = n,
                    .k = k,
                    .a = a.data,
                    .a_row = a.row,
                    .a_col = a.col,
                    .b = b.data,
                    .b_row = b.row,
                    .b_col = b.col,
                    .c = c,
                    .c_row = c_row});
}

// The same for weights a. A weight of 0 takes nothing from a row of b, even one that holds NaN or
// infinities: those would spoil all of c, so its first row tells whether there are any. `spare` has
// room for b.
template <class T>
void weighted(const Kernels<T>& kernels, int64_t m, int64_t n, int64_t k, const Matrix<T>& a,
              const Matrix<T>& b, T* c, int64_t c_row, T* spare) {
  product(kernels, m, n, k, a, b, c, c_row);
  const auto finite = [](T x) { return std::isfinite(x); };
  if (std::all_of(c, c + n, finite)) return;
  bool odd[std::max(query_block, key_block)] = {};
  for (int64_t r = 0; r < k; ++r) {
    for (int64_t j = 0; j < n; ++j) odd[r] |= !finite(b.data[r * b.row + j * b.col]);
    for (int64_t j = 0; j < n; ++j)
      spare[r * n + j] = odd[r] ? T(0) : b.data[r * b.row + j * b.col];
  }
  product(kernels, m, n, k, a, {spare, n, 1}, c, c_row);
  for (int64_t r = 0; r < k; ++r)
    for (int64_t i = 0; i < m && odd[r]; ++i)
      if (const T w = a.data[i * a.row + r * a.col]; w != 0)
        for (int64_t j = 0; j < n; ++j) c[i * c_row + j] += w * b.data[r * b.row + j * b.col];
}

struct Sizes {
  int64_t samples, heads, queries, keys, depth, width;  // depth of q and k, width of v
  Sizes(const View& q, const View& k, const View& v)
      : samples(q.shape[0]),
        heads(q.shape[2]),
        queries(q.shape[1]),
        keys(k.shape[1]),
        depth(q.shape[3]),
        width(v.shape[3]) {}
};
// The part of the mask that a block of scores needs.
ScoreMask mask_at(const View* mask, bool causal, int64_t sample, int64_t head, int64_t query,
                  int64_t key) {
  ScoreMask part;
  part.causal = causal;
  part.first = query - key;
  if (!mask) return part;
  const Strides& s = mask->strides;
  part.additive = is_floating(mask->dtype);
  part.row = s[2], part.col = s[3];
  part.data = mask->as<char>() +
              (sample * s[0] + head * s[1] + query * s[2] + key * s[3]) * size_of(mask->dtype);
  return part;
}
// The keys that the queries up to `end` may look at.
int64_t keys_seen(const Sizes& n, bool causal, int64_t end) {
  return causal ? std::min(n.keys, end) : n.keys;
}
template <class T> T* room(int64_t elements) {
  void* const data = scratch(Scratch::outer, sizeof(T) * static_cast<size_t>(elements));
  if (!data) scratch_failed("scaled_dot_product_attention");
  return static_cast<T*>(data);
}

// ---- forward: outputs y and lse (B, H, Tq), the logarithm of each row's sum ----

void infer(Tensors in, const Attrs&, SmallVector<Meta, 2>& out) {
  const Shape &q = in[0].shape(), &v = in[2].shape();
  out.emplace_back(Shape{q[0], q[1], q[2], v[3]}, in[0].dtype(), in[0].device());
  out.emplace_back(Shape{q[0], q[2], q[1]}, in[0].dtype(), in[0].device());
}

template <class T>
void attend(const Kernels<T>& kernels, const Sizes& n, Views out, Views in,
            const AttentionAttrs& attrs, int64_t sample, int64_t h, int64_t first) {
  const int64_t rows = std::min(query_block, n.queries - first);
  const Matrix<T> q = head<T>(in[0], sample, h).from(first), k = head<T>(in[1], sample, h),
                  v = head<T>(in[2], sample, h), y = head<T>(out[0], sample, h).from(first);
  T* const s =
      room<T>(query_block * (key_block + n.width + 2) + 2 * query_block + key_block * n.width);
  T *const more = s + query_block * key_block, *const m = more + query_block * n.width,
           *const factor = m + query_block, *const spare = factor + query_block;
  double l[query_block] = {};
  std::fill_n(m, rows, -std::numeric_limits<T>::infinity());
  const int64_t end = keys_seen(n, attrs.causal, first + rows);
  for (int64_t key = 0; key < end; key += key_block) {
    poll_interrupt();
    const int64_t cols = std::min(key_block, end - key);
    product(kernels, rows, cols, n.depth, q, k.from(key).t(), s, cols);
    kernels.rows.exponentials(
        rows, cols, s, cols, attrs.scale,
        mask_at(in.size() > 3 ? &in[3] : nullptr, attrs.causal, sample, h, first, key), m, l,
        factor);
    const bool fresh = key == 0;
    weighted(kernels, rows, n.width, cols, {s, cols, 1}, v.from(key), fresh ? y.data : more,
             fresh ? y.row : n.width, spare);
    if (!fresh) kernels.rows.rescale_add(rows, n.width, y.data, y.row, factor, more);
  }
  kernels.rows.finish(rows, n.width, y.data, y.row, m, l,
                      out[1].as<T>() + (sample * n.heads + h) * n.queries + first, 1);
}

void run(Views out, Views in, const Attrs& attrs) {
  const Sizes n(in[0], in[1], in[2]);
  const int64_t blocks = ceil_div(n.queries, query_block);
  with_kernels(out[0].dtype, [&](const auto& kernels) {
    parallel_for(n.samples * n.heads * blocks, [&](int64_t chunk) {
      const int64_t matrix = chunk / blocks;
      attend(kernels, n, out, in, attrs.as<AttentionAttrs>(), matrix / n.heads, matrix % n.heads,
             chunk % blocks * query_block);
    });
  });
}

double pairs(Tensors in) {
  const Shape &q = in[0].shape(), &k = in[1].shape();
  return static_cast<double>(q[0] * q[2]) * static_cast<double>(q[1]) * static_cast<double>(k[1]);
}
Cost cost(Tensors in, const Tensor& out, const Attrs&) {
  Cost c = default_cost(in, out);
  const auto d = static_cast<double>(in[0].shape()[3]), e = static_cast<double>(in[2].shape()[3]);
  c.flops = pairs(in) * (2 * d + 2 * e + 5);
  return c;
}
void describe(const Attrs& attrs, NamedAttrs& named) {
  const auto [scale, causal] = attrs.as<AttentionAttrs>();
  named.emplace_back("scale", scale);
  named.emplace_back("is_causal", causal);
}
Saves saves(uint32_t, const Attrs&) {
  return save_input(0) | save_input(1) | save_input(2) | save_input(3) | save_output |
         save_auxiliary;
}

// ---- backward: dq, dk and dv one after another in one output, each (B, T, H, ...) ----

void infer_vjp(Tensors in, const Attrs&, SmallVector<Meta, 2>& out) {  // q, k, v, g, y, lse, mask
  out.emplace_back(Shape{in[0].numel() + in[1].numel() + in[2].numel()}, in[0].dtype(),
                   in[0].device());
}
// A contiguous (B, T, H, ...) at `data`, shaped like x.
View laid_out(const View& x, void* data) {
  return {data, x.shape, contiguous_strides(x.shape), x.dtype, x.device};
}

template <class T>
void attend_vjp(const Kernels<T>& kernels, const Sizes& n, Views in, const AttentionAttrs& attrs,
                int64_t sample, int64_t h, const std::array<View, 3>& grads) {
  const Matrix<T> q = head<T>(in[0], sample, h), k = head<T>(in[1], sample, h),
                  v = head<T>(in[2], sample, h), g = head<T>(in[3], sample, h),
                  y = head<T>(in[4], sample, h), dq = head<T>(grads[0], sample, h),
                  dk = head<T>(grads[1], sample, h), dv = head<T>(grads[2], sample, h);
  const T* const lse = in[5].as<T>() + (sample * n.heads + h) * n.queries;
  const int64_t widest = std::max(n.depth, n.width);
  T* const p =
      room<T>(2 * query_block * key_block + 2 * key_block * widest + query_block + key_block);
  T *const dp = p + query_block * key_block, *const more = dp + query_block * key_block,
           *const delta = more + key_block * widest, *const ones = delta + query_block,
           *const spare = ones + key_block;
  std::fill_n(ones, key_block, T(1));
  // to (+)= a @ b
  const auto gather = [&](bool fresh, const Matrix<T>& to, int64_t rows, int64_t cols,
                          int64_t terms, const Matrix<T>& a, const Matrix<T>& b) {
    weighted(kernels, rows, cols, terms, a, b, fresh ? to.data : more, fresh ? to.row : cols,
             spare);
    if (!fresh) kernels.rows.rescale_add(rows, cols, to.data, to.row, ones, more);
  };
  const auto clear = [](const Matrix<T>& to, int64_t rows, int64_t cols) {
    for (int64_t r = 0; r < rows; ++r) std::fill_n(to.data + r * to.row, cols, T(0));
  };
  if (n.keys == 0) clear(dq, n.queries, n.depth);
  for (int64_t key = 0; key < n.keys; key += key_block) {
    const int64_t cols = std::min(key_block, n.keys - key);
    const int64_t start = attrs.causal ? key / query_block * query_block : 0;
    if (start >= n.queries) {
      clear(dk.from(key), cols, n.depth);
      clear(dv.from(key), cols, n.width);
    }
    for (int64_t i = start; i < n.queries; i += query_block) {
      poll_interrupt();
      const int64_t rows = std::min(query_block, n.queries - i);
      product(kernels, rows, cols, n.depth, q.from(i), k.from(key).t(), p, cols);
      kernels.rows.weights(
          rows, cols, p, cols, attrs.scale,
          mask_at(in.size() > 6 ? &in[6] : nullptr, attrs.causal, sample, h, i, key), lse + i, 1);
      gather(i == start, dv.from(key), cols, n.width, rows, {p, 1, cols}, g.from(i));
      product(kernels, rows, cols, n.width, g.from(i), v.from(key).t(), dp, cols);
      kernels.rows.dots(rows, n.width, g.from(i).data, g.row, y.from(i).data, y.row, delta);
      kernels.rows.scores_vjp(rows, cols, dp, p, delta, attrs.scale);
      gather(key == 0, dq.from(i), rows, n.depth, cols, {dp, cols, 1}, k.from(key));
      gather(i == start, dk.from(key), cols, n.depth, rows, {dp, 1, cols}, q.from(i));
    }
  }
}

std::array<View, 3> parts_of(const View& out, Views in) {
  char* const data = out.as<char>();
  const int64_t size = size_of(out.dtype), q = in[0].numel() * size, k = in[1].numel() * size;
  return {laid_out(in[0], data), laid_out(in[1], data + q), laid_out(in[2], data + q + k)};
}
void vjp_with_gpu(Views out, Views in, const Attrs& attrs) {
  gpu_kernels().attention->backward(Views(parts_of(out[0], in)), in, attrs);
}
void run_vjp(Views out, Views in, const Attrs& attrs) {
  const Sizes n(in[0], in[1], in[2]);
  const std::array<View, 3> grads = parts_of(out[0], in);
  with_kernels(out[0].dtype, [&](const auto& kernels) {
    parallel_for(n.samples * n.heads, [&](int64_t chunk) {
      attend_vjp(kernels, n, in, attrs.as<AttentionAttrs>(), chunk / n.heads, chunk % n.heads,
                 grads);
    });
  });
}
Cost cost_vjp(Tensors in, const Tensor& out, const Attrs&) {
  Cost c = default_cost(in, out);
  const auto d = static_cast<double>(in[0].shape()[3]), e = static_cast<double>(in[2].shape()[3]);
  c.flops = pairs(in) * (6 * d + 4 * e + 8);
  return c;
}
const Op vjp_op{
    .name = "attention_vjp",
    .operands = "q, k, v, g, y, lse, mask",
    .formula = "dq, dk and dv of attention, p = exp(scale * q @ transpose(k) + mask - lse)",
    .numpy = "attention_vjp({scale}, {is_causal}, {all})",
    .infer = infer_vjp,
    .run = run_vjp,
    .gpu = vjp_with_gpu,
    .no_gradient = fused_only,
    .cost = cost_vjp,
    .describe = describe};

Tensor heads_first(const Tensor& x) { return permute(x, Dims{0, 2, 1, 3}); }  // and back
// The weights (B, H, Tq, Tk) of q, k (B, H, T, D), in ops.
Tensor weights_of(const Tensor& q, const Tensor& k, const Tensor& mask,
                  const AttentionAttrs& attrs) {
  Tensor s = matmul(q, transpose(k, -2, -1)) * attrs.scale;
  const double lowest = -std::numeric_limits<double>::infinity();
  if (mask.defined())
    s = mask.dtype() == DType::bool_ ? select(mask, s, lowest)
                                     : select(mask == lowest, lowest, s + mask);
  if (attrs.causal) {
    const Tensor i = arange(0, 1, s.shape()[s.dim() - 2], DType::int64, s.device()),
                 j = arange(0, 1, s.shape().back(), DType::int64, s.device());
    s = select(j <= unsqueeze(i, 1), s, lowest);
  }
  if (!mask.defined() && !attrs.causal) return softmax(s, -1);
  if (s.shape().back() == 0) return s;
  // A row of -inf has no softmax: its weights are zeros.
  const Tensor some = amax(s, 1u << (s.dim() - 1), true) != lowest;
  return select(s == lowest, 0.0, softmax(select(some, s, 0.0), -1));
}

void vjp(const Line& line, const Tensor& g_given, Gradients& dx) {
  const auto& attrs = line.attrs.as<AttentionAttrs>();
  const Tensor &q = line.input(0), &k = line.input(1), &v = line.input(2);
  const bool masked = line.inputs.size() > 3;
  if (may_fuse(g_given, q) && may_fuse(g_given, k) && may_fuse(g_given, v) &&
      !(masked && line.needs(3))) {
    const Tensor in[] = {
        q, k, v, contiguous(g_given), line.result(), line.auxiliary(), masked ? line.input(3) : q};
    const Tensor all = apply(vjp_op, Tensors(in, masked ? 7 : 6), line.attrs);
    int64_t at = 0;
    for (int i = 0; i < 3; ++i) {
      if (line.needs(i)) dx[i] = reshape(slice(all, 0, at, 1, in[i].numel()), in[i].shape());
      at += in[i].numel();
    }
    return;
  }
  Tensor qh = heads_first(q), kh = heads_first(k), vh = heads_first(v), g = heads_first(g_given);
  const Tensor p = weights_of(qh, kh, masked ? line.input(3) : Tensor(), attrs);
  Tensor dp, weights = p;
  if (masked || attrs.causal) {
    // What is no number is taken out of the products, where a weight of 0 does not stop it, and
    // then spoils the pairs that have a weight: x - x is 0 or NaN.
    const auto taken_out = [](Tensor& x) {
      const Tensor odd = sum(x - x, 1u << 3, true);
      x = select(abs(x) < std::numeric_limits<double>::infinity(), x, 0.0);
      return odd;
    };
    const Tensor odd_v = transpose(taken_out(vh), -2, -1), odd_g = taken_out(g);
    taken_out(qh), taken_out(kh);  // these have spoilt p
    dp = matmul(g, transpose(vh, -2, -1)) + odd_v + odd_g;
    weights = p + times(p, odd_g);
  } else {
    dp = matmul(g, transpose(vh, -2, -1));
  }
  const Tensor ds = times(p, dp - sum(times(p, dp), 1u << 3, true));
  if (line.needs(0)) dx[0] = heads_first(matmul(ds, kh) * attrs.scale);
  if (line.needs(1)) dx[1] = heads_first(matmul(transpose(ds, -2, -1), qh) * attrs.scale);
  if (line.needs(2)) dx[2] = heads_first(matmul(transpose(weights, -2, -1), g));
  if (masked && line.needs(3)) dx[3] = ds;
}
const Op attention_op{
    .name = "attention",
    .operands = "q, k, v, mask",
    .formula = "p @ v, p = softmax(scale * q @ transpose(k) + mask), block by block",
    .gradient = {"scale * ds @ k, ds = p * (dp - sum(dp * p)), dp = g @ transpose(v)",
                 "scale * transpose(ds) @ q", "transpose(p) @ g", "ds"},
    .numpy = "attention({scale}, {is_causal}, {all})",
    .infer = infer,
    .run = run,
    .gpu = on_gpu<&GpuKernels::attention, &AttentionGpu::forward>,
    .vjp = vjp,
    .saves = saves,
    .cost = cost,
    .describe = describe,
    .batch = batch_folded<>};

constexpr auto user_name = "scaled_dot_product_attention";

// What the user gave, as (B, H, T, D), and the leading axes to give back.
struct Prepared {
  Tensor q, k, v, mask;
  Shape leading;
  AttentionAttrs attrs;
};
Shape leading_of(const Tensor& x) {
  Shape s;
  for (int d = 0; d + 2 < x.dim(); ++d) s.push_back(x.shape()[d]);
  return s;
}
Tensor four_axes(const Tensor& x, const Shape& leading, const char* what) {
  const int64_t rows = x.shape()[x.dim() - 2], cols = x.shape().back();
  Shape full = leading;
  full.push_back(rows);
  full.push_back(cols);
  const Tensor spread = expand(x, full, what);
  const int n = leading.size();
  int64_t samples = 1;
  for (int d = 0; d + 1 < n; ++d) samples *= leading[d];
  return reshape(spread, Shape{samples, n ? leading[n - 1] : 1, rows, cols});
}
Prepared prepare(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& mask_given,
                 bool causal, std::optional<double> scale) {
  const Tensor* given[] = {&q, &k, &v};
  for (const Tensor* x : given) {
    if (x->dim() < 2)
      fail<ShapeError>(user_name, ": got a tensor of shape ", x->shape(),
                       "; query, key and value need two axes or more, (..., length, features)");
    if (!is_floating(x->dtype()) || x->dtype() != q.dtype())
      fail<DTypeError>(user_name, ": query, key and value are ", q.dtype(), ", ", k.dtype(),
                       " and ", v.dtype(), "; expected one floating dtype");
  }
  const int64_t queries = q.shape()[q.dim() - 2], keys = k.shape()[k.dim() - 2];
  if (q.shape().back() != k.shape().back() || v.shape()[v.dim() - 2] != keys)
    fail<ShapeError>(user_name, ": query ", q.shape(), ", key ", k.shape(), " and value ",
                     v.shape(), " do not fit; expected (..., L, D), (..., S, D) and (..., S, E)");
  Shape leading = broadcast(user_name, leading_of(q), leading_of(k));
  leading = broadcast(user_name, leading, leading_of(v));
  Tensor mask;
  if (mask_given.defined()) {
    mask = mask_given.dtype() == DType::bool_ ? mask_given : to_dtype(mask_given, q.dtype());
    if (!is_floating(mask_given.dtype()) && mask_given.dtype() != DType::bool_)
      fail<DTypeError>(user_name, ": attn_mask is ", mask_given.dtype(),
                       "; expected bool (true: looked at) or floating (added to the scores); "
                       "write mask != 0");
    Shape full = leading;
    full.push_back(queries);
    full.push_back(keys);
    mask = four_axes(expand(mask, full, "scaled_dot_product_attention (attn_mask)"), leading,
                     user_name);
  }
  const double depth = static_cast<double>(q.shape().back());
  return {four_axes(q, leading, user_name),
          four_axes(k, leading, user_name),
          four_axes(v, leading, user_name),
          mask,
          leading,
          {scale.value_or(depth > 0 ? 1 / std::sqrt(depth) : 1), causal}};
}
Tensor give_back(const Tensor& y, const Shape& leading) {
  Shape shape = leading;
  shape.push_back(y.shape()[2]);
  shape.push_back(y.shape()[3]);
  return reshape(y, shape);
}

}  // namespace

void add_attention_ops(std::vector<const Op*>& ops) {
  for (const Op* op : {&attention_op, &vjp_op}) ops.push_back(op);
}

Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& mask, bool causal,
                 std::optional<double> scale) {
  const Prepared p = prepare(q, k, v, mask, causal, scale);
  const Tensor in[] = {heads_first(p.q), heads_first(p.k), heads_first(p.v), p.mask};
  const Tensor y = apply(attention_op, Tensors(in, p.mask.defined() ? 4 : 3), p.attrs);
  return give_back(heads_first(y), p.leading);
}

Tensor attention_weights(const Tensor& q, const Tensor& k, const Tensor& mask, bool causal,
                         std::optional<double> scale) {
  const Prepared p = prepare(q, k, k, mask, causal, scale);
  return give_back(weights_of(p.q, p.k, p.mask, p.attrs), p.leading);
}

}  // namespace wengert
