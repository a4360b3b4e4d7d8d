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
// Simd<float> has its own branch-free functions; their largest error in ulp over all 2^32 inputs,
// as tests/ulp.cpp finds it:
//              exp   expm1  log   log1p  tanh  sigmoid  erf   sin   cos
//   avx512     0.89  1.44   0.84  1.43   1.34  1.96     1.07  0.57  0.57
//   avx2       0.89  1.44   0.84  1.43   1.34  1.97     1.07  0.57  0.57
//   baseline   0.99  1.45   0.88  1.41   1.34  1.97     1.36  0.57  0.57
//
// and over a sample of them (every 2,003rd, for some every 61st):
//              exp2  log2   log10 tan    asin  acos     atan  sinh  cosh  asinh acosh atanh
//   avx512     0.88  1.53   1.49  1.02   1.93  1.04     1.27  1.54  1.23  1.53  2.01  1.86
//   avx2       0.88  1.53   1.49  1.02   1.93  1.04     1.27  1.54  1.23  1.53  2.01  1.86
//   baseline   0.95  1.56   1.75  1.02   1.93  1.04     1.47  1.54  1.25  1.53  2.01  1.86
//
// atan2 is within 2 ulp, hypot within 0.51. Simd<double>, pow, fmod, nextafter and Lane call libm
// for each element (CUDA's own in a kernel); lgamma, polygamma and erfinv are computed in double.
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
WENGERT_WORD(pow, pow)
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

// e^-|x| cannot overflow. Its sum with 1 is rounded; what that lost is made up for.
template <Real V> FN V sigmoid(V x) {
  const V e = exp(-abs(x)), sum = e + 1;
  const V lost = e - (sum - 1);
  const V y = select(x < V(0), e, V(1)) / sum;
  return y - y * lost;
}

// ---- float; behind each polynomial stands its own largest error, relative ----

#if !defined(__CUDACC__)
// c0 + c1 x + c2 x^2 + ...
template <class V, class... C> FN V poly(V x, double c0, C... c) {
  if constexpr (sizeof...(c) == 0)
    return V(c0);
  else
    return fma(poly(x, c...), x, V(c0));
}

// ln 2 in two parts; a product of the first with an integer below 2^9 is exact.
inline constexpr double ln2_hi = 0x1.62e4p-1, ln2_lo = 0x1.7f7d1cf79abcap-20;

// 2^n for whole n from -126 to 127: n + 127 lands in the last bits and is shifted up.
FN f32 exp2_whole(f32 n) { return from_bits(bits(n + (0x1.8p23 + 127)) << 23); }

// x = n ln2 + r with |r| <= ln2 / 2: the reduction of exp and its kin. |x| < 2^8.
struct Reduced {
  f32 n, r;
};
FN Reduced reduce(f32 x) {
  const f32 n = fma(x, 0x1.715476p0, 0x1.8p23) - 0x1.8p23;
  return {n, fma(n, -ln2_lo, fma(n, -ln2_hi, x))};
}
FN f32 exp_near_0(f32 r) {  // 2^-28
#if defined(__FMA__)
  return poly(r, 1, 1, 0x1.fffffcp-2, 0x1.555492p-3, 0x1.5558bcp-5, 0x1.1239c6p-7, 0x1.6a4154p-10);
#else  // each step rounds twice
  const f32 q = poly(r, 0x1.fffffcp-2, 0x1.555492p-3, 0x1.5558bcp-5, 0x1.1239c6p-7, 0x1.6a4154p-10);
  return fma(r * r, q, r) + 1;
#endif
}
FN f32 exp_small(f32 x) {  // |x| <= 80
  const Reduced a = reduce(x);
  return exp_near_0(a.r) * exp2_whole(a.n);
}

