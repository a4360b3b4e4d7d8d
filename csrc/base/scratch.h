// Memory that a kernel works in, kept by each thread until it ends, so that no call pays for it.
#pragma once

#include <cstddef>

namespace wengert {

// One piece per thread and use: `chunk` inside a body of parallel_for, `call` around it; `outer`
// inside a body that itself calls kernels (attention calls matmul's).
enum class Scratch { chunk, call, outer };

// At least `bytes` bytes at a multiple of 64, with whatever was left there; the thread's next call
// for the same use ends this one's life. Null if there is no memory, because a body must not throw.
void* scratch(Scratch use, size_t bytes);

// For a scope that runs the user's code (a signal's handler) in the middle of a kernel: the
// thread's pieces stay as they are, and others take their place.
class OtherScratch {
 public:
  OtherScratch();
  ~OtherScratch();
  OtherScratch(const OtherScratch&) = delete;

 private:
  void* data_[3];
  size_t bytes_[3];
};

[[noreturn]] void scratch_failed(const char* op);  // throws OutOfMemory

}  // namespace wengert
