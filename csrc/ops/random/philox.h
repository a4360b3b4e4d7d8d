// The arithmetic of random numbers (see random.cpp), for the CPU and for a GPU, to the same bits:
// nothing here may be contracted to an fma.
#pragma once

#include <math.h>

#include <cstdint>

#include "base/fn.h"

namespace wengert {

enum class RandomKind { uniform, normal, integers };

struct RandomState {     // as kernels are given it
  uint64_t seed, first;  // block
};
struct RandomBlock {
  uint32_t word[4];
  FN uint64_t pair(int i) const {
    return static_cast<uint64_t>(word[2 * i + 1]) << 32 | word[2 * i];
  }
};

FN RandomBlock philox(uint64_t seed, uint64_t counter) {
  uint32_t c[4] = {static_cast<uint32_t>(counter), static_cast<uint32_t>(counter >> 32), 0, 0};
  uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53} * c[0], p1 = uint64_t{0xCD9E8D57} * c[2];
    const uint32_t next[4] = {
        static_cast<uint32_t>(p1 >> 32) ^ c[1] ^ k0, static_cast<uint32_t>(p1),
        static_cast<uint32_t>(p0 >> 32) ^ c[3] ^ k1, static_cast<uint32_t>(p0)};
    for (int i = 0; i < 4; ++i) c[i] = next[i];
    k0 += 0x9E3779B9;
    k1 += 0xBB67AE85;
  }
  return {{c[0], c[1], c[2], c[3]}};
}

// log of a normal positive number: x = 2^e * m with m in [sqrt(1/2), sqrt(2)); log m = 2 atanh((m -
// 1) / (m + 1)).
FN double plain_log(double x) {
  uint64_t bits;
  __builtin_memcpy(&bits, &x, sizeof bits);
  int64_t e = static_cast<int64_t>(bits >> 52) - 1023;
  bits = (bits & 0xFFFFFFFFFFFFF) | 0x3FF0000000000000;
  double m;
  __builtin_memcpy(&m, &bits, sizeof m);
  if (m > 1.4142135623730951) {
    m *= 0.5;
    ++e;
  }
  const double s = (m - 1) / (m + 1), s2 = s * s;
  double tail = 0;
  for (int n = 23; n >= 1; n -= 2) tail = tail * s2 + 1.0 / n;
  return static_cast<double>(e) * 0.69314718055994531 + 2 * s * tail;
}

FN double ratio(double r, const double (&p)[8], const double (&q)[8]) {
  double above = p[7], below = q[7];
  for (int i = 6; i >= 0; --i) {
    above = above * r + p[i];
    below = below * r + q[i];
  }
  return above / below;
}

// x with P(normal < x) = u, for 0 < u < 1.
FN double inverse_normal(double u) {
  static constexpr double a[8] = {3.3871328727963666080e0,  1.3314166789178437745e+2,
                                  1.9715909503065514427e+3, 1.3731693765509461125e+4,
                                  4.5921953931549871457e+4, 6.7265770927008700853e+4,
                                  3.3430575583588128105e+4, 2.5090809287301226727e+3};
  static constexpr double b[8] = {1.0,
                                  4.2313330701600911252e+1,
                                  6.8718700749205790830e+2,
                                  5.3941960214247511077e+3,
                                  2.1213794301586595867e+4,
                                  3.9307895800092710610e+4,
                                  2.8729085735721942674e+4,
                                  5.2264952788528545610e+3};
  static constexpr double c[8] = {1.42343711074968357734e0,  4.63033784615654529590e0,
                                  5.76949722146069140550e0,  3.64784832476320460504e0,
                                  1.27045825245236838258e0,  2.41780725177450611770e-1,
                                  2.27238449892691845833e-2, 7.74545014278341407640e-4};
  static constexpr double d[8] = {1.0,
                                  2.05319162663775882187e0,
                                  1.67638483018380384940e0,
                                  6.89767334985100004550e-1,
                                  1.48103976427480074590e-1,
                                  1.51986665636164571966e-2,
                                  5.47593808499534494600e-4,
                                  1.05075007164441684324e-9};
  static constexpr double e[8] = {6.65790464350110377720e0,  5.46378491116411436990e0,
                                  1.78482653991729133580e0,  2.96560571828504891230e-1,
                                  2.65321895265761230930e-2, 1.24266094738807843860e-3,
                                  2.71155556874348757815e-5, 2.01033439929228813265e-7};
  static constexpr double f[8] = {1.0,
                                  5.99832206555887937690e-1,
                                  1.36929880922735805310e-1,
                                  1.48753612908506148525e-2,
                                  7.86869131145613259100e-4,
                                  1.84631831751005468180e-5,
                                  1.42151175831644588870e-7,
                                  2.04426310338993978564e-15};
  const double q = u - 0.5;
  if (::fabs(q) <= 0.425) return q * ratio(0.180625 - q * q, a, b);
  const double r = ::sqrt(-plain_log(q < 0 ? u : 1 - u));
  const double x = r <= 5 ? ratio(r - 1.6, c, d) : ratio(r - 5, e, f);
  return q < 0 ? -x : x;
}

// Numbers drawn from one block.
template <class T> FN constexpr int64_t per_block(RandomKind kind) {
  return kind == RandomKind::uniform && sizeof(T) == 4 ? 4 : 2;
}

// Number i of a block; of integers: low to low + span - 1.
template <class T>
FN T draw_one(const RandomBlock& bits, int i, RandomKind kind, int64_t low, uint64_t span) {
  if (kind == RandomKind::integers)
    return static_cast<T>(
        static_cast<uint64_t>(low) +
        static_cast<uint64_t>(static_cast<unsigned __int128>(bits.pair(i)) * span >> 64));
  if (kind == RandomKind::normal)
    return static_cast<T>(
        inverse_normal((static_cast<double>(bits.pair(i) >> 12) + 0.5) * 0x1p-52));
  if (sizeof(T) == 4) return static_cast<T>(static_cast<float>(bits.word[i] >> 8) * 0x1p-24f);
  return static_cast<T>(static_cast<double>(bits.pair(i) >> 11) * 0x1p-53);
}

}  // namespace wengert
