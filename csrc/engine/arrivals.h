// Gradients on their way: each sum waits for its line, its leaf, or the caller.
#pragma once

#include <map>

#include "engine/targets.h"

namespace wengert {

struct LeafGradient {
  Tensor leaf, gradient;
};

class Arrivals {
 public:
  // Of what leads to `targets`, or of all; not of lines older than number `since`.
  Arrivals(const Targets* targets, uint64_t since) : targets_(targets), since_(since) {}

  // Adds a gradient to the sum of a line, or of a leaf.
  void at_line(const LineRef& line, Tensor gradient);
  void at_leaf(const Tensor& leaf, Tensor gradient);

  struct Waiting {
    LineRef line;
    Tensor gradient;
  };
  bool empty() const { return waiting_.empty(); }
  Waiting take_newest();
  // The gradient of a line that is asked for, complete.
  void keep(const Line& line, const Tensor& gradient) { kept_[&line] = gradient; }

  // In order of arrival.
  std::vector<LeafGradient>& leaves() { return leaves_; }
  // What has arrived at a leaf, or is kept of a line; undefined: nothing.
  Tensor of(const Tensor& target) const;
  size_t lines_kept() const { return kept_.size(); }

 private:
  Waiting& waiting_at(uint64_t number);  // what waits there, perhaps nothing yet

  const Targets* targets_;
  uint64_t since_;
  using Lines = std::map<uint64_t, Waiting, std::greater<>>;
  Lines waiting_;           // newest first
  Lines::node_type spare_;  // of the last one taken: most lines lead to one more
  std::vector<LeafGradient> leaves_;
  std::unordered_map<const TensorBody*, size_t> leaf_index_;
  std::unordered_map<const Line*, Tensor> kept_;  // of targets and of older lines
};

}  // namespace wengert
