// Reductions on a GPU.
#pragma once

#include "graph/op.h"
#include "ops/reduce/reduce.h"

namespace wengert {

// [outer axes], then `rows` that are reduced, then `inner` adjacent elements that are not.
struct ReduceBlock {
  int dims = 0;  // outer axes
  int64_t size[max_dims], stride[max_dims];
  int64_t rows = 1, row_stride = 1, inner = 1;
};
struct ReduceBlockAttrs {  // in place of the op's
  const ReduceBlock* block;
  double divisor;
};

struct ReduceGpu {
  OpKernel by[reduction_count];  // in the order of Reduction
};

}  // namespace wengert
