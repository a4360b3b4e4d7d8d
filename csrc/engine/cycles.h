// Cycles that no other collector sees: leaf.grad has a history, which owns the leaf; a hook of a
// line owns an object of the language around us, which owns a tensor made from that line.
#pragma once

#include <functional>

#include "graph/line.h"

namespace wengert {

// Notes where a cycle may pass: a tensor whose gradient may have a history, or that has hooks; a
// line that has hooks. Noting owns nothing, and costs the same however many are noted.
void note_cycle(TensorBody* body);
void note_cycle(Line* line);
bool has_cycles();

// The objects that hooks own, as the bindings know them.
struct Objects {
  virtual ~Objects() = default;
  virtual int64_t owners(void* object) const = 0;
  // Calls `owned` for each object and `tensor` for each tensor that it owns. What is left out is
  // taken for owned from outside.
  virtual void each_owned(void* object, const std::function<void(void*)>& owned,
                          const std::function<void(const Tensor&)>& tensor) const = 0;
};

// Takes gradients and hooks from tensors and lines that have owners only within such cycles, so
// that they are freed.
void collect_cycles(const Objects& objects);

}  // namespace wengert
