// Updates on a GPU: as few kernels as there are groups of parameters.
#pragma once

#include <span>

#include "base/device.h"
#include "base/dtype.h"
#include "ops/update/rows.h"

namespace wengert {

// One parameter of an update: n elements; the states that it has.
template <class Pointer = void*> struct UpdatePart {
  int64_t n;
  Pointer p, g, state[max_states];
};

template <class Row> struct UpdateGpuOf {
  void (*run)(Device d, DType dtype, std::span<const UpdatePart<>> parts, const Row& s);
};
struct UpdateGpu : PerRow<UpdateGpuOf, UpdateRows> {};

}  // namespace wengert
