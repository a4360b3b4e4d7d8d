// DeviceReplay: how a plan runs on a GPU: recorded once, then launched for many steps without the
// host between them (CudaSteps, gpu/loader.h).
//
// Data in CPU memory, such as learning rates, step counts and random states, never depends on
// the GPU. So the host goes ahead through the steps of a launch: of each step it runs the lines
// that touch memory of the CPU, whose kernels are left out, while the numbers that they take are
// noted. A plan that cannot be recorded, since a line copies from the GPU to the CPU or back,
// runs line by line.
#pragma once

#include <string>

#include "gpu/loader.h"
#include "program/plan.h"
#include "tensor/tensor.h"

namespace wengert {

// What belongs to the first of some steps, and how many bytes behind it the next one's begins.
struct Moving {
  View view;
  int64_t stride;
};

class DeviceReplay {
 public:
  // `arguments` and `results` are the plan's own. `graph` may be forbidden. `single`: the plan for
  // one kernel, which fuses in its own way, so without fused lines; null where that is forbidden.
  DeviceReplay(const Plan& plan, std::unique_ptr<const Plan> single, std::vector<Tensor> arguments,
               std::vector<Tensor> results, bool graph);
  // Why a step is better not run inside one kernel; empty where it may.
  static std::string too_much(const StepList& list);

  // False where the plan must run line by line. The first call puts it down.
  bool run(int64_t steps, std::span<const Moving> arguments, std::span<const Moving> results);
  const std::string& how() const { return how_; }  // as text

 private:
  void put_down();
  void record(bool persistent);
  void note(int64_t step, std::span<const Moving> arguments, std::span<const Moving> results) const;

  const Plan* plan_;  // the recorded one
  std::unique_ptr<const Plan> single_;
  std::vector<Tensor> arguments_, results_;
  bool graph_, tried_ = false;
  Device device_ = Device::cpu;
  std::vector<Tensor> packed_;        // results that are not contiguous; undefined: it is
  std::vector<size_t> on_host_;       // steps of the plan that touch memory of the CPU
  std::unique_ptr<CudaSteps> steps_;  // null: line by line
  size_t at_ = 0;                     // while it is recorded
  std::string how_ = "not replayed yet";
};

}  // namespace wengert
