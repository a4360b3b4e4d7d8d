// The value types that elementwise formulas are written over.
//
//   Simd<T>  a CPU vector of T: float, double, int32_t, int64_t; 64, 32 or 16 bytes, by the ISA
//   Lane<T>  one T of any arithmetic type: CUDA threads, plain loops, dtypes without a vector
//
// Both have one interface, so that one formula serves both: width, load/store, load_n/store_n for
// the last n elements, + - * / and comparisons, masks with & | ! and select(mask, a, b). Constants
// convert to T without promoting: `1.0 - y` computes in float for float. Integers wrap; they have
// no `/` (a zero divisor would trap: each integer division states what zero gives).
//
// Everything is in namespace wengert::WENGERT_ISA and is always inlined: the same source compiled
// for another instruction set never shares a symbol with this one.
#pragma once

#include <cstdint>
#include <type_traits>

#include "base/fn.h"

#if !defined(WENGERT_ISA)  // ordinary files compile as the baseline does
#if defined(__CUDACC__)
#define WENGERT_ISA gpu
#else
#define WENGERT_ISA baseline
#endif
#endif

#if !defined(__CUDACC__)
#include <utility>
#if defined(__x86_64__)
#pragma GCC diagnostic push  // g++ 12 warns of _mm512_undefined_ps() inside its own header
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>
#pragma GCC diagnostic pop
#endif
#if defined(__AVX512F__)
#define WENGERT_SIMD_BYTES 64
#elif defined(__AVX2__)
#define WENGERT_SIMD_BYTES 32
#else
#define WENGERT_SIMD_BYTES 16
#endif
#endif

