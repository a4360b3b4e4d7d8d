// What every .cu file needs: the CUDA runtime (or its emulation), a way to launch a kernel, memory
// for the time of a launch, and a way for kernels to say that their data is wrong.
#pragma once

#if defined(__CUDACC__)
#include <cuda_runtime.h>
#define WENGERT_DYNAMIC_SHARED(name) extern __shared__ __align__(16) char name[]
#else
#include "emulation.h"
#define WENGERT_DYNAMIC_SHARED(name) char* const name = emulation::dynamic_shared()
#endif

#include "base/dtype.h"
#include "base/error.h"
#include "gpu/loader.h"

namespace wengert {

// What the first kernel that found bad data wrote down, in host memory. The host looks whenever it
// waits, and throws what it says.
enum class Fault : int { none, index, cross_entropy, embedding, one_hot };
struct Report {
  int fault;  // a Fault, or -1 while it is being written
  int64_t got, at, size;
};
__device__ inline void report(Report* r, Fault fault, int64_t got, int64_t at, int64_t size) {
  if (atomicCAS(&r->fault, 0, -1) != 0) return;
  r->got = got;
  r->at = at;
  r->size = size;
  atomicExch(&r->fault, static_cast<int>(fault));  // others look at it meanwhile
}

cudaStream_t stream_of(Device d);  // makes d the current device too
Report* report_of(Device d);
int processors(Device d);
int compute_capability(Device d);  // 90 for 9.0
int64_t shared_memory(Device d);   // the most bytes of it that a block may have
// Throws a DeviceError that says what the GPU reports, and whether the process can go on.
void check(cudaError_t error, const char* what, Device d);

class DeviceScratch {  // work queued before it goes may still use it: the stream keeps the order
 public:
  DeviceScratch(Device d, int64_t bytes);
  ~DeviceScratch();
  DeviceScratch(const DeviceScratch&) = delete;
  template <class T> T* as() const { return static_cast<T*>(data_); }

 private:
  Device device_;
  int64_t bytes_;
  void* data_;
};

// ---- Steps that are recorded and replayed (gpu/steps.h) ----

// Whether what this thread wants to run is left out: it only notes the numbers of another step.
// Throws where a step cannot hold it.
bool left_out(const char* op);
// The place where a recorded step will find these bytes, which the host writes for each step;
// null where nothing is recorded: the kernel takes them as they are.
const void* slot_for(const void* value, int64_t bytes);

// A number from the host that is another one in the next step, such as a learning rate. A kernel
// that took it as it is would keep the first step's.
template <class T> struct Varying {
  const T* slot;
  T value;
  __device__ T get() const { return slot ? *slot : value; }
};
template <class T> Varying<T> varying(const T& value) {
  return {static_cast<const T*>(slot_for(&value, sizeof value)), value};
}

template <class... P, class... A>
void launch_with(const char* op, Device d, dim3 grid, unsigned block, size_t shared_bytes,
                 void (*kernel)(P...), const A&... arguments) {
  if (left_out(op)) return;
  const cudaStream_t stream = stream_of(d);
#if defined(__CUDACC__)
  kernel<<<grid, block, shared_bytes, stream>>>(arguments...);
#else
  (void)shared_bytes;
  emulation::submit(stream, [=] {
    const auto call = [&] { kernel(static_cast<P>(arguments)...); };
    emulation::run(
        grid, block, [](const void* c) { (*static_cast<const decltype(call)*>(c))(); }, &call);
  });
#endif
  check(cudaGetLastError(), op, d);
}
template <class... P, class... A>
void launch(const char* op, Device d, dim3 grid, unsigned block, void (*kernel)(P...),
            const A&... arguments) {
  launch_with(op, d, grid, block, 0, kernel, arguments...);
}

constexpr unsigned block_threads = 256;
inline int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }
// Blocks for n threads' worth of work, in a loop over the grid: no more than keep the GPU full.
inline dim3 grid_for(Device d, int64_t n) {
  const int64_t blocks = divide_up(n, block_threads), full = int64_t{processors(d)} * 32;
  dim3 grid;
  grid.x = static_cast<unsigned>(blocks < full ? blocks : full);
  return grid;
}
// A grid of `blocks`, each with work of its own.
inline dim3 grid_of(const char* op, int64_t blocks) {
  if (blocks > INT32_MAX) fail<ShapeError>(op, ": these sizes are too large for a GPU");
  dim3 grid;
  grid.x = static_cast<unsigned>(blocks);
  return grid;
}
// A thread's place in a loop over the grid.
__device__ inline int64_t first_index() {
  return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}
__device__ inline int64_t index_step() { return static_cast<int64_t>(gridDim.x) * blockDim.x; }

}  // namespace wengert
