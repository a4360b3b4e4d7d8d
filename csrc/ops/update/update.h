// Optimizer updates: one formula each, over all parameters in one pass. The formulas are PyTorch's.
#pragma once

#include <cstdint>

#include "base/isa.h"

namespace wengert {

// Constants of one step, worked out in float64 from learning rate, step count and attributes.
struct SgdStep {
  double lr, momentum, dampening, weight_decay;
  bool nesterov, first;  // the first step fills the momentum buffer with the gradient
};
struct AdamStep {
  double step_size, bias2_rsqrt;                  // lr / (1 - beta1^t), 1 / sqrt(1 - beta2^t)
  double beta1, beta2, eps, weight_decay, decay;  // decay: 1 - lr * weight_decay (AdamW)
};
struct RmspropStep {
  double lr, alpha, eps, weight_decay, momentum;
};

template <class T> struct UpdateKernelsFor {
  void (*sgd)(int64_t n, T* p, const T* g, T* buffer,
              const SgdStep& s);  // buffer null without momentum
  void (*adam)(int64_t n, T* p, const T* g, T* m, T* v, const AdamStep& s);
  void (*rmsprop)(int64_t n, T* p, const T* g, T* square, T* buffer, const RmspropStep& s);
};
struct UpdateKernels {
  UpdateKernelsFor<float> f32;
  UpdateKernelsFor<double> f64;
};
WENGERT_DECLARE_KERNELS(UpdateKernels, update_kernels)

}  // namespace wengert
