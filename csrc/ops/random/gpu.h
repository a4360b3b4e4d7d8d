// Random numbers on a GPU, and the attributes that the kernel shares with the ops.
#pragma once

#include "graph/op.h"
#include "ops/random/philox.h"

namespace wengert {

struct RandomAttrs {
  RandomKind kind;
  DType dtype;
  Device device;
  int64_t low, high;  // of integers
  Shape shape;
};

struct RandomGpu {
  OpKernel draw;  // reads the state, in CPU memory, and does not advance it
};

}  // namespace wengert
