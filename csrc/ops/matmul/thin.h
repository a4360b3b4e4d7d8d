// Part of gemm.simd.cpp: many rows times a small b, of up to 16 rows and one vector of columns.
// All of b stays in registers, or, of AVX2's 16, in L1, and rows of a pass by: such a product is
// over before the tiles of larger ones would have begun to pay.
#pragma once

#include <utility>

#include "base/simd.h"
#include "ops/matmul/pack.h"

namespace wengert::WENGERT_ISA {
namespace {

constexpr int thin_terms = 16, thin_rows = 8;  // at most; at a time

template <class T> struct Thin {
  const T* a;
  int64_t a_row, a_col;
  const T* b;
  int64_t b_row;  // b's columns are adjacent
  T* c;
  int64_t c_row, rows;  // at least thin_rows
  int cols;
};

// c[rows, cols] = a[rows, K] b[K, cols]. Where the rows do not come out even, some are made twice.
template <class T, int K> void multiply_thin(const Thin<T>& t) {
  const int64_t a_row = t.a_row, a_col = t.a_col, c_row = t.c_row;
  const int cols = t.cols;
  Simd<T> bs[K];
#pragma GCC unroll 16
  for (int k = 0; k < K; ++k) bs[k] = load_part(t.b + k * t.b_row, cols);
  for (int64_t i = 0; i < t.rows; i += thin_rows) {
    const int64_t row = min(i, t.rows - thin_rows);
    const T* a[3] = {t.a + row * a_row, t.a + (row + 3) * a_row, t.a + (row + 6) * a_row};
    Simd<T> sum[thin_rows];
#pragma GCC unroll 8
    for (int r = 0; r < thin_rows; ++r) sum[r] = Simd<T>(T(0));
#pragma GCC unroll 16
    for (int k = 0; k < K; ++k) {
#pragma GCC unroll 8
      for (int r = 0; r < thin_rows; ++r)
        sum[r] = add_product(Simd<T>(a[r / 3][r % 3 * a_row]), bs[k], sum[r]);
#pragma GCC unroll 3
      for (const T*& at : a) at += a_col;
    }
    T* const c = t.c + row * c_row;
#pragma GCC unroll 8
    for (int r = 0; r < thin_rows; ++r) sum[r].store_n(c + r * c_row, cols);
  }
}

template <class T> struct ThinKernels {
  void (*of[thin_terms])(const Thin<T>&);  // by terms - 1
};
template <class T, int... k>
constexpr ThinKernels<T> thin_kernels(std::integer_sequence<int, k...>) {
  return {{multiply_thin<T, k + 1>...}};
}
template <class T>
constexpr ThinKernels<T> thin_table =
    thin_kernels<T>(std::make_integer_sequence<int, thin_terms>());

}  // namespace
}  // namespace wengert::WENGERT_ISA
