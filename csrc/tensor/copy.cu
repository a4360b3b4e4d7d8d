// Copies on a GPU: in one piece, transposed through shared memory, or element by element.
#include "cuda/runtime.h"
#include "tensor/convert.h"
#include "tensor/walk.h"

namespace wengert {

namespace {

constexpr int tile = 32;  // of a transposed copy

template <class To, class From>
__global__ void __launch_bounds__(block_threads)
    convert_elements(Walk<2> walk, To* to, const From* from) {
#pragma unroll 1
  for (int64_t i = first_index(); i < walk.total; i += index_step()) {
    int64_t at[2];
    walk.offsets(static_cast<uint32_t>(i), at);
    to[at[0]] = convert<To>(from[at[1]]);
  }
}

// to[r * to_row + c] = from[c * from_row + r]: read and written along rows, turned on the way.
template <class T>
__global__ void __launch_bounds__(block_threads)
    transpose_tiles(int64_t rows, int64_t columns, T* to, int64_t to_row, const T* from,
                    int64_t from_row) {
  __shared__ T square[tile][tile + 1];
  const int64_t tiles = (columns + tile - 1) / tile;
  const int64_t r0 = blockIdx.x / tiles * tile, c0 = blockIdx.x % tiles * tile;
  const int x = threadIdx.x % tile;
  for (int y = threadIdx.x / tile; y < tile; y += block_threads / tile)
    if (r0 + x < rows && c0 + y < columns) square[y][x] = from[(c0 + y) * from_row + r0 + x];
  __syncthreads();
  for (int y = threadIdx.x / tile; y < tile; y += block_threads / tile)
    if (r0 + y < rows && c0 + x < columns) to[(r0 + y) * to_row + c0 + x] = square[x][y];
}

template <class To, class From> void copy_as(const View& to, const View& from) {
  const Loop<2> loop(to.shape, {&to.strides, &from.strides});
  if constexpr (std::is_same_v<To, From>)
    if (loop.dims == 2 && loop.stride[0][1] == 1 && loop.stride[1][0] == 1 &&
        loop.stride[1][1] != 1) {
      dim3 grid;
      grid.x = static_cast<unsigned>(divide_up(loop.size[0], tile) * divide_up(loop.size[1], tile));
      return launch("copy", to.device, grid, block_threads, transpose_tiles<To>, loop.size[0],
                    loop.size[1], to.as<To>(), loop.stride[0][0], from.as<From>(),
                    loop.stride[1][1]);
    }
  each_piece(loop, [&](const Walk<2>& walk, const Offsets<2>& start) {
    launch("copy", to.device, grid_for(to.device, walk.total), block_threads,
           convert_elements<To, From>, walk, to.as<To>() + start[0], from.as<From>() + start[1]);
  });
}

}  // namespace

void cuda_copy(const View& to, const View& from) {
  if (to.numel() == 0) return;
  if (to.dtype == from.dtype) {
    if (is_contiguous(to.shape, to.strides) && is_contiguous(from.shape, from.strides))
      return cuda_copy_bytes(to.device, to.data, from.data, nbytes(to.shape, to.dtype));
    if (size_of(to.dtype) == 1) return copy_as<uint8_t, uint8_t>(to, from);
    if (size_of(to.dtype) == 2) return copy_as<uint16_t, uint16_t>(to, from);
    if (size_of(to.dtype) == 4) return copy_as<uint32_t, uint32_t>(to, from);
    return copy_as<uint64_t, uint64_t>(to, from);
  }
  dispatch(to.dtype, [&](auto t) {
    dispatch(from.dtype, [&](auto f) {
      using To = typename decltype(t)::type;
      using From = typename decltype(f)::type;
      if constexpr (!std::is_same_v<To, From>) copy_as<To, From>(to, from);
    });
  });
}

}  // namespace wengert
