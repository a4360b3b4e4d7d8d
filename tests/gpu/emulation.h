// Plays CUDA on the CPU: enough of the language and of its runtime library for the .cu files to
// compile with an ordinary C++ compiler, into a library that the core loads as if it were a GPU's.
//
// Each CUDA thread is a fiber with a stack of its own. A block's threads take turns on one
// processor: one runs until it ends or waits at a barrier, then the next. Under ThreadSanitizer
// they count as threads that only barriers order, so that a missing __syncthreads() is reported,
// however the turns went. Blocks run one after another: a race between two blocks is not seen.
// Threads that wait at different barriers end the process with a message. Memory of the "GPU" can
// be touched by kernels and copies only: the CPU's hand on it is a segmentation fault. A kernel
// that writes behind a block's end ends the process too. A stream that is captured puts calls down
// in a graph, with copies of their arguments; so one that was meant to change does not.
//
// The default stream does its work at once, all others theirs no sooner than somebody waits for it
// (WENGERT_EMULATION_STREAMS=1: the other way round). So what is not waited for is not there.
//
// Settings, all environment variables, let it play what a GPU may do:
//   WENGERT_EMULATION_MEMORY      bytes that it has (1 GiB)
//   WENGERT_EMULATION_DEVICES     how many GPUs there are (1)
//   WENGERT_EMULATION_CAPABILITY  80, 90: compute capability 8.0, 9.0 (0: no tensor cores)
//   WENGERT_EMULATION_DRIVER      the CUDA version that the driver serves (13000); 0: no driver
//   WENGERT_EMULATION_FAIL        the launch of this number fails (0: none), with
//   WENGERT_EMULATION_ERROR       this cudaError_t (719, after which nothing works)
//   WENGERT_EMULATION_STREAMS     1: the default stream is late, not the others
//   WENGERT_EMULATION_BACKWARDS   1: blocks, and the threads in them, take turns from the last on
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <utility>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __shared__ static
#define __launch_bounds__(...)
#define __grid_constant__
#define __restrict__ __restrict

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
};
struct alignas(16) float4 {
  float x, y, z, w;
};

namespace wengert::emulation {

struct Thread {
  dim3 thread, block, block_size, grid_size;
};
__attribute__((visibility("default"))) const Thread& self();  // also for code made at run time
void wait_for_block();
void wait_for_warp();
// Values that the threads of a warp exchange; the warp's slots for the caller's next exchange.
struct Slot {
  uint64_t words[3];
};
Slot* warp_slots();
void run(dim3 grid, unsigned block, void (*call)(const void*), const void* context);
// Runs it, now or when it is waited for, or puts it down where the stream is captured.
void submit(void* stream, std::function<void()> call);
char* dynamic_shared();  // of the block that runs

bool any_of_block(bool yes);  // waits for the block

// Work of this thread that goes on by itself, in groups: done when it is waited for, no sooner.
void later(std::function<void()> work);
void end_group();
void wait_for_groups(int left);

// An mbarrier: a phase ends when all have arrived and all bytes that were announced have come.
struct Barrier {
  uint16_t arrivals, missing;
  int32_t bytes : 31;
  uint32_t parity : 1;
};
void begin(Barrier* b, int arrivals);
void arrive(Barrier* b, int bytes = 0);
void complete(Barrier* b, int bytes);
void wait(Barrier* b, unsigned parity);

template <class T> T exchange(T value, unsigned from) {
  static_assert(sizeof(T) <= 8);
  Slot* slots = warp_slots();
  std::memcpy(&slots[self().thread.x % 32], &value, sizeof value);
  wait_for_warp();
  std::memcpy(&value, &slots[from % 32], sizeof value);
  return value;
}
// A value of each lane, until the next exchange of this one.
template <class T> class Gathered {
 public:
  explicit Gathered(const T& value) : slots_(warp_slots()) {
    static_assert(sizeof(T) <= sizeof(Slot));
    std::memcpy(&slots_[self().thread.x % 32], &value, sizeof value);
    wait_for_warp();
  }
  T of(unsigned lane) const {
    T value;
    std::memcpy(&value, &slots_[lane], sizeof value);
    return value;
  }

 private:
  Slot* slots_;
};

}  // namespace wengert::emulation

#define threadIdx (::wengert::emulation::self().thread)
#define blockIdx (::wengert::emulation::self().block)
#define blockDim (::wengert::emulation::self().block_size)
#define gridDim (::wengert::emulation::self().grid_size)

