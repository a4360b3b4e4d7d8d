// The walk over the Wengert list, from the newest line to the oldest.
//
// The newest line that waits has all its consumers behind it, so its gradient is complete: it is
// taken out, its vjp written, and what that gives added to the lines of its inputs. No recursion,
// and no pass to count consumers.
#pragma once

#include "engine/arrivals.h"

namespace wengert {

class Walk {
 public:
  // Towards `targets`, or to all leaves; not past lines older than number `since`.
  explicit Walk(bool retain_graph, const Targets* targets = nullptr, uint64_t since = 0)
      : retain_(retain_graph), targets_(targets), arrivals_(targets, since) {}

  void begin(const Tensor& output, Tensor cotangent);
  void run();
  Arrivals& arrivals() { return arrivals_; }

 private:
  void step(Line& line, const Tensor& arrived);
  void arrive(const LineRef& line, const Tensor& leaf, Tensor gradient);

  bool retain_;
  const Targets* targets_;
  Arrivals arrivals_;
};

}  // namespace wengert
