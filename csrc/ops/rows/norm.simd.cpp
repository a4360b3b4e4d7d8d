// The rows of ops/rows/norm.h, vector by vector. Mean first, then the squares of the differences: a
// row is in L1 for the second pass, and nothing cancels.
#include "ops/rows/norm.h"

#include "ops/rows/row_sums.h"

namespace wengert::WENGERT_ISA {
namespace {

template <class T> struct Norm : RowSums<T> {
  using V = Simd<T>;
  using RowSums<T>::each, RowSums<T>::sum;

  // Of all images: f(i, count) for the vectors of a channel, and the sum of term(i, count).
  template <class F> FN static void each_of(int64_t images, int64_t step, int64_t n, const F& f) {
    for (int64_t at = 0; at < images * step; at += step) {
      if (at / step % 64 == 63) poll_interrupt();
      each(n, [&](int64_t i, int c) INLINE { f(at + i, c); });
    }
  }
  template <class Term>
  FN static double sum_of(int64_t images, int64_t step, int64_t n, const Term& term) {
    double s = 0;
    for (int64_t at = 0; at < images * step; at += step) {
      if (at / step % 64 == 63) poll_interrupt();
      s += sum(n, [&](int64_t i, int c) INLINE { return term(at + i, c); });
    }
    return s;
  }
  // Of x, whose elements are those of a row (one image), or of a channel of all images.
  struct Moments {
    FN Moments(int64_t images, int64_t step, int64_t n, const T* x) {
      const double count = static_cast<double>(images * n);
      const double exact =
          sum_of(images, step, n, [&](int64_t i, int c) INLINE { return load<V>(x + i, c); }) /
          count;
      mean = V(static_cast<T>(exact));
      // What rounding the mean to T lost is taken out of the variance again.
      const double lost = exact - static_cast<double>(static_cast<T>(exact));
      const double all = sum_of(images, step, n,
                                [&](int64_t i, int c) INLINE {
                                  const V d = load<V>(x + i, c) - mean;
                                  return d * d;
                                }) /
                             count -
                         lost * lost;
      var = all > 0 ? all : all == all ? 0 : all;
    }
    V mean;
    double var;
  };

  static void layer_norm(int64_t rows, int64_t n, T* y, T* kept, const T* x, const T* w, const T* b,
                         double eps) {
    for (int64_t r = 0; r < rows; ++r, y += n, x += n, kept += 2) {
      const Moments of(1, n, n, x);
      const V m = of.mean;
      const double rstd = 1.0 / __builtin_sqrt(of.var + eps);
      kept[0] = m.v[0], kept[1] = static_cast<T>(rstd);
      const V scale(kept[1]);
      if (w && b)
        each(n, [&](int64_t i, int c) INLINE {
          store(y + i, c,
                fma((load<V>(x + i, c) - m) * scale, load<V>(w + i, c), load<V>(b + i, c)));
        });
      else
        each(n, [&](int64_t i, int c) INLINE {
          const V xhat = (load<V>(x + i, c) - m) * scale;
          store(y + i, c, w ? xhat * load<V>(w + i, c) : xhat);
        });
    }
  }
  static void layer_norm_vjp(int64_t rows, int64_t n, T* dx, const T* g, const T* x, const T* w,
                             const T* kept) {
    const double count = static_cast<double>(n);
    for (int64_t r = 0; r < rows; ++r, dx += n, g += n, x += n, kept += 2) {
      const V m(kept[0]), scale(kept[1]);
      const auto h = [&](int64_t i, int c) INLINE {
        const V v = load<V>(g + i, c);
        return w ? v * load<V>(w + i, c) : v;
      };
      const auto xhat = [&](int64_t i, int c) INLINE { return (load<V>(x + i, c) - m) * scale; };
      const V mean(static_cast<T>(sum(n, h) / count));
      const V along(static_cast<T>(
          sum(n, [&](int64_t i, int c) INLINE { return h(i, c) * xhat(i, c); }) / count));
      each(n, [&](int64_t i, int c)
                  INLINE { store(dx + i, c, scale * (h(i, c) - mean - xhat(i, c) * along)); });
    }
  }
  static void affine_vjp(int64_t rows, int64_t n, T* dw, T* db, const T* g, const T* x,
                         const T* kept) {
    each(n, [&](int64_t i, int c) INLINE {
      V w_sum(0.0), b_sum(0.0);
      for (int64_t r = 0; r < rows; ++r) {
        const V gr = load<V>(g + r * n + i, c);
        b_sum += gr;
        w_sum += gr * ((load<V>(x + r * n + i, c) - V(kept[2 * r])) * V(kept[2 * r + 1]));
      }
      store(dw + i, c, w_sum);
      store(db + i, c, b_sum);
    });
  }

  static void batch_norm(int64_t images, int64_t step, int64_t n, T* y, T* mean_to, T* var_to,
                         const T* x, T w, T b, double eps) {
    const Moments of(images, step, n, x);
    const V m = of.mean;
    *mean_to = m.v[0], *var_to = static_cast<T>(of.var);
    const V factor = V(rstd_of(*var_to, eps)) * V(w), shift(b);
    each_of(images, step, n, [&](int64_t i, int c) INLINE {
      store(y + i, c, fma(load<V>(x + i, c) - m, factor, shift));
    });
  }
  static T rstd_of(T var, double eps) {
    return static_cast<T>(1.0 / __builtin_sqrt(static_cast<double>(var) + eps));
  }
  static void batch_norm_vjp(int64_t images, int64_t step, int64_t n, T* dx, T* dw, T* db,
                             const T* g, const T* x, T w, T mean, T var, double eps) {
    const double count = static_cast<double>(images * n);
    const V m(mean), scale(rstd_of(var, eps)), factor = scale * V(w);
    const auto xhat = [&](int64_t i, int c) INLINE { return (load<V>(x + i, c) - m) * scale; };
    const double sum_g =
        sum_of(images, step, n, [&](int64_t i, int c) INLINE { return load<V>(g + i, c); });
    const double sum_gx = sum_of(
        images, step, n, [&](int64_t i, int c) INLINE { return load<V>(g + i, c) * xhat(i, c); });
    *dw = static_cast<T>(sum_gx), *db = static_cast<T>(sum_g);
    const V mean_g(static_cast<T>(sum_g / count)), along(static_cast<T>(sum_gx / count));
    each_of(images, step, n, [&](int64_t i, int c) INLINE {
      store(dx + i, c, factor * (load<V>(g + i, c) - mean_g - xhat(i, c) * along));
    });
  }
  static constexpr NormKernel<T> kernel{layer_norm, layer_norm_vjp, affine_vjp, batch_norm,
                                        batch_norm_vjp};
};

}  // namespace

extern constexpr NormKernels norm_kernels{Norm<float>::kernel, Norm<double>::kernel};

}  // namespace wengert::WENGERT_ISA
