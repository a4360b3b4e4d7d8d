// Random numbers, many blocks at a time: the arithmetic of philox.h, to the same bits.
#include "ops/random/random.h"

#include "base/simd.h"

namespace wengert::WENGERT_ISA {
namespace {

constexpr int lanes = 32;  // blocks at a time

typedef uint64_t Vec __attribute__((vector_size(WENGERT_SIMD_BYTES)));
constexpr int width = WENGERT_SIMD_BYTES / 8, vectors = lanes / width;

FN Vec multiply_low(Vec a, Vec b) {  // the lower halves, to 64 bits
#if defined(__AVX512F__)
  return (Vec)_mm512_mul_epu32((__m512i)a, (__m512i)b);
#elif defined(__AVX2__)
  return (Vec)_mm256_mul_epu32((__m256i)a, (__m256i)b);
#elif defined(__SSE2__)
  return (Vec)_mm_mul_epu32((__m128i)a, (__m128i)b);
#else
  return (a & 0xffffffff) * (b & 0xffffffff);
#endif
}

// Words of blocks, each in 64 bits, of which the upper 32 are anything.
struct Blocks {
  Vec word[4][vectors];

  FN uint32_t at(int i, int j) const {
    return static_cast<uint32_t>(word[i][j / width][j % width]);
  }
  FN uint64_t pair(int i, int j) const {
    return word[2 * i + 1][j / width][j % width] << 32 | at(2 * i, j);
  }
};

void philox_blocks(uint64_t seed, uint64_t counter, Blocks& b) {
  const Vec m0 = 0xD2511F53 - Vec{}, m1 = 0xCD9E8D57 - Vec{};
#pragma GCC unroll 8
  for (int v = 0; v < vectors; ++v) {
    Vec c0, c1, c2 = {}, c3 = {};
    for (int j = 0; j < width; ++j) c0[j] = counter + static_cast<uint64_t>(v * width + j);
    c1 = c0 >> 32;
    uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
    for (int round = 0; round < 10; ++round, k0 += 0x9E3779B9, k1 += 0xBB67AE85) {
      const Vec p0 = multiply_low(m0, c0), p1 = multiply_low(m1, c2);
      c0 = (p1 >> 32) ^ c1 ^ uint64_t { k0 };
      c1 = p1;
      c2 = (p0 >> 32) ^ c3 ^ uint64_t { k1 };
      c3 = p0;
    }
    b.word[0][v] = c0, b.word[1][v] = c1, b.word[2][v] = c2, b.word[3][v] = c3;
  }
}

// Normal numbers of all blocks, in their order; the tails, a sixth of them, for themselves.
void normals(const Blocks& b, double* x) {
  constexpr int n = 2 * lanes;
  int place[n + 1], tails = 0;
  double tail[n + 1];
  for (int j = 0; j < lanes; ++j)
    for (int i = 0; i < 2; ++i) x[2 * j + i] = inside_unit(b.pair(i, j));
  for (int e = 0; e < n; ++e) {
    const double q = x[e] - 0.5;
    place[tails] = e;
    tail[tails] = q < 0 ? -x[e] : 1 - x[e];
    tails += __builtin_fabs(q) > 0.425;
  }
  for (int e = 0; e < n; ++e) x[e] = normal_center(x[e] - 0.5);
  for (int t = 0; t < tails; ++t)
    tail[t] = __builtin_copysign(normal_tail(__builtin_sqrt(-plain_log(__builtin_fabs(tail[t])))),
                                 tail[t]);
  for (int t = 0; t < tails; ++t) x[place[t]] = tail[t];
}

template <class T, RandomKind kind>
void draw_kind(RandomState state, const RandomRange& range, int64_t n, T* y) {
  constexpr int64_t per = per_block<T>(kind), many = per * lanes;
  Blocks b;
  std::conditional_t<kind == RandomKind::normal, double, T> x[many];
  for (int64_t at = 0; at < n; at += many) {
    philox_blocks(state.seed, state.first + static_cast<uint64_t>(at / per), b);
    if constexpr (kind == RandomKind::normal)
      normals(b, x);
    else
      for (int j = 0; j < lanes; ++j)
        for (int i = 0; i < per; ++i)
          x[j * per + i] = draw_one<T>({{b.at(0, j), b.at(1, j), b.at(2, j), b.at(3, j)}}, i, kind,
                                       range.low, range.span);
    const int64_t count = n - at < many ? n - at : many;
    for (int64_t e = 0; e < count; ++e) y[at + e] = static_cast<T>(x[e]);
  }
}

void draw(DType dtype, RandomState state, const RandomRange& range, int64_t n, void* y) {
  if (range.kind == RandomKind::integers)
    draw_kind<int64_t, RandomKind::integers>(state, range, n, static_cast<int64_t*>(y));
  else if (dtype == DType::float32)
    (range.kind == RandomKind::normal
         ? draw_kind<float, RandomKind::normal>
         : draw_kind<float, RandomKind::uniform>)(state, range, n, static_cast<float*>(y));
  else
    (range.kind == RandomKind::normal
         ? draw_kind<double, RandomKind::normal>
         : draw_kind<double, RandomKind::uniform>)(state, range, n, static_cast<double*>(y));
}

}  // namespace

extern constexpr RandomKernels random_kernels{draw};

}  // namespace wengert::WENGERT_ISA
