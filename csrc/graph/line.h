// Line: one line `y = op(inputs, attrs)` of the Wengert list, as plain data.
//
// A line owns the lines of its inputs, and what it saved of their values; a tensor owns the line
// that made it. So unreachable lines are freed at once, by `release`, with an explicit queue.
#pragma once

#include <atomic>

#include "graph/op.h"
#include "graph/origin.h"

namespace wengert {

// Where the gradient of an input goes: to the line that made it, or, for a leaf, to the leaf.
struct Edge {
  LineRef line;
  Tensor leaf;
  Shape shape;
  DType dtype;
  bool needs_grad() const { return line || leaf.defined(); }
};

struct Saved {
  Saves what;
  mutable Tensor value;      // or, until it is needed, a stand-in (graph/packed.h)
  mutable uint32_t version;  // of its storage when it was saved
};

void forget_cycle(Line* line);  // engine/cycles.h

struct Line {
  std::atomic<int32_t> refs{0};
  const Op* op;
  Attrs attrs;
  uint64_t number;  // lines are numbered as they are written: inputs have smaller numbers
  Origin origin = 0;
  Meta output;
  SmallVector<Edge, 2> inputs;
  SmallVector<Saved, 2> saved;
  bool freed = false;            // backward has passed and released the saved values
  bool noted = false;            // a cycle may pass here (engine/cycles.h)
  int walkers = 0;               // walks whose vjp is being written now
  std::shared_ptr<Hooks> hooks;  // called with the gradient of the output
  TensorBody* retains_grad =
      nullptr;                // the tensor that asked for its gradient; it clears this when it goes
  Line* next_free = nullptr;  // of those that release() is freeing

  bool needs(int i) const { return inputs[i].needs_grad(); }
  // What was saved. Each throws GradientError if the value was edited since.
  const Tensor& input(int i) const { return value(save_input(i)); }
  Tensor result() const;  // the output, with its history where gradients of gradients are recorded
  const Tensor& auxiliary() const { return value(save_auxiliary); }
  const Tensor& unchanged(const Saved& s) const;

  // Throws GradientError if backward has freed the line.
  void check_not_freed() const;
  // Releases the saved values and the lines of the inputs.
  void free();
  ~Line() {
    if (noted) forget_cycle(this);
  }

  static void* operator new(size_t bytes);
  static void operator delete(void* block, size_t bytes);

 private:
  const Tensor& value(Saves what) const;
};

// A walk's stay at a line. Kernels release the GIL, so another thread may walk the same line: the
// last to leave frees it.
class Visit {
 public:
  explicit Visit(Line& line) : line_(line) { ++line.walkers; }
  ~Visit() {
    if (--line_.walkers == 0 && line_.freed) line_.free();
  }
  Visit(const Visit&) = delete;

 private:
  Line& line_;
};

}  // namespace wengert
