// The arithmetic of random numbers (see random.cpp), for the CPU and for a GPU, to the same bits:
// nothing here may be contracted to an fma.
#pragma once

#include <math.h>

#include <cstdint>

#include "base/fn.h"
#include "base/special.h"

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

// A whole number below 2^52: it is the fraction of a double from 2^52 on.
FN double small_whole(uint64_t n) {
  return __builtin_bit_cast(double, n | uint64_t{0x433} << 52) - 0x1p52;
}
// Between 0 and 1, and neither.
FN double inside_unit(uint64_t bits) { return (small_whole(bits >> 12) + 0.5) * 0x1p-52; }

// log of a normal positive number: x = 2^e * m with m in [sqrt(1/2), sqrt(2)); log m = 2 atanh((m -
// 1) / (m + 1)).
FN double plain_log(double x) {
  const auto bits = __builtin_bit_cast(uint64_t, x);
  const double m = __builtin_bit_cast(double, (bits & 0xFFFFFFFFFFFFF) | 0x3FF0000000000000),
               e = small_whole(bits >> 52) - 1023;
  const bool upper = m > 1.4142135623730951;
  const double near_1 = upper ? m * 0.5 : m, s = (near_1 - 1) / (near_1 + 1), s2 = s * s;
  double tail = 0;
  for (int n = 23; n >= 1; n -= 2) tail = tail * s2 + 1.0 / n;
  return (upper ? e + 1 : e) * 0.69314718055994531 + 2 * s * tail;
}

// x with P(normal < x) = u, for 0 < u < 1.
FN double inverse_normal(double u) {
  const double q = u - 0.5;
  if (::fabs(q) <= 0.425) return normal_center(q);
  const double x = normal_tail(::sqrt(-plain_log(q < 0 ? u : 1 - u)));
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
  if (kind == RandomKind::normal) return static_cast<T>(inverse_normal(inside_unit(bits.pair(i))));
  if (sizeof(T) == 4) return static_cast<T>(static_cast<float>(bits.word[i] >> 8) * 0x1p-24f);
  return static_cast<T>(static_cast<double>(bits.pair(i) >> 11) * 0x1p-53);
}

}  // namespace wengert
