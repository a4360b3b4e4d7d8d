// float32 products on tensor cores: y = a @ b as a sum of products of bfloat16 slices.
//
// One kernel writes each operand as 1, 2 or 3 slices (`split`, ops/matmul/tiles.h) whose rows lie
// along k, whatever the operand's strides: so the products need no other order. 1, 3 or 6 products
// of slices go into one accumulator: bfloat16's accuracy, nearly float32's, float32's. Tensor cores
// cut off where they add, always towards zero, in proportion to the sum so far; so with more than
// one slice every 64 of k (mma: 16) begin a new sum, the smallest products come first, and these
// sums are added in float32, rounded.
//
// Two kernels do the products: `wgmma_tiles` for 9.0a, where a warpgroup brings slices by TMA and
// two multiply; `mma_tiles` for 8.0 and later. A result that is not finite is made again with plain
// numbers, since an infinity times a slice that is zero is NaN. A long k with few tiles is cut into
// slabs, as in simt.cu. Which kernel, and how, depends on the GPU and the shapes alone.
#include <algorithm>
#include <atomic>
#include <optional>

#include "gpu/tensor_core.h"
#include "ops/matmul/finish.h"
#include "ops/matmul/gpu.h"
#include "ops/matmul/tiles.h"
#include "tensor/gpu_loop.h"

namespace wengert {

namespace {

using WENGERT_ISA::each_four, WENGERT_ISA::finish, WENGERT_ISA::results;

constexpr int size = 128;  // of a tile; with one slice, wgmma's are two wide
[[maybe_unused]] constexpr int fragments = 16;

// ---- slices ----

struct Source {
  int32_t rows, k, width;  // width: of a slice's row, k in whole 16 bytes
  int64_t row_stride, k_stride, slice;
  int32_t row_tiles, k_tiles;
  int64_t tiles;
  GpuLoop<2> batch;  // of the slices, in matrices, and of x
};
constexpr int piece_rows = 32, piece_k = 64, split_threads = 256;

template <int slices>
__global__ void __launch_bounds__(split_threads)
    split_slices(Source s, uint16_t* out, const float* x) {
  __shared__ float piece[piece_rows][piece_k + 1];
  const int t = static_cast<int>(threadIdx.x);
  for (int64_t tile = blockIdx.x; tile < s.tiles; tile += gridDim.x) {
    const int64_t matrix = tile / (int64_t{s.row_tiles} * s.k_tiles);
    const int row = static_cast<int>(tile / s.k_tiles % s.row_tiles) * piece_rows;
    const int k = static_cast<int>(tile % s.k_tiles) * piece_k;
    int64_t at[2];
    s.batch.offsets(static_cast<uint32_t>(matrix), at);
    const bool along_k = s.k_stride == 1;  // neighbouring threads read neighbours
    __syncthreads();
    for (int e = t; e < piece_rows * piece_k; e += split_threads) {
      const int r = along_k ? e / piece_k : e % piece_rows;
      const int c = along_k ? e % piece_k : e / piece_rows;
      piece[r][c] = row + r < s.rows && k + c < s.k
                        ? x[at[1] + (row + r) * s.row_stride + (k + c) * s.k_stride]
                        : 0.0f;
    }
    __syncthreads();
    for (int e = t; e < piece_rows * piece_k / 2; e += split_threads) {
      const int r = e / (piece_k / 2), c = e % (piece_k / 2) * 2;
      if (row + r >= s.rows || k + c >= s.width) continue;
      bfloat16 first[slices], second[slices];
      split(piece[r][c], first);
      split(piece[r][c + 1], second);
      uint16_t* to = out + (matrix * s.rows + row + r) * s.width + k + c;
#pragma unroll
      for (int p = 0; p < slices; ++p)
        *reinterpret_cast<uint32_t*>(to + p * s.slice) =
            first[p].bits | static_cast<uint32_t>(second[p].bits) << 16;
    }
  }
}

// ---- what both kernels are told, and what they do with a finished tile ----

struct Product {
  int32_t m, n, k, k_slab;  // k_slab: whole blocks of k
  int32_t width;            // of a slice's row
  int64_t a_rows, b_rows;   // of a slice
  Tiles tiles;
  int64_t y_slab;  // elements from one slab's results to the next one's
  float* y;
  const uint16_t *a_slices, *b_slices;
  const float *a, *b;
  int64_t a_row, a_col, b_row, b_col;
  GpuLoop<5> batch;  // of y and the slices, in matrices; of a and b, in elements
  bool finishes;     // with an epilogue; else the product is stored in y
  CudaEpilogue epilogue;
};

struct Place {
  int row, column, k_begin, k_end;
  int64_t first_row;   // of the matrix
  int64_t y, a, b;     // elements
  int a_line, b_line;  // rows of slice 0

