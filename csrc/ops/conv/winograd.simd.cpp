// The transforms of winograd.h, F(2x2, 3x3) of Lavin and Gray 2016 (arXiv 1509.09308), section 4.1.
#include "ops/conv/winograd.h"

#include <utility>

#include "base/simd.h"
#include "base/vocab.h"

namespace wengert::WENGERT_ISA {
namespace {

using V = Simd<float>;
constexpr int64_t L = V::width;

// Four inputs of a row or column to four parts: B' d.
FN void split_inputs(const V* d, V* part) {
  part[0] = d[0] - d[2], part[1] = d[1] + d[2], part[2] = d[2] - d[1], part[3] = d[3] - d[1];
}
// Three taps: G w.
FN void split_taps(const V* w, V* part) {
  const V half(0.5f), outer = half * (w[0] + w[2]), inner = half * w[1];
  part[0] = w[0], part[1] = outer + inner, part[2] = outer - inner, part[3] = w[2];
}
// Four parts to two results: A' m.
FN void join_results(const V* m, V* y) { y[0] = m[0] + m[1] + m[2], y[1] = m[1] - m[2] + m[3]; }
// Two gradients of results to four parts: A g.
FN void split_gradients(const V* g, V* part) {
  part[0] = g[0], part[1] = g[0] + g[1], part[2] = g[0] - g[1], part[3] = g[1];
}

// Every second of 2 * L elements, from the first and from the second on.
template <int... i>
FN void split_pairs(const float* p, V& even, V& odd, std::integer_sequence<int, i...>) {
#if defined(__AVX2__) && !defined(__AVX512F__)
  const auto halves = [p](int at) INLINE {
    return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(p + at)),
                                _mm_loadu_ps(p + at + 8), 1);
  };
  const __m256 a = halves(0), b = halves(4);  // no element crosses a half
  even = (V::Vec)_mm256_shuffle_ps(a, b, 0x88), odd = (V::Vec)_mm256_shuffle_ps(a, b, 0xdd);
#else
  const V a = V::load(p), b = V::load(p + L);
  even = __builtin_shufflevector(a.v, b.v, 2 * i...);
  odd = __builtin_shufflevector(a.v, b.v, (2 * i + 1)...);
#endif
}

void tiles(const WinogradTiles& t) {
  for (int64_t r = 0; r < t.rows; ++r)
    each_vector<V>(t.columns, [&](int64_t i, int count) INLINE {
      store<V>(t.to + r * t.line + i, count, load<V>(t.x + r * t.x_step + i, count));
    });
  for (int64_t r = 0; r < t.line_count; ++r)
    for (int64_t i = 0; i < t.row; i += L) {
      V even, odd;
      split_pairs(t.lines + r * t.line + 2 * i, even, odd, std::make_integer_sequence<int, L>());
      float* const to = t.sheets + r % 2 * 2 * t.sheet + r / 2 * t.row + i;
      even.store(to), odd.store(to + t.sheet);
    }
  for (int64_t i = 0; i < t.n; i += L) {
    V part[4][4];  // columns are split, rows are not
#pragma GCC unroll 4
    for (int q = 0; q < 4; ++q) {
      V d[4];
#pragma GCC unroll 4
      for (int r = 0; r < 4; ++r)
        d[r] = V::load(t.sheets + (r % 2 * 2 + q % 2) * t.sheet + r / 2 * t.row + q / 2 + i);
      V s[4];
      split_inputs(d, s);
#pragma GCC unroll 4
      for (int r = 0; r < 4; ++r) part[r][q] = s[r];
    }
#pragma GCC unroll 4
    for (int r = 0; r < 4; ++r) {
      V s[4];
      split_inputs(part[r], s);
#pragma GCC unroll 4
      for (int q = 0; q < 4; ++q) s[q].store(t.parts + (4 * r + q) * t.plane + i);
    }
  }
}

void taps(const float* w, int64_t width, float* parts, int64_t plane) {
  for (int64_t l = 0; l < width; l += L) {
    V part[4][3];
#pragma GCC unroll 3
    for (int k = 0; k < 3; ++k) {
      V column[3], s[4];
#pragma GCC unroll 3
      for (int j = 0; j < 3; ++j) column[j] = V::load(w + (3 * j + k) * width + l);
      split_taps(column, s);
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) part[j][k] = s[j];
    }
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      V s[4];
      split_taps(part[j], s);
#pragma GCC unroll 4
      for (int k = 0; k < 4; ++k) s[k].store(parts + (4 * j + k) * plane + l);
    }
  }
}

bool results(const WinogradRow& r) {
  V zeros(0.0f);  // NaN once a result is not finite
  for (int64_t x = 0; x < r.columns; x += 2)
    for (int64_t v = 0; v < r.vectors; ++v) {
      const float* const from = r.parts + x / 2 * r.width + v * L;
      V half[2][4];
#pragma GCC unroll 4
      for (int q = 0; q < 4; ++q) {
        V m[4], y[2];
#pragma GCC unroll 4
        for (int p = 0; p < 4; ++p) m[p] = V::load(from + (4 * p + q) * r.plane);
        join_results(m, y);
        half[0][q] = y[0], half[1][q] = y[1];
      }
#pragma GCC unroll 2
      for (int i = 0; i < 2; ++i) {
        V y[2];
        join_results(half[i], y);
        zeros = fma(y[0], V(0.0f), fma(y[1], V(0.0f), zeros));
        float* const to = (i ? r.lower : r.upper) + x * r.width + v * L;
        if (i && !r.lower) continue;
        y[0].store(to);
        if (x + 1 < r.columns) y[1].store(to + r.width);
      }
    }
  float lane[L];
  zeros.store(lane);
  bool finite = true;
  for (int l = 0; l < L; ++l) finite = finite && lane[l] == 0.0f;
  return finite;
}

void gradients(const WinogradRow& r) {
  for (int64_t x = 0; x < r.columns; x += 2)
    for (int64_t v = 0; v < r.vectors; ++v) {
      V half[4][2];
#pragma GCC unroll 2
      for (int k = 0; k < 2; ++k) {
        const int64_t at = (x + k) * r.width + v * L;
        const bool inside = x + k < r.columns;
        const V g[2] = {inside ? V::load(r.upper + at) : V(0.0f),
                        inside && r.lower ? V::load(r.lower + at) : V(0.0f)};
        V s[4];
        split_gradients(g, s);
#pragma GCC unroll 4
        for (int p = 0; p < 4; ++p) half[p][k] = s[p];
      }
#pragma GCC unroll 4
      for (int p = 0; p < 4; ++p) {
        V s[4];
        split_gradients(half[p], s);
#pragma GCC unroll 4
        for (int q = 0; q < 4; ++q)
          s[q].store(r.parts + (4 * p + q) * r.plane + x / 2 * r.width + v * L);
      }
    }
}

}  // namespace

const WinogradKernels winograd_kernels = {tiles, taps, results, gradients};

}  // namespace wengert::WENGERT_ISA