inline void __syncthreads() { wengert::emulation::wait_for_block(); }
inline int __syncthreads_or(int yes) { return wengert::emulation::any_of_block(yes); }
inline void __syncwarp(unsigned = ~0u) { wengert::emulation::wait_for_warp(); }
template <class T> T __shfl_xor_sync(unsigned, T value, unsigned lanes) {
  return wengert::emulation::exchange(value, (threadIdx.x % 32) ^ lanes);
}
inline unsigned __ballot_sync(unsigned, bool yes) {
  unsigned mask = 0;
  for (unsigned lane = 0; lane < 32; ++lane)  // a slot per lane and step: slow, and sure
    mask |= static_cast<unsigned>(wengert::emulation::exchange(yes, lane)) << lane;
  return mask;
}
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline unsigned __umulhi(unsigned a, unsigned b) {
  return static_cast<unsigned>(uint64_t{a} * b >> 32);
}
inline int atomicCAS(int* at, int expected, int value) {
  __atomic_compare_exchange_n(at, &expected, value, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
  return expected;
}
inline int atomicExch(int* at, int value) {
  return __atomic_exchange_n(at, value, __ATOMIC_SEQ_CST);
}

// ---- the runtime library: as much as runtime.cu calls ----

enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInvalidConfiguration = 9,
  cudaErrorNoKernelImageForDevice = 209,
  cudaErrorUnsupportedPtxVersion = 222,
  cudaErrorNotReady = 600,
  cudaErrorLaunchOutOfResources = 701,
  cudaErrorLaunchFailure = 719,
  cudaErrorStreamCaptureUnsupported = 900,
  cudaErrorStreamCaptureInvalidated = 901,
};
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize };
enum cudaMemcpyKind {
  cudaMemcpyHostToDevice = 1,
  cudaMemcpyDeviceToHost,
  cudaMemcpyDeviceToDevice
};
using cudaStream_t = void*;
using cudaEvent_t = struct EmulatedEvent*;
struct cudaDeviceProp {
  char name[256];
  int major, minor, multiProcessorCount;
  size_t sharedMemPerBlockOptin;
};
struct cudaPointerAttributes {
  int type;
};
constexpr int cudaMemoryTypeHost = 1;
constexpr unsigned cudaStreamNonBlocking = 1, cudaEventDisableTiming = 2, cudaHostAllocMapped = 2;

cudaError_t cudaGetDeviceCount(int* count);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* p, int device);
cudaError_t cudaMalloc(void** block, size_t bytes);
cudaError_t cudaFree(void* block);
cudaError_t cudaMemGetInfo(size_t* free, size_t* total);
cudaError_t cudaHostAlloc(void** block, size_t bytes, unsigned flags);
cudaError_t cudaFreeHost(void* block);
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* p);
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t);
cudaError_t cudaMemsetAsync(void* to, int byte, size_t bytes, cudaStream_t);
cudaError_t cudaMemcpyPeerAsync(void* to, int, const void* from, int, size_t bytes, cudaStream_t);
// Code made at run time: here a shared library, whose kernel takes the place of its one argument.
using cudaLibrary_t = void*;
using cudaKernel_t = void*;
cudaError_t cudaLibraryLoadData(cudaLibrary_t* library, const void* code, void*, void*, unsigned,
                                void*, void*, unsigned);
cudaError_t cudaLibraryGetKernel(cudaKernel_t* kernel, cudaLibrary_t library, const char* name);
cudaError_t cudaGetLastError();
const char* cudaGetErrorString(cudaError_t e);
cudaError_t cudaDriverGetVersion(int* v);
inline cudaError_t cudaRuntimeGetVersion(int* v) { return *v = 13000, cudaSuccess; }
inline cudaError_t cudaSetDevice(int) { return cudaSuccess; }
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* e, unsigned);
cudaError_t cudaEventDestroy(cudaEvent_t e);
cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t);
cudaError_t cudaEventSynchronize(cudaEvent_t e);
cudaError_t cudaEventQuery(cudaEvent_t e);
cudaError_t cudaEventElapsedTime(float* ms, cudaEvent_t from, cudaEvent_t to);
cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned);

using cudaGraph_t = struct EmulatedGraph*;
using cudaGraphExec_t = EmulatedGraph*;
using cudaGraphNode_t = void*;
enum cudaStreamCaptureMode { cudaStreamCaptureModeThreadLocal = 1, cudaStreamCaptureModeRelaxed };
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* s, unsigned);
cudaError_t cudaStreamDestroy(cudaStream_t s);
cudaError_t cudaStreamSynchronize(cudaStream_t s);
cudaError_t cudaStreamQuery(cudaStream_t s);
cudaError_t cudaStreamBeginCapture(cudaStream_t s, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t* graph);
cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long = 0);
cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, size_t* count);
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t s);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec);
template <class F> cudaError_t cudaFuncSetAttribute(F*, cudaFuncAttribute, int) {
  return cudaSuccess;
}
