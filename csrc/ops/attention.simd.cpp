// The rows of ops/attention.h, vector by vector.
#include "ops/attention.h"

#include "ops/row_sums.h"

namespace wengert::WENGERT_ISA {
namespace {

template <class T> struct Attention : RowSums<T> {
  using V = Simd<T>;
  using RowSums<T>::sum, RowSums<T>::largest;
  static constexpr T minus_inf = static_cast<T>(-__builtin_inf());

  // Row r of a block: products become scores.
  FN static void scores(int64_t cols, T* s, T scale, const ScoreMask& mask, int64_t r) {
    each_vector<V>(cols,
                   [&](int64_t i, int c) INLINE { store(s + i, c, load<V>(s + i, c) * V(scale)); });
    if (mask.data && mask.additive) {
      const T* const m = static_cast<const T*>(mask.data) + r * mask.row;
      if (mask.col == 1)
        for (int64_t i = 0; i < cols; ++i) s[i] += m[i];
      else
        for (int64_t i = 0; i < cols; ++i) s[i] += m[i * mask.col];
    } else if (mask.data) {
      const uint8_t* const m = static_cast<const uint8_t*>(mask.data) + r * mask.row;
      if (mask.col == 1)
        for (int64_t i = 0; i < cols; ++i) s[i] = m[i] ? s[i] : minus_inf;
      else
        for (int64_t i = 0; i < cols; ++i) s[i] = m[i * mask.col] ? s[i] : minus_inf;
    }
    if (mask.causal) {
      const int64_t from = mask.first + r + 1;
      for (int64_t i = from < 0 ? 0 : from; i < cols; ++i) s[i] = minus_inf;
    }
  }

  static void exponentials(int64_t rows, int64_t cols, T* s, int64_t row, double scale,
                           const ScoreMask& mask, T* m, double* l, T* factor) {
    for (int64_t r = 0; r < rows; ++r, s += row) {
      scores(cols, s, static_cast<T>(scale), mask, r);
      const T here = largest(cols, s), before = m[r];
      const T best = here > before || here != here ? here : before;
      const T shift = best == minus_inf ? T(0) : best;
      const double part = sum(cols, [&](int64_t i, int c) INLINE {
        const V e = exp(load<V>(s + i, c) - V(shift));
        store(s + i, c, e);
        return e;
      });
      const V scaled = exp(V(before) - V(shift));
      factor[r] = scaled.v[0];
      l[r] = l[r] * static_cast<double>(factor[r]) + part;
      m[r] = best;
    }
  }
  static void rescale_add(int64_t rows, int64_t n, T* y, int64_t y_row, const T* factor,
                          const T* add) {
    for (int64_t r = 0; r < rows; ++r, y += y_row, add += n)
      each_vector<V>(n, [&](int64_t i, int c) INLINE {
        store(y + i, c, fma(load<V>(y + i, c), V(factor[r]), load<V>(add + i, c)));
      });
  }
  static void finish(int64_t rows, int64_t n, T* y, int64_t y_row, const T* m, const double* l,
                     T* lse, int64_t lse_stride) {
    for (int64_t r = 0; r < rows; ++r, y += y_row) {
      const bool none = l[r] == 0;
      const V scale(static_cast<T>(none ? 0.0 : 1.0 / l[r]));
      each_vector<V>(n, [&](int64_t i, int c)
                            INLINE { store(y + i, c, none ? V(0.0) : load<V>(y + i, c) * scale); });
      lse[r * lse_stride] = none ? static_cast<T>(__builtin_inf())
                                 : static_cast<T>(static_cast<double>(m[r]) + __builtin_log(l[r]));
    }
  }
  static void weights(int64_t rows, int64_t cols, T* s, int64_t row, double scale,
                      const ScoreMask& mask, const T* lse, int64_t lse_stride) {
    for (int64_t r = 0; r < rows; ++r, s += row) {
      scores(cols, s, static_cast<T>(scale), mask, r);
      const V shift(lse[r * lse_stride]);
      each_vector<V>(
          cols, [&](int64_t i, int c) INLINE { store(s + i, c, exp(load<V>(s + i, c) - shift)); });
    }
  }
  static void dots(int64_t rows, int64_t n, const T* g, int64_t g_row, const T* y, int64_t y_row,
                   T* delta) {
    for (int64_t r = 0; r < rows; ++r, g += g_row, y += y_row)
      delta[r] = static_cast<T>(
          sum(n, [&](int64_t i, int c) INLINE { return load<V>(g + i, c) * load<V>(y + i, c); }));
  }
  static void scores_vjp(int64_t rows, int64_t cols, T* dp, const T* p, const T* delta,
                         double scale) {
    const V by(static_cast<T>(scale));
    for (int64_t r = 0; r < rows; ++r, dp += cols, p += cols)
      each_vector<V>(cols, [&](int64_t i, int c) INLINE {
        store(dp + i, c, load<V>(p + i, c) * (load<V>(dp + i, c) - V(delta[r])) * by);
      });
  }
  static constexpr AttentionKernel<T> kernel{exponentials, rescale_add, finish,
                                             weights,      dots,        scores_vjp};
};

}  // namespace

extern constexpr AttentionKernels attention_kernels{Attention<float>::kernel,
                                                    Attention<double>::kernel};

}  // namespace wengert::WENGERT_ISA
