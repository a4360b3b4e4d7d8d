// What apply() and edits in place share.
#pragma once

#include "graph/record.h"

namespace wengert {

// The device of the inputs. A constant of no dimensions may be on the CPU while others are on a
// GPU, if `constants`: kernels take it by its value.
Device check_device(const Op& op, Tensors inputs, bool constants);

// A bit for each input that requires a gradient; the last serves all further.
uint32_t needs_mask(Tensors inputs);

// `whole`: Ctrl-C waits until the op has run to its end.
void run_op(const Op& op, Device device, Views outputs, Tensors inputs, const Attrs& attrs,
            bool whole = false);

// What a line keeps in place of a value that is about to change: a copy with the value's history.
Tensor copy_to_save(const Tensor& value);

// Gives `out` its line.
Line* record(const Op& op, Tensors inputs, const Attrs& attrs, const Tensor& out,
             const Tensor& auxiliary, uint32_t needs);

}  // namespace wengert
