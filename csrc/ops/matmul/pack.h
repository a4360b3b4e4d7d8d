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

// In place, of lanes x lanes elements. A round interleaves the upper with the lower half of the
// rows: that rotates the bits of (row, column) by one, so after log2(lanes) rounds they are
// swapped.
template <class T, int... i> void transpose(Simd<T>* x, std::integer_sequence<int, i...>) {
  constexpr int n = sizeof...(i);
  Simd<T> t[n];
#pragma GCC unroll 4
  for (int round = 1; round < n; round *= 2) {
#pragma GCC unroll 8
    for (int r = 0; r < n / 2; ++r) {
      const auto a = x[r].v, b = x[r + n / 2].v;
      t[2 * r] = __builtin_shufflevector(a, b, (i / 2 + i % 2 * n)...);
      t[2 * r + 1] = __builtin_shufflevector(a, b, (n / 2 + i / 2 + i % 2 * n)...);
    }
#pragma GCC unroll 16
    for (int r = 0; r < n; ++r) x[r] = t[r];
  }
}

// Stores the transpose of lanes x lanes elements, row r of which lies at from + r * step; rows from
// `rows` on count as 0. The AVX-512 form puts every fourth row's quarters side by side when it
// loads: then only 4 x 4 elements of each 128 bits are left to transpose.
template <class T>
void transpose_square(T* to, int64_t width, const T* from, int64_t step, int64_t rows) {
  constexpr int64_t L = lanes<T>;
#if defined(__AVX512F__)
  using Vec = typename Simd<T>::Vec;
  if (rows >= L) {
    constexpr int64_t Q = L / 4;  // elements of 128 bits
    for (int64_t c = 0; c < L; c += Q) {
      __m512 x[Q];
#pragma GCC unroll 4
      for (int64_t r = 0; r < Q; ++r) {
        const auto quarter = [&](int64_t q) INLINE {
          return _mm_loadu_ps(reinterpret_cast<const float*>(from + (r + q * Q) * step + c));
        };
        x[r] = _mm512_castps128_ps512(quarter(0));
        x[r] = _mm512_insertf32x4(x[r], quarter(1), 1);
        x[r] = _mm512_insertf32x4(x[r], quarter(2), 2);
        x[r] = _mm512_insertf32x4(x[r], quarter(3), 3);
      }
      const auto put = [&](int64_t k, __m512d v)
                           INLINE { Simd<T>((Vec)v).store(to + (c + k) * width); };
      if constexpr (Q == 2) {
        put(0, _mm512_unpacklo_pd((__m512d)x[0], (__m512d)x[1]));
        put(1, _mm512_unpackhi_pd((__m512d)x[0], (__m512d)x[1]));
      } else {
        const auto a = (__m512d)_mm512_unpacklo_ps(x[0], x[1]),
                   b = (__m512d)_mm512_unpackhi_ps(x[0], x[1]),
                   c = (__m512d)_mm512_unpacklo_ps(x[2], x[3]),
                   d = (__m512d)_mm512_unpackhi_ps(x[2], x[3]);
        put(0, _mm512_unpacklo_pd(a, c)), put(1, _mm512_unpackhi_pd(a, c));
        put(2, _mm512_unpacklo_pd(b, d)), put(3, _mm512_unpackhi_pd(b, d));
      }
    }
    return;
  }
#endif
  Simd<T> x[L];
#pragma GCC unroll 16
  for (int r = 0; r < L; ++r) x[r] = r < rows ? Simd<T>::load(from + r * step) : Simd<T>(T(0));
  transpose<T>(x, std::make_integer_sequence<int, L>());
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