  __device__ Place(const Product& g, int64_t work, int width) {
    const Tiles::Place t = g.tiles.place(work);
    row = t.row * size;
    column = t.column * width;
    k_begin = t.slab * g.k_slab;
    k_end = g.k - k_begin < g.k_slab ? g.k : k_begin + g.k_slab;
    int64_t at[5];
    g.batch.offsets(static_cast<uint32_t>(t.matrix), at);
    first_row = int64_t{t.matrix} * g.m;
    y = t.slab * g.y_slab + first_row * g.n;
    a_line = static_cast<int>(at[1]) * g.m + row;
    b_line = static_cast<int>(at[2]) * g.n + column;
    a = at[3];
    b = at[4];
  }
};

struct alignas(8) Two {
  float first, second;
};
struct Corner {
  int row, column;
};

// A result again, with plain numbers.
[[maybe_unused]] __device__ inline float again(const Product& g, const Place& place, int row,
                                               int column) {
  const float* a = g.a + place.a + row * g.a_row;
  const float* b = g.b + place.b + column * g.b_col;
  float y = 0;
#pragma unroll 1
  for (int k = place.k_begin; k < place.k_end && y == y; ++k)
    y = fmaf(a[k * g.a_col], b[k * g.b_row], y);
  return y;
}

// Stores a lane's share of `count` fragments, whose corners are at(f), in the result, or does what
// the epilogue says.
template <int count, class At>
__device__ void store(const Product& g, const Place& place, float (&sum)[count][4], const At& at) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  if (g.finishes)
    return each_four(sum, [&](float(&x)[4], int f) {
      const auto element = [&](int i) {
        return Corner{at(f).row + fragment_row(lane, i), at(f).column + fragment_column(lane, i)};
      };
#pragma unroll 1
      for (int i = 0; i < 4; ++i) {
        const float value = i < 2 ? (i ? x[1] : x[0]) : i < 3 ? x[2] : x[3];
        const auto [row, column] = element(i);
        if (is_finite(value) || row >= g.m || column >= g.n) continue;
        const float y = again(g, place, row, column);
#pragma unroll
        for (int j = 0; j < 4; ++j) x[j] = i == j ? y : x[j];
      }
      const auto at_run = [&](int run) { return element(2 * run); };
      const auto r = results<2>(x, g.m, g.n, place.first_row, at_run);
      if (g.epilogue.keeps_product) r.store(g.y, x);
      finish(g.epilogue, x, r);
    });
  bool finite = true;
#pragma unroll
  for (int f = 0; f < count; ++f)
#pragma unroll
    for (int i = 0; i < 4; i += 2) {
      const int row = at(f).row + fragment_row(lane, i);
      const int column = at(f).column + fragment_column(lane, i);
      if (row >= g.m || column >= g.n) continue;
      float* to = g.y + place.y + int64_t{row} * g.n + column;
      finite &= is_finite(sum[f][i]) && is_finite(sum[f][i + 1]);
      if (g.n % 2 == 0) {
        *reinterpret_cast<Two*>(to) = {sum[f][i], sum[f][i + 1]};
      } else {
        to[0] = sum[f][i];
        if (column + 1 < g.n) to[1] = sum[f][i + 1];
      }
    }
  if (finite) return;
#pragma unroll 1
  for (int e = 0; e < count * 4; ++e) {
    const int row = at(e / 4).row + fragment_row(lane, e % 4);
    const int column = at(e / 4).column + fragment_column(lane, e % 4);
    if (row >= g.m || column >= g.n) continue;
    float* to = g.y + place.y + int64_t{row} * g.n + column;
    if (!is_finite(*to)) *to = again(g, place, row, column);
  }
}
template <int count> __device__ void clear(float (&sum)[count][4]) {
#pragma unroll
  for (int f = 0; f < count; ++f)
#pragma unroll
    for (int i = 0; i < 4; ++i) sum[f][i] = 0;
}
template <int count> __device__ void add(float (&sum)[count][4], const float (&part)[count][4]) {
#pragma unroll
  for (int f = 0; f < count; ++f)
#pragma unroll
    for (int i = 0; i < 4; ++i) sum[f][i] += part[f][i];
}

// ---- 9.0a: a ring of stages in shared memory, filled by one thread, read by two warpgroups ----

template <int slices> struct Wgmma {
  static constexpr int depth = 64;                    // of a block of k: 128 bytes
  static constexpr int halves = slices == 1 ? 2 : 1;  // of a tile's columns
  static constexpr int slice_bytes = size * depth * 2;
  static constexpr int stage_bytes = (1 + halves) * slices * slice_bytes;
  static constexpr int stages = slices == 1 ? 4 : slices == 2 ? 3 : 2;
  static constexpr int threads = 3 * 128;
  static constexpr int shared_bytes = stages * stage_bytes + 1024;  // to begin at a multiple
};

// The fragments of a half of the columns.
template <int count> __device__ float (&half_of(float (&part)[count][4], int h))[fragments][4] {
  return *reinterpret_cast<float(*)[fragments][4]>(&part[h * fragments]);
}

template <int slices>
__global__ void __launch_bounds__(Wgmma<slices>::threads, 1)
    wgmma_tiles([[maybe_unused]] const __grid_constant__ Product g,
                [[maybe_unused]] const __grid_constant__ TensorMap a_map,
                [[maybe_unused]] const __grid_constant__ TensorMap b_map) {
#if HAS_WGMMA
  using W = Wgmma<slices>;
  __shared__ Barrier full[W::stages], empty[W::stages];
  char* shared = dynamic_shared();
  shared += -shared_address(shared) & 1023;
  const int warp = static_cast<int>(threadIdx.x) / 32, group = warp / 4;
  if (threadIdx.x == 0) {
    for (int s = 0; s < W::stages; ++s) {
      begin(&full[s], 1);
      begin(&empty[s], 8);  // each warp that multiplies: another may still be reading
    }
    show_barriers();
  }
  __syncthreads();
  int stage = 0, parity = 0;
  const auto next = [&] {
    stage = stage + 1 == W::stages ? 0 : stage + 1;
    parity ^= stage == 0;
  };
  if (group == 0) {
    keep_registers<40>();
    if (threadIdx.x != 0) return;
    for (int64_t work = blockIdx.x; work < g.tiles.count(); work += gridDim.x) {
      const Place place(g, work, size * W::halves);
      for (int k = place.k_begin; k < place.k_end; k += W::depth, next()) {
        wait(&empty[stage], parity ^ 1);
        arrive_before(&full[stage], W::stage_bytes);
        char* to = shared + stage * W::stage_bytes;
        for (int p = 0; p < slices; ++p, to += W::slice_bytes)
          copy_box(to, &a_map, k, place.a_line + static_cast<int>(p * g.a_rows), &full[stage]);
        for (int p = 0; p < slices; ++p, to += W::halves * W::slice_bytes)
          copy_box(to, &b_map, k, place.b_line + static_cast<int>(p * g.b_rows), &full[stage]);
      }
    }
  } else {
    take_registers<232>();
    const int line = (warp - 4) * 16;  // of this warp's rows in the tile
    for (int64_t work = blockIdx.x; work < g.tiles.count(); work += gridDim.x) {
      const Place place(g, work, size * W::halves);
      float part[W::halves * fragments][4];
      [[maybe_unused]] float sum[fragments][4];
      if constexpr (slices > 1) clear(sum);
      clear(part);
      for (int k = place.k_begin; k < place.k_end; k += W::depth, next()) {
        wait(&full[stage], parity);
        const uint32_t a = shared_address(shared + stage * W::stage_bytes) +
                           static_cast<uint32_t>((group - 1) * W::slice_bytes / 2);
        const uint32_t b = shared_address(shared + stage * W::stage_bytes) +
                           static_cast<uint32_t>(slices * W::slice_bytes);
        begin_products();
        each_pair<slices>([&](int p, int q) {
#pragma unroll
          for (int step = 0; step < W::depth / 16; ++step)
#pragma unroll
            for (int h = 0; h < W::halves; ++h)
              multiply(half_of(part, h),
                       descriptor(a + static_cast<uint32_t>(p * W::slice_bytes + step * 32)),
                       descriptor(b + static_cast<uint32_t>((q * W::halves + h) * W::slice_bytes +
                                                            step * 32)),
                       p > 0 || q < slices - 1 || step > 0 || (slices == 1 && k > place.k_begin));
        });
        wait_for_products();
#pragma unroll
        for (int h = 0; h < W::halves; ++h) settle(half_of(part, h));
        if (threadIdx.x % 32 == 0) arrive(&empty[stage]);
        if constexpr (slices > 1) add(sum, part);
      }
      const auto at = [&](int f) { return Corner{place.row + line, place.column + f * 8}; };
      if constexpr (slices > 1)
        store(g, place, sum, at);
      else
        store(g, place, part, at);
    }
  }
#endif
}

// ---- 8.0: stages filled by all threads; eight warps with 64 x 32 of the tile each ----

template <int slices> struct Mma {
  static constexpr int depth = 32, row_bytes = depth * 2;
  static constexpr int slice_bytes = size * row_bytes;
  static constexpr int stage_bytes = 2 * slices * slice_bytes;
  static constexpr int stages = slices == 1 ? 4 : slices == 2 ? 3 : 2;  // 96 KB, or less
  static constexpr int threads = 256;
};

#if HAS_MMA
// Rows `line` and on of the slices, from k on, to a stage: 16 bytes a thread and round.
template <int slices>
__device__ void bring(char* to, const uint16_t* from, int64_t line, int64_t rows, int width,
                      int k) {
  using M = Mma<slices>;
  const int t = static_cast<int>(threadIdx.x);
#pragma unroll
  for (int p = 0; p < slices; ++p)
#pragma unroll
    for (int i = 0; i < M::slice_bytes / 16 / M::threads; ++i) {
      const int piece = i * M::threads + t, column = k + piece % 4 * 8;
      const int64_t row = line + piece / 4;
      const bool inside = row < rows && column < width;
      copy_later(
          to + p * M::slice_bytes + swizzled(static_cast<uint32_t>(piece) * 16, M::row_bytes),
          inside ? from + (p * rows + row) * width + column : from, inside);
    }
}
// A warp's address for load_matrices: 16 rows from `row` on, 16 of k from byte `k` on. The four
// matrices go down first, as a's registers do, or along k first.
template <int slices>
__device__ const char* matrices(const char* slice, int row, int k, bool down_first) {
  const int lane = static_cast<int>(threadIdx.x) % 32, i = lane / 8;
  const int down = down_first ? i % 2 : i / 2, along = down_first ? i / 2 : i % 2;
  return slice +
         swizzled(static_cast<uint32_t>((row + down * 8 + lane % 8) * Mma<slices>::row_bytes + k +
                                        along * 16),
                  Mma<slices>::row_bytes);
}
#endif

template <int slices>
__global__ void __launch_bounds__(Mma<slices>::threads, 1)
    mma_tiles([[maybe_unused]] const __grid_constant__ Product g) {
#if HAS_MMA
  using M = Mma<slices>;
  char* shared = dynamic_shared();
  const Place place(g, blockIdx.x, size);
  const int warp = static_cast<int>(threadIdx.x) / 32, down = warp / 4 * 64, across = warp % 4 * 32;
  const int blocks = (place.k_end - place.k_begin + M::depth - 1) / M::depth;
  const auto fill = [&](int block) {
    char* to = shared + block % M::stages * M::stage_bytes;
    const int k = place.k_begin + block * M::depth;
    if (block < blocks) {
      bring<slices>(to, g.a_slices, place.a_line, g.a_rows, g.width, k);
      bring<slices>(to + M::stage_bytes / 2, g.b_slices, place.b_line, g.b_rows, g.width, k);
    }
    end_copies();
  };
  for (int s = 0; s + 1 < M::stages; ++s) fill(s);
  float part[fragments][4], sum[fragments][4];
  clear(part);
  clear(sum);
  for (int block = 0; block < blocks; ++block) {
    wait_for_copies<M::stages - 2>();
    __syncthreads();
    fill(block + M::stages - 1);
    const char* a = shared + block % M::stages * M::stage_bytes;
    const char* b = a + M::stage_bytes / 2;
#pragma unroll 1  // more, and registers spill
    for (int k = 0; k < M::row_bytes; k += 32) {
      uint32_t right[slices][2][4];
#pragma unroll
      for (int p = 0; p < slices; ++p)
#pragma unroll
        for (int j = 0; j < 2; ++j)
          load_matrices(right[p][j],
                        matrices<slices>(b + p * M::slice_bytes, across + j * 16, k, false));
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        uint32_t left[slices][4];
#pragma unroll
        for (int p = 0; p < slices; ++p)
          load_matrices(left[p], matrices<slices>(a + p * M::slice_bytes, down + r * 16, k, true));
        each_pair<slices>([&](int p, int q) {
#pragma unroll
          for (int c = 0; c < 4; ++c)
            multiply(part[r * 4 + c], left[p], right[q][c / 2][c % 2 * 2],
                     right[q][c / 2][c % 2 * 2 + 1]);
        });
      }
      if constexpr (slices > 1) {
        add(sum, part);
        clear(part);
      }
    }
  }
  store(g, place, slices > 1 ? sum : part, [&](int f) {
    return Corner{place.row + down + f / 4 * 16, place.column + across + f % 4 * 8};
  });
#endif
}

