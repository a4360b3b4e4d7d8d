// Elementwise kernels on a GPU, by row and dtype. Their attributes are the row's Params.
#pragma once

#include "graph/op.h"
#include "ops/elementwise/elementwise.h"

namespace wengert {

struct ElementwiseGpu : ElementwiseTable<OpKernel> {};

}  // namespace wengert
