// An update as a line: how its inputs are laid out, and how it is made ready, whole or part by
// part.
//
// Inputs are the parameters, then the lists of their states, the step count, the gradients and the
// options. Everything before the gradients is overwritten, the step count only where the line
// counts.
#pragma once

#include "graph/op.h"
#include "ops/update/rows.h"

namespace wengert {

struct UpdateAttrs {
  int64_t count;       // parameters
  int64_t states;      // lists of states
  bool counts = true;  // counts the step up; else another line has (count_op)
  size_t state(int64_t s, int64_t i) const { return static_cast<size_t>((s + 1) * count + i); }
  size_t step() const { return static_cast<size_t>(count * (1 + states)); }
  size_t gradient(int64_t i) const { return step() + 1 + static_cast<size_t>(i); }
  size_t options() const { return gradient(count); }
};

bool is_update(const Op& op);
bool fits_in_gpu_matmul(const Op& update);
extern const Op count_op;  // step = step + 1; the step is its one input

class ReadyUpdate : public Ready {
 public:
  virtual int64_t bytes() const = 0;  // of parameters, states and gradients
  // Works out the constants of this step: once a step, before apply.
  virtual void begin() const = 0;
  // Elements at, ... at + n - 1 of a parameter that is contiguous, as are its states and
  // gradient.
  virtual void apply(int64_t parameter, int64_t at, int64_t n) const = 0;
  // The same of the only parameter, in the matmul that makes the gradient, on a GPU.
  virtual UpdateInMatmul in_matmul() const = 0;
};
std::unique_ptr<ReadyUpdate> ready_update(const Op& op, Views in, const Attrs& attrs);

}  // namespace wengert
