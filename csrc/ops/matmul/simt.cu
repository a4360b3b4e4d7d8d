// Matrix products on a GPU without tensor cores: y = a @ b, every product and sum in the dtype.
// (With them: tensor_cores.cu.)
//
// A block computes a tile of y. Steps of k pass through shared memory in two buffers: while one is
// multiplied the next is on its way, in registers. Each thread holds (2 x 4)^2 elements of y, or 2
// x 2 in the small kernel, which takes any dtype and any strides. A long k with few tiles is cut
// into slabs, whose results are added in float64, in order. How, depends on the shapes alone.
#include <algorithm>

#include "gpu/launch.h"
#include "ops/matmul/finish.h"
#include "ops/matmul/gpu.h"
#include "tensor/gpu_loop.h"

namespace wengert {

namespace {

using WENGERT_ISA::each_four, WENGERT_ISA::finish, WENGERT_ISA::results;

struct Spot {
  int row, column;
};
struct Operands {
  int64_t m, n, k, k_slab;  // a slab of k for each blockIdx.y
  int64_t a_row, a_col, b_row, b_col;
  int64_t y_slab;         // elements from one slab's results to the next one's
  uint32_t first_matrix;  // of the stack; blockIdx.z counts from there
  GpuLoop<3> batch;       // of y, a and b
};

constexpr int threads = 256;

// Four results one after another, so that a kernel has each formula once: against the products of
// plain numbers this takes no time. `at` gives the place of each.
template <class At>
__device__ void finish_four(const CudaEpilogue& e, float (&x)[4], const Operands& g, const At& at) {
  if (!e.finishes()) return;
#pragma unroll 1
  for (int i = 0; i < 4; ++i) {
    float one[1] = {x[0]};
    const auto here = [&](int) { return at(i); };
    finish(e, one,
           results<1>(one, static_cast<int>(g.m), static_cast<int>(g.n),
                      (g.first_matrix + int64_t{blockIdx.z}) * g.m, here));
    x[0] = x[1];
    x[1] = x[2];
    x[2] = x[3];
  }
}

// ---- the small kernel: 32 x 32 of y, 16 of k at a time ----

template <class T>
__global__ void __launch_bounds__(threads)
    small_tiles(Operands g, T* y, const T* a, const T* b,
                [[maybe_unused]] const __grid_constant__ CudaEpilogue e) {
  constexpr int size = 32, depth = 16;
  __shared__ T as[depth][size + 1], bs[depth][size + 1];
  const int t = threadIdx.x, i = t / 16 * 2, j = t % 16 * 2;
  const int64_t tiles = (g.n + size - 1) / size;
  const int64_t row = blockIdx.x / tiles * size, column = blockIdx.x % tiles * size;
  const int64_t k_begin = blockIdx.y * g.k_slab;
  const int64_t k_end = k_begin + g.k_slab < g.k ? k_begin + g.k_slab : g.k;
  // Neighbouring threads read along the axis whose elements are adjacent.
  const bool a_along_k = g.a_col == 1, b_along_k = g.b_col != 1;
  int64_t at[3];
  g.batch.offsets(g.first_matrix + blockIdx.z, at);
  T sum[2][2] = {};
  for (int64_t k0 = k_begin; k0 < k_end; k0 += depth) {
    __syncthreads();
    for (int e = t; e < size * depth; e += threads) {
      const int r = a_along_k ? e / depth : e % size, c = a_along_k ? e % depth : e / size;
      as[c][r] = row + r < g.m && k0 + c < k_end
                     ? a[at[1] + (row + r) * g.a_row + (k0 + c) * g.a_col]
                     : T(0);
      const int s = b_along_k ? e / depth : e % size, d = b_along_k ? e % depth : e / size;
      bs[d][s] = column + s < g.n && k0 + d < k_end
                     ? b[at[2] + (k0 + d) * g.b_row + (column + s) * g.b_col]
                     : T(0);
    }
    __syncthreads();
    for (int c = 0; c < depth; ++c)
      for (int p = 0; p < 2; ++p)
        for (int q = 0; q < 2; ++q)
          if constexpr (std::is_floating_point_v<T>)
            sum[p][q] = ::fma(as[c][i + p], bs[c][j + q], sum[p][q]);
          else  // integers wrap
            sum[p][q] = static_cast<T>(static_cast<uint64_t>(sum[p][q]) +
                                       static_cast<uint64_t>(as[c][i + p]) *
                                           static_cast<uint64_t>(bs[c][j + q]));
  }
  const auto place = [&](int e) {
    return Spot{static_cast<int>(row) + i + e / 2, static_cast<int>(column) + j + e % 2};
  };
  T* to = y + blockIdx.y * g.y_slab + at[0];
  if (e.keeps_product)
    for (int p = 0; p < 2; ++p)
      for (int q = 0; q < 2; ++q)
        if (row + i + p < g.m && column + j + q < g.n)
          to[(row + i + p) * g.n + column + j + q] = sum[p][q];
  if constexpr (std::is_same_v<T, float>) {
    float x[4] = {sum[0][0], sum[0][1], sum[1][0], sum[1][1]};
    finish_four(e, x, g, place);
  }
}

// ---- the large kernel, float32: 128 x 128 of y, 8 of k at a time, 16 bytes an access ----

constexpr int tile = 128, depth = 8;

// A 128 x 8 piece of an operand (w is a's row or b's column): each thread brings one quad, which
// lies along k or along w, to shared memory. Sizes and strides are such that a quad lies wholly
// inside or outside, on 16 bytes.
template <bool along_k> struct Piece {
  static_assert(tile * depth == 4 * threads);
  const float* from;
  int64_t step;  // from a piece to the next
  float4 held;
  bool inside;

  __device__ static int w() {
    return static_cast<int>(along_k ? threadIdx.x / 2 : threadIdx.x % 32 * 4);
  }
  __device__ static int k() {
    return static_cast<int>(along_k ? threadIdx.x % 2 * 4 : threadIdx.x / 32);
  }
  // `stride` is that of the other axis than the one that quads lie along.
  __device__ Piece(const float* x, int64_t stride, int64_t w_begin, int64_t w_end, int64_t k_begin)
      : from(x + (along_k ? (w_begin + w()) * stride + k_begin + k()
                          : (k_begin + k()) * stride + w_begin + w())),
        step(along_k ? depth : depth * stride),
        inside(w_begin + w() < w_end) {}
  __device__ void read(int64_t k_left) {
    held = float4{0, 0, 0, 0};
    if (inside && k() < k_left) held = *reinterpret_cast<const float4*>(from);
    from += step;
  }
  __device__ void write(float (*to)[tile]) const {
    if constexpr (along_k) {
      to[k()][w()] = held.x;
      to[k() + 1][w()] = held.y;
      to[k() + 2][w()] = held.z;
      to[k() + 3][w()] = held.w;
    } else {
      *reinterpret_cast<float4*>(&to[k()][w()]) = held;
    }
  }
};

__device__ inline void read_eight(float (&x)[8], const float* from) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float4 four = *reinterpret_cast<const float4*>(from + half * (tile / 2));
    x[4 * half] = four.x;
    x[4 * half + 1] = four.y;
    x[4 * half + 2] = four.z;
    x[4 * half + 3] = four.w;
  }
}

