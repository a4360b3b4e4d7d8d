// Indexing on a GPU. A row number of -1 is one that was out of range: nothing is read or written.
//
// Scatters give the CPU's bits: of the sources that name one row, the first looks for the others
// and takes them in, in their order; no two blocks write to one place. The search costs count^2
// comparisons, which a GPU does not notice up to some ten thousand rows.
#include <algorithm>

#include "gpu/launch.h"
#include "ops/index/gpu.h"

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
    bool fits = true;
    for (int a = 0; a < x.axes; ++a) {
      const int64_t given = x.index[a][i], size = x.size[a];
      const int64_t at = given < 0 ? given + size : given;
      if (at < 0 || at >= size) report(r, Fault::index, given, i, size);
      fits &= at >= 0 && at < size;
      row = row * size + at;
    }
    rows[i] = fits ? row : -1;
  }
}

template <class T>
__global__ void __launch_bounds__(block_threads)
    take(int64_t total, int64_t n, T* y, const T* x, const int64_t* rows) {
  for (int64_t i = first_index(); i < total; i += index_step()) {
    const int64_t row = rows[i / n];
    y[i] = row < 0 ? T(0) : x[row * n + i % n];
  }
}

// A thread for each column of a block, a block for each row of `value`.
template <class T, Put how>
__global__ void __launch_bounds__(block_threads)
    put(int64_t count, int64_t n, T* out, const T* value, const int64_t* rows) {
  __shared__ bool hits[block_threads];
  const int t = threadIdx.x;
  const int64_t me = blockIdx.x, row = rows[me];
  if (row < 0) return;
  bool earlier = false;
  for (int64_t j = t; j < me; j += block_threads) earlier |= rows[j] == row;
  hits[t] = earlier;
  __syncthreads();
  for (int k = 0; k < static_cast<int>(block_threads); ++k) earlier |= hits[k];
  if (earlier) return;
  for (int64_t c0 = int64_t{blockIdx.y} * block_threads; c0 < n;
       c0 += int64_t{gridDim.y} * block_threads) {
    const int64_t c = c0 + t;
    const bool inside = c < n;
    T* y = out + row * n + c;
    std::conditional_t<how == Put::gather, double, T> sum{};
    if (how == Put::add && inside) sum = static_cast<decltype(sum)>(*y);
    for (int64_t first = me; first < count; first += block_threads) {
      __syncthreads();
      hits[t] = first + t < count && rows[first + t] == row;
      __syncthreads();
      if (!inside) continue;
      for (int k = 0; k < static_cast<int>(block_threads); ++k)
        if (hits[k]) {
          const T v = value[(first + k) * n + c];
          if constexpr (how == Put::gather)
            sum += static_cast<double>(v);
          else
            sum = how == Put::add ? static_cast<T>(sum + v) : v;
        }
    }
    if (inside) *y = static_cast<T>(sum);
  }
}

}  // namespace

static void ravel_on_gpu(Views out, Views indices, const Attrs& attrs) {
  const View& rows = out[0];
  const Dims& sizes = attrs.as<Dims>();
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

void take_on_gpu(const View& out, const View& x, const View& rows, int64_t n) {
  const int64_t total = out.numel();
  if (total == 0) return;
  by_size(size_of(out.dtype), [&](auto type) {
    using T = typename decltype(type)::type;
    launch("take_rows", out.device, grid_for(out.device, total), block_threads, take<T>, total, n,
           out.as<T>(), x.as<T>(), rows.as<int64_t>());
  });
}

void put_on_gpu(const View& out, const View& value, const View& rows, int64_t n, Put how) {
  const int64_t count = rows.numel();
  if (count == 0 || n == 0) return;
  dim3 grid = grid_of("put_rows", count);
  grid.y = static_cast<unsigned>(std::min<int64_t>(divide_up(n, block_threads), 65535));
  const auto run = [&](auto type, auto kernel) {
    using T = typename decltype(type)::type;
    launch("put_rows", out.device, grid, block_threads, kernel, count, n, out.as<T>(),
           value.as<T>(), rows.as<int64_t>());
  };
  if (how == Put::replace)
    return by_size(size_of(out.dtype),
                   [&](auto type) { run(type, put<typename decltype(type)::type, Put::replace>); });
  dispatch(out.dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    if (how == Put::add)
      run(type, put<T, Put::add>);
    else if constexpr (!std::is_integral_v<T>)
      run(type, put<T, Put::gather>);
  });
}

extern const IndexGpu index_gpu{
    .ravel = ravel_on_gpu,
    .take =
        [](Views out, Views in, const Attrs& attrs) {
          take_on_gpu(out[0], in[0], in[1], row_elements(in[0].shape, attrs.as<RowsAttrs>().lead));
        },
    .put =
        [](Views out, Views in, const Attrs& attrs) {
          const auto [lead, add] = attrs.as<RowsAttrs>();
          put_on_gpu(out[0], in[1], in[2], row_elements(in[0].shape, lead),
                     add ? Put::add : Put::replace);
        },
    .gather = gather_on_gpu,
    .scatter = scatter_on_gpu,
    .embedding = embedding_on_gpu,
    .embedding_vjp = embedding_vjp_on_gpu,
    .one_hot = one_hot_on_gpu,
};

}  // namespace wengert
