// The product of dense.h, and its operands' and its results' turning from rows to lanes.
#include "ops/conv/dense.h"

#include "base/simd.h"
#include "base/vocab.h"
#include "ops/matmul/pack.h"

namespace wengert::WENGERT_ISA {
namespace {

#if defined(__AVX512F__)
constexpr int most_vectors = 4;  // 24 of 32 registers hold sums
#else
constexpr int most_vectors = 2;  // 12 of 16
#endif
constexpr int tile = dense_tile;

template <class T, int V> void multiply_tile(const DenseProduct& p, int64_t first) {
  constexpr int L = Simd<T>::width;
  const T* x[tile];
#pragma GCC unroll 8
  for (int r = 0; r < tile; ++r) x[r] = static_cast<const T*>(p.x) + p.rows[first + r];
  const T* b = static_cast<const T*>(p.b);
  Simd<T> sum[tile][V];
#pragma GCC unroll 8
  for (int r = 0; r < tile; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) sum[r][v] = Simd<T>(T(0));
  for (const int64_t *k = p.terms, *end = k + p.term_count; k < end; ++k, b += V * L) {
    const int64_t term = *k;
    Simd<T> bs[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) bs[v] = Simd<T>::load(b + v * L);
#pragma GCC unroll 8
    for (int r = 0; r < tile; ++r) {
      const Simd<T> xs(x[r][term]);
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) sum[r][v] = fma(xs, bs[v], sum[r][v]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < tile; ++r) {
    T* const to = static_cast<T*>(p.c) + p.results[first + r] * V * L;
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      if (p.add) sum[r][v] = Simd<T>::load(to + v * L) + sum[r][v];
      sum[r][v].store(to + v * L);
    }
  }
}
template <class T, int V> void multiply_rows(const DenseProduct& p) {
  const int64_t tiles = p.row_count / tile, share = (p.ahead_count + tiles - 1) / tiles;
  for (int64_t i = 0; i < tiles; ++i) {
    for (int64_t j = i * share; j < min(p.ahead_count, (i + 1) * share); ++j)
      __builtin_prefetch(p.ahead[j], 0, 2);
    multiply_tile<T, V>(p, i * tile);
  }
}
template <class T> void multiply(const DenseProduct& p) {
  if (p.vectors == 1) return multiply_rows<T, 1>(p);
  if (p.vectors == 2) return multiply_rows<T, 2>(p);
  if constexpr (most_vectors > 2) {
    if (p.vectors == 3) return multiply_rows<T, 3>(p);
    multiply_rows<T, 4>(p);
  }
}

template <class T> void turn(const DenseTurn& t) {
  constexpr int64_t L = Simd<T>::width;
  const T* const all = static_cast<const T*>(t.from);
  T* const to = static_cast<T*>(t.to);
  const auto put = [&](int64_t j, Simd<T> x) INLINE {
    const int64_t at = t.at ? t.at[j] : j;
    if (at >= 0) store<Simd<T>>(to + at * t.width, static_cast<int>(t.stored), x);
  };
  if (t.step == 1) {
    for (int64_t j = 0; j < t.n; ++j) put(j, load_part(all + j, t.lanes));
    return;
  }
  for (int64_t j = 0; j < t.n; j += L) {
    const T* const from = all + j;
    const int64_t n = min(L, t.n - j);
    if (n == L && t.lanes == L && t.stored == L && !t.at) {
      transpose_square(to + j * t.width, t.width, from, t.step, L);
      continue;
    }
    Simd<T> x[L];
#pragma GCC unroll 16
    for (int r = 0; r < L; ++r) x[r] = load_part(from + (r < t.lanes ? r : 0) * t.step, n);
    transpose(x);
#pragma GCC unroll 16
    for (int i = 0; i < L; ++i)
      if (i < n) put(j + i, x[i]);
  }
}

}  // namespace

const DenseKernels dense_kernels = {{multiply<float>, multiply<double>},
                                    {turn<float>, turn<double>},
                                    {Simd<float>::width, Simd<double>::width},
                                    most_vectors};

}  // namespace wengert::WENGERT_ISA