template <bool a_along_k, bool b_along_k>
__global__ void __launch_bounds__(threads, 2)
    large_tiles(Operands g, float* y, const float* a, const float* b,
                const __grid_constant__ CudaEpilogue e) {
  alignas(16) __shared__ float as[2][depth][tile];
  alignas(16) __shared__ float bs[2][depth][tile];
  const int i = static_cast<int>(threadIdx.x) / 16 * 4, j = static_cast<int>(threadIdx.x) % 16 * 4;
  const int64_t tiles = (g.n + tile - 1) / tile;
  const int64_t row = blockIdx.x / tiles * tile, column = blockIdx.x % tiles * tile;
  const int64_t k_begin = blockIdx.y * g.k_slab;
  const int64_t k_end = k_begin + g.k_slab < g.k ? k_begin + g.k_slab : g.k;
  int64_t at[3];
  g.batch.offsets(g.first_matrix + blockIdx.z, at);
  Piece<a_along_k> next_a(a + at[1], a_along_k ? g.a_row : g.a_col, row, g.m, k_begin);
  Piece<b_along_k> next_b(b + at[2], b_along_k ? g.b_col : g.b_row, column, g.n, k_begin);
  y += blockIdx.y * g.y_slab + at[0];
  next_a.read(k_end - k_begin);
  next_b.read(k_end - k_begin);
  next_a.write(as[0]);
  next_b.write(bs[0]);
  __syncthreads();
  float sum[16][4] = {};  // of each row two quads
  int buffer = 0;
  for (int64_t k0 = k_begin; k0 < k_end; k0 += depth, buffer ^= 1) {
    const bool more = k0 + depth < k_end;
    if (more) {
      next_a.read(k_end - k0 - depth);
      next_b.read(k_end - k0 - depth);
    }
#pragma unroll 2  // more, and registers spill
    for (int k = 0; k < depth; ++k) {
      float p[8], q[8];
      read_eight(p, &as[buffer][k][i]);
      read_eight(q, &bs[buffer][k][j]);
#pragma unroll
      for (int r = 0; r < 8; ++r)
#pragma unroll
        for (int c = 0; c < 8; ++c)
          sum[2 * r + c / 4][c % 4] = fmaf(p[r], q[c], sum[2 * r + c / 4][c % 4]);
    }
    if (more) {
      next_a.write(as[buffer ^ 1]);
      next_b.write(bs[buffer ^ 1]);
      __syncthreads();
    }
  }
  each_four(sum, [&](float(&x)[4], int f) {
    const int p = static_cast<int>(row) + i + f / 2 % 4 + f / 8 * (tile / 2);
    const int q = static_cast<int>(column) + j + f % 2 * (tile / 2);
    if (e.keeps_product && p < g.m && q < g.n)
      *reinterpret_cast<float4*>(y + p * g.n + q) = float4{x[0], x[1], x[2], x[3]};
    finish_four(e, x, g, [&](int column_of) { return Spot{p, q + column_of}; });
  });
}

