// Cycles that gradients of gradients make: leaf.grad has a history, which owns the leaf.
#pragma once

#include "tensor/tensor.h"

namespace wengert {

// The leaf's gradient has a history: it may be a part of a cycle.
void note_cycle(const Tensor& leaf);
bool has_cycles();
// Takes the gradients of leaves that nothing outside of such cycles can reach any more, so that
// they are freed. How many those were.
int collect_cycles();

}  // namespace wengert
