// Constants and ranges on a GPU.
#include "gpu/launch.h"
#include "ops/memory/gpu.h"

namespace wengert {

namespace {

template <class T> __global__ void __launch_bounds__(block_threads) fill(int64_t n, T* y, T value) {
  for (int64_t i = first_index(); i < n; i += index_step()) y[i] = value;
}
template <class T> using Count = std::conditional_t<std::is_integral_v<T>, uint64_t, double>;
template <class T>
__global__ void __launch_bounds__(block_threads)
    range(int64_t n, T* y, Count<T> start, Count<T> step) {
  for (int64_t i = first_index(); i < n; i += index_step())
    y[i] = static_cast<T>(start + static_cast<Count<T>>(i) * step);
}

template <class T> Count<T> count_of(Number x) {
  if constexpr (std::is_integral_v<T>)
    return static_cast<uint64_t>(x.as<int64_t>());
  else
    return x.as();
}

}  // namespace

void full_on_gpu(Views views, Views, const Attrs& attrs) {
  const View& out = views[0];
  const Number value = attrs.as<FullAttrs>().value;
  const int64_t n = out.numel();
  if (n == 0) return;
  dispatch(out.dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    launch("full", out.device, grid_for(out.device, n), block_threads, fill<T>, n, out.as<T>(),
           value.as<T>());
  });
}

static void arange_on_gpu(Views views, Views, const Attrs& attrs) {
  const View& out = views[0];
  const auto& a = attrs.as<RangeAttrs>();
  const int64_t n = out.numel();
  if (n == 0) return;
  dispatch(out.dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    launch("arange", out.device, grid_for(out.device, n), block_threads, range<T>, n, out.as<T>(),
           count_of<T>(a.start), count_of<T>(a.step));
  });
}

extern const CreateGpu create_gpu{full_on_gpu, arange_on_gpu};

}  // namespace wengert
