// Random numbers on a GPU: a thread for each block of Philox. The bits are those of the CPU.
#include "gpu/launch.h"
#include "ops/random/gpu.h"

namespace wengert {

namespace {

template <class T>
__global__ void __launch_bounds__(block_threads)
    draw(RandomKind kind, int64_t n, T* y, Varying<RandomState> state, int64_t low, uint64_t span) {
  const auto [seed, first] = state.get();
  const int per = static_cast<int>(per_block<T>(kind));
  for (int64_t block = first_index(); block * per < n; block += index_step()) {
    const RandomBlock bits = philox(seed, first + static_cast<uint64_t>(block));
    for (int i = 0; i < 4; ++i)
      if (i < per && block * per + i < n)
        y[block * per + i] = draw_one<T>(bits, i, kind, low, span);
  }
}

}  // namespace

static void draw_on_gpu(Views outs, Views in, const Attrs& attrs) {
  const View& out = outs[0];
  const auto& [kind, dtype, device, low, high, shape] = attrs.as<RandomAttrs>();
  const int64_t n = out.numel();
  if (n == 0) return;
  const uint64_t span = static_cast<uint64_t>(high) - static_cast<uint64_t>(low);
  const Varying<RandomState> state = varying(*in[0].as<const RandomState>());
  const auto run = [&, kind = kind, low = low](auto type) {
    using T = typename decltype(type)::type;
    launch("random", out.device, grid_for(out.device, divide_up(n, per_block<T>(kind))),
           block_threads, draw<T>, kind, n, out.as<T>(), state, low, span);
  };
  if (out.dtype == DType::float32)
    run(Type<float>{});
  else if (out.dtype == DType::float64)
    run(Type<double>{});
  else
    run(Type<int64_t>{});
}

extern const RandomGpu random_gpu{draw_on_gpu};

}  // namespace wengert
