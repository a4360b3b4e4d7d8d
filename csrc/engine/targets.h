// The tensors whose gradients grad() is asked for, and the lines from which they can be reached.
#pragma once

#include <unordered_map>
#include <unordered_set>

#include "graph/record.h"

namespace wengert {

class Targets {
 public:
  Targets(Tensors outputs, Tensors targets);

  bool has(const Line& line) const { return lines_.count(&line); }
  bool has(const Tensor& leaf) const { return leaves_.count(leaf.body()); }
  // Whether the walk has to come by.
  bool leads_to(const Line& line) const { return useful_.count(&line); }
  // Whether a target can be reached through the line's inputs.
  bool behind(const Line& line) const;

 private:
  std::unordered_set<const Line*> lines_, useful_;
  std::unordered_set<const TensorBody*> leaves_;
};

}  // namespace wengert
