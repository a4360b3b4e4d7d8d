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

}  // namespace wengert
