// Updates on a GPU: as few kernels as there are groups of parameters.
#pragma once

#include <span>

#include "base/device.h"
#include "base/dtype.h"
#include "ops/update/update.h"

namespace wengert {

// One parameter of an update: n elements; the states that it has.
template <class Pointer = void*> struct UpdatePart {
  int64_t n;
  Pointer p, g, state[2];
};

struct UpdateGpu {
  void (*sgd)(Device d, DType dtype, std::span<const UpdatePart<>> parts, const SgdStep& s);
  void (*adam)(Device d, DType dtype, std::span<const UpdatePart<>> parts, const AdamStep& s);
  void (*rmsprop)(Device d, DType dtype, std::span<const UpdatePart<>> parts, const RmspropStep& s);
};

}  // namespace wengert
