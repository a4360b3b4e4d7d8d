// Steps as a CUDA graph: captured from a stream of its own, so that other threads may go on.
#include "gpu/steps.h"

#include <algorithm>
#include <cstring>

#include "gpu/runtime.h"

namespace wengert {

thread_local Steps* active_steps = nullptr;

namespace {

constexpr int64_t table_bytes = 256 << 10, most_slot_bytes = 64 << 10, most_steps = 256;

// Before a step: its numbers and arguments are brought to where its kernels look for them.
__global__ void __launch_bounds__(block_threads)
    begin_step(Frame* frame, int ins, int moves, char* slots) {
  const int64_t now = frame->next, slot_bytes = frame->slot_bytes;
  const Move* move = reinterpret_cast<const Move*>(frame + 1);
  if (blockIdx.y == static_cast<unsigned>(ins)) {
    copy_bytes(slots, reinterpret_cast<const char*>(move + moves) + now * slot_bytes, slot_bytes,
               first_index(), index_step());
    if (first_index() == 0) frame->now = now;
    return;
  }
  move += blockIdx.y;
  copy_bytes(move->place, move->outside + now * move->step, move->bytes, first_index(),
             index_step());
}

// After it: its results are brought to their places outside.
__global__ void __launch_bounds__(block_threads) end_step(Frame* frame, int ins, int moves) {
  const int64_t now = frame->now;
  if (blockIdx.y == 0 && first_index() == 0) frame->next = now + 1;
  if (ins + static_cast<int>(blockIdx.y) >= moves) return;
  const Move* move = reinterpret_cast<const Move*>(frame + 1) + ins + blockIdx.y;
  copy_bytes(move->outside + now * move->step, move->place, move->bytes, first_index(),
             index_step());
}

class GraphSteps final : public Steps {
 public:
  using Steps::Steps;
  ~GraphSteps() override {
    stop();
    if (capturing_) {
      cudaGraph_t graph = nullptr;
      cudaStreamEndCapture(stream_, &graph);
      if (graph) cudaGraphDestroy(graph);
      cudaGetLastError();  // what ended it has been told
    }
    if (graph_) cudaGraphExecDestroy(graph_);
    if (stream_) cudaStreamDestroy(stream_);
  }

  void begin() {
    stream_of(device_);
    check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), name, device_);
    check(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), name, device_);
    capturing_ = true;
    start();
    wengert::launch(name, device_, grid(0, ins_, 1), block_threads, begin_step,
                    reinterpret_cast<Frame*>(frame_), static_cast<int>(ins_),
                    static_cast<int>(moves_.size()), slots_);
  }
  void end() override {
    const int64_t all = static_cast<int64_t>(moves_.size());
    wengert::launch(name, device_, grid(ins_, all, ins_ == all), block_threads, end_step,
                    reinterpret_cast<Frame*>(frame_), static_cast<int>(ins_),
                    static_cast<int>(all));
    stop();
    cudaGraph_t graph = nullptr;
    capturing_ = false;
    check(cudaStreamEndCapture(stream_, &graph), name, device_);
    size_t nodes = 0;
    cudaGraphGetNodes(graph, nullptr, &nodes);
    size_ = static_cast<int64_t>(nodes);
    const cudaError_t made = cudaGraphInstantiate(&graph_, graph, 0);
    cudaGraphDestroy(graph);
    check(made, name, device_);
  }
  void launch(std::span<const Outside> in, std::span<const Outside> out) override {
    const int64_t steps = rows_;
    upload(in, out);
    const cudaStream_t s = stream_of(device_);
    for (int64_t i = 0; i < steps; ++i) check(cudaGraphLaunch(graph_, s), name, device_);
  }
  int64_t size() const override { return size_; }
  cudaStream_t stream() const override { return stream_; }

 private:
  static constexpr auto name = "a recorded step";
  void put_down(const char*) override {}
  // Enough threads for the largest of some moves, and `more` besides.
  dim3 grid(int64_t first, int64_t end, int64_t more) const {
    int64_t bytes = 1;
    for (int64_t i = first; i < end; ++i)
      bytes = std::max(bytes, moves_[static_cast<size_t>(i)].bytes);
    dim3 g = grid_for(device_, divide_up(bytes, 16));
    g.y = static_cast<unsigned>(end - first + more);
    return g;
  }

  cudaStream_t stream_ = nullptr;
  cudaGraphExec_t graph_ = nullptr;
  int64_t size_ = 0;
  bool capturing_ = false;
};

}  // namespace

