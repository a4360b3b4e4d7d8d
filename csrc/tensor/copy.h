// Copies between views of one shape, of any strides, dtypes and devices.
#pragma once

#include "tensor/tensor.h"

namespace wengert {

// Floating to integer truncates, as in C; anything but zero is true.
// What comes from a GPU is there on return.
// may_wait false: from pinned memory to a GPU, it may return before `from` has been read.
void copy_into(const View& to, const View& from, bool may_wait = true);

// to[i] = from[rows[i]], for rows of `bytes` bytes each, on the CPU.
void copy_rows(void* to, const void* from, const int64_t* rows, int64_t count, int64_t bytes);

Tensor on_host(const Tensor& x);  // x itself, or its values in memory that the CPU reads

}  // namespace wengert
