// Ops that make their first output in blocks, and do something else with each while it is in the
// caches.
#pragma once

#include "graph/op.h"

namespace wengert {

// Called by the thread that made a block of rows and columns. Rows are a result's first two axes,
// columns the others; blocks cover the result once and do not depend on the number of threads.
struct Then {
  void (*apply)(const void* context, int64_t row, int64_t rows, int64_t col,
                int64_t cols) = nullptr;
  const void* context = nullptr;
  void operator()(int64_t row, int64_t rows, int64_t col, int64_t cols) const {
    if (apply) apply(context, row, rows, col, cols);
  }
};
using RunThen = void (*)(Views out, Views in, const Attrs& attrs, const Then& then);
// The `run` of such an op.
template <RunThen run_then> void run_only(Views out, Views in, const Attrs& attrs) {
  run_then(out, in, attrs, Then{});
}

}  // namespace wengert
