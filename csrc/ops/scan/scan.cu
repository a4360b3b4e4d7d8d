// Scans on a GPU: a team of threads takes as many rows of a line at a time, scans them in shared
// memory (Hillis and Steele 1986), and carries the last one on. Neighbouring threads are rows of
// one line where lines are runs, else lines side by side. Long lines are cut into pieces of a
// length that depends on the shape alone, as on the CPU: folded, merged by a scan of their
// accumulators, then scanned. No atomics: the same bits every time.
#include "gpu/launch.h"
#include "ops/scan/folds.h"
#include "ops/scan/gpu.h"

namespace wengert::WENGERT_ISA {
namespace {

constexpr int64_t scan_rounds = 32;  // elements of a piece for each thread of a team
constexpr int64_t scan_blocks = 1024;

struct ScanPlan {
  int64_t lines, n, inner;  // [lines / inner, n, inner]
  bool reverse;
  int team, lines_a_block;  // powers of two, together 256
  int64_t rows_a_piece, pieces;
};

// Of elements, or in place of the accumulators of pieces, [lines, n]. Of elements without y: what
// each piece has, to `pieces`; with y: from what the pieces before have, if there are several.
template <class Fold, class T, bool elements>
__global__ void __launch_bounds__(block_threads)
    scan(ScanPlan p, const T* a, const T* b, typename Fold::Out* y, int64_t* at, void* pieces) {
  using Acc = typename Fold::Acc;
  __shared__ Acc parts[block_threads];
  const bool along = p.inner == 1;
  const int t = threadIdx.x, step = along ? 1 : p.lines_a_block;
  const int member = along ? t % p.team : t / p.lines_a_block;
  const int64_t line = static_cast<int64_t>(blockIdx.x) * p.lines_a_block +
                       (along ? t / p.team : t % p.lines_a_block);
  const int64_t piece = blockIdx.y, begin = piece * p.rows_a_piece;
  const int64_t end = begin + p.rows_a_piece < p.n ? begin + p.rows_a_piece : p.n;
  const int64_t start = line / p.inner * p.n * p.inner + line % p.inner;
  Acc* const totals = static_cast<Acc*>(pieces);
  Acc before = Fold::start();
  if (elements && y && piece && line < p.lines) before = totals[line * p.pieces + piece - 1];
  for (int64_t first = begin; first < end; first += p.team) {
    const int64_t r = first + member, i = start + (p.reverse ? p.n - 1 - r : r) * p.inner;
    const bool inside = r < end && line < p.lines;
    Acc acc = Fold::start();
    if (inside) {
      if constexpr (!elements)
        acc = totals[i];
      else if constexpr (std::is_same_v<Fold, Affine<T>>)
        acc = Fold::fold(acc, a[i], b[i]);
      else
        acc = Fold::fold(acc, a[i], r);
    }
#pragma unroll 1
    for (int back = 1; back < p.team; back *= 2) {
      parts[t] = acc;
      __syncthreads();
      if (member >= back) acc = Fold::merge(parts[t - back * step], acc);
      __syncthreads();
    }
    acc = Fold::merge(before, acc);
    parts[t] = acc;
    __syncthreads();
    before = parts[t + (p.team - 1 - member) * step];
    __syncthreads();
    if (!inside) continue;
    if constexpr (!elements) {
      totals[i] = acc;
    } else if (y) {
      y[i] = Fold::finish(acc, 1);
      if constexpr (requires { acc.at; }) at[i] = acc.at;
    }
  }
  if (elements && !y && member == 0 && line < p.lines) totals[line * p.pieces + piece] = before;
}

ScanPlan plan_for(int64_t lines, int64_t n, int64_t inner, bool reverse) {
  ScanPlan p{lines, n, inner, reverse, 1, 1, n, 1};
  const int widest = inner == 1 ? static_cast<int>(block_threads) : 8;
  while (p.team < widest && p.team < n) p.team *= 2;
  p.lines_a_block = static_cast<int>(block_threads) / p.team;
  return p;
}
dim3 grid_for(const ScanPlan& p) {
  dim3 grid = grid_of("scan", divide_up(p.lines, p.lines_a_block));
  grid.y = static_cast<unsigned>(p.pieces);
  return grid;
}

template <class Fold, class T> void run_lines(Views out, Views in, const Attrs& attrs) {
  using Out = typename Fold::Out;
  using Acc = typename Fold::Acc;
  const Device d = out[0].device;
  const auto [axis, reverse] = attrs.as<ScanAttrs>();
  const ScanShape s(out[0].shape, axis);
  ScanPlan p = plan_for(s.outer * s.inner, s.n, s.inner, reverse);
  if (divide_up(p.lines, p.lines_a_block) < scan_blocks) {
    p.rows_a_piece = p.team * scan_rounds;
    p.pieces = divide_up(p.n, p.rows_a_piece);
    if (p.pieces > 65535) {  // of a grid's second axis
      p.rows_a_piece = divide_up(p.n, 65535);
      p.pieces = divide_up(p.n, p.rows_a_piece);
    }
  }
  const T *a = in[0].as<T>(), *b = in.size() > 1 ? in[1].as<T>() : nullptr;
  int64_t* const at = out.size() > 1 ? out[1].as<int64_t>() : nullptr;
  const auto elements = [&](Out* y, Acc* pieces) {
    launch("scan", d, grid_for(p), block_threads, scan<Fold, T, true>, p, a, b, y, at, pieces);
  };
  if (p.pieces == 1) return elements(out[0].as<Out>(), nullptr);
  const DeviceScratch partial(d, p.lines * p.pieces * int64_t{sizeof(Acc)});
  elements(nullptr, partial.as<Acc>());
  const ScanPlan second = plan_for(p.lines, p.pieces, 1, false);
  launch("scan", d, grid_for(second), block_threads, scan<Fold, T, false>, second,
         static_cast<const T*>(nullptr), static_cast<const T*>(nullptr), static_cast<Out*>(nullptr),
         static_cast<int64_t*>(nullptr), partial.as<void>());
  elements(out[0].as<Out>(), partial.as<Acc>());
}

// Of the dtypes that the op is given: those that T can be.
template <template <class> class Fold, class... Types>
void run_of(Views out, Views in, const Attrs& attrs) {
  dispatch(in[0].dtype, [&](auto type) {
    using Given = typename decltype(type)::type;
    using T = std::conditional_t<std::is_same_v<Given, bool>, uint8_t, Given>;  // 0 and 1 in a byte
    if constexpr ((std::is_same_v<T, Types> || ...)) run_lines<Fold<T>, T>(out, in, attrs);
  });
}

constexpr ScanGpu scan_gpu_table{{run_of<Sum, int64_t, float, double>,
                                  run_of<Prod, int64_t, float, double>,
                                  run_of<LatestMax, uint8_t, int32_t, int64_t, float, double>,
                                  run_of<LatestMin, uint8_t, int32_t, int64_t, float, double>,
                                  run_of<LogSumExp, float, double>, run_of<Affine, float, double>}};

}  // namespace
}  // namespace wengert::WENGERT_ISA

namespace wengert {
extern const ScanGpu scan_gpu = WENGERT_ISA::scan_gpu_table;
}
