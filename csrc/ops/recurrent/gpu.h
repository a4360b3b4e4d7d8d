// Recurrent layers on a GPU.
#pragma once

#include "base/device.h"
#include "ops/recurrent/recurrent.h"

namespace wengert {

template <class T> struct RecurrentGpuKernel {  // of that many sequences
  void (*next)(Device d, const CellRows<T>& rows, int64_t count);
  void (*back)(Device d, const CellGradient<T>& rows, int64_t count);
};
struct RecurrentGpu {
  RecurrentGpuKernel<float> f32[4];  // in the order of Cells
  RecurrentGpuKernel<double> f64[4];
};

}  // namespace wengert
