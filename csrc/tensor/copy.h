// Copies between views of one shape, of any strides and dtypes.
#pragma once

#include "tensor/view.h"

namespace wengert {

// Floating to integer truncates, as in C; anything but zero is true.
void copy_into(const View& to, const View& from);

}  // namespace wengert
