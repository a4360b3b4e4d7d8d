// Scans: each element becomes the fold of all elements up to it along an axis.
//
// Tensors are [outer, n, inner], in one piece. A kernel scans some adjacent columns of `inner`, row
// by row, from accumulators that say what came before. Long lines, if there are few, are cut into
// pieces of a length that depends on the shape alone: each piece is folded, the results are merged
// in order, and each piece is scanned from what they say. So the bits are the same for any number
// of threads. Sums are gathered as those of reductions are, float32 in float64.
#pragma once

#include <array>
#include <cstdint>

#include "base/dtype.h"
#include "base/isa.h"

namespace wengert {

enum class Scan { sum, prod, max, min, logsumexp, affine };
constexpr int scan_count = 6;

struct ScanAttrs {
  int64_t axis;
  bool reverse;  // from the last element to the first
};

// Rows of adjacent columns; `step` elements lie between one row and the next.
struct ScanRows {
  int64_t rows, columns, step, first;  // the index of the first row
  const void* x[2];                    // the second one of affine
  void* y;                             // null: only the accumulators are wanted
  int64_t* at;                         // of max and min
};
struct ScanKernel {
  int64_t accumulator = 0;  // bytes, for each column
  void (*start)(int64_t n, void* acc) = nullptr;
  void (*scan)(const ScanRows& rows, void* acc) = nullptr;
  void (*merge)(int64_t n, void* acc, const void* earlier) = nullptr;  // of earlier[c] with acc[c]
};

struct ScanKernels {
  std::array<std::array<ScanKernel, dtype_count>, scan_count> by;  // [scan][dtype]
};
WENGERT_DECLARE_KERNELS(ScanKernels, scan_kernels)

}  // namespace wengert
