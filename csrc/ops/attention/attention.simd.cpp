// The rows of ops/attention/attention.h, vector by vector.
#include "ops/attention/attention.h"

#include "ops/rows/row_sums.h"

namespace wengert::WENGERT_ISA {
namespace {

template <class T> struct Attention : RowSums<T> {
  using V = Simd<T>;
  using RowSums<T>::sum, RowSums<T>::top;
  static constexpr T minus_inf = static_cast<T>(-__builtin_inf());

  // Row r of the mask as T: what is added, or 0 where a key is not looked at. Null: no mask.
  FN static const T* row_of(const ScoreMask& mask, int64_t r, int64_t cols, T (&room)[key_block]) {
    if (!mask.data || (r > 0 && mask.row == 0)) return mask.data ? room : nullptr;
    const auto fill = [&](const auto* m) INLINE {
      if (mask.col == 1)
        for (int64_t i = 0; i < cols; ++i) room[i] = static_cast<T>(m[i]);
      else
        for (int64_t i = 0; i < cols; ++i) room[i] = static_cast<T>(m[i * mask.col]);
    };
    if (mask.additive)
      fill(static_cast<const T*>(mask.data) + r * mask.row);
    else
      fill(static_cast<const uint8_t*>(mask.data) + r * mask.row);
    return room;
  }
  // A row of a block: products become scores. Returns the largest of each lane.
  FN static V scores(int64_t cols, T* s, double scale, const ScoreMask& mask, const T* m,
                     int64_t r) {
    const V by(static_cast<T>(scale));
    V best(minus_inf);
    const int64_t shown = mask.causal ? mask.first + r + 1 : cols, end = shown < 0      ? 0
                                                                         : shown < cols ? shown
                                                                                        : cols;
    const auto each = [&](const auto& masked) INLINE {
      each_vector<V>(end, [&](int64_t i, int c) INLINE {
        const V x = masked(load<V>(s + i, c) * by, i, c);
        store(s + i, c, x);
        best = maximum(best, first(x, c, minus_inf));
      });
    };
    if (!m)
      each([](V x, int64_t, int) INLINE { return x; });
    else if (mask.additive)
      each([&](V x, int64_t i, int c) INLINE {
        const V add = load<V>(m + i, c);
        return select(add == minus_inf, minus_inf, x + add);  // whatever x is
      });
    else
      each([&](V x, int64_t i, int c)
               INLINE { return select(load<V>(m + i, c) != 0, x, minus_inf); });
    for (int64_t i = end; i < cols; ++i) s[i] = minus_inf;
    return best;
  }

  static void exponentials(int64_t rows, int64_t cols, T* s, int64_t row, double scale,
                           const ScoreMask& mask, T* m, double* l, T* factor) {
    T room[key_block];
    for (int64_t r = 0; r < rows; ++r, s += row) {
      const T here = top(scores(cols, s, scale, mask, row_of(mask, r, cols, room), r)),
              before = m[r];
      const T best = here > before || here != here ? here : before;
      const T shift = best == minus_inf ? T(0) : best;
      const double part = sum(cols, [&](int64_t i, int c) INLINE {
        const V e = exp(load<V>(s + i, c) - V(shift));
        store(s + i, c, e);
        return e;
      });
      factor[r] = before == minus_inf ? T(0) : exp(V(before) - V(shift)).v[0];
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
    T room[key_block];
    for (int64_t r = 0; r < rows; ++r, s += row) {
      scores(cols, s, scale, mask, row_of(mask, r, cols, room), r);
      const V shift(lse[r * lse_stride]);
      each_vector<V>(cols, [&](int64_t i, int c) INLINE {
        const V x = load<V>(s + i, c);  // masked: 0, also where a key that is seen made lse NaN
        store(s + i, c, select(x == minus_inf, V(0), exp(x - shift)));
      });
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
        store(dp + i, c, times(load<V>(p + i, c), load<V>(dp + i, c) - V(delta[r])) * by);
      });
  }
  static constexpr AttentionKernel<T> kernel{exponentials, rescale_add, finish,
                                             weights,      dots,        scores_vjp};
};

}  // namespace

extern constexpr AttentionKernels attention_kernels{Attention<float>::kernel,
                                                    Attention<double>::kernel};

}  // namespace wengert::WENGERT_ISA
