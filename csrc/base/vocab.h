// The words that formulas may use, over Simd<T> and Lane<T> (base/simd.h):
//
//   any type       abs sign maximum minimum is_nan select       (max, min: NaN if either is)
//                  times flat                                   (see ops/elementwise/rows.h)
//   float, double  fma sqrt floor ceil round trunc exp expm1 exp2 log log1p log2 log10 tanh sigmoid
//                  erf sin cos tan asin acos atan sinh cosh asinh acosh atanh pow over
//                  atan2 hypot fmod copysign nextafter lgamma polygamma erfinv
//
// All keep NaN, infinities, subnormals and the sign of zero. `fma` rounds once on avx2 and avx512,
// twice on the baseline, which has no such instruction. A second argument converts to the type of
// the first: maximum(x, 0.0), pow(x, 2.0).
//
// Simd<float> computes its own branch-free functions (base/polynomials.h has them, and a table of
// their errors); Simd<double>, pow and fmod where they must, nextafter and Lane call libm for each
// element (CUDA's own in a kernel); lgamma, polygamma and erfinv are computed in double
// (base/special.h).
#pragma once

#include <math.h>

#include "base/simd.h"
#include "base/special.h"

namespace wengert::WENGERT_ISA {

template <class V>
concept Value = requires {
  typename V::Scalar;
  typename V::Mask;
  V::width;
};
template <class V>
concept Real = Value<V> && std::is_floating_point_v<typename V::Scalar>;

template <class V> using Same = std::type_identity_t<V>;

// ---- libm, one element at a time ----

// f of each element; a loop that stays a loop, for the calls would fill pages if unrolled.
template <Real V, class F, class... More> FN V per_element(F f, V x, More... more) {
  if constexpr (V::width == 1) {
    return f(x.v, more.v...);
  } else {
    typename V::Scalar y[V::width];
#if !defined(__CUDACC__)
#pragma GCC unroll 1
#endif
    for (int i = 0; i < V::width; i++) y[i] = f(x.v[i], more.v[i]...);
    return V::load(y);
  }
}

#define WENGERT_WORD(name, function)                                           \
  namespace libm {                                                             \
  FN float name(float x) { return ::function##f(x); }                          \
  FN double name(double x) { return ::function(x); }                           \
  }                                                                            \
  template <Real V> FN V name(V x) {                                           \
    return per_element([](typename V::Scalar e) { return libm::name(e); }, x); \
  }
WENGERT_WORD(sqrt, sqrt)
WENGERT_WORD(floor, floor)
WENGERT_WORD(ceil, ceil)
WENGERT_WORD(round, rint)  // half to even
WENGERT_WORD(trunc, trunc)
WENGERT_WORD(exp, exp)
WENGERT_WORD(expm1, expm1)
WENGERT_WORD(log, log)
WENGERT_WORD(log1p, log1p)
WENGERT_WORD(tanh, tanh)
WENGERT_WORD(erf, erf)
WENGERT_WORD(sin, sin)
WENGERT_WORD(cos, cos)
WENGERT_WORD(exp2, exp2)
WENGERT_WORD(log2, log2)
WENGERT_WORD(log10, log10)
WENGERT_WORD(tan, tan)
WENGERT_WORD(asin, asin)
WENGERT_WORD(acos, acos)
WENGERT_WORD(atan, atan)
WENGERT_WORD(sinh, sinh)
WENGERT_WORD(cosh, cosh)
WENGERT_WORD(asinh, asinh)
WENGERT_WORD(acosh, acosh)
WENGERT_WORD(atanh, atanh)
#undef WENGERT_WORD
#define WENGERT_WORD(name, function)                                     \
  namespace libm {                                                       \
  FN float name(float a, float b) { return ::function##f(a, b); }        \
  FN double name(double a, double b) { return ::function(a, b); }        \
  }                                                                      \
  template <Real V> FN V name(V a, Same<V> b) {                          \
    using T = typename V::Scalar;                                        \
    return per_element([](T x, T y) { return libm::name(x, y); }, a, b); \
  }
WENGERT_WORD(fmod, fmod)
WENGERT_WORD(atan2, atan2)
WENGERT_WORD(hypot, hypot)
WENGERT_WORD(copysign, copysign)
WENGERT_WORD(nextafter, nextafter)
#undef WENGERT_WORD
namespace libm {
#if defined(__CUDACC__)
FN float lgamma(float x) { return ::lgammaf(x); }
FN double lgamma(double x) { return ::lgamma(x); }
#else
FN double lgamma(double x) {
  int sign;  // ::lgamma writes a global
  return ::lgamma_r(x, &sign);
}
FN float lgamma(float x) { return static_cast<float>(lgamma(static_cast<double>(x))); }
#endif
}  // namespace libm
template <Real V> FN V lgamma(V x) {
  return per_element([](typename V::Scalar e) { return libm::lgamma(e); }, x);
}
template <Real V> FN V erfinv(V x) {
  using T = typename V::Scalar;
  return per_element([](T e) { return static_cast<T>(wengert::erfinv(static_cast<double>(e))); },
                     x);
}
template <Real V> FN V polygamma(V x, double n) {
  using T = typename V::Scalar;
  return per_element(
      [n](T e) { return static_cast<T>(wengert::polygamma(static_cast<double>(e), n)); }, x);
}
namespace libm {
FN float pow(float a, float b) { return ::powf(a, b); }
FN double pow(double a, double b) { return ::pow(a, b); }
FN float fma(float a, float b, float c) { return ::fmaf(a, b, c); }
FN double fma(double a, double b, double c) { return ::fma(a, b, c); }
}  // namespace libm

template <class T> FN Lane<T> fma(Lane<T> a, Same<Lane<T>> b, Same<Lane<T>> c) {
#if defined(__FMA__) || defined(__CUDACC__)
  return libm::fma(a.v, b.v, c.v);
#else
  return a * b + c;
#endif
}

// ---- What the processor does itself ----

#if !defined(__CUDACC__)
using f32 = Simd<float>;
using f64 = Simd<double>;
using i32 = f32::Bits;

template <class T> FN typename Simd<T>::Bits bits(Simd<T> x) { return (typename Simd<T>::Bits)x.v; }
FN f32 from_bits(f32::Bits b) { return (f32::Vec)b; }
FN f64 from_bits(f64::Bits b) { return (f64::Vec)b; }

template <class T> FN Simd<T> copysign(Simd<T> x, Simd<T> sign) {
  const auto top = bits(Simd<T>(-0.0));
  return from_bits((bits(x) & ~top) | (bits(sign) & top));
}

#if defined(__AVX512F__)
#define WENGERT_MM(op) _mm512_##op
#define WENGERT_ROUND(type) _mm512_roundscale_##type
#elif defined(__AVX2__)
#define WENGERT_MM(op) _mm256_##op
#define WENGERT_ROUND(type) _mm256_round_##type
#endif

#if defined(WENGERT_MM)
#define WENGERT_HARDWARE(V, type)                                                     \
  FN V fma(V a, V b, V c) { return (V::Vec)WENGERT_MM(fmadd_##type)(a.v, b.v, c.v); } \
  FN V sqrt(V x) { return (V::Vec)WENGERT_MM(sqrt_##type)(x.v); }                     \
  FN V round(V x) { return (V::Vec)WENGERT_ROUND(type)(x.v, _MM_FROUND_NO_EXC); }     \
  FN V floor(V x) { return (V::Vec)WENGERT_ROUND(type)(x.v, _MM_FROUND_NO_EXC | 1); } \
  FN V ceil(V x) { return (V::Vec)WENGERT_ROUND(type)(x.v, _MM_FROUND_NO_EXC | 2); }  \
  FN V trunc(V x) { return (V::Vec)WENGERT_ROUND(type)(x.v, _MM_FROUND_NO_EXC | 3); }
WENGERT_HARDWARE(f32, ps)
WENGERT_HARDWARE(f64, pd)
#undef WENGERT_HARDWARE
#else
template <class T> FN Simd<T> fma(Simd<T> a, Same<Simd<T>> b, Same<Simd<T>> c) { return a * b + c; }
#if defined(__SSE2__)
FN f32 sqrt(f32 x) { return (f32::Vec)_mm_sqrt_ps(x.v); }
FN f64 sqrt(f64 x) { return (f64::Vec)_mm_sqrt_pd(x.v); }
#endif
// Adding 2^23 (2^52) pushes the fraction out, rounding half to even; beyond, all are integers.
template <class T> FN Simd<T> round(Simd<T> x) {
  const Simd<T> whole = sizeof(T) == 4 ? 0x1p23 : 0x1p52, a = abs(x);
  return select(a < whole, copysign((a + whole) - whole, x), x);
}
template <class T> FN Simd<T> floor(Simd<T> x) {
  const Simd<T> y = round(x);
  return copysign(select(y > x, y - 1, y), x);
}
template <class T> FN Simd<T> ceil(Simd<T> x) { return -floor(-x); }
template <class T> FN Simd<T> trunc(Simd<T> x) { return copysign(floor(abs(x)), x); }
#endif
#endif  // !__CUDACC__

// ---- Any type ----

template <Value V> FN typename V::Mask is_nan(V x) { return x != x; }

template <Value V> FN V maximum(V a, Same<V> b) { return select((a > b) | is_nan(a), a, b); }

template <Value V> FN V minimum(V a, Same<V> b) { return select((a < b) | is_nan(a), a, b); }

template <Value V> FN V sign(V x) {  // of NaN and of either zero: itself
  return select(x > V(0), V(1), select(x < V(0), V(-1), x));
}

template <Value V> FN V abs(V x) {
  if constexpr (Real<V> && V::width > 1)
    return from_bits(bits(x) & ~bits(V(-0.0)));
  else
    return select(x <= V(0), V(0) - x, x);  // turns -0 into 0
}

// A factor, or a numerator, of 0 wins over infinities and NaN.
template <Value V> FN V times(V a, Same<V> b) { return select(a == V(0), a, a * b); }
template <Real V> FN V over(V a, Same<V> b) { return select(a == V(0), a, a / b); }
template <Value V> FN V flat(V g, V) { return g; }

// y = a ** b, if b is one of the exponents that products, a quotient and a root make: within 2 ulp,
// and as libm for zeros, infinities and NaN.
template <Real V> FN bool power_by_products(V a, typename V::Scalar b, V& y) {
  if (!(b >= -2 && b <= 4)) return false;
  const int twice = static_cast<int>(b + b);
  if (static_cast<typename V::Scalar>(twice) != b + b) return false;
  if (twice == 4)
    y = a * a;
  else if (twice == 2)
    y = a;
  else if (twice == 6)
    y = a * a * a;
  else if (twice == 8)
    y = a * a * (a * a);
  else if (twice == -2)
    y = 1 / a;
  else if (twice == -4)
    y = 1 / a * (1 / a);
  else if (twice == 1 || twice == -1) {
    const V low = V(-1) / V(0), root = select(a == low, -low, sqrt(a) + 0);  // low: -infinity
    y = twice > 0 ? root : 1 / root;
  } else
    return false;
  return true;
}
template <Real V> FN V pow(V a, Same<V> b) {
  using T = typename V::Scalar;
  if constexpr (V::width > 1) {
    const V twice = b + b;
    if (!any((twice == trunc(twice)) & (abs(b) <= 4)))
      return per_element([](T x, T e) { return libm::pow(x, e); }, a, b);
    V y;
    if (!any(b != V(b.v[0])) && power_by_products(a, b.v[0], y)) return y;
  }
  return per_element(
      [](T x, T e) {
        Lane<T> y;
        return power_by_products(Lane<T>(x), e, y) ? y.v : libm::pow(x, e);
      },
      a, b);
}

// e^-|x| cannot overflow. Its sum with 1 is rounded; what that lost is made up for.
template <Real V> FN V sigmoid(V x) {
  const V e = exp(-abs(x)), sum = e + 1;
  const V lost = e - (sum - 1);
  const V y = select(x < V(0), e, V(1)) / sum;
  return y - y * lost;
}

#if defined(__FMA__) && !defined(__CUDACC__)
// Exact, as libm's. Where a / b was rounded up to a whole number, one b too much is taken away.
template <class T> FN Simd<T> fmod(Simd<T> a, Same<Simd<T>> b) {
  using V = Simd<T>;
  const V q = trunc(a / b);
  if (any(!((abs(q) < 0x1p22) & (abs(b) < __builtin_inf()))))
    return per_element([](T x, T y) { return libm::fmod(x, y); }, a, b);
  V r = fma(-q, b, a);
  r = select(r * copysign(V(1), a) < V(0), r + copysign(abs(b), a), r);
  return select(r == V(0), copysign(V(0), a), r);
}
#endif

// Rounding is towards minus infinity, as in Python, and a zero has the sign of a / b, or, as a
// remainder, of b, as in NumPy; the callers have refused an integer zero divisor.
template <Real V> FN typename V::Mask signs_differ(V r, V b) {
  return ((r < V(0)) & (b > V(0))) | ((r > V(0)) & (b < V(0)));
}
template <Real V> FN V remainder(V a, Same<V> b) {
  const V r = fmod(a, b);
  return select(r == V(0), copysign(V(0), b), select(signs_differ(r, b), r + b, r));
}
template <Real V> FN V floor_divide(V a, Same<V> b) {
  const V r = fmod(a, b), ratio = a / b;
  V q = trunc(ratio);  // one too much where the ratio was rounded up to a whole number
  q = select((q == ratio) & (abs(r) > abs(b) * V(0.5)), q - copysign(V(1), ratio), q);
  q = select(signs_differ(r, b), q - V(1), q);
  q = select(q == V(0), copysign(V(0), ratio), q);
  const V all_whole = sizeof(typename V::Scalar) == 4 ? 0x1p24 : 0x1p53;
  return select(is_nan(r) & (b != V(0)), r, select(abs(ratio) < all_whole, q, ratio));
}
template <class T>
  requires std::is_integral_v<T>
FN Lane<T> floor_divide(Lane<T> a, Lane<T> b) {
  if (b.v == T(-1)) return -a;  // the one quotient that can overflow
  const T q = static_cast<T>(a.v / b.v);
  return static_cast<T>(q - ((a.v % b.v != 0) && ((a.v < 0) != (b.v < 0))));
}
template <class T>
  requires std::is_integral_v<T>
FN Lane<T> remainder(Lane<T> a, Lane<T> b) {
  if (b.v == T(-1)) return T(0);
  const T r = static_cast<T>(a.v % b.v);
  return r != 0 && (r < 0) != (b.v < 0) ? static_cast<T>(r + b.v) : r;
}
template <class T>
  requires std::is_integral_v<T>
FN Lane<T> fmod(Lane<T> a, Lane<T> b) {  // b is not 0
  return b.v == T(-1) ? T(0) : static_cast<T>(a.v % b.v);
}
template <class T>
  requires std::is_integral_v<T>
FN Lane<T> pow(Lane<T> a, Lane<T> b) {  // b >= 0
  Lane<T> y(1);
  for (T e = b.v; e > 0; e = static_cast<T>(e / 2)) {
    if (e % 2) y = y * a;
    a = a * a;
  }
  return y;
}

}  // namespace wengert::WENGERT_ISA

#if !defined(__CUDACC__)
#include "base/polynomials.h"
#endif
