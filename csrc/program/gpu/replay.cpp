#include "program/gpu/replay.h"

#include <algorithm>
#include <cstring>

#include "base/pool.h"
#include "program/gpu/persistent.h"
#include "tensor/copy.h"

namespace wengert {

namespace {

// Memory of the CPU that the step edits is, at the end, what it was.
class HostState {
 public:
  explicit HostState(const std::vector<Plan::Region>& regions) {
    for (const Plan::Region& r : regions)
      if (!is_cuda(r.device) && r.written)
        kept_.push_back({r.data, std::vector<char>(r.data, r.data + r.bytes)});
  }
  ~HostState() {
    for (const Kept& k : kept_) std::memcpy(k.data, k.bytes.data(), k.bytes.size());
  }
  HostState(const HostState&) = delete;

 private:
  struct Kept {
    char* data;
    std::vector<char> bytes;
  };
  std::vector<Kept> kept_;
};

struct Recording {
  ~Recording() { recording_kernels = nullptr; }
};

// Beyond, a block takes longer than a graph over the whole GPU does: an estimate, not measured.
constexpr double most_flops = 1 << 20;
constexpr int64_t most_bytes = 1 << 20;  // of results that share places in a block's memory

// The GPU's memory that a step touches, as one kernel wants to know it.
std::vector<Persistent::Memory> memories(const std::vector<Plan::Region>& regions) {
  std::vector<Persistent::Memory> found;
  using Kind = StepList::Slot;
  for (const Plan::Region& r : regions)
    if (is_cuda(r.device)) {
      const bool lasts = r.kind == Kind::outside || r.kind == Kind::constant || r.kept;
      found.push_back({r.data, r.bytes, lasts, lasts && r.written});
    }
  return found;
}

bool in_one_piece(const View& x) { return is_contiguous(x.shape, x.strides); }
int64_t bytes_of(const View& x) { return nbytes(x.shape, x.dtype); }

}  // namespace

DeviceReplay::DeviceReplay(const Plan& plan, std::unique_ptr<const Plan> single,
                           std::vector<Tensor> arguments, std::vector<Tensor> results, bool graph)
    : plan_(&plan),
      single_(std::move(single)),
      arguments_(std::move(arguments)),
      results_(std::move(results)),
      graph_(graph) {}

std::string DeviceReplay::too_much(const StepList& list) {
  double flops = 0;
  for (const StepList::Line& line : list.lines) flops += line.cost.flops;
  if (flops > most_flops) return concat(flops, " FLOP are better spread over a GPU");
  return list.bytes_made() > most_bytes ? "more memory than a block has" : "";
}

void DeviceReplay::put_down() {
  tried_ = true;
  how_ = "line by line";
  for (const Plan::Region& r : plan_->regions()) {
    if (!is_cuda(r.device)) continue;
    if (is_cuda(device_) && device_ != r.device) {
      how_ += " (its tensors are on two GPUs)";
      return;
    }
    device_ = r.device;
  }
  const Plan* const whole = plan_;
  std::string refused;
  for (bool persistent : {true, false}) {
    if (!(persistent ? single_ != nullptr : graph_)) continue;
    plan_ = persistent ? single_.get() : whole;
    try {
      record(persistent);
      how_ += refused;
      return;
    } catch (const DeviceError& error) {  // a line that cannot be recorded
      steps_.reset();
      if (persistent)
        refused = concat("; not inside one kernel: ", error.what());
      else
        how_ += concat(" (line ", plan_->number(at_), ", ", plan_->line(at_).op->name, ": ",
                       error.what(), ")");
    } catch (...) {  // such as no memory: perhaps the next time
      steps_.reset();
      plan_ = whole;
      tried_ = false;
      throw;
    }
    if (persistent) single_.reset();
  }
  plan_ = whole;
}

void DeviceReplay::record(bool persistent) {
  const HostState as_it_was(plan_->regions());
  on_host_.clear();
  for (size_t i = 0; i < plan_->size(); ++i)
    if (plan_->touches(i, Device::cpu)) on_host_.push_back(i);
  std::vector<CudaSteps::Moved> in, out;
  packed_.clear();
  for (const Tensor& x : arguments_)
    if (is_cuda(x.device())) in.push_back({x.view().data, bytes_of(x.view())});
  for (const Tensor& y : results_) {
    packed_.push_back(in_one_piece(y.view()) ? Tensor()
                                             : Tensor(Meta{y.shape(), y.dtype(), y.device()}));
    const Tensor& lasting = packed_.back().defined() ? packed_.back() : y;
    if (is_cuda(y.device())) out.push_back({lasting.view().data, bytes_of(y.view())});
  }
  const Recording reset;
  if (persistent) {
    Persistent made =
        gpu_kernels().persistent->record(device_, in, out, memories(plan_->regions()));
    steps_ = std::move(made.steps);
    recording_kernels = made.kernels;
  } else {
    steps_ = cuda().record(device_, in, out);
  }
  for (at_ = 0; at_ < plan_->size(); ++at_) plan_->step(at_).run();
  at_ = plan_->size() - 1;
  for (size_t i = 0; i < results_.size(); ++i)
    if (packed_[i].defined() && is_cuda(results_[i].device()))
      copy_into(packed_[i].view(), results_[i].view());
  steps_->end();
  how_ = persistent ? concat("inside one kernel of one block, ", steps_->size(), " lines a step")
                    : concat("one CUDA graph of ", steps_->size(), " kernels and copies");
}

void DeviceReplay::note(int64_t step, std::span<const Moving> arguments,
                        std::span<const Moving> results) const {
  const auto of_step = [&](const Moving& x) {
    View view = x.view;
    view.data = view.as<char>() + step * x.stride;
    return view;
  };
  for (size_t i = 0; i < arguments_.size(); ++i)
    if (!is_cuda(arguments_[i].device())) copy_into(arguments_[i].view(), of_step(arguments[i]));
  steps_->note([&] {
    for (size_t i : on_host_) plan_->step(i).run();
  });
  for (size_t i = 0; i < results_.size(); ++i)
    if (!is_cuda(results_[i].device())) copy_into(of_step(results[i]), results_[i].view());
}

bool DeviceReplay::run(int64_t steps, std::span<const Moving> arguments,
                       std::span<const Moving> results) {
  if (!tried_) put_down();
  if (!steps_) return false;
  std::vector<CudaSteps::Outside> in, out;
  std::vector<Tensor> pieces;  // of arguments with another layout
  for (const Moving& x : arguments) {
    if (!is_cuda(x.view.device)) continue;
    in.push_back({x.view.as<char>(), x.stride});
    if (in_one_piece(x.view)) continue;
    View all = x.view;
    all.shape.insert(0, steps);
    all.strides.insert(0, x.stride / size_of(all.dtype));
    pieces.emplace_back(Meta{all.shape, all.dtype, all.device});
    copy_into(pieces.back().view(), all);
    in.back() = {pieces.back().view().as<char>(), bytes_of(x.view)};
  }
  for (const Moving& y : results)
    if (is_cuda(y.view.device)) out.push_back({y.view.as<char>(), y.stride});

  for (int64_t done = 0, noted; done < steps; done += noted) {
    {
      const WithoutInterrupts whole;  // steps of which the host knows the numbers are run
      const int64_t n = std::min(steps_->most(), steps - done);
      noted = 0;
      try {
        for (; noted < n; ++noted) note(done + noted, arguments, results);
      } catch (...) {
        if (noted) steps_->launch(in, out);
        throw;
      }
      steps_->launch(in, out);
    }
    for (auto* outside : {&in, &out})
      for (CudaSteps::Outside& o : *outside) o.data += noted * o.step;
    poll_interrupt();
  }
  return true;
}

}  // namespace wengert
