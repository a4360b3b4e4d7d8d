// Part of gemm.simd.cpp: n == 1, c[m] = sum over k of a[m, k] * b[k]; the dot product if m == 1.
//
// The sum of an element is one tree, whatever m, the strides and the threads are. Term k of a block
// belongs to chain k % L, where L is the lanes of a vector. A chain is made of groups: fused
// multiply-adds from zero, added up in T; few of each, as rounding grows with either. The sums of
// chains are added in float64, in order, then those of blocks and of slabs: so they are accurate
// for any length. Where the terms of a row are adjacent, a vector has a lane for each chain; where
// rows are (a is transposed), one for each row, and chains are made one after another.
#pragma once

#include "base/pool.h"
#include "base/scratch.h"
#include "base/simd.h"
#include "base/vocab.h"
#include "ops/matmul/matmul.h"
#include "ops/matmul/pack.h"

namespace wengert::WENGERT_ISA {
namespace {

constexpr int group_terms = lanes<float> > 8 ? 16 : 8;           // of one chain
template <class T> constexpr int64_t dot_block = 64 * lanes<T>;  // terms of one block
constexpr int64_t dot_slab = 65536;                              // terms in one chunk
constexpr int64_t dot_chunk_work = 1 << 16;                      // multiply-adds in one chunk
constexpr int64_t across_rows = 512;                             // adjacent rows at once
constexpr int64_t copied_rows = 32;  // rows of a that are copied at once if nothing is adjacent

// The sums of R blocks of n <= dot_block<T> terms, added to sums[0], sums[step], ...
template <class T, int R>
void dot(const T* a, int64_t a_step, const T* b, int64_t b_step, int64_t n, double* sums,
         int64_t step) {
  constexpr int64_t L = lanes<T>;
  const auto add_terms = [&](Simd<T>(&s)[R], int64_t k, int64_t end) INLINE {
    for (; k + L <= end; k += L)
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r)
        s[r] = fma(Simd<T>::load(a + r * a_step + k), Simd<T>::load(b + r * b_step + k), s[r]);
    return k;
  };
  Simd<T> s[R];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) s[r] = Simd<T>(T(0));
  int64_t k = 0;
  for (; k + group_terms * L <= n; k += group_terms * L) {
    Simd<T> group[R];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) group[r] = Simd<T>(T(0));
    add_terms(group, k, k + group_terms * L);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) s[r] = s[r] + group[r];
  }
  k = add_terms(s, k, n);
  T chains[R][L];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) s[r].store(chains[r]);
  if (const int64_t rest = n - k; rest > 0)
    for (int r = 0; r < R; ++r)
      fma(load_part(a + r * a_step + k, rest), load_part(b + r * b_step + k, rest), s[r])
          .store_n(chains[r], static_cast<int>(rest));
  double total[R] = {};
  for (int l = 0; l < L; ++l)
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) total[r] += static_cast<double>(chains[r][l]);
  for (int r = 0; r < R; ++r) sums[r * step] += total[r];
}

// sums[rows] += a[rows, n] b[n], of adjacent terms: several rows together, or several blocks of
// one.
template <class T>
void dot_along(const T* a, int64_t a_row, const T* b, int64_t rows, int64_t n, double* sums) {
  constexpr int R = 8, blocks = 4;
  int64_t r = 0;
  for (; r + R <= rows; r += R)
    for (int64_t k = 0; k < n; k += dot_block<T>)
      dot<T, R>(a + r * a_row + k, a_row, b + k, 0, min(dot_block<T>, n - k), sums + r, 1);
  for (; r < rows; ++r) {
    const T* const row = a + r * a_row;
    int64_t k = 0;
    for (; k + blocks * dot_block<T> <= n; k += blocks * dot_block<T>)
      dot<T, blocks>(row + k, dot_block<T>, b + k, dot_block<T>, dot_block<T>, sums + r, 0);
    for (; k < n; k += dot_block<T>)
      dot<T, 1>(row + k, 0, b + k, 0, min(dot_block<T>, n - k), sums + r, 0);
  }
}

