// Steps that are recorded and launched again (CudaSteps, gpu/loader.h).
//
// What changes from step to step is in a frame in the GPU's memory: which step it is, where each
// argument comes from and each result goes to, and a row of numbers for each step, such as the
// learning rate (Varying, gpu/launch.h). One copy to the GPU fills it, for many steps. Memory that
// kernels take for the time of a launch stays the recording's own as long as it lives.
#pragma once

#include <map>
#include <vector>

#include "gpu/launch.h"

namespace wengert {

struct Frame {
  int64_t next, now;   // steps: apart, so that no block reads what another one writes
  int64_t slot_bytes;  // of a row of numbers
};
struct Move {  // behind the frame: arguments, then results; then the rows of numbers
  char *place, *outside;
  int64_t step, bytes;
};

// Threads first, first + step, ... copy `bytes` bytes.
__device__ inline void copy_bytes(char* to, const char* from, int64_t bytes, int64_t first,
                                  int64_t step) {
  const uintptr_t all = reinterpret_cast<uintptr_t>(to) | reinterpret_cast<uintptr_t>(from) |
                        static_cast<uintptr_t>(bytes);
  if (all % 16 == 0) {
    for (int64_t i = first; i < bytes / 16; i += step)
      reinterpret_cast<float4*>(to)[i] = reinterpret_cast<const float4*>(from)[i];
  } else if (all % 4 == 0) {
    for (int64_t i = first; i < bytes / 4; i += step)
      reinterpret_cast<float*>(to)[i] = reinterpret_cast<const float*>(from)[i];
  } else {
    for (int64_t i = first; i < bytes; i += step) to[i] = from[i];
  }
}

class Steps : public CudaSteps {
 public:
  Steps(Device d, std::span<const Moved> in, std::span<const Moved> out);
  ~Steps() override;
  Steps(const Steps&) = delete;

  void note(const std::function<void()>& lines) override;
  int64_t most() const override;

  // ---- while this thread records or notes (launch.h, runtime.cu) ----
  bool left_out(const char* op);
  const void* slot(const void* value, int64_t bytes);
  void* take(int64_t bytes);
  bool give(void* block);  // false if it is not of these steps
  bool records() const { return !noting_; }
  virtual bool puts_copy(const View&, const View&) { return false; }  // true: it is recorded
  virtual cudaStream_t stream() const { return nullptr; }             // null: the device's

 protected:
  virtual void put_down(const char* op) = 0;  // a kernel or a copy; throws where it cannot be
  void start();                               // from here on this thread records
  void stop();
  void upload(std::span<const Outside> in, std::span<const Outside> out);  // the noted steps

  Device device_;
  cudaStream_t last_;  // the stream of the last launch: the next one comes behind, in any other
  std::vector<Move> moves_;
  int64_t ins_;
  char *slots_, *frame_;  // slots_: the numbers of the step that runs
  int64_t slot_bytes_ = 0, rows_ = 0;

 private:
  size_t header() const { return sizeof(Frame) + moves_.size() * sizeof(Move); }

  std::vector<char> staged_;  // a frame, and all behind it
  int64_t noted_ = 0;         // bytes of this step's row
  bool noting_ = false;
  std::map<void*, int64_t> blocks_;             // taken while it recorded
  std::map<int64_t, std::vector<void*>> free_;  // of those, by bytes
};

extern thread_local Steps* active_steps;  // of this thread

}  // namespace wengert
