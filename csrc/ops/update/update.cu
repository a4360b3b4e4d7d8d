// Optimizer updates on a GPU: many parameters in one launch, each block a chunk of one of them.
#include "base/vocab.h"
#include "gpu/launch.h"
#include "ops/update/gpu.h"

namespace wengert::WENGERT_ISA {
namespace {

constexpr int parts_a_launch = 48;  // what a kernel's arguments have room for
constexpr int64_t chunk_elements = 4096;

template <class T> struct Parts {
  int count = 0;
  int64_t first_chunk[parts_a_launch + 1] = {};
  UpdatePart<T*> part[parts_a_launch];
};

template <class T, class Row>
__global__ void __launch_bounds__(block_threads)
    update_parts(Parts<T> parts, Varying<Row> of_step) {
  const Row s = of_step.get();
  int i = 0;
  while (parts.first_chunk[i + 1] <= blockIdx.x) ++i;
  const UpdatePart<T*>& x = parts.part[i];
  const int64_t begin = (blockIdx.x - parts.first_chunk[i]) * chunk_elements;
  const int64_t end = begin + chunk_elements < x.n ? begin + chunk_elements : x.n;
  for (int64_t j = begin + threadIdx.x; j < end; j += block_threads)
    update_element<Lane<T>>(s, x.p, x.state, j, x.g[j]);
}

template <class T, class Row> void run(Device d, std::span<const UpdatePart<>> all, const Row& s) {
  const Varying<Row> of_step = varying(s);
  for (size_t at = 0; at < all.size();) {
    Parts<T> parts;
    int64_t chunks = 0;
    for (; at < all.size() && parts_a_launch > parts.count; ++at) {
      const UpdatePart<>& x = all[at];
      UpdatePart<T*>& part = parts.part[parts.count];
      part = {x.n, static_cast<T*>(x.p), static_cast<T*>(x.g), {}};
      for (int i = 0; i < max_states; ++i) part.state[i] = static_cast<T*>(x.state[i]);
      chunks += divide_up(x.n, chunk_elements);
      parts.first_chunk[++parts.count] = chunks;
    }
    dim3 grid;
    grid.x = static_cast<unsigned>(chunks);
    launch(Row::name, d, grid, block_threads, update_parts<T, Row>, parts, of_step);
  }
}
template <class Row>
void by_dtype(Device d, DType dtype, std::span<const UpdatePart<>> parts, const Row& s) {
  if (dtype == DType::float32)
    run<float>(d, parts, s);
  else
    run<double>(d, parts, s);
}
template <class... Rows> UpdateGpu table(List<Rows...>) {
  return {{UpdateGpuOf<Rows>{by_dtype<Rows>}...}};
}

}  // namespace
}  // namespace wengert::WENGERT_ISA

namespace wengert {

extern const UpdateGpu update_gpu = WENGERT_ISA::table(UpdateRows{});

}  // namespace wengert
