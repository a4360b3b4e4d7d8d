// Part of gemm.simd.cpp, compiled once per instruction set: what its kernels share, and copying
// strips of a matrix into the order in which they read them.
#pragma once

#include <type_traits>
#include <utility>

#include "base/pool.h"
#include "base/simd.h"
#include "base/vocab.h"

// Nothing here may be an inline function or a template of another namespace that is not always
// inlined: the linker would keep one copy for all instruction sets. Hence min and max of our own.
namespace wengert::WENGERT_ISA {
namespace {

FN int64_t min(int64_t a, int64_t b) { return a < b ? a : b; }
FN int64_t max(int64_t a, int64_t b) { return a > b ? a : b; }
FN int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }

template <class T> constexpr int64_t lanes = Simd<T>::width;

// The first n < lanes elements; the other lanes do not matter.
template <class T> FN Simd<T> load_part(const T* p, int64_t n) {
  return Simd<T>::load_n(p, static_cast<int>(n));
}

// sum + a * b; or, with AVX512-BF16, the products of both terms of each pair, one after the other.
// The processor then rounds each to nearest even, takes subnormal numbers for 0, and makes none.
template <class T> FN Simd<T> add_product(Simd<T> a, Simd<T> b, Simd<T> sum) {
#if defined(__AVX512BF16__)
  return (typename Simd<T>::Vec)_mm512_dpbf16_ps((__m512)sum.v, (__m512bh)a.v, (__m512bh)b.v);
#else
  return fma(a, b, sum);
#endif
}

// In place, of each n x n elements of n vectors. A round interleaves the upper with the lower half
// of the rows: that rotates the bits of (row, column) by one, so after log2(n) rounds they are
// swapped.
template <class T, int n, int... i> void transpose(Simd<T>* x, std::integer_sequence<int, i...>) {
  constexpr int L = sizeof...(i);
  Simd<T> t[n];
#pragma GCC unroll 4
  for (int round = 1; round < n; round *= 2) {
#pragma GCC unroll 8
    for (int r = 0; r < n / 2; ++r) {
      const auto a = x[r].v, b = x[r + n / 2].v;
      t[2 * r] = __builtin_shufflevector(a, b, (i / n * n + i % n / 2 + i % 2 * L)...);
      t[2 * r + 1] = __builtin_shufflevector(a, b, (i / n * n + (n + i % n) / 2 + i % 2 * L)...);
    }
#pragma GCC unroll 16
    for (int r = 0; r < n; ++r) x[r] = t[r];
  }
}
template <class T, int n = lanes<T>> FN void transpose(Simd<T>* x) {
  transpose<T, n>(x, std::make_integer_sequence<int, lanes<T>>());
}

// x = the transpose of lanes x lanes elements, whose row r starts at from + r * step. Vectors of
// several times 128 bits are loaded from as many rows; only these 128 bits are then transposed.
template <class T> FN void load_turned(Simd<T>* x, const T* from, int64_t step) {
#if defined(__AVX2__)
  constexpr int Q = 16 / sizeof(T);  // elements of 128 bits
#pragma GCC unroll 8
  for (int c = 0; c < lanes<T>; c += Q) {
#pragma GCC unroll 4
    for (int r = 0; r < Q; ++r) {
      const auto part = [&](int q) INLINE {
        return _mm_loadu_ps(reinterpret_cast<const float*>(from + (r + q * Q) * step + c));
      };
#if defined(__AVX512F__)
      __m512 v = _mm512_castps128_ps512(part(0));
      v = _mm512_insertf32x4(v, part(1), 1);
      v = _mm512_insertf32x4(v, part(2), 2);
      v = _mm512_insertf32x4(v, part(3), 3);
#else
      const __m256 v = _mm256_insertf128_ps(_mm256_castps128_ps256(part(0)), part(1), 1);
#endif
      x[c + r] = (typename Simd<T>::Vec)v;
    }
    transpose<T, Q>(x + c);
  }
#else
#pragma GCC unroll 16
  for (int r = 0; r < lanes<T>; ++r) x[r] = Simd<T>::load(from + r * step);
  transpose(x);
#endif
}

// Stores the transpose of lanes x lanes elements, whose row r starts at from + r * step; rows from
// `rows` on count as 0.
template <class T>
void transpose_square(T* to, int64_t width, const T* from, int64_t step, int64_t rows) {
  constexpr int64_t L = lanes<T>;
  Simd<T> x[L];
  if (rows >= L) {
    load_turned(x, from, step);
  } else {
#pragma GCC unroll 16
    for (int r = 0; r < L; ++r) x[r] = r < rows ? Simd<T>::load(from + r * step) : Simd<T>(T(0));
    transpose(x);
  }
#pragma GCC unroll 16
  for (int r = 0; r < L; ++r) x[r].store(to + r * width);
}

// to[k][w] = from[w * w_stride + k * k_stride] for w < count; anything for count <= w < width,
// where width is a multiple of lanes. Serves a (w counts rows of a panel) and b (w counts its
// columns).
template <class T>
void pack(T* to, int64_t width, const T* from, int64_t count, int64_t w_stride, int64_t k_stride,
          int64_t ks) {
  constexpr int64_t L = lanes<T>;
  if (w_stride == 1) {
    for (; ks > 0; --ks, to += width, from += k_stride) {
      __builtin_prefetch(from + 2 * width);  // the panel after the next one
      int64_t w = 0;
      for (; w + L <= count; w += L) Simd<T>::load(from + w).store(to + w);
      if (w < count) load_part(from + w, count - w).store(to + w);
    }
    return;
  }
  const int64_t squares = k_stride == 1 ? ks / L * L : 0;
  for (int64_t w = 0; squares > 0 && w < count; w += L)
    for (int64_t k = 0; k < squares; k += L)
      transpose_square(to + k * width + w, width, from + w * w_stride + k, w_stride, count - w);
  for (int64_t k = squares; k < ks; ++k)
    for (int64_t w = 0; w < width; ++w)
      to[k * width + w] = w < count ? from[w * w_stride + k * k_stride] : T(0);
}

}  // namespace
}  // namespace wengert::WENGERT_ISA