Steps::Steps(Device d, std::span<const Moved> in, std::span<const Moved> out)
    : device_(d), last_(stream_of(d)), ins_(static_cast<int64_t>(in.size())) {
  for (const Moved& m : in) moves_.push_back({static_cast<char*>(m.place), nullptr, 0, m.bytes});
  for (const Moved& m : out) moves_.push_back({static_cast<char*>(m.place), nullptr, 0, m.bytes});
  staged_.resize(header());
  slots_ = static_cast<char*>(take(most_slot_bytes + static_cast<int64_t>(header()) + table_bytes));
  if (!slots_) fail<OutOfMemory>("no memory on ", d, " for a recorded step");
  frame_ = slots_ + most_slot_bytes;
}
Steps::~Steps() {
  stop();
  for (const auto& [block, bytes] : blocks_) {
    cuda_use(device_, block, reinterpret_cast<uintptr_t>(last_));
    cuda_deallocate(device_, block, bytes);
  }
}

void Steps::start() { active_steps = this; }
void Steps::stop() {
  if (active_steps == this) active_steps = nullptr;
}

void Steps::note(const std::function<void()>& lines) {
  staged_.resize(header() + static_cast<size_t>(rows_ * slot_bytes_));
  noted_ = 0;
  noting_ = true;
  start();
  try {
    lines();
  } catch (...) {
    stop();
    throw;
  }
  stop();
  if (noted_ != slot_bytes_)
    fail<DeviceError>("a recorded step took ", noted_, " bytes of numbers from the host; it took ",
                      slot_bytes_, " when it was recorded");
  ++rows_;
}
int64_t Steps::most() const {
  return std::clamp<int64_t>(table_bytes / std::max<int64_t>(1, slot_bytes_), 1, most_steps);
}

bool Steps::left_out(const char* op) {
  if (noting_) return true;
  put_down(op);
  return false;
}
const void* Steps::slot(const void* value, int64_t bytes) {
  const int64_t room = divide_up(bytes, 8) * 8;
  if (!noting_) {
    slot_bytes_ += room;
    if (slot_bytes_ > most_slot_bytes)
      fail<DeviceError>("more than ", most_slot_bytes, " bytes come from the CPU");
    return slots_ + slot_bytes_ - room;
  }
  noted_ += room;
  staged_.resize(staged_.size() + static_cast<size_t>(room));
  std::memcpy(staged_.data() + staged_.size() - room, value, static_cast<size_t>(bytes));
  return nullptr;
}

void Steps::upload(std::span<const Outside> in, std::span<const Outside> out) {
  new (staged_.data()) Frame{0, 0, slot_bytes_};
  for (size_t i = 0; i < moves_.size(); ++i) {
    const Outside& o = i < in.size() ? in[i] : out[i - in.size()];
    moves_[i].outside = o.data;
    moves_[i].step = o.step;
  }
  std::memcpy(staged_.data() + sizeof(Frame), moves_.data(), moves_.size() * sizeof(Move));
  const cudaStream_t now = stream_of(device_);
  if (now != last_) cuda_order(last_, device_, now, device_);  // they share this memory
  last_ = now;
  // From ordinary memory: it has been read when the call returns.
  check(cudaMemcpyAsync(frame_, staged_.data(), staged_.size(), cudaMemcpyHostToDevice,
                        stream_of(device_)),
        "a recorded step", device_);
  rows_ = 0;
}

// The recording's own blocks serve again within it. A new one may be taken although a stream is
// being captured: no work of that stream has to do with it.
void* Steps::take(int64_t bytes) {
  std::vector<void*>& kept = free_[bytes];
  if (!kept.empty()) {
    void* block = kept.back();
    kept.pop_back();
    return block;
  }
  Steps* const active = std::exchange(active_steps, nullptr);
  auto mode = cudaStreamCaptureModeRelaxed;
  cudaThreadExchangeStreamCaptureMode(&mode);
  void* block = cuda_allocate(device_, bytes);
  cudaThreadExchangeStreamCaptureMode(&mode);
  active_steps = active;
  if (block) blocks_[block] = bytes;
  return block;
}
bool Steps::give(void* block) {
  const auto at = blocks_.find(block);
  if (at == blocks_.end()) return false;
  free_[at->second].push_back(block);
  return true;
}

bool left_out(const char* op) { return active_steps && active_steps->left_out(op); }
const void* slot_for(const void* value, int64_t bytes) {
  return active_steps ? active_steps->slot(value, bytes) : nullptr;
}

std::unique_ptr<CudaSteps> cuda_record(Device d, std::span<const CudaSteps::Moved> in,
                                       std::span<const CudaSteps::Moved> out) {
  auto steps = std::make_unique<GraphSteps>(d, in, out);
  steps->begin();
  return steps;
}

}  // namespace wengert