// ---- the host ----

// Whether this build has the kernel's code for the GPU; if not, the kernel is an empty one.
template <class F> bool built([[maybe_unused]] F* kernel) {
#if defined(__CUDACC__)
  cudaFuncAttributes attributes{};
  return cudaFuncGetAttributes(&attributes, kernel) == cudaSuccess && attributes.numRegs >= 64;
#else
  return true;
#endif
}
enum class Units { unknown, none, mma, wgmma };
Units units(Device d) {
  static std::atomic<Units> known[max_gpus];
  Units u = known[number(d)];
  if (u != Units::unknown) return u;
  stream_of(d);
  const int c = compute_capability(d);
  u = c == 90 && built(wgmma_tiles<1>) ? Units::wgmma
      : c >= 80 && built(mma_tiles<1>) ? Units::mma
                                       : Units::none;
  return known[number(d)] = u;
}

// x as slices: `row_axis` counts their rows, the other axis is k.
template <int slices>
void write_slices(const View& x, int row_axis, int width, int64_t slice, uint16_t* out) {
  const int n = x.shape.size(), k_axis = 2 * n - 3 - row_axis;
  const Shape batch = batch_of(x.shape);
  const Strides strides = batch_of(x.strides), packed = contiguous_strides(batch);
  Source s{static_cast<int32_t>(x.shape[row_axis]),
           static_cast<int32_t>(x.shape[k_axis]),
           width,
           x.strides[row_axis],
           x.strides[k_axis],
           slice,
           static_cast<int32_t>(divide_up(x.shape[row_axis], piece_rows)),
           static_cast<int32_t>(divide_up(width, piece_k)),
           0,
           GpuLoop<2>(Loop<2>(batch, {&packed, &strides}))};
  s.tiles = int64_t{s.row_tiles} * s.k_tiles * numel(batch);
  launch("matmul", x.device, grid_for(x.device, s.tiles * split_threads), split_threads,
         split_slices<slices>, s, out, static_cast<const float*>(x.as<float>()));
}

