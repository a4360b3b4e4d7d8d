// The cells of ops/recurrent/cells.h on a GPU, a thread for each unit of each sequence.
#include "base/vocab.h"
#include "gpu/launch.h"
#include "ops/recurrent/gpu.h"

namespace wengert::WENGERT_ISA {
namespace {

template <class C, class T>
__global__ void __launch_bounds__(block_threads) next(CellRows<T> rows, int64_t count) {
  for (int64_t i = first_index(); i < count; i += index_step())
    next_units<C, Lane<T>>(rows, i / rows.width, i % rows.width, 1);
}
template <class C, class T>
__global__ void __launch_bounds__(block_threads) back(CellGradient<T> rows, int64_t count) {
  for (int64_t i = first_index(); i < count; i += index_step())
    back_units<C, Lane<T>>(rows, i / rows.width, i % rows.width, 1);
}
template <class C, class T> void run_next(Device d, const CellRows<T>& rows, int64_t count) {
  const int64_t n = count * rows.width;
  launch(C::name, d, grid_for(d, n), block_threads, next<C, T>, rows, n);
}
template <class C, class T> void run_back(Device d, const CellGradient<T>& rows, int64_t count) {
  const int64_t n = count * rows.width;
  launch(C::vjp_name, d, grid_for(d, n), block_threads, back<C, T>, rows, n);
}
template <class... C> constexpr RecurrentGpu kernels_of(CellList<C...>) {
  return {{{run_next<C, float>, run_back<C, float>}...},
          {{run_next<C, double>, run_back<C, double>}...}};
}
constexpr RecurrentGpu recurrent_gpu_table = kernels_of(Cells{});

}  // namespace
}  // namespace wengert::WENGERT_ISA

namespace wengert {
extern const RecurrentGpu recurrent_gpu = WENGERT_ISA::recurrent_gpu_table;
}