template <class T>
__global__ void __launch_bounds__(threads)
    add_slabs(int64_t n, int64_t slabs, T* y, const T* partial, [[maybe_unused]] int columns,
              [[maybe_unused]] const __grid_constant__ CudaEpilogue e) {
  for (int64_t i = first_index(); i < n; i += index_step()) {
    std::conditional_t<std::is_floating_point_v<T>, double, T> sum = 0;
    for (int64_t s = 0; s < slabs; ++s) sum += partial[s * n + i];
    if constexpr (std::is_same_v<T, float>) {
      float x[1] = {static_cast<float>(sum)};
      if (e.keeps_product) y[i] = x[0];
      if (!e.finishes()) continue;
      const auto here = [&](int) { return Spot{0, static_cast<int>(i % columns)}; };
      finish(e, x, results<1>(x, 1, columns, i / columns, here));
    } else {
      y[i] = static_cast<T>(sum);
    }
  }
}

// Whether quads can be read from x, which lies along axis 1 if `along_second`.
bool in_quads(const View& x, bool& along_second) {
  const int n = x.shape.size();
  const int64_t rows = x.strides[n - 2], columns = x.strides[n - 1];
  along_second = columns == 1;
  if (columns != 1 && rows != 1) return false;
  bool whole = x.shape[n - (along_second ? 1 : 2)] % 4 == 0 &&
               (along_second ? rows : columns) % 4 == 0 &&
               reinterpret_cast<uintptr_t>(x.data) % 16 == 0;
  for (int d = 0; d + 2 < n; ++d) whole &= x.strides[d] % 4 == 0;
  return whole;
}

template <class T> void add(const View& y, int64_t slabs, const T* partial, const CudaEpilogue& e) {
  launch("matmul", y.device, grid_for(y.device, y.numel()), threads, add_slabs<T>, y.numel(), slabs,
         y.as<T>(), partial, static_cast<int>(y.shape.back()), e);
}

