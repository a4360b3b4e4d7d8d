// The loader of CUDA: a library of its own, loaded when a GPU is first asked for.
//
// The core knows no CUDA header and links to no CUDA library. libwengert_cuda.so, which is beside
// the core (or where WENGERT_CUDA_LIBRARY says), exports one function that gives this table, and,
// in `kernels`, those of the ops (ops/gpu.h). The same sources, compiled for the CPU
// against emulation.h, make a library that plays a GPU: so the kernels are tested without one.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>

#include "base/allocator.h"
#include "base/device.h"

namespace wengert {

struct View;
struct GpuKernels;
struct ChainArguments;

// A step of a compiled program, recorded once and launched any number of times: as a graph, or
// inside one kernel. Made by `record` below (or GpuKernels::persistent): from then to end(), what
// this thread launches on the device is recorded, and not run. What changes from step to step,
// arguments, results and numbers of the host, is read from memory of the GPU.
class CudaSteps {
 public:
  struct Moved {  // an argument or a result: its place in the step
    void* place;
    int64_t bytes;
  };
  struct Outside {  // where the first step's comes from or goes to, and how far the next one's is
    char* data;
    int64_t step;
  };
  virtual ~CudaSteps() = default;  // before end(): nothing is left of the recording
  virtual void end() = 0;
  // Runs these lines without their kernels: only notes the numbers that these take from the host,
  // for one more step. most(): steps that can be noted before a launch.
  virtual void note(const std::function<void()>& lines) = 0;
  virtual int64_t most() const = 0;
  // Runs the steps that are noted; returns before they have.
  virtual void launch(std::span<const Outside> in, std::span<const Outside> out) = 0;
  virtual int64_t size() const = 0;  // kernels and copies of a step, or lines inside the one kernel
};

struct CudaLibrary {
  int64_t abi;       // cuda_abi, as the library saw it
  const char* made;  // how it was made: "CUDA 13.0", or that it is emulated
  // What keeps it from working (driver, GPU); null where nothing does. Asked once.
  const char* (*problem)();
  int (*devices)();
  const char* (*device_name)(Device d);

  void* (*allocate)(Device d, int64_t bytes);  // null where there is no memory
  void (*deallocate)(Device d, void* block, int64_t bytes);
  void* (*allocate_pinned)(int64_t bytes);  // host memory from which copies need not wait
  void (*deallocate_pinned)(void* block);
  MemoryFigures (*memory)(Device d);
  int64_t (*memory_free)(Device d);  // what the GPU has left, for messages
  void (*reset_peak)(Device d);
  void (*empty_cache)(Device d);

  // Work goes into the stream that is current on this thread, in order; only these wait for it.
  void (*to_host)(Device d, void* to, const void* from, int64_t bytes);
  void (*synchronize)(Device d);  // for all streams
  // Returns when `from` may be overwritten; or, if it is pinned and may_wait is false, at once.
  void (*to_device)(Device d, void* to, const void* from, int64_t bytes, bool may_wait);
  void (*copy)(const View& to, const View& from);  // both on one device
  void (*copy_peer)(Device to_device, void* to, Device from_device, const void* from,
                    int64_t bytes);
  // Streams last as long as the process; a new one may be one that was given out before.
  uintptr_t (*stream)(Device d);  // the current one
  uintptr_t (*default_stream)(Device d);
  uintptr_t (*make_stream)(Device d);
  void (*set_stream)(Device d, uintptr_t stream);
  bool (*stream_done)(Device d, uintptr_t stream, bool wait);
  // What is put into `stream` from now on comes behind the work that the current one has.
  void (*let_wait)(Device d, uintptr_t stream);
  // A block that works in `stream` too: once it is freed, it is reused only after that is done.
  void (*use)(Device d, void* block, uintptr_t stream);
  std::unique_ptr<CudaSteps> (*record)(Device d, std::span<const CudaSteps::Moved> in,
                                       std::span<const CudaSteps::Moved> out);

  // Events: points in the order of a stream's work. They belong to the GPU they were made for.
  void* (*make_event)(Device d, bool timed);
  void (*free_event)(Device d, void* event);
  void (*record_event)(Device d, uintptr_t stream, void* event);    // behind all that it has now
  void (*wait_for_event)(Device d, uintptr_t stream, void* event);  // what it is given from now on
  bool (*event_done)(Device d, void* event, bool wait);
  float (*milliseconds)(Device d, void* from, void* to);  // both timed, recorded and done
  // Kernels compiled at run time (gpu/compiler.h).
  const char* (*compiler_problem)();
  std::string (*compiler_name)();
  std::string (*compile_source)(const char* source, const char* architecture, std::string& log);
  const void* (*chain_kernel)(Device d, const char* source);
  void (*launch_chain)(Device d, const void* kernel, const ChainArguments& arguments,
                       int64_t threads);

  const GpuKernels* kernels;
};
constexpr int64_t cuda_abi = 1'000'000 + sizeof(CudaLibrary);  // raise it when the meaning changes

// The library, loaded; or a DeviceError that says which is missing: library, driver or GPU.
const CudaLibrary& cuda();
// The same as text: "ready: ..." or what is missing.
std::string cuda_status();
// The GPU that "cuda" means on this thread.
Device current_gpu();
void set_current_gpu(Device d);
// Whether chains of a compiled step become one kernel on a GPU, and if not, why.
bool cuda_fuses();
std::string cuda_fusion_status();
// A device by name: "cpu", "cuda", "cuda:1". ValueError or DeviceError where there is none.
Device to_device(const std::string& text);

}  // namespace wengert
