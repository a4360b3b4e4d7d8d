// Kernels on a GPU that make tensors, and the attributes that they share with the ops.
#pragma once

#include "graph/op.h"

namespace wengert {

struct FullAttrs {
  Shape shape;
  Number value;
  DType dtype;
  Device device;
};
struct RangeAttrs {
  Number start, step;
  int64_t count;
  DType dtype;
  Device device;
};

void full_on_gpu(Views out, Views in, const Attrs& attrs);  // in .cu files

struct CreateGpu {
  OpKernel full, arange;  // contiguous
};

}  // namespace wengert
