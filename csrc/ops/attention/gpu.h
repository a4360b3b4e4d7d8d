// Attention on a GPU, and the attributes that the kernels share with the ops.
#pragma once

#include "graph/op.h"

namespace wengert {

struct AttentionAttrs {
  double scale;
  bool causal;
};

struct AttentionGpu {
  OpKernel forward;   // outputs y, lse; inputs q, k, v, mask
  OpKernel backward;  // outputs dq, dk, dv; inputs q, k, v, g, y, lse, mask
};

}  // namespace wengert
