// The entries to the walk (walk.h): gradients added to leaves, or returned.
#pragma once

#include "graph/record.h"

namespace wengert {

// Adds the gradients of `outputs`, each weighted by its cotangent, to the `grad` of every leaf they
// depend on. A missing cotangent (an undefined tensor) stands for 1 and needs an output of one
// element.
// With `inputs`, theirs alone.
void backward(Tensors outputs, Tensors cotangents, bool retain_graph, bool create_graph,
              Tensors inputs = {});

// The same gradients, of `inputs` alone and returned; leaves are left as they are. Undefined where
// an input does not matter.
std::vector<Tensor> gradients(Tensors outputs, Tensors inputs, Tensors cotangents,
                              bool retain_graph, bool create_graph);

// For a function that is run again in place of keeping what it saved (wengert.checkpoint). What
// gradients pass to from the lines of `outputs` that are not older than number `since`: leaves, and
// what older lines made, as tensors without values.
std::vector<Tensor> sources(Tensors outputs, uint64_t since);
// Their gradients, by these lines alone.
std::vector<Tensor> gradients_since(Tensors outputs, Tensors sources, Tensors cotangents,
                                    uint64_t since, bool create_graph);

}  // namespace wengert
