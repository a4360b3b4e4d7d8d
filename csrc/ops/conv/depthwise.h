// Part of conv.simd.cpp: convolution of single channels with 3x3 or 5x5 taps and stride 1 or 2.
// Some rows of the result are made together, a vector of columns at a time, so that a row of x
// that is in registers serves all taps which meet it. Rows outside an image are left out, columns
// outside are lanes with 0.
#pragma once

#include "ops/conv/rows.h"

namespace wengert::WENGERT_ISA {
namespace {

// A vector of columns of the result: the rows of x, loaded once for each tap.
template <class T, int K, int S, bool edge> struct Taps {
  static constexpr int64_t L = Simd<T>::width;

  Taps() = default;
  // The first lane of the first tap is column `at` of n; of `count` lanes the others are 0.
  FN Taps(int64_t at, int64_t n, int64_t count) : at(at) {
    if constexpr (edge)
#pragma GCC unroll 6
      for (int t = 0; t < K; t += S)
        for (int half = 0; half < S; ++half) {
          const int64_t i = at + t + half * L, end = at + t + S * count;
          lanes[t + half] = Lanes<T>(-i, (end < n ? end : n) - i);
        }
  }
  // v[t], lane l: row[at + t + l * S], 0 where there is none.
  FN void load(const T* row, Simd<T> (&v)[K]) const {
    const auto part = [&](int t, int half) INLINE {
      const T* const from = row + at + t + half * L;
      return edge ? lanes[t + half].load(from) : Simd<T>::load(from);
    };
#pragma GCC unroll 5
    for (int t = 0; t < K; t += S) {
      const Simd<T> a = part(t, 0);
      if constexpr (S == 1) {
        v[t] = a;
      } else {
        constexpr auto all = std::make_integer_sequence<int, L>();
        const Simd<T> b = part(t, 1);
        v[t] = alternate<T, 0>(a, b, all);
        if (t + 1 < K) v[t + 1] = alternate<T, 1>(a, b, all);
      }
    }
  }

  int64_t at;
  Lanes<T> lanes[K + 1];
};

// The first vector of a row, and another: made once where no row has more at its edges.
template <class T, int K, int S> struct Edges {
  int64_t at[2] = {-1, -1};
  Taps<T, K, S, true> taps[2];
};
// Calls part(row, rows, column, count, taps) for all of y, or of g: some rows and a vector of
// columns. done(vectors) ends some rows. `again`: the last rows may be made twice.
template <class T, int K, int S, bool again, class Part, class Done>
FN void each_part(const Depthwise& d, Edges<T, K, S>& edges, const Part& part, const Done& done) {
  constexpr int64_t L = Simd<T>::width;
  const auto group = [&](int64_t r, auto rows) INLINE {
    const int64_t top = r * S - d.before[0];
    const bool inside = top >= 0 && top + (rows() - 1) * S + K <= d.in[0];
    each_vector<Simd<T>>(d.out[1], [&](int64_t j, int count) INLINE {
      const int64_t begin = j * S - d.before[1];
      // The last load begins at tap K - 1, of two vectors where S is 2.
      if (inside && count == L && begin >= 0 && begin + K - 1 + S * L <= d.in[1])
        return part(r, rows, j, count, Taps<T, K, S, false>(begin, d.in[1], count));
      auto& edge = edges.taps[j > 0];
      if (edges.at[j > 0] != j) edge = {begin, d.in[1], count};
      edges.at[j > 0] = j;
      part(r, rows, j, count, edge);
    });
    done(rows() * (d.out[1] / L + 1));
  };
  constexpr int R = sizeof(T) == 8 ? 1 : K == 3 ? 4 : 2;
  int64_t r = d.first;
  for (; r + R <= d.last; r += R) group(r, std::integral_constant<int, R>());
  if (again && r < d.last && d.last - d.first > R)
    return group(d.last - R, std::integral_constant<int, R>());
  if constexpr (R > 1)
    for (; r < d.last; ++r) group(r, std::integral_constant<int, 1>());
}
// Brings in what the next R rows of the result see below these: rows are too short for the
// processor to notice.
template <int R, class T, int K, int S>
FN void look_ahead(const Depthwise& d, const T* x, int64_t r, int64_t j) {
  const int64_t below = (r + R - 1) * S + K - d.before[0];
#pragma GCC unroll 8
  for (int i = 0; i < R * S; ++i) __builtin_prefetch(x + (below + i) * d.in[1] + j * S);
}
// Calls use(i, t, v) for each of R rows i of the result and tap t, v being what the tap sees.
template <int R, class T, int K, int S, bool edge, class Use>
FN void each_tap(const Depthwise& d, const T* x, int64_t r, const Taps<T, K, S, edge>& taps,
                 const Use& use) {
#pragma GCC unroll 12
  for (int k = 0; k < (R - 1) * S + K; ++k) {
    const int64_t row = r * S + k - d.before[0];
    if (edge && (row < 0 || row >= d.in[0])) continue;
    Simd<T> v[K];
    taps.load(x + row * d.in[1], v);
#pragma GCC unroll 4
    for (int i = 0; i < R; ++i)
#pragma GCC unroll 5
      for (int t = 0; t < K; ++t)
        if (k >= i * S && k - i * S < K) use(i, (k - i * S) * K + t, v[t]);
  }
}

template <class T, int K, int S>
void depthwise(const Depthwise& given, const void* from, const void* taps, void* to) {
  const Depthwise d = given;  // which no store can change
  const T *x = static_cast<const T*>(from), *given_taps = static_cast<const T*>(taps);
  T* y = static_cast<T*>(to);
  Edges<T, K, S> edges;
  for (int64_t c = 0; c < d.channels; ++c) {
    Simd<T> w[K * K];
#pragma GCC unroll 25
    for (int t = 0; t < K * K; ++t) w[t] = Simd<T>(given_taps[d.turned ? K * K - 1 - t : t]);
    each_part<T, K, S, true>(
        d, edges,
        [&](int64_t r, auto rows, int64_t j, int count, const auto& at) INLINE {
          constexpr int R = decltype(rows)::value;
          Simd<T> sum[R];
#pragma GCC unroll 4
          for (int i = 0; i < R; ++i) sum[i] = Simd<T>(T(0));
          look_ahead<R, T, K, S>(d, x, r, j);
          each_tap<R>(d, x, r, at,
                      [&](int i, int t, Simd<T> v) INLINE { sum[i] = fma(v, w[t], sum[i]); });
#pragma GCC unroll 4
          for (int i = 0; i < R; ++i) store<Simd<T>>(y + (r + i) * d.out[1] + j, count, sum[i]);
        },
        [](int64_t) INLINE {});
    x += d.in[0] * d.in[1], y += d.out[0] * d.out[1], given_taps += K * K;
  }
}

// The gradient of x with stride 2, in pairs of rows and of columns: with i = 2 * p + e, taps t that
// are e modulo 2 meet g at p - t / 2.
template <class T, int K>
void depthwise_back(const Depthwise& given, const void* from, const void* taps, void* to) {
  constexpr int64_t L = Simd<T>::width;
  constexpr auto all = std::make_integer_sequence<int, L>();
  const Depthwise d = given;
  const T *const g = static_cast<const T*>(from), *const w = static_cast<const T*>(taps);
  T* const dx = static_cast<T*>(to);
  for (int64_t r = (d.first + d.before[0]) / 2; 2 * r < d.last + d.before[0]; ++r)
    for (int64_t p = d.before[1] / 2; 2 * p < d.in[1] + d.before[1]; p += L) {
      Simd<T> sum[2][2] = {{T(0), T(0)}, {T(0), T(0)}};
#pragma GCC unroll 3
      for (int q = 0; q <= K / 2; ++q) {
        const Lanes<T> lanes(q - p, d.out[1] - p + q);
#pragma GCC unroll 3
        for (int k = 0; k <= K / 2; ++k) {
          const int64_t row = r - k;
          if (row < 0 || row >= d.out[0]) continue;
          const Simd<T> v = lanes.load(g + row * d.out[1] + p - q);
#pragma GCC unroll 4
          for (int e = 0; e < 4; ++e)
            if (const int t = 2 * k + e / 2, u = 2 * q + e % 2; t < K && u < K)
              sum[e / 2][e % 2] = fma(v, Simd<T>(w[t * K + u]), sum[e / 2][e % 2]);
        }
      }
      const int64_t column = 2 * p - d.before[1];
      const Lanes<T> lower(-column, d.in[1] - column), upper(-column - L, d.in[1] - column - L);
#pragma GCC unroll 2
      for (int e = 0; e < 2; ++e) {
        const int64_t row = 2 * r + e - d.before[0];
        if (row < d.first || row >= d.last) continue;
        T* const at = dx + row * d.in[1] + column;
        lower.store(at, zipped<T, 0>(sum[e][0], sum[e][1], all));
        upper.store(at + L, zipped<T, L / 2>(sum[e][0], sum[e][1], all));
      }
    }
}

// sums[t] from a band of g's rows, or from some images.
template <class T, int K, int S>
void depthwise_weights(const Depthwise& given, const void* from, const void* gradient,
                       double* sums) {
  constexpr int L = Simd<T>::width;
  constexpr int64_t chain = 64;  // vectors summed in T before they are added to others
  const Depthwise d = given;
  const T *x = static_cast<const T*>(from), *g = static_cast<const T*>(gradient);
  Simd<T> sum[K * K], total[K * K];
#pragma GCC unroll 25
  for (int t = 0; t < K * K; ++t) sum[t] = total[t] = Simd<T>(T(0));
  int64_t vectors = 0;
  Edges<T, K, S> edges;
  for (int64_t n = 0; n < d.images; ++n, x += d.x_step, g += d.g_step)
    each_part<T, K, S, false>(
        d, edges,
        [&](int64_t r, auto rows, int64_t j, int count, const auto& at) INLINE {
          constexpr int R = decltype(rows)::value;
          Simd<T> gs[R];
#pragma GCC unroll 4
          for (int i = 0; i < R; ++i) gs[i] = Lanes<T>(0, count).load(g + (r + i) * d.out[1] + j);
          look_ahead<R, T, K, S>(d, x, r, j);
          each_tap<R>(d, x, r, at,
                      [&](int i, int t, Simd<T> v) INLINE { sum[t] = fma(v, gs[i], sum[t]); });
        },
        [&](int64_t more) INLINE {
          if ((vectors += more) < chain) return;
          vectors = 0;
#pragma GCC unroll 25
          for (int t = 0; t < K * K; ++t) total[t] += sum[t], sum[t] = Simd<T>(T(0));
        });
  for (int t = 0; t < K * K; ++t) {
    T parts[L];
    (total[t] + sum[t]).store(parts);
    sums[t] = 0;
    for (int l = 0; l < L; ++l) sums[t] += static_cast<double>(parts[l]);
  }
}

}  // namespace
}  // namespace wengert::WENGERT_ISA
