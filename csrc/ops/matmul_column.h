// Part of matmul.simd.cpp: n == 1, c[m] = sum over k of a[m, k] * b[k]; the dot product if m == 1.
//
// Dot products are summed in float64, in lanes, then over blocks and chunks of k, each in order: so
// they are accurate for any length, and have the same bits for any strides and number of threads.
#pragma once

#include "base/pool.h"
#include "base/simd.h"
#include "base/vocab.h"
#include "ops/matmul.h"
#include "ops/matmul_pack.h"
#include "ops/scratch.h"

namespace wengert::WENGERT_ISA {
namespace {

constexpr int64_t dot_block = 512;           // terms of one dot product
constexpr int64_t dot_chunk = 65536;         // terms in one chunk
constexpr int64_t dot_chunk_work = 1 << 18;  // multiply-adds in one chunk
constexpr int64_t copied_rows = 128;         // rows of a that are copied at once if a is transposed
constexpr int dots_together = lanes<double> > 4 ? 4 : 2;  // rows; each has 4 vectors of sums

// sums[r] (+)= the sum of a[r, k] * b[k] over n <= dot_block terms: 4 vectors of sums, then a rest.
// R rows share the conversion of b; each adds in the same order as it does alone.
template <class T, int R>
void dot(const T* a, int64_t a_row, const T* b, int64_t n, double* sums, bool add) {
  constexpr int64_t L = lanes<double>;
  typedef T Few __attribute__((vector_size(L * sizeof(T))));
  const auto doubles = [](const T* p) -> f64 {
    Few x;
    __builtin_memcpy(&x, p, sizeof x);
    return __builtin_convertvector(x, f64::Vec);
  };
  double rest[R] = {};
  int64_t k = 0;
  if (n >= L) {
    f64 s[R][4];
    for (int r = 0; r < R; ++r)
      for (int v = 0; v < 4; ++v) s[r][v] = 0.0;
    for (; k + 4 * L <= n; k += 4 * L)
#pragma GCC unroll 4
      for (int v = 0; v < 4; ++v) {
        const f64 bs = doubles(b + k + v * L);
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) s[r][v] = fma(doubles(a + r * a_row + k + v * L), bs, s[r][v]);
      }
    for (; k + L <= n; k += L)
      for (int r = 0; r < R; ++r)
        s[r][0] = fma(doubles(a + r * a_row + k), doubles(b + k), s[r][0]);
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      const f64 sum = (s[r][0] + s[r][1]) + (s[r][2] + s[r][3]);
      for (int l = 0; l < L; ++l) rest[r] += sum.v[l];
    }
  }
  for (; k < n; ++k)
    for (int r = 0; r < R; ++r) rest[r] += double(a[r * a_row + k]) * double(b[k]);
  for (int r = 0; r < R; ++r) sums[r] = add ? sums[r] + rest[r] : rest[r];
}

// sums[rows] (+)= a[rows, n] b[n], n in blocks that are added in order.
template <class T>
void dot_rows(const T* a, int64_t a_row, const T* b, int64_t rows, int64_t n, double* sums,
              bool add) {
  constexpr int64_t R = dots_together;
  for (int64_t r = 0; r < rows;) {
    const bool several = rows - r >= R;
    for (int64_t k = 0; k < n; k += dot_block)
      (several ? dot<T, R> : dot<T, 1>)(a + r * a_row + k, a_row, b + k, min(dot_block, n - k),
                                        sums + r, add || k > 0);
    r += several ? R : 1;
  }
}

// sums[rows] = the terms from k on. False if there is no memory.
template <class T>
bool column_part(const Gemm& g, int64_t i, int64_t rows, int64_t k, int64_t terms, double* sums) {
  const T* a = static_cast<const T*>(g.a) + i * g.a_row + k * g.a_col;
  const T* b = static_cast<const T*>(g.b) + k * g.b_row;
  T* memory = nullptr;
  if (g.a_col != 1 || g.b_row != 1) {
    constexpr size_t size = dot_chunk + copied_rows * (dot_block + lanes<T>);
    if (!(memory = static_cast<T*>(scratch(Scratch::chunk, sizeof(T) * size)))) return false;
  }
  if (g.b_row != 1) {
    pack(memory, round_up(terms, lanes<T>), b, terms, g.b_row, 0, 1);
    b = memory;
  }
  if (g.a_col == 1) {
    dot_rows(a, g.a_row, b, rows, terms, sums, false);
    return true;
  }
  T* const copy = memory + dot_chunk;
  for (int64_t r = 0; r < rows; r += copied_rows)
    for (int64_t x = 0; x < terms; x += dot_block) {
      const int64_t count = min(copied_rows, rows - r), n = min(dot_block, terms - x);
      const int64_t width = round_up(n, lanes<T>) + (n == dot_block ? lanes<T> : 0);  // not 2^x
      // pack's w is our k, and its k our row.
      pack(copy, width, a + r * g.a_row + x * g.a_col, n, g.a_col, g.a_row, count);
      dot_rows(copy, width, b + x, count, n, sums + r, x > 0);
    }
  return true;
}

template <class T> void multiply_column(const Gemm& g) {
  const int64_t slabs = ceil_div(g.k, dot_chunk);
  const int64_t rows = min(g.m, max(1, dot_chunk_work / min(g.k, dot_chunk))),
                groups = ceil_div(g.m, rows);
  auto* const sums = static_cast<double*>(scratch(Scratch::call, 8 * slabs * g.m));
  if (!sums) scratch_failed("matmul");
  bool ok = true;
  parallel_for(groups * slabs, [&](int64_t chunk) {
    const int64_t i = chunk / slabs * rows, slab = chunk % slabs, k = slab * dot_chunk;
    if (!column_part<T>(g, i, min(rows, g.m - i), k, min(dot_chunk, g.k - k),
                        sums + slab * g.m + i))
      __atomic_store_n(&ok, false, __ATOMIC_RELAXED);
  });
  if (!ok) scratch_failed("matmul");
  for (int64_t i = 0; i < g.m; ++i) {
    double sum = sums[i];
    for (int64_t slab = 1; slab < slabs; ++slab) sum += sums[slab * g.m + i];
    static_cast<T*>(g.c)[i * g.c_row] = static_cast<T>(sum);
  }
}

}  // namespace
}  // namespace wengert::WENGERT_ISA
