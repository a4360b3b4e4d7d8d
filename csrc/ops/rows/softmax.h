// The softmax family: kernels on rows of n adjacent elements. Each is stable: the row's maximum m
// is taken out first, and 0 in its place where m is infinite, so that logsumexp of a row of -inf is
// -inf and not NaN. softmax of such a row is 0 / 0, NaN: no limit says what its elements share.
#pragma once

#include <cstdint>

#include "base/isa.h"

namespace wengert {

template <class T> struct RowKernels {
  void (*softmax)(int64_t rows, int64_t n, T* y, const T* x);
  void (*log_softmax)(int64_t rows, int64_t n, T* y, const T* x);
  void (*softmax_vjp)(int64_t rows, int64_t n, T* dx, const T* g,
                      const T* y);  // y * (g - sum(g * y))
  void (*log_softmax_vjp)(int64_t rows, int64_t n, T* dx, const T* g,
                          const T* y);  // g - exp(y) * sum(g)
  void (*logsumexp)(int64_t rows, int64_t n, T* y, const T* x);
  // loss[r] = log(sum(exp(x - m))) - (x[target[r]] - m); keeps m and that logarithm, apart: their
  // sum would round away what distinguishes large logits.
  void (*cross_entropy)(int64_t rows, int64_t n, T* loss, T* kept, const T* x,
                        const int64_t* target);
  // dx = g[r] * (softmax(x) - (c == target[r]))
  void (*cross_entropy_vjp)(int64_t rows, int64_t n, T* dx, const T* g, int64_t g_stride,
                            const T* x, const int64_t* target, const T* kept);
};
struct SoftmaxKernels {
  RowKernels<float> f32;
  RowKernels<double> f64;
};
WENGERT_DECLARE_KERNELS(SoftmaxKernels, softmax_kernels)

// For compiled steps, which run the loss and its gradient together: inputs x, target, g; outputs
// loss, kept, dx.
struct Op;
struct CrossEntropyOps {
  const Op &value, &vjp, &both;
};
extern const CrossEntropyOps cross_entropy_ops;

}  // namespace wengert
