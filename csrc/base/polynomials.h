// The words of vocab.h for Simd<float>: branch-free, by polynomials. Behind each polynomial stands
// its own largest relative error.
//
// The largest error of a word in ulp over all 2^32 inputs, as tests/ulp.cpp finds it:
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
// atan2 is within 2 ulp, hypot within 0.51.
#pragma once

#include "base/vocab.h"

namespace wengert::WENGERT_ISA {

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

}  // namespace wengert::WENGERT_ISA
