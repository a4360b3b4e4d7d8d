// How the threads of a GPU share rows of n adjacent elements (softmax, norm, attention): a warp for
// each short row, a block for each long one. Sums are gathered in float64, in a fixed order.
#pragma once

#include "gpu/launch.h"

namespace wengert {

constexpr int64_t short_row = 1024;

// The merged values of all `width` threads of a row, in each of them. A warp can hold several rows.
template <int width, class T, class Merge> __device__ T merge_all(T x, const Merge& merge) {
  for (unsigned lanes = (width < 32 ? width : 32) / 2; lanes > 0; lanes /= 2)
    x = merge(x, __shfl_xor_sync(~0u, x, lanes));
  if constexpr (width > 32) {
    __shared__ T of_warp[width / 32];
    __syncthreads();
    if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = x;
    __syncthreads();
    x = of_warp[0];
    for (int i = 1; i < width / 32; ++i) x = merge(x, of_warp[i]);
  }
  return x;
}
// The sum of term(i) over a row.
template <int width, class Term> __device__ double row_sum(int64_t n, const Term& term) {
  double s = 0;
#pragma unroll 2
  for (int64_t i = static_cast<int>(threadIdx.x) % width; i < n; i += width)
    s += static_cast<double>(term(i));
  return merge_all<width>(s, [](double p, double q) { return p + q; });
}
// body(row) for all rows that fall to the thread's row of threads.
template <int width, class Body> __device__ void each_row(int64_t rows, const Body& body) {
  constexpr int together = static_cast<int>(block_threads) / width;
  // Rows in step: the threads of a warp, or of a block, meet in each.
  for (int64_t row = static_cast<int64_t>(blockIdx.x) * together + threadIdx.x / width; row < rows;
       row += static_cast<int64_t>(gridDim.x) * together)
    body(row);
}

}  // namespace wengert
