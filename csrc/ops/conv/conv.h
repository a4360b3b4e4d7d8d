// Convolution of images over one to three axes, as deep learning means it: a correlation.
//
// y[n, o, p] = sum over c, t of w[o, c, t] * x[n, c, p * stride + t * dilation - before], where x
// is 0 outside. It is linear in x and in w, and so are its gradients: three ops, each of which is
// the gradient of the two others (conv.cpp). On the CPU all three are matrix products (dense.cpp,
// winograd.cpp) or, with few output channels, loops over rows (correlate.cpp, depthwise.cpp).
#pragma once

#include <vector>

#include "graph/blocks.h"

namespace wengert {

constexpr int most_axes = 3;

struct ConvAttrs {
  int axes;  // those used are the last ones; of the others the sizes are 1
  int64_t stride[most_axes], before[most_axes], after[most_axes], dilation[most_axes];
  int64_t size[most_axes];  // of the result where it does not follow: x's axes, or w's
  int64_t groups;
};

// Of the axes that are used, in order.
inline Dims used_axes(const int64_t (&values)[most_axes], int axes) {
  Dims d;
  for (int i = most_axes - axes; i < most_axes; ++i) d.push_back(values[i]);
  return d;
}
inline Dims last_axes(const Shape& shape, int axes) {
  Dims d;
  for (int i = shape.size() - axes; i < shape.size(); ++i) d.push_back(shape[i]);
  return d;
}

// One axis of a correlation: y[o] += w[taps[t]] * x[o * stride + at[t]].
struct ConvAxis {
  int64_t in, out, stride;
  std::vector<int64_t> at, taps;
  int64_t first = 0, step = 1;  // y[o] is element first + o * step of the result, ...
  int64_t whole = 0;            // ... which has this size
  int64_t weights = 1;          // taps that w has
};
struct ConvShape {
  int64_t images, groups, channels, outputs;  // channels and outputs in a group
  ConvAxis axis[most_axes];
};

// Results that see the same taps are a phase: one for each axis, or, in the gradient of a
// convolution with strides, one for each residue of their indices.
using ConvPhases = std::vector<ConvAxis>[most_axes];

// Convolutions between many channels (dense.cpp): y = w * x, and the gradient of w.
template <class T> struct DenseWeights {
  const T* data;          // [groups] of outputs, channels and taps, ...
  int64_t lane, channel;  // ... from one output to the next, and from one channel
  bool misses = false;    // some elements of y have no tap
};
template <class T>
void dense_windows(const ConvShape& s, const ConvPhases& phases, const T* x,
                   const DenseWeights<T>& w, T* y, const Then& then);
template <class T> void dense_weights(const ConvShape& s, const T* x, const T* g, T* dw);

// The same by Winograd's algorithm (winograd.cpp), where it pays; the weights' gradient is left to
// dense.cpp where it is not finite.
bool winograd_pays(const ConvShape& s, const ConvPhases& phases);
void winograd_windows(const ConvShape& s, const ConvPhases& phases, const float* x,
                      const DenseWeights<float>& w, float* y, const Then& then);
bool winograd_weights(const ConvShape& s, const ConvPhases& phases, const float* x, const float* g,
                      float* dw);

// Calls `then` for whole rows.
void finish(const Then& then, int64_t row, int64_t rows, int64_t columns);

// `then`'s blocks are of rows: channels of images.
void convolve(const View& y, const View& x, const View& w, const ConvAttrs& attrs,
              const Then& then);
void convolve_back(const View& dx, const View& g, const View& w, const ConvAttrs& attrs,
                   const Then& then);
void convolve_weights(const View& dw, const View& x, const View& g, const ConvAttrs& attrs);

// How an op runs with something behind each block; null: it does not.
RunThen conv_then(const Op& op);

// The same where each channel is convolved by itself, with 3x3 or 5x5 taps (depthwise.cpp).
bool is_depthwise(const Shape& x, const Shape& w, const ConvAttrs& attrs);
void depthwise(const View& y, const View& x, const View& w, const ConvAttrs& attrs,
               const Then& then);
void depthwise_back(const View& dx, const View& g, const View& w, const ConvAttrs& attrs,
                    const Then& then);
void depthwise_weights(const View& dw, const View& x, const View& g, const ConvAttrs& attrs);

}  // namespace wengert