// chain[rows] (+)= a group of G terms that lie `step` apart in b, and their rows; or one term more.
template <class T, int G>
void add_terms(T* chain, const T* a, int64_t a_step, const T* b, int64_t step, int64_t rows,
               bool add) {
  Simd<T> bs[G];
#pragma GCC unroll 16
  for (int g = 0; g < G; ++g) bs[g] = Simd<T>(b[g * step]);
  each_vector<Simd<T>>(rows, [&](int64_t i, int count) INLINE {
    const Simd<T> sum = add ? Simd<T>::load(chain + i) : Simd<T>(T(0));
    Simd<T> s = G > 1 ? Simd<T>(T(0)) : sum;
#pragma GCC unroll 16
    for (int g = 0; g < G; ++g) s = fma(load<Simd<T>>(a + g * a_step + i, count), bs[g], s);
    (G > 1 ? sum + s : s).store(chain + i);
  });
}

// sums[rows] += a[rows, n] b[n], of up to across_rows adjacent rows.
template <class T>
void dot_across(const T* a, int64_t a_col, const T* b, int64_t rows, int64_t n, double* sums) {
  constexpr int64_t L = lanes<T>, G = group_terms;
  T chain[across_rows];
  double total[across_rows];
  for (; n > 0; n -= dot_block<T>, a += dot_block<T> * a_col, b += dot_block<T>) {
    const int64_t terms = min(n, dot_block<T>);
    for (int64_t i = 0; i < rows; ++i) total[i] = 0;
    for (int64_t c = 0; c < min(L, terms); ++c) {
      int64_t k = c;
      for (; k + (G - 1) * L < terms; k += G * L)
        add_terms<T, G>(chain, a + k * a_col, L * a_col, b + k, L, rows, k > c);
      for (; k < terms; k += L) add_terms<T, 1>(chain, a + k * a_col, 0, b + k, 0, rows, k > c);
      for (int64_t i = 0; i < rows; ++i) total[i] += static_cast<double>(chain[i]);
    }
    for (int64_t i = 0; i < rows; ++i) sums[i] += total[i];
  }
}

// sums[rows] = the terms from k on. False if there is no memory.
template <class T>
bool column_part(const Gemm& g, int64_t i, int64_t rows, int64_t k, int64_t terms, double* sums) {
  const T* a = static_cast<const T*>(g.a) + i * g.a_row + k * g.a_col;
  const T* b = static_cast<const T*>(g.b) + k * g.b_row;
  const bool along = g.a_col == 1, across = !along && g.a_row == 1;
  T* memory = nullptr;
  if (g.b_row != 1 || !(along || across)) {
    constexpr size_t size = dot_slab + copied_rows * (dot_block<T> + lanes<T>);
    if (!(memory = static_cast<T*>(scratch(Scratch::chunk, sizeof(T) * size)))) return false;
  }
  if (g.b_row != 1) {
    pack(memory, round_up(terms, lanes<T>), b, terms, g.b_row, 0, 1);
    b = memory;
  }
  for (int64_t r = 0; r < rows; ++r) sums[r] = 0;
  if (along) {
    dot_along(a, g.a_row, b, rows, terms, sums);
    return true;
  }
  for (int64_t r = 0; across && r < rows; r += across_rows)
    dot_across(a + r, g.a_col, b, min(across_rows, rows - r), terms, sums + r);
  T* const copy = memory + dot_slab;
  for (int64_t r = 0; !across && r < rows; r += copied_rows)
    for (int64_t x = 0; x < terms; x += dot_block<T>) {
      const int64_t count = min(copied_rows, rows - r), n = min(dot_block<T>, terms - x);
      const int64_t width = round_up(n, lanes<T>) + (n == dot_block<T> ? lanes<T> : 0);  // not 2^x
      // pack's w is our k, and its k our row.
      pack(copy, width, a + r * g.a_row + x * g.a_col, n, g.a_col, g.a_row, count);
      dot_along(copy, width, b + x, count, n, sums + r);
    }
  return true;
}

template <class T> void multiply_column(const Gemm& g) {
  const int64_t slabs = ceil_div(g.k, dot_slab);
  // Long runs of adjacent rows, if there are enough.
  const int64_t least = g.a_col == 1 ? 1 : max(128, min(across_rows, g.m / 8));
  const int64_t rows = min(g.m, max(least, dot_chunk_work / min(g.k, dot_slab))),
                groups = ceil_div(g.m, rows);
  auto* const sums = static_cast<double*>(scratch(Scratch::call, 8 * slabs * g.m));
  if (!sums) scratch_failed("matmul");
  bool ok = true;
  parallel_for(groups * slabs, [&](int64_t chunk) {
    const int64_t i = chunk / slabs * rows, slab = chunk % slabs, k = slab * dot_slab;
    if (!column_part<T>(g, i, min(rows, g.m - i), k, min(dot_slab, g.k - k), sums + slab * g.m + i))
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
