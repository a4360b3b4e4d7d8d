// Scans on a GPU.
#pragma once

#include "graph/op.h"
#include "ops/scan/scan.h"

namespace wengert {

struct ScanGpu {
  OpKernel by[scan_count];  // in the order of Scan
};

// A tensor as [outer, n, inner] about an axis.
struct ScanShape {
  int64_t outer = 1, n = 1, inner = 1;

  ScanShape(const Shape& shape, int64_t axis) {
    for (int d = 0; d < shape.size(); ++d) (d < axis ? outer : d > axis ? inner : n) *= shape[d];
  }
};

}  // namespace wengert
