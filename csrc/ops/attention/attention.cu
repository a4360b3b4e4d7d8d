// Attention on a GPU, forward and backward, without the matrix of scores
// (ops/attention/attention.cpp).
//
// One kernel computes each of the four results. A block has 64 rows of its own, queries for y and
// dq, keys for dk and dv, and goes over the others in tiles of 64: it makes a tile of scores, turns
// them into weights (or their gradients), and multiplies these with rows of the others. So each
// element is summed by one thread in a fixed order, without atomics; the price is that dk and dv
// recompute each tile of scores. Results wider than 64 are shared out over blocks.
//
//   result   own rows   others   weights                               multiplied with
//   y        q          k        p = exp(s - largest so far)           v
//   dq       q          k        ds = p * (g @ transpose(v) - delta)   k
//   dk       k          q        transpose(ds)                         q
//   dv       k          q        transpose(p), p = exp(s - lse)        g
//
// Here s = scale * q @ transpose(k) + mask, delta = sum(g * y) of each query.
#include <algorithm>

#include "base/vocab.h"
#include "ops/attention/gpu.h"
#include "ops/gpu.h"
#include "ops/rows/row_threads.h"

namespace wengert::WENGERT_ISA {
namespace {

constexpr int tile = 64, attend_threads = 256;
constexpr int pitch = tile + 4;  // of a tile in shared memory: rows start on 16 bytes
template <class T> constexpr int steps = 64 / sizeof(T);  // of a product's inner axis at a time

// float64, which hardly anybody trains in, has one copy of each loop's body: a third of the code.
template <class T> constexpr int at_once = sizeof(T) == 4 ? 4 : 1;

enum class Result { y, dq, dk, dv };

// (samples, rows, heads, features), or one matrix of it.
template <class T> struct Heads {
  T* data;
  int64_t sample, row, head, col;
  __device__ Heads at(int64_t s, int64_t h, int64_t r, int64_t c = 0) const {
    return {data + s * sample + h * head + r * row + c * col, sample, row, head, col};
  }
  __device__ T& operator()(int64_t r, int64_t c) const { return data[r * row + c * col]; }
};

template <class T> struct AttentionArguments {
  int64_t heads, own, others, depth, width, columns;  // of q and k; of v; of the result
  Heads<const T> q, k, v, g, y;
  Heads<T> out;
  T* lse;                  // (samples, heads, queries)
  T* delta;                // the same
  Heads<const char> mask;  // its rows are queries, its columns keys; in bytes
  bool additive, causal;
  T scale;
};

template <class T> struct alignas(16) Four {
  T v[4];
};

// Row 1 becomes row 0, and so on. A loop over rows that always works on row 0 keeps them in
// registers, and need not be unrolled for it.
template <class T> __device__ void turn(T (&rows)[4]) {
  const T first = rows[0];
  rows[0] = rows[1], rows[1] = rows[2], rows[2] = rows[3], rows[3] = first;
}
template <class T> __device__ void turn(T (&rows)[4][4]) {
#pragma unroll
  for (int c = 0; c < 4; ++c) {
    const T first = rows[0][c];
    rows[0][c] = rows[1][c], rows[1][c] = rows[2][c], rows[2][c] = rows[3][c], rows[3][c] = first;
  }
}

// Eight, or sixteen, columns of 64 rows of x, turned: to[column][row].
template <class T>
__device__ void bring(T (*to)[pitch], const Heads<const T>& x, int64_t rows, int64_t cols) {
  constexpr int depth = steps<T>;
  for (int e = threadIdx.x; e < tile * depth; e += attend_threads) {
    // Neighbouring threads read what is adjacent.
    const int r = x.col == 1 ? e / depth : e % tile, c = x.col == 1 ? e % depth : e / tile;
    to[c][r] = r < rows && c < cols ? x(r, c) : T(0);
  }
}

// The kernel's tools: a tile's elements that a thread has, rows i to i + 3.
template <class T> struct ScoreTiles {
  T (*a)[pitch], (*b)[pitch];  // steps<T> rows each
  int i = static_cast<int>(threadIdx.x) / 16 * 4, j = static_cast<int>(threadIdx.x) % 16;

  // s = a @ transpose(b) of 64 rows each; s[p][q] is of row i + p and column j + 16 q.
  __device__ void product(T (&s)[4][4], const Heads<const T>& x, int64_t x_rows,
                          const Heads<const T>& y, int64_t y_rows, int64_t depth) const {
    for (auto& row : s)
      for (T& e : row) e = 0;
    for (int64_t d0 = 0; d0 < depth; d0 += steps<T>) {
      __syncthreads();
      bring(a, x.at(0, 0, 0, d0), x_rows, depth - d0);
      bring(b, y.at(0, 0, 0, d0), y_rows, depth - d0);
      __syncthreads();
#pragma unroll at_once < T>
      for (int d = 0; d < steps<T>; ++d) {
        const Four<T> left = *reinterpret_cast<const Four<T>*>(&a[d][i]);
#pragma unroll
        for (int q = 0; q < 4; ++q) {
          const T right = b[d][j + 16 * q];
#pragma unroll
          for (int p = 0; p < 4; ++p) s[p][q] = libm::fma(left.v[p], right, s[p][q]);
        }
      }
    }
  }
  // sum += w @ x, 64 rows of x; w is transposed. sum[p][q] is of row i + p and column 4 j + q. A
  // weight of 0 takes nothing from a row of x, even one that holds NaN or infinities.
  __device__ void add_product(T (&sum)[4][4], const T (*w)[pitch], const Heads<const T>& x,
                              int64_t rows, int64_t cols) const {
    for (int r0 = 0; r0 < tile && r0 < rows; r0 += steps<T>) {
      __syncthreads();
      int odd = 0;
      for (int e = threadIdx.x; e < tile * steps<T>; e += attend_threads) {
        const int r = e / tile, c = e % tile;
        b[r][c] = r0 + r < rows && c < cols ? x(r0 + r, c) : T(0);
        odd |= !(b[r][c] - b[r][c] == 0);
      }
      if (__syncthreads_or(odd)) {
#pragma unroll 1
        for (int r = 0; r < steps<T>; ++r)
#pragma unroll
          for (int p = 0; p < 4; ++p) {
            const T left = w[r0 + r][i + p];
#pragma unroll
            for (int q = 0; q < 4; ++q)
              if (left != 0) sum[p][q] = libm::fma(left, b[r][4 * j + q], sum[p][q]);
          }
        continue;
      }
#pragma unroll at_once < T>
      for (int r = 0; r < steps<T>; ++r) {
        const Four<T> left = *reinterpret_cast<const Four<T>*>(&w[r0 + r][i]);
        const Four<T> right = *reinterpret_cast<const Four<T>*>(&b[r][4 * j]);
#pragma unroll
        for (int p = 0; p < 4; ++p)
#pragma unroll
          for (int q = 0; q < 4; ++q) sum[p][q] = libm::fma(left.v[p], right.v[q], sum[p][q]);
      }
    }
  }
};

template <class T, Result result>
__global__ void __launch_bounds__(attend_threads, sizeof(T) == 4 ? 2 : 1)
    attend(AttentionArguments<T> x) {
  constexpr bool of_keys = result == Result::dk || result == Result::dv;
  constexpr bool forward = result == Result::y;
  constexpr T minus_inf = static_cast<T>(-HUGE_VAL);
  alignas(16) __shared__ T a[steps<T>][pitch];
  alignas(16) __shared__ T b[steps<T>][pitch];
  alignas(16) __shared__ T w[tile][pitch];  // the weights, turned
  const ScoreTiles<T> tiles{a, b};
  const int i = tiles.i, j = tiles.j;
  const int64_t across = x.columns > tile ? (x.columns + tile - 1) / tile : 1;
  const int64_t down = (x.own + tile - 1) / tile;
  const int64_t column = blockIdx.x % across * tile, own = blockIdx.x / across % down * tile;
  const int64_t matrix = blockIdx.x / across / down;
  const int64_t sample = matrix / x.heads, head = matrix % x.heads;
  const int64_t rows = x.own - own < tile ? x.own - own : tile;
  const int64_t queries = of_keys ? x.others : x.own;
  const T* const lse = x.lse + matrix * queries;
  const T* const delta = x.delta + matrix * queries;

  T sum[4][4] = {}, best[4] = {minus_inf, minus_inf, minus_inf, minus_inf};
  double total[4] = {};
  // A causal query sees the keys up to its own number.
  const int64_t first = x.causal && of_keys ? own : 0;
  const int64_t end = x.causal && !of_keys && own + tile < x.others ? own + tile : x.others;
  for (int64_t other = first; other < end; other += tile) {
    const int64_t cols = end - other < tile ? end - other : tile;
    const int64_t query = of_keys ? other : own, key = of_keys ? own : other;
    const Heads<const T> q = x.q.at(sample, head, query), k = x.k.at(sample, head, key);
    T s[4][4], dp[4][4];
    tiles.product(s, of_keys ? k : q, rows, of_keys ? q : k, cols, x.depth);
    if constexpr (result == Result::dq || result == Result::dk) {
      const Heads<const T> g = x.g.at(sample, head, query), v = x.v.at(sample, head, key);
      tiles.product(dp, of_keys ? v : g, rows, of_keys ? g : v, cols, x.width);
    }
#pragma unroll at_once < T>
    for (int p = 0; p < 4; ++p) {
#pragma unroll
      for (int c = 0; c < 4; ++c) {  // scores
        const int64_t r = i + p, o = j + 16 * c;
        const int64_t at_query = query + (of_keys ? o : r), at_key = key + (of_keys ? r : o);
        const bool inside = r < rows && o < cols && !(x.causal && at_key > at_query);
        s[0][c] = inside ? s[0][c] * x.scale : minus_inf;
        if (inside && x.mask.data) {
          const char* m = &x.mask.at(sample, head, 0)(at_query, at_key);
          if (x.additive)
            s[0][c] = *reinterpret_cast<const T*>(m) == minus_inf
                          ? minus_inf
                          : s[0][c] + *reinterpret_cast<const T*>(m);
          else if (!*m)
            s[0][c] = minus_inf;
        }
        if constexpr (!forward) {
          T weight = 0;
          if (inside && s[0][c] != minus_inf) {
            weight = exp(Lane<T>(s[0][c] - lse[at_query])).v;
            if constexpr (result != Result::dv)
              weight = times(Lane<T>(weight), dp[0][c] - delta[at_query]).v * x.scale;
          }
          s[0][c] = weight;
        }
      }
      if constexpr (forward) {
        const auto larger = [](T u, T v) { return u > v || u != u ? u : v; };
        T here = larger(larger(s[0][0], s[0][1]), larger(s[0][2], s[0][3]));
        here = larger(merge_all<16>(here, larger), best[0]);
        const T shift = here == minus_inf ? T(0) : here;
        T part = 0;
        for (T& e : s[0]) part += e = exp(Lane<T>(e - shift)).v;
        part = merge_all<16>(part, [](T u, T v) { return u + v; });
        const T factor = exp(Lane<T>(best[0] - shift)).v;
        total[0] = total[0] * static_cast<double>(factor) + static_cast<double>(part);
        best[0] = here;
        for (T& e : sum[0]) e *= factor;
      }
      turn(s), turn(sum), turn(best), turn(total);
      if constexpr (result == Result::dq || result == Result::dk) turn(dp);
    }
    __syncthreads();
#pragma unroll
    for (int c = 0; c < 4; ++c)
      *reinterpret_cast<Four<T>*>(&w[j + 16 * c][i]) =
          Four<T>{{s[0][c], s[1][c], s[2][c], s[3][c]}};
    const Heads<const T>& by = result == Result::y    ? x.v
                               : result == Result::dq ? x.k
                               : result == Result::dk ? x.q
                                                      : x.g;
    tiles.add_product(sum, w, by.at(sample, head, other, column), cols, x.columns - column);
  }
  const Heads<T> out = x.out.at(sample, head, own, column);
#pragma unroll 1
  for (int p = 0; p < 4 && i + p < rows; ++p) {
    T scale = 1;
    if constexpr (forward) {  // a query that sees no key gets zeros
      const bool none = total[0] == 0;
      scale = static_cast<T>(none ? 0.0 : 1.0 / total[0]);
      if (column == 0 && j == 0)
        x.lse[matrix * queries + own + i + p] =
            none ? static_cast<T>(HUGE_VAL)
                 : static_cast<T>(static_cast<double>(best[0]) + ::log(total[0]));
      if (none)
        for (T& e : sum[0]) e = 0;
    }
    for (int c = 0; c < 4; ++c)
      if (column + 4 * j + c < x.columns) out(i + p, 4 * j + c) = sum[0][c] * scale;
    turn(sum), turn(best), turn(total);
  }
}

// delta = sum(g * y): a warp for each query of each head.
template <class T>
__global__ void __launch_bounds__(attend_threads) dots(AttentionArguments<T> x, int64_t rows) {
  each_row<32>(rows, [&](int64_t row) {
    const int64_t matrix = row / x.own;
    const Heads<const T> g = x.g.at(matrix / x.heads, matrix % x.heads, row % x.own),
                         y = x.y.at(matrix / x.heads, matrix % x.heads, row % x.own);
    const double sum = row_sum<32>(x.width, [&](int64_t c) { return g(0, c) * y(0, c); });
    if (threadIdx.x % 32 == 0) x.delta[row] = static_cast<T>(sum);
  });
}

template <class T> struct Attention {
  template <class Element> static Heads<Element> heads(const View& x, int64_t size = 1) {
    return {x.as<Element>(), x.strides[0] * size, x.strides[1] * size, x.strides[2] * size,
            x.strides[3] * size};
  }
  static AttentionArguments<T> arguments(Views in, const View* mask, double scale, bool causal) {
    AttentionArguments<T> a{};
    a.heads = in[0].shape[2], a.depth = in[0].shape[3], a.width = in[2].shape[3];
    a.q = heads<const T>(in[0]), a.k = heads<const T>(in[1]), a.v = heads<const T>(in[2]);
    a.scale = static_cast<T>(scale), a.causal = causal;
    if (!mask) return a;
    a.mask = heads<const char>(*mask, size_of(mask->dtype));  // (samples, heads, queries, keys)
    std::swap(a.mask.row, a.mask.head);
    a.additive = is_floating(mask->dtype);
    return a;
  }
  template <Result result>
  static void run(AttentionArguments<T> a, const View& out, int64_t others) {
    constexpr auto op = "scaled_dot_product_attention";
    a.out = heads<T>(out), a.own = out.shape[1], a.others = others, a.columns = out.shape[3];
    if (result != Result::y && a.columns == 0) return;
    const int64_t blocks = out.shape[0] * a.heads * divide_up(a.own, tile) *
                           std::max<int64_t>(1, divide_up(a.columns, tile));
    if (blocks) launch(op, out.device, grid_of(op, blocks), attend_threads, attend<T, result>, a);
  }
  static void forward(Views out, Views in, const Attrs& attrs) {
    const auto [scale, causal] = attrs.as<AttentionAttrs>();
    AttentionArguments<T> a = arguments(in, in.size() > 3 ? &in[3] : nullptr, scale, causal);
    a.lse = out[1].as<T>();
    run<Result::y>(a, out[0], in[1].shape[1]);
  }
  static void backward(Views grads, Views in, const Attrs& attrs) {
    const auto [scale, causal] = attrs.as<AttentionAttrs>();
    AttentionArguments<T> a = arguments(in, in.size() > 6 ? &in[6] : nullptr, scale, causal);
    a.g = heads<const T>(in[3]), a.y = heads<const T>(in[4]), a.lse = in[5].as<T>();
    const int64_t queries = in[0].shape[1], keys = in[1].shape[1], rows = in[5].numel();
    const DeviceScratch delta(in[0].device, nbytes(in[5].shape, in[5].dtype));
    a.delta = delta.as<T>();
    a.own = queries;
    if (rows)
      launch("scaled_dot_product_attention", in[0].device, grid_for(in[0].device, rows * 32),
             attend_threads, dots<T>, a, rows);
    run<Result::dq>(a, grads[0], keys);
    run<Result::dk>(a, grads[1], queries);
    run<Result::dv>(a, grads[2], queries);
  }
};

constexpr AttentionGpu attention_gpu_table{
    .forward = float_or_double<Attention<float>::forward, Attention<double>::forward>,
    .backward = float_or_double<Attention<float>::backward, Attention<double>::backward>,
};

}  // namespace
}  // namespace wengert::WENGERT_ISA

namespace wengert {
extern const AttentionGpu attention_gpu = WENGERT_ISA::attention_gpu_table;
}
