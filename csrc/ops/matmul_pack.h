// Part of matmul.simd.cpp, compiled once per instruction set: copying strips of a matrix into the
// order in which the kernels read them.
#pragma once

#include <type_traits>
#include <utility>

#include "base/pool.h"
#include "base/simd.h"

// Nothing here may be an inline function or a template of another namespace that is not always
// inlined: the linker would keep one copy for all instruction sets. Hence min and max of our own.
namespace wengert::WENGERT_ISA {
namespace {

int64_t min(int64_t a, int64_t b) { return a < b ? a : b; }
int64_t max(int64_t a, int64_t b) { return a > b ? a : b; }
int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }

template <class T> constexpr int64_t lanes = Simd<T>::width;

// The first n < lanes elements; the other lanes do not matter. AVX2 has an instruction for it,
// which packing a, 6 rows of 8 lanes, asks for at every step.
template <class T> Simd<T> load_part(const T* p, int64_t n) {
#if defined(__AVX2__) && !defined(__AVX512F__)
  using Int = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;
  typename Simd<T>::Bits place;
  for (int i = 0; i < lanes<T>; ++i) place[i] = i;
  const __m256i mask = (__m256i)(place < static_cast<Int>(n));
  if constexpr (sizeof(T) == 4)
    return (typename Simd<T>::Vec)_mm256_maskload_ps(p, mask);
  else
    return (typename Simd<T>::Vec)_mm256_maskload_pd(p, mask);
#else
  return Simd<T>::load_n(p, static_cast<int>(n));
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

// to[k][w] = from[w * w_stride + k * k_stride] for w < count; anything for count <= w < width,
// where width is a multiple of lanes. Serves a (w counts rows of a panel) and b (w counts its
// columns).
template <class T>
void pack(T* to, int64_t width, const T* from, int64_t count, int64_t w_stride, int64_t k_stride,
          int64_t ks) {
  constexpr int64_t L = lanes<T>;
  if (w_stride == 1) {
    for (; ks > 0; --ks, to += width, from += k_stride) {
      int64_t w = 0;
      for (; w + L <= count; w += L) Simd<T>::load(from + w).store(to + w);
      if (w < count) load_part(from + w, count - w).store(to + w);
    }
    return;
  }
  const int64_t squares = k_stride == 1 ? ks / L * L : 0;
  for (int64_t w = 0; squares > 0 && w < count; w += L)
    for (int64_t k = 0; k < squares; k += L) {
      Simd<T> x[L];
#pragma GCC unroll 16
      for (int r = 0; r < L; ++r)
        x[r] = w + r < count ? Simd<T>::load(from + (w + r) * w_stride + k) : Simd<T>(T(0));
      transpose<T>(x, std::make_integer_sequence<int, L>());
#pragma GCC unroll 16
      for (int r = 0; r < L; ++r) x[r].store(to + (k + r) * width + w);
    }
  for (int64_t k = squares; k < ks; ++k)
    for (int64_t w = 0; w < width; ++w)
      to[k * width + w] = w < count ? from[w * w_stride + k * k_stride] : T(0);
}

}  // namespace
}  // namespace wengert::WENGERT_ISA
