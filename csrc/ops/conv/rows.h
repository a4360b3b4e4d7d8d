// Convolution of few channels: what conv.simd.cpp offers.
#pragma once

#include <cstdint>

#include "base/isa.h"

namespace wengert {

// Of few channels: vectors of neighbouring elements of a row, each at `place` in x's planes.
struct Row {
  int64_t place, result;
  int count;
};
struct FewChannels {
  const void* x;
  const int64_t* bases;  // what each term adds to a place
  int64_t terms;
  const Row* rows;
  int64_t row_count;
};
struct ConvKernels {
  // y[result ...] = sum of w[k] * x[bases[k] + place ...].
  void (*few[2])(const FewChannels& f, const void* w, void* y);  // [of float64]
  // sums[k] = sum of g[result ...] * x[bases[k] + place ...].
  void (*few_weights[2])(const FewChannels& f, const void* g, double* sums);
  int64_t lanes[2];
};
WENGERT_DECLARE_KERNELS(ConvKernels, conv_kernels)

}  // namespace wengert
