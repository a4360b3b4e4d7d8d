// The kernels of random numbers on the CPU, one table for each instruction set.
#pragma once

#include "base/dtype.h"
#include "base/isa.h"
#include "ops/random/philox.h"

namespace wengert {

struct RandomRange {  // of integers: low to low + span - 1
  RandomKind kind;
  int64_t low;
  uint64_t span;
};
struct RandomKernels {
  // The first n numbers of the blocks from state.first on.
  void (*draw)(DType dtype, RandomState state, const RandomRange& range, int64_t n, void* y);
};
WENGERT_DECLARE_KERNELS(RandomKernels, random_kernels)

}  // namespace wengert
