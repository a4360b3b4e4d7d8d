// Optimizer updates on a GPU: many parameters in one launch, each block a chunk of one of them.
#include "gpu/launch.h"
#include "ops/update/formulas.h"
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

template <class T, class Step>
__global__ void __launch_bounds__(block_threads) update(Parts<T> parts, Varying<Step> of_step) {
  using V = Lane<T>;
  const Step s = of_step.get();
  int i = 0;
  while (parts.first_chunk[i + 1] <= blockIdx.x) ++i;
  const UpdatePart<T*>& x = parts.part[i];
  const int64_t begin = (blockIdx.x - parts.first_chunk[i]) * chunk_elements;
  const int64_t end = begin + chunk_elements < x.n ? begin + chunk_elements : x.n;
  for (int64_t j = begin + threadIdx.x; j < end; j += block_threads) {
    V w(x.p[j]), a(x.state[0] ? x.state[0][j] : T(0)), b(x.state[1] ? x.state[1][j] : T(0));
    const V g(x.g[j]);
    if constexpr (std::is_same_v<Step, SgdStep>)
      sgd_formula(w, g, a, x.state[0] != nullptr, s);
    else if constexpr (std::is_same_v<Step, AdamStep>)
      adam_formula(w, g, a, b, s);
    else
      rmsprop_formula(w, g, a, b, x.state[1] != nullptr, s);
    x.p[j] = w.v;
    if (x.state[0]) x.state[0][j] = a.v;
    if (x.state[1]) x.state[1][j] = b.v;
  }
}

template <class T, class Step>
void run(const char* op, Device d, std::span<const UpdatePart<>> all, const Step& s) {
  const Varying<Step> of_step = varying(s);
  for (size_t at = 0; at < all.size();) {
    Parts<T> parts;
    int64_t chunks = 0;
    for (; at < all.size() && parts.count < parts_a_launch; ++at) {
      const UpdatePart<>& x = all[at];
      parts.part[parts.count] = {x.n,
                                 static_cast<T*>(x.p),
                                 static_cast<T*>(x.g),
                                 {static_cast<T*>(x.state[0]), static_cast<T*>(x.state[1])}};
      chunks += divide_up(x.n, chunk_elements);
      parts.first_chunk[++parts.count] = chunks;
    }
    dim3 grid;
    grid.x = static_cast<unsigned>(chunks);
    launch(op, d, grid, block_threads, update<T, Step>, parts, of_step);
  }
}
template <class Step>
void by_dtype(const char* op, Device d, DType dtype, std::span<const UpdatePart<>> parts,
              const Step& s) {
  if (dtype == DType::float32)
    run<float>(op, d, parts, s);
  else
    run<double>(op, d, parts, s);
}

}  // namespace
}  // namespace wengert::WENGERT_ISA

namespace wengert {

using WENGERT_ISA::by_dtype;
extern const UpdateGpu update_gpu{
    .sgd = [](Device d, DType dtype, std::span<const UpdatePart<>> parts,
              const SgdStep& s) { by_dtype("sgd_step", d, dtype, parts, s); },
    .adam = [](Device d, DType dtype, std::span<const UpdatePart<>> parts,
               const AdamStep& s) { by_dtype("adam_step", d, dtype, parts, s); },
    .rmsprop = [](Device d, DType dtype, std::span<const UpdatePart<>> parts,
                  const RmspropStep& s) { by_dtype("rmsprop_step", d, dtype, parts, s); },
};

}  // namespace wengert