FN f32 exp_of(Reduced a) {
  const f32 y = exp_near_0(a.r);
#if defined(__AVX512F__)
  return (f32::Vec)_mm512_scalef_ps(y.v, a.n.v);
#else
  const f32 half = fma(a.n, 0.5, 0x1.8p23) - 0x1.8p23;  // 2^n alone may not fit
  return y * exp2_whole(half) * exp2_whole(a.n - half);
#endif
}
// Ranges are written so that NaN stays.
FN f32 exp(f32 x) { return exp_of(reduce(select(x < -110, -110, select(x > 90, 90, x)))); }
FN f32 exp2(f32 x) {
  x = select(x < -160, -160, select(x > 130, 130, x));
  const f32 n = round(x);
  return exp_of({n, (x - n) * 0x1.62e430p-1});
}
#if defined(__AVX512F__)
// As above, but 1 / (sum + lost) to 14 bits, and then to 28, takes half as long as a division.
FN f32 sigmoid(f32 x) {
  const f32 z = from_bits(bits(x) | INT32_MIN);
  const Reduced a = reduce((f32::Vec)_mm512_max_ps(_mm512_set1_ps(-110), z.v));
  const f32 e = (f32::Vec)_mm512_scalef_ps(exp_near_0(a.r).v, a.n.v), sum = e + 1;
  const f32 lost = e - (sum - 1), near = (f32::Vec)_mm512_rcp14_ps(sum.v);
  const f32 r = fma(near, fma(-near, lost, fma(-near, sum, 1)), near);
  return (f32::Vec)_mm512_mask_mul_ps(r.v, _mm512_movepi32_mask((__m512i)x.v), e.v, r.v);
}
#endif

// e^x - 1 = 2 (2^(n-1) (e^r - 1) + 2^(n-1) - 1/2), halved because 2^128 does not fit.
FN f32 expm1(f32 x) {
  const Reduced a = reduce(select(x < -20, -20, select(x > 88.8, 88.8, x)));
  const f32 q = poly(a.r, 0.5, 0x1.555556p-3, 0x1.5554f8p-5, 0x1.11100ep-7, 0x1.6d3a76p-10,
                     0x1.a22bd0p-13);  // 2^-31
  const f32 near = fma(a.r * a.r, q, a.r), half = exp2_whole(a.n - 1);
  const f32 far = fma(half, near, half - 0.5) * 2;
  return copysign(select(a.n == 0, near, far), x);
}

// e^x / 2 for x >= 0, which fits where sinh and cosh do.
FN f32 half_exp(f32 x) {
  const Reduced a = reduce(select(x > 90, 90, x));
  return exp_near_0(a.r) * exp2_whole(a.n - 2) * 2;
}
FN f32 cosh(f32 x) {
  const f32 e = half_exp(abs(x));
  return e + 0.25 / e;
}
FN f32 sinh(f32 x) {
  const f32 a = abs(x), z = x * x, e = half_exp(a);
  const f32 p = poly(z, 0x1.555556p-3, 0x1.111134p-7, 0x1.9ffe92p-13, 0x1.7a15b6p-19);  // 2^-27
  return select(a < 1, fma(x, z * p, x), copysign(e - 0.25 / e, x));
}

// ln(2^e (1 + f)) for 1 + f in [sqrt(1/2), sqrt(2)).
FN f32 log_parts(f32 e, f32 f) {
  const f32 z = f * f;
  const f32 q = poly(f, 0x1.555546p-2, -0x1.ffffeep-3, 0x1.99a542p-3, -0x1.5562e0p-3, 0x1.233306p-3,
                     -0x1.fb43dep-4, 0x1.e64d70p-4, -0x1.e2e480p-4,
                     0x1.1b4370p-4);  // 2^-30
  const f32 tail = fma(e, ln2_lo, fma(z * f, q, z * -0.5));
  return fma(e, ln2_hi, f + tail);
}
// For x normal: its exponent e and bits of 1 + f, as above.
constexpr int32_t sqrt_half = 0x3f3504f3;
FN i32 exponent(f32 x) { return (bits(x) - sqrt_half) >> 23; }
FN f32 mantissa(f32 x) { return from_bits(((bits(x) - sqrt_half) & 0x7fffff) + sqrt_half); }
FN f32 to_float(i32 n) { return __builtin_convertvector(n, f32::Vec); }

