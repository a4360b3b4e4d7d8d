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
  // The sums of what add(i, count, sums) adds for the vectors of a channel. Short rows share sums
  // in T, and four of these run at a time.
  template <int n_sums, class Add>
  FN static void sums_of(int64_t images, int64_t step, int64_t n, double (&to)[n_sums],
                         const Add& add) {
    constexpr int64_t W = V::width, block = RowSums<T>::block, chains = 4;
    f64 total[n_sums];
    for (f64& t : total) t = f64(0.0);
    const auto least = [](int64_t a, int64_t b) INLINE { return a < b ? a : b; };
    const int64_t together = block / least(block, n + (n == 0));
    for (int64_t image = 0; image < images; image += together) {
      if (image / together % 64 == 63) poll_interrupt();
      for (int64_t start = 0; start < n; start += block) {
        if (start % RowSums<T>::section == RowSums<T>::section - block) poll_interrupt();
        V sums[chains][n_sums];
        for (auto& chain : sums)
          for (V& x : chain) x = V(0.0);
        const int64_t count = least(block, n - start),
                      last = least(images, image + together) * step;
        for (int64_t at = image * step + start; at < last; at += step) {
          int64_t i = 0;
          for (; i + chains * W <= count; i += chains * W)
#pragma GCC unroll 4
            for (int k = 0; k < chains; ++k) add(at + i + k * W, static_cast<int>(W), sums[k]);
          for (; i < count; i += W) add(at + i, static_cast<int>(least(W, count - i)), sums[0]);
        }
        for (int s = 0; s < n_sums; ++s)
          total[s] =
              total[s] + RowSums<T>::widened((sums[0][s] + sums[1][s]) + (sums[2][s] + sums[3][s]));
      }
    }
    for (int s = 0; s < n_sums; ++s) to[s] = RowSums<T>::lanes_of(total[s]);
  }
  template <class Term>
  FN static double sum_of(int64_t images, int64_t step, int64_t n, const Term& term) {
    double sum[1];
    sums_of(images, step, n, sum,
            [&](int64_t i, int c, V(&to)[1]) INLINE { to[0] += first(term(i, c), c, 0); });
    return sum[0];
  }
  // A channel's rows lie apart, so that processors do not foresee the next: about 1024 elements
  // from now on.
  struct Next {
    FN Next(int64_t step, int64_t n) : far((1 + 1024 / (n + 1)) * step) {}
    FN void bring(const T* p) const { __builtin_prefetch(p + far, 0, 2); }
    int64_t far;
  };
  // Of x, whose elements are those of a row (one image), or of a channel of all images.
  struct Moments {
    FN Moments(int64_t images, int64_t step, int64_t n, const T* x) {
      const double count = static_cast<double>(images * n);
      const Next next(step, n);
      const double exact = sum_of(images, step, n,
                                  [&](int64_t i, int c) INLINE {
                                    next.bring(x + i);
                                    return load<V>(x + i, c);
                                  }) /
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
    const Next next(step, n);
    each_of(images, step, n, [&](int64_t i, int c) INLINE {
      next.bring(y + i);
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
    const Next next(step, n);
    double sums[2];  // of g, and of g * xhat
    sums_of(images, step, n, sums, [&](int64_t i, int c, V(&to)[2]) INLINE {
      next.bring(g + i), next.bring(x + i);
      const V gs = first(load<V>(g + i, c), c, 0);
      to[0] += gs, to[1] = fma(gs, xhat(i, c), to[1]);
    });
    *dw = static_cast<T>(sums[1]), *db = static_cast<T>(sums[0]);
    const V mean_g(static_cast<T>(sums[0] / count)), along(static_cast<T>(sums[1] / count));
    each_of(images, step, n, [&](int64_t i, int c) INLINE {
      next.bring(dx + i);
      store(dx + i, c, factor * (load<V>(g + i, c) - mean_g - xhat(i, c) * along));
    });
  }
  static constexpr NormKernel<T> kernel{layer_norm, layer_norm_vjp, affine_vjp, batch_norm,
                                        batch_norm_vjp};
};

}  // namespace

extern constexpr NormKernels norm_kernels{Norm<float>::kernel, Norm<double>::kernel};

}  // namespace wengert::WENGERT_ISA
