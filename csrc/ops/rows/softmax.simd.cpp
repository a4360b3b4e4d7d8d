// The rows of ops/rows/softmax.h, vector by vector.
#include "ops/rows/softmax.h"

#include "ops/rows/row_sums.h"

namespace wengert::WENGERT_ISA {
namespace {

template <class T> struct Rows : RowSums<T> {
  using V = Simd<T>;
  using RowSums<T>::each, RowSums<T>::sum, RowSums<T>::shift;

  static void softmax(int64_t rows, int64_t n, T* y, const T* x) {
    for (int64_t r = 0; r < rows; ++r, y += n, x += n) {
      const V m(shift(n, x));
      const double s = sum(n, [&](int64_t i, int count) INLINE {
        const V e = exp(load<V>(x + i, count) - m);
        store(y + i, count, e);
        return e;
      });
      const V scale(static_cast<T>(1.0 / s));
      each(n, [&](int64_t i, int count)
                  INLINE { store(y + i, count, load<V>(y + i, count) * scale); });
    }
  }
  FN static T logsumexp_row(int64_t n, const T* x) {
    const T m = shift(n, x);
    const double s =
        sum(n, [&](int64_t i, int count) INLINE { return exp(load<V>(x + i, count) - V(m)); });
    return static_cast<T>(static_cast<double>(m) + __builtin_log(s));
  }
  static void log_softmax(int64_t rows, int64_t n, T* y, const T* x) {
    for (int64_t r = 0; r < rows; ++r, y += n, x += n) {
      const T m = shift(n, x);
      const double s =
          sum(n, [&](int64_t i, int count) INLINE { return exp(load<V>(x + i, count) - V(m)); });
      const V log_s(static_cast<T>(__builtin_log(s)));
      each(n, [&](int64_t i, int count) INLINE {
        store(y + i, count,
              load<V>(x + i, count) - V(m) -
                  log_s);  // in this order: x - m is exact near the maximum
      });
    }
  }
  static void softmax_vjp(int64_t rows, int64_t n, T* dx, const T* g, const T* y) {
    for (int64_t r = 0; r < rows; ++r, dx += n, g += n, y += n) {
      const V dot(static_cast<T>(sum(n, [&](int64_t i, int count) INLINE {
        return times(load<V>(g + i, count), load<V>(y + i, count));
      })));
      each(n, [&](int64_t i, int count) INLINE {
        store(dx + i, count, times(load<V>(g + i, count) - dot, load<V>(y + i, count)));
      });
    }
  }
  static void log_softmax_vjp(int64_t rows, int64_t n, T* dx, const T* g, const T* y) {
    for (int64_t r = 0; r < rows; ++r, dx += n, g += n, y += n) {
      const V total_g(static_cast<T>(
          sum(n, [&](int64_t i, int count) INLINE { return load<V>(g + i, count); })));
      each(n, [&](int64_t i, int count) INLINE {
        store(dx + i, count, load<V>(g + i, count) - times(total_g, exp(load<V>(y + i, count))));
      });
    }
  }
  static void logsumexp(int64_t rows, int64_t n, T* y, const T* x) {
    for (int64_t r = 0; r < rows; ++r, x += n) y[r] = logsumexp_row(n, x);
  }
  static void cross_entropy(int64_t rows, int64_t n, T* loss, T* kept, const T* x,
                            const int64_t* target) {
    for (int64_t r = 0; r < rows; ++r, x += n, kept += 2) {
      kept[0] = shift(n, x);
      kept[1] = static_cast<T>(__builtin_log(sum(n, [&](int64_t i, int count) INLINE {
        return exp(load<V>(x + i, count) - V(kept[0]));
      })));
      loss[r] = kept[1] - (x[target[r]] - kept[0]);
    }
  }
  static void cross_entropy_vjp(int64_t rows, int64_t n, T* dx, const T* g, int64_t g_stride,
                                const T* x, const int64_t* target, const T* kept) {
    for (int64_t r = 0; r < rows; ++r, dx += n, x += n, kept += 2) {
      const V scale(g[r * g_stride]), m(kept[0]), log_s(kept[1]);
      each(n, [&](int64_t i, int count) INLINE {
        store(dx + i, count, times(scale, exp(load<V>(x + i, count) - m - log_s)));
      });
      dx[target[r]] -= g[r * g_stride];
    }
  }

  static constexpr RowKernels<T> kernels{softmax,          log_softmax, softmax_vjp,
                                         log_softmax_vjp,  logsumexp,   cross_entropy,
                                         cross_entropy_vjp};
};

}  // namespace

extern constexpr SoftmaxKernels softmax_kernels{Rows<float>::kernels, Rows<double>::kernels};

}  // namespace wengert::WENGERT_ISA
