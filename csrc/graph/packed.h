// Saved values in another form (autograd.saved_tensors_hooks).
#pragma once

#include "graph/line.h"

namespace wengert {

// While set in this thread: makes of a value, detached, that a line saves the hook which gives it
// back when a gradient needs it. Leaves are saved as they are.
using Pack = std::unique_ptr<Hook>(const Tensor& value);
extern constinit thread_local Pack* pack_saved;
// The stand-in for what was packed: it has the value's shape and history, and no memory.
Tensor packed(const Tensor& value);
bool is_packed(const Tensor& saved);
Tensor unpacked(const Tensor& saved);

}  // namespace wengert
