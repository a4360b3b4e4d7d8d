// Reductions on a GPU: a block folds some outputs ("units"), each with a team of threads, and
// merges the team's accumulators in a tree. Long runs are cut into pieces of a length that depends
// on the shape alone, folded by the same kernel in a second pass. No atomics: the same bits every
// time.
#include "gpu/launch.h"
#include "ops/reduce/folds.h"
#include "ops/reduce/gpu.h"

namespace wengert::WENGERT_ISA {
namespace {

constexpr int64_t piece_rounds = 64;  // elements of a piece for each thread of a team
constexpr int64_t many_blocks = 1024;

// How the work is laid out. `team` and `units` (of a block) are powers of two, together 256.
struct Plan {
  ReduceBlock block;
  int64_t units, rows_a_piece, pieces;
  int team, units_a_block;
  bool along_rows;  // neighbouring threads read neighbouring rows, else neighbouring units
  double divisor;

  __device__ int64_t offset(uint32_t unit) const {
    const auto inner = static_cast<uint32_t>(block.inner);
    int64_t at = unit % inner;
    uint32_t o = unit / inner;
#pragma unroll 1
    for (int d = block.dims - 1; d >= 0; --d) {
      const auto size = static_cast<uint32_t>(block.size[d]);
      at += o % size * block.stride[d];
      o /= size;
    }
    return at;
  }
};

// Of elements, or of the accumulators of an earlier pass; to results if `last`, else accumulators.
template <class Fold, class In, bool first>
__global__ void __launch_bounds__(block_threads) fold(Plan p, bool last, void* out, const void* x) {
  using Acc = typename Fold::Acc;
  __shared__ Acc parts[block_threads];
  const int t = threadIdx.x;
  const int member = p.along_rows ? t % p.team : t / p.units_a_block;
  const int64_t unit = static_cast<int64_t>(blockIdx.x) * p.units_a_block +
                       (p.along_rows ? t / p.team : t % p.units_a_block);
  const int64_t piece = blockIdx.y, begin = piece * p.rows_a_piece;
  const int64_t end = begin + p.rows_a_piece < p.block.rows ? begin + p.rows_a_piece : p.block.rows;
  Acc acc = Fold::start();
  if (unit < p.units) {
    const In* from = static_cast<const In*>(x) + p.offset(static_cast<uint32_t>(unit));
    // Four loads at once, and less code for integers and second passes.
    [[maybe_unused]] constexpr int at_once = first && std::is_floating_point_v<In> ? 4 : 1;
#pragma unroll at_once
    for (int64_t r = begin + member; r < end; r += p.team)
      if constexpr (first)
        acc = Fold::fold(acc, from[r * p.block.row_stride], r);
      else
        acc = Fold::merge(acc, from[r * p.block.row_stride]);
  }
  parts[t] = acc;
  const int step = p.along_rows ? 1 : p.units_a_block;
#pragma unroll 1
  for (int half = p.team / 2; half > 0; half /= 2) {
    __syncthreads();
    if (member < half) parts[t] = acc = Fold::merge(acc, parts[t + half * step]);
  }
  if (member != 0 || unit >= p.units) return;
  if (last)
    static_cast<typename Fold::Out*>(out)[unit] = Fold::finish(acc, p.divisor);
  else
    static_cast<Acc*>(out)[unit * p.pieces + piece] = acc;
}

Plan plan_for(const ReduceBlock& block, int64_t units, double divisor) {
  if (units >= int64_t{1} << 32)
    fail<ShapeError>("reduce: more than 2**32 results are not possible on a GPU");
  Plan p{block, units, 0, 1, 1, 0, block.inner == 1, divisor};
  const int widest = p.along_rows ? static_cast<int>(block_threads) : 8;
  while (p.team < widest && p.team < block.rows) p.team *= 2;
  p.units_a_block = static_cast<int>(block_threads) / p.team;
  p.rows_a_piece = block.rows;
  if (divide_up(units, p.units_a_block) < many_blocks) p.rows_a_piece = p.team * piece_rounds;
  p.pieces = block.rows ? divide_up(block.rows, p.rows_a_piece) : 1;
  if (p.pieces > 65535) {  // of a grid's second axis
    p.rows_a_piece = divide_up(block.rows, 65535);
    p.pieces = divide_up(block.rows, p.rows_a_piece);
  }
  return p;
}
dim3 grid_for(const Plan& p) {
  dim3 grid;
  grid.x = static_cast<unsigned>(divide_up(p.units, p.units_a_block));
  grid.y = static_cast<unsigned>(p.pieces);
  return grid;
}

struct Folds {
  void (*elements)(Plan, bool, void*, const void*);
  void (*accumulators)(Plan, bool, void*, const void*);
  int64_t accumulator_bytes;
};

void run(const Folds& folds, const View& out, const View& x, const ReduceBlock& block,
         double divisor) {
  const Device d = out.device;
  const Plan p = plan_for(block, out.numel(), divisor);
  if (p.pieces == 1)
    return launch("reduce", d, grid_for(p), block_threads, folds.elements, p, true, out.data,
                  x.data);
  const DeviceScratch partial(d, p.units * p.pieces * folds.accumulator_bytes);
  launch("reduce", d, grid_for(p), block_threads, folds.elements, p, false, partial.as<void>(),
         x.data);
  ReduceBlock rest{};
  rest.dims = 1;
  rest.size[0] = p.units;
  rest.stride[0] = p.pieces;
  rest.rows = p.pieces;
  Plan second = plan_for(rest, p.units, divisor);
  second.rows_a_piece = second.block.rows;
  second.pieces = 1;
  launch("reduce", d, grid_for(second), block_threads, folds.accumulators, second, true, out.data,
         partial.as<void>());
}

template <template <class> class Fold> Folds folds_of(DType t) {
  return dispatch(t, [](auto type) -> Folds {
    using Given = typename decltype(type)::type;
    using T = std::conditional_t<std::is_same_v<Given, bool>, uint8_t, Given>;  // 0 and 1 in a byte
    if constexpr (std::is_same_v<T, bfloat16>)
      return {};  // it comes as float32 (graph/record.cpp)
    else {
      using F = Fold<T>;
      using Acc = typename F::Acc;
      return {fold<F, T, true>, fold<F, Acc, false>, int64_t{sizeof(Acc)}};
    }
  });
}

template <template <class> class Fold> void reduce(Views out, Views in, const Attrs& attrs) {
  const auto [block, divisor] = attrs.as<ReduceBlockAttrs>();
  if (out[0].numel()) run(folds_of<Fold>(in[0].dtype), out[0], in[0], *block, divisor);
}

constexpr ReduceGpu reduce_gpu_table{{reduce<Sum>, reduce<Prod>, reduce<Max>, reduce<Min>,
                                      reduce<Any>, reduce<All>, reduce<ArgMax>, reduce<ArgMin>,
                                      reduce<SumSquares>}};

}  // namespace
}  // namespace wengert::WENGERT_ISA

namespace wengert {
extern const ReduceGpu reduce_gpu = WENGERT_ISA::reduce_gpu_table;
}
