// What conv.simd.cpp offers: images copied with zeros around them, and convolution of few channels.
#pragma once

#include <cstdint>

#include "base/isa.h"

namespace wengert {

// The copy of a channel, [phases of the three axes][rows of the three axes]: element r of phase p
// holds x[r * stride + p + low], or 0 where there is none.
struct PlaneCopy {
  struct Side {
    int64_t in, rows, stride, low, phase_count;
    const int64_t* phases;
  } side[3];
};

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
// A band of rows of some channels, each convolved by itself; `in` are the sizes of x, `out` of y or
// g.
struct Depthwise {
  int64_t in[2], out[2], before[2];
  int64_t first, last;             // rows of what is made, or of g for the weights
  int64_t channels;                // of `forward`; the others make one
  bool turned;                     // the taps, last to first
  int64_t images, x_step, g_step;  // for the weights: the channel in some images
};
struct DepthwiseKernels {
  using Kernel = void (*)(const Depthwise& d, const void* from, const void* w, void* to);
  Kernel forward[2];  // [stride 2]
  Kernel back;        // dx from g, with stride 2; with stride 1 it is `forward` with w turned
  void (*weights[2])(const Depthwise& d, const void* x, const void* g, double* sums);
};
struct ConvKernels {
  void (*copy[2])(const PlaneCopy& c, const void* x, void* to);  // [of float64]
  // to[i * step] = from[i] for i < n.
  void (*spread[2])(const void* from, int64_t n, void* to, int64_t step);
  // y[result ...] = sum of w[k] * x[bases[k] + place ...].
  void (*few[2])(const FewChannels& f, const void* w, void* y);
  // sums[k] = sum of g[result ...] * x[bases[k] + place ...].
  void (*few_weights[2])(const FewChannels& f, const void* g, double* sums);
  int64_t lanes[2];
  DepthwiseKernels depthwise[2][2];  // [of float64][5x5 taps]
};
WENGERT_DECLARE_KERNELS(ConvKernels, conv_kernels)

}  // namespace wengert
