// Reductions: kernels over a block of `rows` x `columns`, reduced along the rows.
//
// Every reduction is brought to blocks [outer, reduced, inner]. With inner == 1 a kernel folds one
// adjacent run to one accumulator; else it folds `reduced` rows of `inner` adjacent elements into
// `inner` accumulators. Runs are cut into chunks of fixed size whose accumulators are merged in
// order: the same bits for any number of threads. float32 sums are gathered in float64, so the
// error does not grow with the length.
#pragma once

#include <array>
#include <cstdint>

#include "base/dtype.h"
#include "base/isa.h"

namespace wengert {

enum class Reduction { sum, prod, max, min, any, all, argmax, argmin, sum_squares };
constexpr int reduction_count = 9;

// Accumulators are opaque: `accumulator` bytes each.
struct ReduceKernel {
  int64_t accumulator = 0;
  void (*start)(int64_t n, void* acc) = nullptr;
  // acc[r] is made of n adjacent elements from x[r * stride] on, for every r < runs; the first has
  // the index `first` in its run (argmax wants to know).
  void (*fold_runs)(int64_t runs, int64_t n, void* acc, const void* x, int64_t stride,
                    int64_t first) = nullptr;
  // acc[c] takes in x[r * stride + c] for every r < rows, c < columns.
  void (*fold_rows)(int64_t rows, int64_t columns, void* acc, const void* x, int64_t stride,
                    int64_t first) = nullptr;
  void (*merge)(int64_t n, void* acc, const void* later) = nullptr;  // acc[c] with later[c]
  void (*finish)(int64_t n, void* y, const void* acc, double divisor) = nullptr;
};

struct ReduceKernels {
  std::array<std::array<ReduceKernel, dtype_count>, reduction_count> by;  // [reduction][dtype]
};
WENGERT_DECLARE_KERNELS(ReduceKernels, reduce_kernels)

}  // namespace wengert
