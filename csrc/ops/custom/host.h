// Host lines: functions of the program around the engine that a step calls in its midst, eager and
// at each replay. They have no result; they may overwrite their first operands.
#pragma once

#include "graph/record.h"

namespace wengert {

// The attributes of such a line.
struct HostCall : Attrs::Box {
  virtual void run(Views operands) const = 0;
  // For the pass `overlap`: it begins what goes on by itself, or waits for its end.
  bool begins = false, waits = false;
  std::vector<std::pair<std::string, int64_t>> named;  // for listings
  std::vector<Tensor> gave;  // in a study: what it overwrote, to be given again
};
const HostCall* host_call(const Op& op, const Attrs& attrs);  // null: the op is none of these

// One op for each name; it lives as long as the process.
const Op& host_op(const std::string& name, const std::string& formula);
void call_host(const Op& op, Tensors operands, int edited, const Ref<HostCall>& call);

}  // namespace wengert
