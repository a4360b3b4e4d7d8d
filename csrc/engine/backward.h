// The entries to the walk (walk.h): gradients added to leaves, or returned.
#pragma once

#include "graph/record.h"

namespace wengert {

// Adds the gradients of `outputs`, each weighted by its cotangent, to the `grad` of every leaf they
// depend on. A missing cotangent (an undefined tensor) stands for 1 and needs an output of one
// element.
void backward(Tensors outputs, Tensors cotangents, bool retain_graph, bool create_graph);

// The same gradients, of `inputs` alone and returned; leaves are left as they are. Undefined where
// an input does not matter.
std::vector<Tensor> gradients(Tensors outputs, Tensors inputs, Tensors cotangents,
                              bool retain_graph, bool create_graph);

}  // namespace wengert
