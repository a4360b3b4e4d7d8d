// GpuLoop: the offset of element number i in each of N views, for the threads of a kernel. It is a
// Loop (tensor/loop.h) whose divisions are multiplications.
#pragma once

#include "gpu/launch.h"
#include "tensor/loop.h"

namespace wengert {

template <int N> struct GpuLoop {
  int dims;
  uint32_t total, size[max_dims], factor[max_dims], shift[max_dims];
  int64_t stride[N][max_dims];

  explicit GpuLoop(const Loop<N>& loop) : dims(loop.dims), total(1) {
    for (int d = 0; d < dims; ++d) {
      size[d] = static_cast<uint32_t>(loop.size[d]);
      total *= size[d];
      // Granlund and Montgomery 1994: i / size = (i * factor / 2^32 + i) >> shift for i < 2^31.
      shift[d] = 0;
      while ((uint64_t{1} << shift[d]) < size[d]) ++shift[d];
      factor[d] = static_cast<uint32_t>(
          (((uint64_t{1} << shift[d]) - size[d]) << 32) / (size[d] ? size[d] : 1) + 1);
      for (int n = 0; n < N; ++n) stride[n][d] = loop.stride[n][d];
    }
  }
  __device__ void offsets(uint32_t i, int64_t (&at)[N]) const {
    for (int n = 0; n < N; ++n) at[n] = 0;
#pragma unroll 1  // hundreds of kernels hold a copy
    for (int d = dims - 1; d > 0; --d) {
      const uint32_t quotient = (__umulhi(i, factor[d]) + i) >> shift[d];
      const int64_t rest = i - quotient * size[d];
      for (int n = 0; n < N; ++n) at[n] += rest * stride[n][d];
      i = quotient;
    }
    for (int n = 0; n < N; ++n) at[n] += int64_t{i} * stride[n][0];
  }
};

template <int N> struct Offsets {
  int64_t at[N];
  FN int64_t operator[](size_t i) const { return at[i]; }
};
// f(walk, offsets of its start) for pieces of a loop that 31 bits can count.
template <int N, class F> void each_piece(const Loop<N>& loop, const F& f, Offsets<N> start = {}) {
  double total = 1;
  int longest = 0;
  for (int d = 0; d < loop.dims; ++d) {
    total *= static_cast<double>(loop.size[d]);
    if (loop.size[d] > loop.size[longest]) longest = d;
  }
  if (total < 0x1p31) return f(GpuLoop<N>(loop), start);
  Loop<N> half = loop;
  half.size[longest] /= 2;
  each_piece(half, f, start);
  for (int n = 0; n < N; ++n) start.at[n] += half.size[longest] * loop.stride[n][longest];
  half.size[longest] = loop.size[longest] - half.size[longest];
  each_piece(half, f, start);
}

}  // namespace wengert
