// Indexing on a GPU. Scatters give the CPU's bits: of the sources that name one row, the first
// looks for the others and takes them in, in their order; no two blocks write to one place. The
// search costs count^2 comparisons, which a GPU does not notice up to some ten thousand rows.
#include "cuda/launch.h"
#include "ops/cuda_ops.h"

namespace wengert {

namespace {

struct Indices {
  int axes;
  const int64_t* index[max_dims];
  int64_t size[max_dims];
};
__global__ void __launch_bounds__(block_threads)
    ravel(int64_t n, int64_t* rows, Indices x, Report* r) {
  for (int64_t i = first_index(); i < n; i += index_step()) {
    int64_t row = 0;
    for (int a = 0; a < x.axes; ++a) {
      const int64_t given = x.index[a][i], size = x.size[a];
      int64_t at = given < 0 ? given + size : given;
      if (at < 0 || at >= size) {
        report(r, Fault::index, given, i, size);
        at = 0;
      }
      row = row * size + at;
    }
    rows[i] = row;
  }
}

template <class T>
__global__ void __launch_bounds__(block_threads)
    take(int64_t total, int64_t n, T* y, const T* x, const int64_t* rows) {
  for (int64_t i = first_index(); i < total; i += index_step()) y[i] = x[rows[i / n] * n + i % n];
}

template <class T, bool add>
__global__ void __launch_bounds__(block_threads)
    put(int64_t count, int64_t n, T* out, const T* value, const int64_t* rows) {
  __shared__ bool hits[block_threads];
  const int t = threadIdx.x;
  const int64_t me = blockIdx.x, row = rows[me];
  bool earlier = false;
  for (int64_t j = t; j < me; j += block_threads) earlier |= rows[j] == row;
  hits[t] = earlier;
  __syncthreads();
  for (int k = 0; k < static_cast<int>(block_threads); ++k) earlier |= hits[k];
  if (earlier) return;
  T* y = out + row * n;
  int64_t last = me;
  for (int64_t first = me; first < count; first += block_threads) {
    __syncthreads();
    hits[t] = first + t < count && rows[first + t] == row;
    __syncthreads();
    for (int k = 0; k < static_cast<int>(block_threads); ++k) {
      if (!hits[k]) continue;
      last = first + k;
      if constexpr (add)
        for (int64_t c = t; c < n; c += block_threads)
          y[c] = static_cast<T>(y[c] + value[last * n + c]);
    }
  }
  if constexpr (!add)
    for (int64_t c = t; c < n; c += block_threads) y[c] = value[last * n + c];
}

// By the size of an element, for what only moves them.
template <class Body> void by_size(DType dtype, const Body& body) {
  if (size_of(dtype) == 1) return body(Type<uint8_t>{});
  if (size_of(dtype) == 4) return body(Type<uint32_t>{});
  return body(Type<uint64_t>{});
}

}  // namespace

void cuda_ravel(const View& rows, std::span<const View> indices, const Dims& sizes) {
  Indices x{sizes.size(), {}, {}};
  for (int a = 0; a < x.axes; ++a) {
    x.index[a] = indices[static_cast<size_t>(a)].as<int64_t>();
    x.size[a] = sizes[a];
  }
  const int64_t n = rows.numel();
  if (n == 0) return;
  launch("index", rows.device, grid_for(rows.device, n), block_threads, ravel, n,
         rows.as<int64_t>(), x, report_of(rows.device));
}

void cuda_take(const View& out, const View& x, const View& rows, int64_t n) {
  const int64_t total = out.numel();
  if (total == 0) return;
  by_size(out.dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    launch("take_rows", out.device, grid_for(out.device, total), block_threads, take<T>, total, n,
           out.as<T>(), x.as<T>(), rows.as<int64_t>());
  });
}

void cuda_put(const View& out, const View& value, const View& rows, int64_t n, bool add) {
  const int64_t count = rows.numel();
  if (count == 0) return;
  dim3 grid;
  grid.x = static_cast<unsigned>(count);
  const auto run = [&](auto type, auto kernel) {
    using T = typename decltype(type)::type;
    launch("put_rows", out.device, grid, block_threads, kernel, count, n, out.as<T>(),
           value.as<T>(), rows.as<int64_t>());
  };
  if (!add)
    return by_size(out.dtype,
                   [&](auto type) { run(type, put<typename decltype(type)::type, false>); });
  dispatch_on_device(out.dtype,
                     [&](auto type) { run(type, put<typename decltype(type)::type, true>); });
}

}  // namespace wengert
