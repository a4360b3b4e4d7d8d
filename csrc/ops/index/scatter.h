// The CPU kernel of gather and scatter, which put_rows shares.
#pragma once

#include "ops/index/gpu.h"

namespace wengert {

// out[..., index[i], ...] = fold(itself, value[i]) for each i, in order along the axis. The views
// may have any strides; index and value have one shape, and the indices are in range.
void scatter_on_cpu(const View& out, const View& value, const View& index, int axis, Fold fold);

}  // namespace wengert
