// Convolution and pooling on a GPU, and what the kernels share with the ops.
#pragma once

#include "graph/op.h"
#include "ops/conv/conv.h"

namespace wengert {

// Windows over the last axes: element t of window o is x[o * stride + t * dilation - before].
struct WindowAttrs {
  int axes;  // those used are the last ones; of the others the sizes are 1
  int64_t size[most_axes], stride[most_axes], dilation[most_axes], before[most_axes];
  int64_t in[most_axes], out[most_axes];
};

// Of the dtypes that the ops are given: bfloat16 comes as float32.
template <class F> void of_numbers(DType dtype, const F& f) {
  dispatch(dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    if constexpr (!std::is_same_v<T, bfloat16>)
      f(std::conditional_t<std::is_same_v<T, bool>, uint8_t, T>());
  });
}
struct ConvGpu {
  OpKernel convolution, input, weight, overlap_add, max_pool;
};

}  // namespace wengert