template <class F> FN f32 log_by(f32 x, const F& of_parts) {
  const auto tiny = x < 0x1p-126;
  const f32 a = select(tiny, x * 0x1p23, x);
  const f32 e = to_float(exponent(a)) - select(tiny, 23, 0);
  const f32 y = of_parts(e, mantissa(a) - 1);
  const f32 edge = select(x == 0, -HUGE_VALF, select(x < 0, __builtin_nanf(""), x));
  return select((x > 0) & (x < HUGE_VALF), y, edge);
}
FN f32 log(f32 x) { return log_by(x, log_parts); }
// The logarithm of 1 + f, times that of e to the other base, whose two parts have few digits or are
// small.
FN f32 log2(f32 x) {
  return log_by(x, [](f32 e, f32 f) INLINE {
    const f32 y = log_parts(0, f);
    return e + fma(y, 0x1.715476p0, y * 0x1.4ae0c0p-26);
  });
}
FN f32 log10(f32 x) {
  return log_by(x, [](f32 e, f32 f) INLINE {
    const f32 y = log_parts(0, f);
    return fma(e, 0x1.344p-2, fma(y, 0x1.bcb7b2p-2, fma(e, 0x1.3509f8p-18, y * -0x1.5b235ep-27)));
  });
}

// u = 1 + x is rounded; what was lost is added to f. If e = 0 that makes f = x, exactly; if x is
// large it means nothing, and 2^-e may not fit.
FN f32 log1p(f32 x) {
  const f32 u = x + 1, part = u - 1;
  const f32 lost = (1 - (u - part)) + (x - part);
  const i32 e = exponent(u);
  const f32 m = mantissa(u) - 1, f = fma(lost, from_bits((127 - e) << 23), m);
  const f32 y = copysign(log_parts(to_float(e), select(x < 0x1p60, f, m)), x);
  const f32 edge = select(x == -1, -HUGE_VALF, select(x < -1, __builtin_nanf(""), x));
  return select((x > -1) & (x < HUGE_VALF), y, edge);
}

// By log1p; of large x, whose square may not fit, log(2x).
FN f32 asinh(f32 x) {
  const f32 a = abs(x), z = a * a;
  const auto large = a > 0x1p30;
  const f32 y = log1p(select(large, a, a + z / (1 + sqrt(z + 1))));
  return copysign(y + select(large, ln2_hi + ln2_lo, 0), x);
}
FN f32 acosh(f32 x) {
  const f32 t = x - 1;
  const auto large = x > 0x1p30;
  const f32 y = log1p(select(large, x, t + sqrt(t) * sqrt(t + 2)));
  return y + select(large, ln2_hi + ln2_lo, 0);
}
FN f32 atanh(f32 x) {
  const f32 a = abs(x);
  return copysign(log1p(2 * a / (1 - a)) * 0.5, x);
}

// Near 0 x + x^3 P(x^2), else 1 - 2 / (e^2|x| + 1).
FN f32 tanh(f32 x) {
  const f32 a = abs(x), z = x * x;
  const f32 p = poly(z, -0x1.555534p-2, 0x1.11075ep-3, -0x1.b842c4p-5, 0x1.524c40p-6,
                     -0x1.767a14p-8);  // 2^-27
  const f32 near = fma(x, z * p, x);
  const f32 far = 1 - 2 / (exp_small(select(a > 10, 20, a * 2)) + 1);
  return copysign(select(a < 0.625, near, far), x);
}

