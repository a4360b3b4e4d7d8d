// batch_norm in training (ops/rows/batch_norm.cpp).
#pragma once

#include <utility>

#include "tensor/tensor.h"

namespace wengert {

// In training, x (n, channels, ...); weight and bias (channels,) of x's dtype. And mean and
// variance of each channel, (2, channels).
std::pair<Tensor, Tensor> batch_norm(const Tensor& x, const Tensor& weight, const Tensor& bias,
                                     double eps);

}  // namespace wengert