template <class T> void run(const View& y, const View& a, const View& b, const CudaEpilogue& e) {
  const int dims = y.shape.size();
  const Shape batch = batch_of(y.shape);
  const Strides y_strides = batch_of(y.strides);
  const Strides a_strides = broadcast_strides(batch_of(a.shape), batch_of(a.strides), batch);
  const Strides b_strides = broadcast_strides(batch_of(b.shape), batch_of(b.strides), batch);
  const int a_dims = a.shape.size(), b_dims = b.shape.size();
  Operands g{y.shape[dims - 2],
             y.shape[dims - 1],
             a.shape[a_dims - 1],
             0,
             a.strides[a_dims - 2],
             a.strides[a_dims - 1],
             b.strides[b_dims - 2],
             b.strides[b_dims - 1],
             y.numel(),
             0,
             GpuLoop<3>(Loop<3>(batch, {&y_strides, &a_strides, &b_strides}))};
  bool large = false, a_along_k = false, b_along_n = false;
  if constexpr (std::is_same_v<T, float>)
    large = g.m > 32 && g.n > 32 && g.n % 4 == 0 && in_quads(a, a_along_k) &&
            in_quads(b, b_along_n) && g.a_row != 0 && g.b_col != 0;
  const int64_t size = large ? tile : 32;
  const int64_t tiles = divide_up(g.m, size) * divide_up(g.n, size), count = numel(batch);
  const bool few = tiles * count <= 64 && g.k >= 4096;
  g.k_slab = few ? 1024 : g.k;
  const int64_t slabs = few ? divide_up(g.k, g.k_slab) : 1;
  dim3 grid;
  grid.x = static_cast<unsigned>(tiles);
  grid.y = static_cast<unsigned>(slabs);
  if (slabs > 65535) fail<ShapeError>("matmul: an inner size of ", g.k, " is too large for a GPU");

  const auto multiply = [&](T* to, const CudaEpilogue& then) {
    auto kernel = small_tiles<T>;
    if constexpr (std::is_same_v<T, float>)
      if (large)
        kernel = a_along_k ? (b_along_n ? large_tiles<true, false> : large_tiles<true, true>)
                           : (b_along_n ? large_tiles<false, false> : large_tiles<false, true>);
    for (int64_t first = 0; first < count; first += 65535) {
      grid.z = static_cast<unsigned>(std::min<int64_t>(65535, count - first));
      g.first_matrix = static_cast<uint32_t>(first);
      launch("matmul", y.device, grid, threads, kernel, g, to, a.as<T>(), b.as<T>(), then);
    }
  };
  if (slabs == 1) return multiply(y.as<T>(), e);
  const DeviceScratch partial(y.device, slabs * y.numel() * size_of(y.dtype));
  multiply(partial.as<T>(), {});
  add(y, slabs, static_cast<const T*>(partial.as<T>()), e);
}

}  // namespace

void add_slabs(const View& y, int64_t slabs, const float* partial, const CudaEpilogue& e) {
  add(y, slabs, partial, e);
}

static void matmul_on_gpu(Views out, Views in, const Attrs& attrs) {
  const View &y = out[0], &a = in[0], &b = in[1];
  const auto& [precision, kept, epilogue] = attrs.as<MatmulGpuAttrs>();
  if (y.numel() == 0) return;
  CudaEpilogue e = epilogue ? *epilogue : CudaEpilogue{};
  for (int k = 0; k < e.steps; ++k)
    if (e.given >> k & 1) {
      const Varying<float> number = varying(*e.step[k].other);
      e.step[k].other = number.slot;
      e.step[k].value = number.value;
    }
  if (e.update.p) e.update.at = varying(e.update.constants).slot;
  if (left_out("matmul")) return;  // only the numbers were wanted
  if (const int slices = matmul_slices(y, a, b, precision))
    return multiply_slices(y, a, b, slices, kept, epilogue ? &e : nullptr);
  switch (y.dtype) {
    case DType::float32:
      return run<float>(y, a, b, e);
    case DType::float64:
      return run<double>(y, a, b, e);
    case DType::int32:
      return run<int32_t>(y, a, b, e);
    default:
      return run<int64_t>(y, a, b, e);
  }
}

extern const MatmulGpu matmul_gpu{matmul_on_gpu, matmul_slices, matmul_units};

}  // namespace wengert