template <class K, class... A>
void launch_tiles(Device d, int64_t blocks, int threads, int shared_bytes, K* kernel,
                  const A&... arguments) {
  stream_of(d);
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes),
        "matmul", d);
  dim3 grid;
  grid.x = static_cast<unsigned>(blocks);
  launch_with("matmul", d, grid, static_cast<unsigned>(threads), static_cast<size_t>(shared_bytes),
              kernel, arguments...);
}

// Whether they are for tensor cores. Smaller ones do not fill the tiles or are done before the
// slices are written. Rows are counted in 31 bits.
bool fits(const View& y, const View& a, const View& b, int slices) {
  constexpr double small = 1 << 21;
  const int64_t m = y.shape[y.shape.size() - 2], n = y.shape.back(), k = a.shape.back();
  const int64_t a_rows = numel(batch_of(a.shape)) * m, b_rows = numel(batch_of(b.shape)) * n;
  return m >= 64 && n >= 64 && k >= 64 &&
         static_cast<double>(y.numel()) * static_cast<double>(k) >= small &&
         a_rows <= INT32_MAX / slices - size && b_rows <= INT32_MAX / slices - size &&
         k <= INT32_MAX - 1024 && numel(batch_of(y.shape)) <= INT32_MAX / 2;
}

template <int slices>
void run(const View& y, const View& a, const View& b, bool wgmma, const KeptSlices& kept,
         const CudaEpilogue* epilogue) {
  const int dims = y.shape.size(), a_dims = a.shape.size(), b_dims = b.shape.size();
  const int64_t m = y.shape[dims - 2], n = y.shape[dims - 1], k = a.shape[a_dims - 1];
  const Shape batch = batch_of(y.shape), a_batch = batch_of(a.shape), b_batch = batch_of(b.shape);
  const int64_t count = numel(batch), width = divide_up(k, 8) * 8;
  const int64_t a_rows = numel(a_batch) * m, b_rows = numel(b_batch) * n;
  const int columns = wgmma ? size * Wgmma<slices>::halves : size;
  Product g{.m = static_cast<int32_t>(m),
            .n = static_cast<int32_t>(n),
            .k = static_cast<int32_t>(k),
            .k_slab = static_cast<int32_t>(width),
            .width = static_cast<int32_t>(width),
            .a_rows = a_rows,
            .b_rows = b_rows,
            .tiles = {static_cast<int>(divide_up(m, size)), static_cast<int>(divide_up(n, columns)),
                      1, static_cast<int>(count)},
            .y_slab = y.numel(),
            .y = y.as<float>(),
            .a_slices = nullptr,
            .b_slices = nullptr,
            .a = a.as<float>(),
            .b = b.as<float>(),
            .a_row = a.strides[a_dims - 2],
            .a_col = a.strides[a_dims - 1],
            .b_row = b.strides[b_dims - 2],
            .b_col = b.strides[b_dims - 1],
            .batch =
                [&] {
                  const auto fit = [&](const Shape& from, const Strides& strides) {
                    return broadcast_strides(from, strides, batch);
                  };
                  const Strides matrix = contiguous_strides(batch),
                                a_matrix = fit(a_batch, contiguous_strides(a_batch)),
                                b_matrix = fit(b_batch, contiguous_strides(b_batch)),
                                a_strides = fit(a_batch, batch_of(a.strides)),
                                b_strides = fit(b_batch, batch_of(b.strides));
                  return GpuLoop<5>(
                      Loop<5>(batch, {&matrix, &a_matrix, &b_matrix, &a_strides, &b_strides}));
                }(),
            .finishes = epilogue != nullptr,
            .epilogue = epilogue ? *epilogue : CudaEpilogue{}};
  // Slabs of 512 or more, until there is work for a large GPU.
  const int64_t tiles = g.tiles.count(), slabs = std::min(128 / tiles, k / 512);
  if (slabs > 1) {
    g.k_slab = static_cast<int32_t>(divide_up(divide_up(k, slabs), 64) * 64);
    g.tiles.slabs = static_cast<int>(divide_up(k, g.k_slab));
  }
  // An operand's slices: kept by the line that made it, or written here.
  const auto slices_of = [&](const View& x, int row_axis, int64_t rows, const uint16_t* of,
                             std::optional<DeviceScratch>& own) {
    if (of) return of;
    own.emplace(y.device, slices * rows * width * 2);
    write_slices<slices>(x, row_axis, g.width, rows * width, own->as<uint16_t>());
    return static_cast<const uint16_t*>(own->as<uint16_t>());
  };
  std::optional<DeviceScratch> own_a, own_b;
  g.a_slices = slices_of(a, a_dims - 2, a_rows, kept.a, own_a);
  g.b_slices = slices_of(b, b_dims - 1, b_rows, kept.b, own_b);

  const auto multiply = [&] {
    if (!wgmma)
      return launch_tiles(y.device, grid_of("matmul", g.tiles.count()).x, Mma<slices>::threads,
                          Mma<slices>::stages * Mma<slices>::stage_bytes, mma_tiles<slices>, g);
    const auto map = [&](const uint16_t* data, int64_t rows, int box_rows) {
      return tensor_map("matmul", y.device, data, slices * rows, width, width, box_rows);
    };
    launch_tiles(y.device, std::min<int64_t>(processors(y.device), g.tiles.count()),
                 Wgmma<slices>::threads, Wgmma<slices>::shared_bytes, wgmma_tiles<slices>, g,
                 map(g.a_slices, a_rows, size), map(g.b_slices, b_rows, columns));
  };
  if (g.tiles.slabs == 1) return multiply();
  const DeviceScratch partial(y.device, g.tiles.slabs * y.numel() * size_of(y.dtype));
  g.y = partial.as<float>();
  g.finishes = false;
  multiply();
  add_slabs(y, g.tiles.slabs, g.y, g.epilogue);
}

}  // namespace

const char* matmul_units(Device d) {
  switch (units(d)) {
    case Units::wgmma:
      return "wgmma";
    case Units::mma:
      return "mma";
    default:
      return nullptr;
  }
}

int matmul_slices(const View& y, const View& a, const View& b, MatmulPrecision precision) {
  if (y.dtype != DType::float32 || precision == MatmulPrecision::strict) return 0;
  const int slices = precision == MatmulPrecision::fp32   ? 3
                     : precision == MatmulPrecision::fast ? 2
                                                          : 1;
  return units(y.device) != Units::none && fits(y, a, b, slices) ? slices : 0;
}

void multiply_slices(const View& y, const View& a, const View& b, int slices,
                     const KeptSlices& kept, const CudaEpilogue* epilogue) {
  const bool wgmma = units(y.device) == Units::wgmma;
  (slices == 3 ? run<3> : slices == 2 ? run<2> : run<1>)(y, a, b, wgmma, kept, epilogue);
}

}  // namespace wengert
