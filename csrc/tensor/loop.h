// Loop: how to walk N views of one shape together in as few, as long, inner runs as possible.
//
// Axes of size one go; the others are ordered by the strides of the first view, the output, with
// the smallest innermost; axes whose strides join in every view become one.
#pragma once

#include "tensor/view.h"

namespace wengert {

template <int N> struct Loop {
  int dims = 0;
  int64_t size[max_dims];
  int64_t stride[N][max_dims];  // in elements; [n][dims - 1] is the innermost

  Loop(const Shape& shape, const Strides* const (&strides)[N]) {
    for (int d = 0; d < shape.size(); ++d) {
      if (shape[d] == 1) continue;
      int at = dims++;
      // Insertion by the output's stride, largest first; equal strides keep their order.
      for (; at > 0 && magnitude(stride[0][at - 1]) < magnitude((*strides[0])[d]); --at)
        move(at - 1, at);
      size[at] = shape[d];
      for (int n = 0; n < N; ++n) stride[n][at] = (*strides[n])[d];
    }
    int kept = 0;
    for (int d = 1; d < dims; ++d) {
      bool joined = true;
      for (int n = 0; n < N; ++n) joined &= stride[n][kept] == stride[n][d] * size[d];
      if (joined) {
        size[kept] *= size[d];
        for (int n = 0; n < N; ++n) stride[n][kept] = stride[n][d];
      } else if (++kept != d) {
        move(d, kept);
      }
    }
    dims = dims ? kept + 1 : 0;
    if (dims == 0) {  // a single element
      dims = 1;
      size[0] = 1;
      for (int n = 0; n < N; ++n) stride[n][0] = 0;
    }
  }

  int64_t inner() const { return size[dims - 1]; }
  int64_t outer() const {
    int64_t n = 1;
    for (int d = 0; d + 1 < dims; ++d) n *= size[d];
    return n;
  }
  // Offset in view n of the start of the inner run number `row`.
  int64_t offset(int n, int64_t row) const {
    int64_t at = 0;
    for (int d = dims - 2; d >= 0; --d) {
      at += row % size[d] * stride[n][d];
      row /= size[d];
    }
    return at;
  }

 private:
  static int64_t magnitude(int64_t s) { return s < 0 ? -s : s; }
  void move(int from, int to) {
    size[to] = size[from];
    for (int n = 0; n < N; ++n) stride[n][to] = stride[n][from];
  }
};

}  // namespace wengert
