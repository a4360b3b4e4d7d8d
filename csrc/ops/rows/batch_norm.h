// batch_norm in training (ops/rows/batch_norm.cpp).
#pragma once

#include <utility>

#include "graph/blocks.h"

namespace wengert {

// In training, x (n, channels, ...); weight and bias (channels,) of x's dtype. And mean and
// variance of each channel, (2, channels).
std::pair<Tensor, Tensor> batch_norm(const Tensor& x, const Tensor& weight, const Tensor& bias,
                                     double eps);

// How batch_norm, or its gradient, runs with something behind each channel of each image; null: the
// op is neither.
RunThen batch_norm_then(const Op& op);

}  // namespace wengert
