// The walk over the Wengert list, from the newest line to the oldest.
//
// The lines whose gradient has begun to arrive wait in a map ordered by number. The newest of them
// has all its consumers behind it, so its gradient is complete: it is taken out, its vjp written,
// and what that gives added to the lines of its inputs. No recursion, and no pass to count
// consumers.
#pragma once

#include <map>

#include "engine/targets.h"

namespace wengert {

struct LeafGradient {
  Tensor leaf, gradient;
};

class Walk {
 public:
  // Towards `targets`, or to all leaves; not past lines older than number `since`.
  explicit Walk(bool retain_graph, const Targets* targets = nullptr, uint64_t since = 0)
      : retain_(retain_graph), targets_(targets), since_(since) {}

  void begin(const Tensor& output, Tensor cotangent);
  void run();

  const std::vector<LeafGradient>& leaves() const { return leaves_; }
  // What reached a target.
  Tensor gradient_of(const Tensor& target) const;
  size_t lines_reached() const { return reached_.size(); }

 private:
  struct Pending {
    LineRef line;
    Tensor gradient;
  };
  void step(Line& line, const Tensor& arrived);
  void arrive(const LineRef& line, Tensor gradient);
  void arrive_at_leaf(const Tensor& leaf, Tensor gradient);

  bool retain_;
  const Targets* targets_;
  uint64_t since_;
  std::map<uint64_t, Pending, std::greater<>> pending_;  // newest first
  std::vector<LeafGradient> leaves_;                     // in order of arrival
  std::unordered_map<const TensorBody*, size_t> leaf_index_;
  std::unordered_map<const Line*, Tensor> reached_;  // targets and older lines
};

}  // namespace wengert
