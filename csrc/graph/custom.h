// Ops of the program's own: their value is computed by a function that calls other ops, and has one
// line, whose gradients another function of the program writes (bindings/custom.cpp).
#pragma once

#include <functional>

#include "graph/record.h"

namespace wengert {

// The attributes of such a line: one call.
struct CustomCall : Attrs::Box {
  virtual void vjp(const Line& line, const Tensor& g, Gradients& dx) const = 0;
  // The object that a garbage collector should know of, and how it is released.
  virtual void* object() const = 0;
  virtual void clear() = 0;
  SmallVector<Meta, 2> outputs;
  Cost cost;
  Ref<Body> body;  // in a study
};
CustomCall* custom_call(const Op& op, const Attrs& attrs);  // null: the op is none of these

// One op for each set of texts; it lives as long as the process.
const Op& custom_op(const std::string& name, const std::string& operands,
                    const std::string& formula, const std::vector<std::string>& gradients);

// What `make` has computed. Its first tensor gets the line if it is `differentiable`.
struct Made {
  std::vector<Tensor> outputs, saved;
  bool differentiable = false, saves_output = false;
};
std::vector<Tensor> call_custom(const Op& op, Tensors inputs, const Ref<CustomCall>& call,
                                const std::function<Made()>& make);

// While set in this thread: makes of a value, detached, that a line saves the hook which gives it
// back when a gradient needs it (autograd.saved_tensors_hooks). Leaves are saved as they are.
using Pack = std::unique_ptr<Hook>(const Tensor& value);
extern constinit thread_local Pack* pack_saved;
// The stand-in for what was packed: it has the value's shape and history, and no memory.
Tensor packed(const Tensor& value);
bool is_packed(const Tensor& saved);
Tensor unpacked(const Tensor& saved);

// While one lives: the states of random generators that this thread draws from, each with a copy
// of what it was before the first draw.
struct Draws {
  std::vector<std::pair<Tensor, Tensor>> states;
  Draws();
  ~Draws();
  Draws(const Draws&) = delete;
  static void note(const Tensor& state);

 private:
  Draws* outer_;
};

}  // namespace wengert
