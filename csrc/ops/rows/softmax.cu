// The softmax family on a GPU. Like the CPU's kernels these take the row's maximum out first.
#include "base/vocab.h"
#include "ops/rows/gpu.h"
#include "ops/rows/row_threads.h"

namespace wengert::WENGERT_ISA {
namespace {

enum class RowOp {
  softmax,
  log_softmax,
  softmax_vjp,
  log_softmax_vjp,
  logsumexp,
  cross_entropy,
  cross_entropy_vjp
};

template <class T> struct RowArguments {
  int64_t rows, n;
  T *y, *kept;
  const T *a, *b;
  const int64_t* target;
  int64_t g_stride;
  Report* report;
};

template <RowOp op, class T, int width>
__global__ void __launch_bounds__(block_threads) row_kernel(RowArguments<T> given) {
  const int lane = static_cast<int>(threadIdx.x) % width;
  const int64_t n = given.n;
  each_row<width>(given.rows, [&](int64_t row) {
    const auto e = [](T x) { return exp(Lane<T>(x)).v; };
    const auto by = [](T p, T q) { return times(Lane<T>(p), q).v; };
    const auto sum = [&](const auto& term) { return row_sum<width>(n, term); };
    const auto shift = [&](const T* x) {  // the largest, or 0 where that is infinite
      const auto larger = [](T p, T q) { return p > q || p != p ? p : q; };
      T best = static_cast<T>(-HUGE_VAL);
      for (int64_t i = lane; i < n; i += width) best = larger(x[i], best);
      best = merge_all<width>(best, larger);
      return best == static_cast<T>(HUGE_VAL) || best == static_cast<T>(-HUGE_VAL) ? T(0) : best;
    };
    const T* a = given.a + row * n;
    T* y = given.y + row * n;
    if constexpr (op == RowOp::softmax) {
      const T m = shift(a);
      const double s = sum([&](int64_t i) { return y[i] = e(a[i] - m); });
      const T scale = static_cast<T>(1.0 / s);
      for (int64_t i = lane; i < n; i += width) y[i] *= scale;
    } else if constexpr (op == RowOp::log_softmax) {
      const T m = shift(a);
      const T log_s = static_cast<T>(::log(sum([&](int64_t i) { return e(a[i] - m); })));
      for (int64_t i = lane; i < n; i += width) y[i] = a[i] - m - log_s;
    } else if constexpr (op == RowOp::softmax_vjp) {
      const T* kept = given.b + row * n;
      const T dot = static_cast<T>(sum([&](int64_t i) { return by(a[i], kept[i]); }));
      for (int64_t i = lane; i < n; i += width) y[i] = by(a[i] - dot, kept[i]);
    } else if constexpr (op == RowOp::log_softmax_vjp) {
      const T* kept = given.b + row * n;
      const T total = static_cast<T>(sum([&](int64_t i) { return a[i]; }));
      for (int64_t i = lane; i < n; i += width) y[i] = a[i] - by(total, e(kept[i]));
    } else if constexpr (op == RowOp::logsumexp) {
      const T m = shift(a);
      const double s = sum([&](int64_t i) { return e(a[i] - m); });
      if (lane == 0) given.y[row] = static_cast<T>(static_cast<double>(m) + ::log(s));
    } else if constexpr (op == RowOp::cross_entropy) {
      const T m = shift(a);
      const T log_s = static_cast<T>(::log(sum([&](int64_t i) { return e(a[i] - m); })));
      if (lane == 0) {
        const int64_t target = given.target[row];
        const bool fits = target >= 0 && target < n;
        if (!fits) report(given.report, Fault::cross_entropy, target, row, n);
        given.kept[2 * row] = m;
        given.kept[2 * row + 1] = log_s;
        given.y[row] = fits ? log_s - (a[target] - m) : static_cast<T>(NAN);
      }
    } else {  // a is x, b is g
      const T g = given.b[row * given.g_stride];
      const T m = given.kept[2 * row], log_s = given.kept[2 * row + 1];
      const int64_t target = given.target[row];
      for (int64_t i = lane; i < n; i += width) {
        const T scaled = by(g, e(a[i] - m - log_s));
        y[i] = i == target ? scaled - g : scaled;
      }
    }
  });
}

template <RowOp op, class T> void run(Device d, const RowArguments<T>& a) {
  if (a.rows == 0) return;
  if constexpr (std::is_same_v<T, float>)  // float64 does without
    if (a.n > short_row)
      return launch("softmax", d, grid_for(d, a.rows * 256), block_threads, row_kernel<op, T, 256>,
                    a);
  launch("softmax", d, grid_for(d, a.rows * 32), block_threads, row_kernel<op, T, 32>, a);
}

template <RowOp op, class T> void run_op(const View& out, Views outs, Views in) {
  const View& x = op == RowOp::cross_entropy_vjp ? in[1] : in[0];
  RowArguments<T> a{};
  a.n = x.shape.back();
  a.rows = op == RowOp::logsumexp ? out.numel() : a.n ? x.numel() / a.n : 0;
  a.y = out.as<T>();
  a.a = x.as<T>();
  a.report = report_of(out.device);
  if constexpr (op == RowOp::softmax_vjp || op == RowOp::log_softmax_vjp) {
    a.b = in[1].as<T>();
  } else if constexpr (op == RowOp::cross_entropy) {
    a.target = in[1].as<int64_t>();
    a.kept = outs[1].as<T>();
  } else if constexpr (op == RowOp::cross_entropy_vjp) {
    a.b = in[0].as<T>();
    a.g_stride = in[0].strides[0];
    a.target = in[2].as<int64_t>();
    a.kept = in[3].as<T>();
  }
  run<op>(out.device, a);
}
template <RowOp op> void run_op(Views out, Views in, const Attrs&) {
  out[0].dtype == DType::float32 ? run_op<op, float>(out[0], out, in)
                                 : run_op<op, double>(out[0], out, in);
}

constexpr SoftmaxGpu softmax_gpu_table{
    .softmax = run_op<RowOp::softmax>,
    .log_softmax = run_op<RowOp::log_softmax>,
    .softmax_vjp = run_op<RowOp::softmax_vjp>,
    .log_softmax_vjp = run_op<RowOp::log_softmax_vjp>,
    .logsumexp = run_op<RowOp::logsumexp>,
    .cross_entropy = run_op<RowOp::cross_entropy>,
    .cross_entropy_vjp = run_op<RowOp::cross_entropy_vjp>,
};

}  // namespace
}  // namespace wengert::WENGERT_ISA

namespace wengert {
extern const SoftmaxGpu softmax_gpu = WENGERT_ISA::softmax_gpu_table;
}
