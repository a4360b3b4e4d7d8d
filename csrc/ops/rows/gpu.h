// The softmax family and layer_norm on a GPU, on contiguous rows, and attributes that these kernels
// share with the ops.
#pragma once

#include "graph/op.h"

namespace wengert {

struct SoftmaxGpu {
  OpKernel softmax, log_softmax, softmax_vjp, log_softmax_vjp, logsumexp, cross_entropy,
      cross_entropy_vjp;
};

constexpr int64_t norm_rows_summed = 32;  // that many terms are added in T, then in float64
struct NormAttrs {
  double eps;
};
struct NormGpu {
  OpKernel layer_norm, layer_norm_vjp, affine_vjp;
};

}  // namespace wengert