namespace wengert::WENGERT_ISA {

template <class N>
concept Number = std::is_arithmetic_v<N>;

template <class T> struct Lane {
  using Scalar = T;
  using Mask = bool;
  static constexpr int width = 1;

  T v;

  Lane() = default;
  template <Number N> FN Lane(N x) : v(static_cast<T>(x)) {}

  FN static Lane load(const T* p) { return *p; }
  FN void store(T* p) const { *p = v; }
  FN static Lane load_n(const T* p, int n) { return n > 0 ? *p : T(1); }
  FN void store_n(T* p, int n) const {
    if (n > 0) *p = v;
  }

  // Where the arithmetic happens: integers wrap, so in an unsigned type that int does not swallow.
  using Big = std::conditional_t<(sizeof(T) > 4), uint64_t, uint32_t>;
  using Work = std::conditional_t<std::is_integral_v<T>, Big, T>;

  friend FN Lane operator+(Lane a, Lane b) { return static_cast<T>(Work(a.v) + Work(b.v)); }
  friend FN Lane operator-(Lane a, Lane b) { return static_cast<T>(Work(a.v) - Work(b.v)); }
  friend FN Lane operator*(Lane a, Lane b) { return static_cast<T>(Work(a.v) * Work(b.v)); }
  friend FN Lane operator/(Lane a, Lane b)
    requires std::is_floating_point_v<T>
  {
    return a.v / b.v;
  }
  FN Lane operator-() const { return static_cast<T>(-Work(v)); }
  FN Lane& operator+=(Lane b) { return *this = *this + b; }
  FN Lane& operator-=(Lane b) { return *this = *this - b; }
  FN Lane& operator*=(Lane b) { return *this = *this * b; }

  friend FN bool operator==(Lane a, Lane b) { return a.v == b.v; }
  friend FN bool operator!=(Lane a, Lane b) { return a.v != b.v; }
  friend FN bool operator<(Lane a, Lane b) { return a.v < b.v; }
  friend FN bool operator<=(Lane a, Lane b) { return a.v <= b.v; }
  friend FN bool operator>(Lane a, Lane b) { return a.v > b.v; }
  friend FN bool operator>=(Lane a, Lane b) { return a.v >= b.v; }
  friend FN Lane select(bool mask, Lane a, Lane b) { return mask ? a : b; }
};

#if !defined(__CUDACC__)

template <class T> struct Simd {
  using Scalar = T;
  static constexpr int width = WENGERT_SIMD_BYTES / sizeof(T);
  typedef T Vec __attribute__((vector_size(WENGERT_SIMD_BYTES)));
  using Bits = decltype(Vec{} < Vec{});  // a signed integer per element: all ones where true

  struct Mask {
    Bits v;
    friend FN Mask operator&(Mask a, Mask b) { return {a.v & b.v}; }
    friend FN Mask operator|(Mask a, Mask b) { return {a.v | b.v}; }
    FN Mask operator!() const { return {~v}; }
    friend FN bool any(Mask mask) {
      uint64_t words[WENGERT_SIMD_BYTES / 8], found = 0;
      __builtin_memcpy(words, &mask.v, sizeof words);
      for (uint64_t word : words) found |= word;
      return found != 0;
    }
  };

  Vec v;

  Simd() = default;
  FN Simd(Vec x) : v(x) {}
  template <Number N>
  FN Simd(N x) : v(static_cast<T>(x) - Vec{}) {}  // x - 0, not x + 0: that would lose -0.0

  FN static Simd load(const T* p) {
    Simd x;
    __builtin_memcpy(&x.v, p, sizeof x.v);
    return x;
  }
  FN void store(T* p) const { __builtin_memcpy(p, &v, sizeof v); }
  // Past the caches, to a multiple of sizeof v; stream_end() before another thread may look.
  FN void stream(T* p) const {
#if defined(__AVX512F__)
    _mm512_stream_si512(reinterpret_cast<__m512i*>(p), (__m512i)v);
#elif defined(__AVX2__)
    _mm256_stream_si256(reinterpret_cast<__m256i*>(p), (__m256i)v);
#elif defined(__x86_64__)
    _mm_stream_si128(reinterpret_cast<__m128i*>(p), (__m128i)v);
#else
    store(p);
#endif
  }
  FN static void stream_end() {
#if defined(__x86_64__)
    _mm_sfence();
#endif
  }

  // The first n elements, 0 <= n <= width, and no other memory; load_n sets the other lanes to 1.
  FN static Simd load_n(const T* p, int n) {
    Simd x(T(1));
#if defined(__AVX512F__)
    if constexpr (sizeof(T) == 4)
      x.v = (Vec)_mm512_mask_loadu_epi32((__m512i)x.v, static_cast<__mmask16>((1u << n) - 1), p);
    else
      x.v = (Vec)_mm512_mask_loadu_epi64((__m512i)x.v, static_cast<__mmask8>((1u << n) - 1), p);
#elif defined(__AVX2__)
    const Bits some = lanes(0, n);
    if constexpr (sizeof(T) == 4)
      x.v = some ? (Vec)_mm256_maskload_epi32(reinterpret_cast<const int*>(p), (__m256i)some) : x.v;
    else
      x.v = some ? (Vec)_mm256_maskload_epi64(reinterpret_cast<const long long*>(p), (__m256i)some)
                 : x.v;
#else
    __builtin_memcpy(&x.v, p, sizeof(T) * static_cast<unsigned>(n));
#endif
    return x;
  }
  FN void store_n(T* p, int n) const {
#if defined(__AVX512F__)
    if constexpr (sizeof(T) == 4)
      _mm512_mask_storeu_epi32(p, static_cast<__mmask16>((1u << n) - 1), (__m512i)v);
    else
      _mm512_mask_storeu_epi64(p, static_cast<__mmask8>((1u << n) - 1), (__m512i)v);
#elif defined(__AVX2__)
    // Masked stores take 40 operations on AMD's processors: halves of halves instead.
    if (n == width) return store(p);
    char* at = reinterpret_cast<char*>(p);
    const int bytes = n * static_cast<int>(sizeof(T));
    __m128i rest = _mm256_castsi256_si128((__m256i)v);
    if (bytes & 16) {
      _mm_storeu_si128(reinterpret_cast<__m128i*>(at), rest);
      rest = _mm256_extracti128_si256((__m256i)v, 1);
      at += 16;
    }
    if (bytes & 8) {
      _mm_storel_epi64(reinterpret_cast<__m128i*>(at), rest);
      rest = _mm_unpackhi_epi64(rest, rest);
      at += 8;
    }
    const int last = _mm_cvtsi128_si32(rest);
    if (bytes & 4) __builtin_memcpy(at, &last, sizeof last);
#else
    __builtin_memcpy(p, &v, sizeof(T) * static_cast<unsigned>(n));
#endif
  }
#if defined(__AVX2__) && !defined(__AVX512F__)
  FN static Bits lanes(int from, int to) {  // all ones in these
    Bits lane;
#pragma GCC unroll 8
    for (int i = 0; i < width; ++i) lane[i] = i;
    using Int = std::remove_reference_t<decltype(lane[0])>;
    return (lane >= static_cast<Int>(from)) & (lane < static_cast<Int>(to));
  }
#endif

  friend FN Simd operator+(Simd a, Simd b) { return a.v + b.v; }
  friend FN Simd operator-(Simd a, Simd b) { return a.v - b.v; }
  friend FN Simd operator*(Simd a, Simd b) { return a.v * b.v; }
  friend FN Simd operator/(Simd a, Simd b)
    requires std::is_floating_point_v<T>
  {
    return a.v / b.v;
  }
  FN Simd operator-() const { return -v; }
  FN Simd& operator+=(Simd b) { return *this = *this + b; }
  FN Simd& operator-=(Simd b) { return *this = *this - b; }
  FN Simd& operator*=(Simd b) { return *this = *this * b; }

  friend FN Mask operator==(Simd a, Simd b) { return {a.v == b.v}; }
  friend FN Mask operator!=(Simd a, Simd b) { return {a.v != b.v}; }
  friend FN Mask operator<(Simd a, Simd b) { return {a.v < b.v}; }
  friend FN Mask operator<=(Simd a, Simd b) { return {a.v <= b.v}; }
  friend FN Mask operator>(Simd a, Simd b) { return {a.v > b.v}; }
  friend FN Mask operator>=(Simd a, Simd b) { return {a.v >= b.v}; }
  friend FN Simd select(Mask mask, Simd a, Simd b) { return mask.v ? a.v : b.v; }
};

// x in the first n lanes, `other` in the rest.
template <class V> FN V first(V x, int n, typename V::Scalar other) {
  typename V::Bits number;
  for (int j = 0; j < V::width; ++j) number[j] = j;
  return n == V::width ? x : select(typename V::Mask{number < n}, x, V(other));
}
// f of all lanes of v, half with half; each lane has it.
template <int by, class V, int... i> FN V turned(V v, std::integer_sequence<int, i...>) {
  return V(__builtin_shufflevector(v.v, v.v, (i + by) % V::width...));
}
template <class V, class F, int half = V::width / 2> FN V fold(V v, const F& f) {
  if constexpr (half == 0)
    return v;
  else
    return fold<V, F, half / 2>(f(v, turned<half>(v, std::make_integer_sequence<int, V::width>())),
                                f);
}
// Floats in float64: as many as a vector has room for, or both halves of one. Compilers convert
// what is wider than their vectors piece by piece.
FN Simd<double> widened(const float* p) {
#if defined(__AVX512F__)
  return (Simd<double>::Vec)_mm512_cvtps_pd(_mm256_loadu_ps(p));
#elif defined(__AVX2__)
  return (Simd<double>::Vec)_mm256_cvtps_pd(_mm_loadu_ps(p));
#else
  typedef float Half __attribute__((vector_size(WENGERT_SIMD_BYTES / 2)));
  Half half;
  __builtin_memcpy(&half, p, sizeof half);
  return __builtin_convertvector(half, Simd<double>::Vec);
#endif
}
FN void widen(Simd<float> x, Simd<double> (&half)[2]) {
  float floats[x.width];
  x.store(floats);
  for (int p = 0; p < 2; ++p) half[p] = widened(floats + p * half[p].width);
}

#endif  // !__CUDACC__

// A run of n elements, vector by vector: calls body(i, count), where count is V::width but at the
// end.
template <class V, class Body> FN void each_vector(int64_t n, const Body& body) {
  int64_t i = 0;
  for (; i + V::width <= n; i += V::width) body(i, V::width);
  if (i < n) body(i, static_cast<int>(n - i));
}
template <class V> FN V load(const typename V::Scalar* x, int count) {
  return count == V::width ? V::load(x) : V::load_n(x, count);
}
template <class V> FN void store(typename V::Scalar* y, int count, V value) {
  if (count == V::width)
    value.store(y);
  else
    value.store_n(y, count);
}
// A lambda's `[&](int64_t i, int count) INLINE { ... }`: left to itself the compiler may call it.
#define INLINE __attribute__((always_inline))

}  // namespace wengert::WENGERT_ISA