// Near 0 x + x P(x^2), else 1 - e^Q(|x|).
FN f32 erf(f32 x) {
  const f32 z = x * x, a = select(abs(x) > 3.95, 3.95, abs(x));
  const f32 p = poly(z, 0x1.06eba8p-3, -0x1.812740p-2, 0x1.ce2d50p-4, -0x1.b7fe90p-6, 0x1.542e10p-8,
                     -0x1.a50b0ep-11, 0x1.4c344ep-14);  // 2^-29
  const f32 q = poly(a, -0x1.72e6d0p-12, -0x1.2085b2p+0, -0x1.46c584p-1, -0x1.a60a90p-4,
                     0x1.654268p-6, -0x1.814df4p-9, 0x1.853064p-13);  // 2^-29
  return select(a < 1, fma(x, p, x), copysign(1 - exp_small(q), x));
}

// sin(x + quadrant pi/2) in double, for |x| <= 2^20: x = n pi/2 + r, where pi/2 is two parts, the
// first short enough for n times it to be exact.
FN f64 sine(f64 x, int quadrant) {
  const f64 shifted = fma(x, 0x1.45f306dc9c883p-1, 0x1.8p52), n = shifted - 0x1.8p52;
  const f64 r = (x - n * 0x1.921fb544p0) - n * 0x1.0b4611a626331p-34;
  const f64 z = r * r;
  const f64 s = r * poly(z, 1, -0x1.5555554cb1f27p-3, 0x1.111108906ee71p-7, -0x1.a00f98e068dafp-13,
                         0x1.6cd73206cb022p-19);  // 2^-37
  const f64 c = poly(z, 1, -0x1.ffffffd0956eep-2, 0x1.55553dfe7ad57p-5, -0x1.6c08773c01560p-10,
                     0x1.99326dc4f68ddp-16);  // 2^-34
  const f64::Bits turn = bits(shifted) + quadrant;
  const f64::Mask odd = {(turn & 1) != 0};
  return from_bits(bits(select(odd, c, s)) ^ ((turn & 2) << 62));
}
// f of doubles, of each half of the floats.
typedef float Half __attribute__((vector_size(WENGERT_SIMD_BYTES / 2)));
FN f64 widened(f32 x, int i) {
  Half half[2];
  __builtin_memcpy(half, &x.v, sizeof half);
  return __builtin_convertvector(half[i], f64::Vec);
}
template <class F, class... X> FN f32 in_double(const F& f, X... x) {
  Half half[2];
  for (int i = 0; i < 2; i++) half[i] = __builtin_convertvector(f(widened(x, i)...).v, Half);
  f32 y;
  __builtin_memcpy(&y.v, half, sizeof half);
  return y;
}
FN f32 sine(f32 x, int quadrant) {
  return in_double([&](f64 half) INLINE { return sine(half, quadrant); }, x);
}
// libm where |x| is large, in those lanes only: no lane's bits depend on its neighbours.
FN f32 sin(f32 x) {
  const auto far = !(abs(x) <= 0x1p20);
  return any(far) ? select(far, sin<f32>(x), sine(x, 0)) : sine(x, 0);
}
FN f32 cos(f32 x) {
  const auto far = !(abs(x) <= 0x1p20);
  return any(far) ? select(far, cos<f32>(x), sine(x, 1)) : sine(x, 1);
}
FN f32 tan(f32 x) {
  const auto far = !(abs(x) <= 0x1p20);
  const f32 y = in_double([](f64 half) INLINE { return sine(half, 0) / sine(half, 1); }, x);
  return any(far) ? select(far, tan<f32>(x), y) : y;
}
FN f32 hypot(f32 a, f32 b) {  // an infinity wins over NaN
  const f32 y = in_double([](f64 p, f64 q) INLINE { return sqrt(p * p + q * q); }, a, b);
  return select((abs(a) == HUGE_VALF) | (abs(b) == HUGE_VALF), HUGE_VALF, y);
}

inline constexpr double half_pi = 0x1.921fb6p0, half_pi_lost = 0x1.777a5cp-25;  // less the second

