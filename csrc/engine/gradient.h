// One gradient on its way from line to line.
#pragma once

#include "graph/record.h"

namespace wengert {

// True if t is the only tensor over its storage, with one owner.
bool sole_owner(const Tensor& t);
// The first gradient is kept as it is, later ones are added: in place if the sum has
// no other owner.
void add_to(Tensor& sum, Tensor more);
// Adds it to the `grad` of the tensor that called retain_grad().
void retain_gradient(const Line& line, const Tensor& gradient);
// What the hooks make of a gradient.
Tensor run_hooks(const std::shared_ptr<Hooks>& hooks, Tensor gradient);
// The gradients of a line's inputs, given that of its output; undefined where none is needed.
void ask(const Line& line, const Tensor& gradient, Gradients& dx);

}  // namespace wengert
