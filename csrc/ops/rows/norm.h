// layer_norm and batch_norm: kernels on rows of n adjacent elements, y = (x - mean) * rstd * w + b
// with rstd = 1 / sqrt(var + eps). `kept` has mean and rstd of each row; w and b may be null.
#pragma once

#include <cstdint>

#include "base/isa.h"

namespace wengert {

template <class T> struct NormKernel {
  void (*layer_norm)(int64_t rows, int64_t n, T* y, T* kept, const T* x, const T* w, const T* b,
                     double eps);
  // dx = rstd * (h - mean(h) - xhat * mean(h * xhat)), h = g * w
  void (*layer_norm_vjp)(int64_t rows, int64_t n, T* dx, const T* g, const T* x, const T* w,
                         const T* kept);
  // dw = sum over the rows of g * xhat, db = sum of g: in T, so of few rows.
  void (*affine_vjp)(int64_t rows, int64_t n, T* dw, T* db, const T* g, const T* x, const T* kept);
  // One channel of some images, `step` elements apart, n elements of each.
  void (*batch_norm)(int64_t images, int64_t step, int64_t n, T* y, T* mean, T* var, const T* x,
                     T w, T b, double eps);
  // dx = w * rstd * (g - mean(g) - xhat * mean(g * xhat)), dw = sum(g * xhat), db = sum(g)
  void (*batch_norm_vjp)(int64_t images, int64_t step, int64_t n, T* dx, T* dw, T* db, const T* g,
                         const T* x, T w, T mean, T var, double eps);
};
struct NormKernels {
  NormKernel<float> f32;
  NormKernel<double> f64;
};
WENGERT_DECLARE_KERNELS(NormKernels, norm_kernels)

}  // namespace wengert
