// Sorting and searching on a GPU, and the attributes that the kernels share with the ops.
#pragma once

#include "graph/op.h"

namespace wengert {

struct SortAttrs {
  int64_t first, count;  // which ranks of each row the result has
  bool descending;
};
struct SearchAttrs {
  bool right;
};
struct OrderGpu {
  OpKernel sort, search;
};

}  // namespace wengert
