// Copies on a GPU: in one piece, transposed through shared memory, or element by element.
#include "gpu/runtime.h"
#include "gpu/steps.h"
#include "tensor/convert.h"
#include "tensor/gpu_loop.h"

namespace wengert {

namespace {

constexpr int side = 32;  // of a tile of a transposed copy

template <class To, class From>
__global__ void __launch_bounds__(block_threads)
    convert_elements(GpuLoop<2> walk, void* to, const void* from) {
#pragma unroll 1
  for (int64_t i = first_index(); i < walk.total; i += index_step()) {
    int64_t at[2];
    walk.offsets(static_cast<uint32_t>(i), at);
    static_cast<To*>(to)[at[0]] = convert<To>(static_cast<const From*>(from)[at[1]]);
  }
}

// to[r * to_row + c] = from[c * from_row + r]: read and written along rows, turned on the way.
template <class T>
__global__ void __launch_bounds__(block_threads)
    transpose_tiles(int64_t rows, int64_t columns, void* to_data, int64_t to_row,
                    const void* from_data, int64_t from_row) {
  T* const to = static_cast<T*>(to_data);
  const T* const from = static_cast<const T*>(from_data);
  __shared__ T square[side][side + 1];
  const int64_t tiles = (columns + side - 1) / side;
  const int64_t r0 = blockIdx.x / tiles * side, c0 = blockIdx.x % tiles * side;
  const int x = threadIdx.x % side;
  for (int y = threadIdx.x / side; y < side; y += block_threads / side)
    if (r0 + x < rows && c0 + y < columns) square[y][x] = from[(c0 + y) * from_row + r0 + x];
  __syncthreads();
  for (int y = threadIdx.x / side; y < side; y += block_threads / side)
    if (r0 + y < rows && c0 + x < columns) to[(r0 + y) * to_row + c0 + x] = square[x][y];
}

struct CopyKernels {
  void (*elements)(GpuLoop<2>, void*, const void*);
  void (*transposed)(int64_t, int64_t, void*, int64_t, const void*, int64_t);  // or null
};
template <class T> constexpr CopyKernels plain{convert_elements<T, T>, transpose_tiles<T>};

CopyKernels kernels_for(DType to, DType from) {
  const DType read = from == DType::bool_ ? DType::uint8 : from;  // a byte that is 0 or 1
  if (to == from || to == read) {
    const int64_t bytes = size_of(to);
    return bytes == 1   ? plain<uint8_t>
           : bytes == 2 ? plain<uint16_t>
           : bytes == 4 ? plain<uint32_t>
                        : plain<uint64_t>;
  }
  return dispatch(to, [&](auto t) {
    return dispatch(read, [&](auto f) -> CopyKernels {
      using To = typename decltype(t)::type;
      using From = typename decltype(f)::type;
      if constexpr (std::is_same_v<To, From> || std::is_same_v<From, bool>)
        return {};
      else
        return {convert_elements<To, From>, nullptr};
    });
  });
}

}  // namespace

void cuda_copy(const View& to, const View& from) {
  if (to.numel() == 0) return;
  const Device d = to.device;
  if (active_steps && active_steps->records() && active_steps->puts_copy(to, from)) return;
  if (to.dtype == from.dtype && is_contiguous(to.shape, to.strides) &&
      is_contiguous(from.shape, from.strides))
    return cuda_copy_bytes(d, to.data, from.data, nbytes(to.shape, to.dtype));
  const CopyKernels kernels = kernels_for(to.dtype, from.dtype);
  const Loop<2> loop(to.shape, {&to.strides, &from.strides});
  if (kernels.transposed && loop.dims == 2 && loop.stride[0][1] == 1 && loop.stride[1][0] == 1 &&
      loop.stride[1][1] != 1) {
    dim3 grid;
    grid.x = static_cast<unsigned>(divide_up(loop.size[0], side) * divide_up(loop.size[1], side));
    return launch("copy", d, grid, block_threads, kernels.transposed, loop.size[0], loop.size[1],
                  to.data, loop.stride[0][0], from.data, loop.stride[1][1]);
  }
  each_piece(loop, [&](const GpuLoop<2>& walk, const Offsets<2>& start) {
    launch("copy", d, grid_for(d, walk.total), block_threads, kernels.elements, walk,
           to.as<char>() + start[0] * size_of(to.dtype),
           from.as<char>() + start[1] * size_of(from.dtype));
  });
}

}  // namespace wengert
