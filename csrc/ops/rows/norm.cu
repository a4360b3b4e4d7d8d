// layer_norm on a GPU (ops/rows/norm.h says what the arguments are). As on the CPU: the mean first,
// then the squares of the differences, and dw and db from partial sums of 32 rows each.
#include "base/vocab.h"
#include "ops/gpu.h"
#include "ops/rows/gpu.h"
#include "ops/rows/row_threads.h"

namespace wengert::WENGERT_ISA {
namespace {

template <class T> struct NormArguments {
  int64_t rows, n;
  T *y, *kept;             // y, or dx
  const T *g, *x, *w, *b;  // w and b may be null
  double eps;
};

template <class T, int width>
__global__ void __launch_bounds__(block_threads) layer_norm(NormArguments<T> a) {
  const int lane = static_cast<int>(threadIdx.x) % width;
  const int64_t n = a.n;
  const double count = static_cast<double>(n);
  each_row<width>(a.rows, [&](int64_t row) {
    const T* x = a.x + row * n;
    T* y = a.y + row * n;
    const double mean = row_sum<width>(n, [&](int64_t i) { return x[i]; }) / count;
    const T m = static_cast<T>(mean);
    // What rounding m to T lost is taken out of the variance again.
    const double lost = mean - static_cast<double>(m);
    const double var =
        row_sum<width>(n, [&](int64_t i) { return (x[i] - m) * (x[i] - m); }) / count - lost * lost;
    const T rstd = static_cast<T>(1.0 / ::sqrt((var > 0 ? var : var == var ? 0 : var) + a.eps));
    if (lane == 0) {
      a.kept[2 * row] = m;
      a.kept[2 * row + 1] = rstd;
    }
    for (int64_t i = lane; i < n; i += width) {
      const Lane<T> xhat = (x[i] - m) * rstd;
      const Lane<T> scaled = a.w ? xhat * Lane<T>(a.w[i]) : xhat;
      y[i] = a.w && a.b ? fma(xhat, a.w[i], a.b[i]).v : scaled.v;
    }
  });
}

template <class T, int width>
__global__ void __launch_bounds__(block_threads) layer_norm_vjp(NormArguments<T> a) {
  const int lane = static_cast<int>(threadIdx.x) % width;
  const int64_t n = a.n;
  const double count = static_cast<double>(n);
  each_row<width>(a.rows, [&](int64_t row) {
    const T *x = a.x + row * n, *g = a.g + row * n;
    T* dx = a.y + row * n;
    const T m = a.kept[2 * row], rstd = a.kept[2 * row + 1];
    const auto h = [&](int64_t i) { return a.w ? g[i] * a.w[i] : g[i]; };
    const auto xhat = [&](int64_t i) { return (x[i] - m) * rstd; };
    const T mean = static_cast<T>(row_sum<width>(n, h) / count);
    const T along =
        static_cast<T>(row_sum<width>(n, [&](int64_t i) { return h(i) * xhat(i); }) / count);
    for (int64_t i = lane; i < n; i += width) dx[i] = rstd * (h(i) - mean - xhat(i) * along);
  });
}

// dw and db of `part_rows` rows, a thread for each column: sums is (parts, 2, n).
template <class T>
__global__ void __launch_bounds__(block_threads)
    sum_columns(int64_t rows, int64_t n, int64_t part_rows, T* sums, const T* g, const T* x,
                const T* kept) {
  const int64_t across = (n + block_threads - 1) / block_threads, part = blockIdx.x / across;
  const int64_t c = blockIdx.x % across * block_threads + threadIdx.x;
  if (c >= n) return;
  const int64_t first = part * part_rows, end = first + part_rows < rows ? first + part_rows : rows;
  T dw = 0, db = 0;
  for (int64_t r = first; r < end; ++r) {
    const T gr = g[r * n + c];
    db += gr;
    dw += gr * ((x[r * n + c] - kept[2 * r]) * kept[2 * r + 1]);
  }
  sums[part * 2 * n + c] = dw;
  sums[part * 2 * n + n + c] = db;
}
template <class T>
__global__ void __launch_bounds__(block_threads)
    add_parts(int64_t n, int64_t parts, T* y, const T* sums) {
  for (int64_t i = first_index(); i < n; i += index_step()) {
    double total = 0;
    for (int64_t p = 0; p < parts; ++p) total += static_cast<double>(sums[p * n + i]);
    y[i] = static_cast<T>(total);
  }
}

template <class T> struct Norm {
  static const T* of(Views in, size_t i) { return in.size() > i ? in[i].as<T>() : nullptr; }
  static NormArguments<T> arguments(const View& x) {
    NormArguments<T> a{};
    a.n = x.shape.back();
    a.rows = a.n ? x.numel() / a.n : 0;
    a.x = x.as<T>();
    return a;
  }
  static void run(Views out, Views in, const Attrs& attrs) {
    const View& y = out[0];
    NormArguments<T> a = arguments(in[0]);
    a.y = y.as<T>(), a.kept = out[1].as<T>(), a.w = of(in, 1), a.b = of(in, 2);
    a.eps = attrs.as<NormAttrs>().eps;
    const bool whole = a.n > short_row;
    if (a.rows)
      launch("layer_norm", y.device, grid_for(y.device, a.rows * (whole ? 256 : 32)), block_threads,
             whole ? layer_norm<T, 256> : layer_norm<T, 32>, a);
  }
  static void run_vjp(Views out, Views in, const Attrs&) {  // g, x, kept, w
    const View& dx = out[0];
    NormArguments<T> a = arguments(in[1]);
    a.y = dx.as<T>(), a.kept = in[2].as<T>(), a.g = in[0].as<T>(), a.w = of(in, 3);
    const bool whole = a.n > short_row;
    if (a.rows)
      launch("layer_norm_vjp", dx.device, grid_for(dx.device, a.rows * (whole ? 256 : 32)),
             block_threads, whole ? layer_norm_vjp<T, 256> : layer_norm_vjp<T, 32>, a);
  }
  static void run_affine(Views out, Views in, const Attrs&) {  // g, x, kept
    const View &both = out[0], &sums = out[1];
    const NormArguments<T> a = arguments(in[1]);
    const int64_t parts = sums.shape[0];
    if (a.n == 0) return;
    if (parts)
      launch("layer_norm_affine_vjp", both.device,
             grid_of("layer_norm_affine_vjp", divide_up(a.n, block_threads) * parts), block_threads,
             sum_columns<T>, a.rows, a.n, norm_rows_summed, sums.as<T>(), in[0].as<T>(), a.x,
             in[2].as<T>());
    launch("layer_norm_affine_vjp", both.device, grid_for(both.device, 2 * a.n), block_threads,
           add_parts<T>, 2 * a.n, parts, both.as<T>(), sums.as<T>());
  }
};

constexpr NormGpu norm_gpu_table{
    .layer_norm = float_or_double<Norm<float>::run, Norm<double>::run>,
    .layer_norm_vjp = float_or_double<Norm<float>::run_vjp, Norm<double>::run_vjp>,
    .affine_vjp = float_or_double<Norm<float>::run_affine, Norm<double>::run_affine>,
};

}  // namespace
}  // namespace wengert::WENGERT_ISA

namespace wengert {
extern const NormGpu norm_gpu = WENGERT_ISA::norm_gpu_table;
}