// x + x^3 P(x^2) for |x| <= 1/2; beyond, asin(x) = pi/2 - 2 asin(sqrt((1 - x) / 2)).
struct ArcSine {
  f32 s, more;  // whose sum it is
  f32::Mask near;
};
FN ArcSine arc_sine(f32 x) {
  const f32 a = abs(x);
  const auto near = a < 0.5;
  const f32 z = select(near, x * x, (1 - a) * 0.5), s = select(near, x, sqrt(z));
  const f32 p = poly(z, 0x1.55554cp-3, 0x1.33387cp-4, 0x1.6caed2p-5, 0x1.0491a2p-5, 0x1.d91fa4p-7,
                     0x1.3355c2p-5);  // 2^-29
  return {s, s * (z * p), near};
}
FN f32 asin(f32 x) {
  const auto [s, more, near] = arc_sine(x);
  return select(near, s + more, copysign((half_pi - 2 * s) - (2 * more + half_pi_lost), x));
}
FN f32 acos(f32 x) {
  const auto [s, more, near] = arc_sine(x);
  const f32 y = s + more;
  const f32 far = select(x < 0, 2 * half_pi - (2 * y + 2 * half_pi_lost), 2 * y);
  return select(near, half_pi - (y + half_pi_lost), far);
}

// x + x^3 P(x^2) for 0 <= x <= 1; beyond, pi/2 - atan(1 / x).
FN f32 atan_to_1(f32 x) {
  const f32 z = x * x;
  return fma(
      x,
      z * poly(z, -0x1.55553ep-2, 0x1.9991fep-3, -0x1.2421b6p-3, 0x1.c099fep-4, -0x1.583492p-4,
               0x1.dac9e6p-5, -0x1.fed162p-6, 0x1.65a660p-7, -0x1.d62ff4p-10),
      x);  // 2^-26
}
FN f32 atan(f32 x) {
  const f32 a = abs(x);
  const auto far = a > 1;
  const f32 y = atan_to_1(select(far, 1 / a, a));
  return copysign(select(far, half_pi - (y + half_pi_lost), y), x);
}
FN f32 atan2(f32 a, f32 b) {
  const f32 p = abs(a), q = abs(b), low = minimum(p, q), high = maximum(p, q);
  f32 y = atan_to_1(select(high == 0, 0, select(low == HUGE_VALF, 1, low / high)));
  y = select(p > q, half_pi - (y + half_pi_lost), y);
  y = select(copysign(f32(1), b) < 0, 2 * half_pi - (y + 2 * half_pi_lost), y);
  return copysign(y, a);
}
#endif  // !__CUDACC__

// Words that only exist one element at a time. Rounding is towards minus infinity, as in Python,
// and a zero has the sign of a / b, or, as a remainder, of b, as in NumPy; the callers have refused
// an integer zero divisor.
template <class T> FN Lane<T> floor_divide(Lane<T> a, Lane<T> b) {
  if constexpr (std::is_floating_point_v<T>) {
    if (b.v == 0) return a.v / b.v;
    T r = static_cast<T>(libm::fmod(a.v, b.v));  // a / b could round up to the next whole number
    const bool down = r != 0 && (r < 0) != (b.v < 0);
    const T q = libm::round((a.v - r) / b.v) - static_cast<T>(down);
    return q == 0 ? libm::copysign(T(0), a.v / b.v) : q;
  } else {
    if (b.v == T(-1)) return -a;  // the one quotient that can overflow
    const T q = static_cast<T>(a.v / b.v);
    return static_cast<T>(q - ((a.v % b.v != 0) && ((a.v < 0) != (b.v < 0))));
  }
}
template <class T> FN Lane<T> remainder(Lane<T> a, Lane<T> b) {
  if constexpr (std::is_floating_point_v<T>) {
    T r = static_cast<T>(libm::fmod(a.v, b.v));
    if (r == 0) return libm::copysign(T(0), b.v);
    if ((r < 0) != (b.v < 0)) r += b.v;
    return r;
  } else {
    if (b.v == T(-1)) return T(0);
    const T r = static_cast<T>(a.v % b.v);
    return r != 0 && (r < 0) != (b.v < 0) ? static_cast<T>(r + b.v) : r;
  }
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
