// Devices, streams, memory and errors: the host's side of CUDA.
//
// Each GPU has one stream, into which all work goes in order; so a freed block can be given away
// again at once: what the next owner does comes behind. Blocks are kept by size class, like those
// of the CPU (base/allocator.h), and given back where the GPU has no more.
//
// WENGERT_CUDA_DEBUG=1, for tests and compute-sanitizer: each block is a fresh one, of the very
// size that was asked for and full of NaN (bytes of 255), so that what is written behind its end,
// or never written, is seen.
#include "cuda/runtime.h"

#include <cstdlib>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "cuda/steps.h"

namespace wengert {

namespace {

struct Gpu {
  std::mutex mutex;
  cudaStream_t stream = nullptr;
  Report* report = nullptr;
  cudaDeviceProp properties{};
  std::map<int64_t, std::vector<void*>> free;  // by size class
  MemoryFigures figures{0, 0, 0, INT64_MAX};
  std::string lost;  // what ended it
};

struct Gpus {
  int count = 0;
  std::string problem;
  Gpu gpu[max_gpus];
};

bool start(Gpu& g, int i) {
  void* report = nullptr;
  if (cudaSetDevice(i) != cudaSuccess || cudaGetDeviceProperties(&g.properties, i) != cudaSuccess ||
      cudaStreamCreateWithFlags(&g.stream, cudaStreamNonBlocking) != cudaSuccess ||
      cudaHostAlloc(&report, sizeof(Report), cudaHostAllocMapped) != cudaSuccess)
    return false;
  g.report = new (report) Report{};
  return true;
}

Gpus* find() {
  auto* all = new Gpus;  // never destroyed: tensors may outlive static destructors
  int driver = 0, runtime = 0;
  cudaDriverGetVersion(&driver);
  cudaRuntimeGetVersion(&runtime);
  const auto version = [](int v) { return concat(v / 1000, ".", v % 1000 / 10); };
  if (driver == 0) {
    all->problem = "no NVIDIA driver: libcuda.so.1 is not on this machine";
  } else if (driver / 1000 < runtime / 1000) {
    all->problem = concat("the NVIDIA driver is too old: it serves CUDA ", version(driver),
                          ", and this build needs ", version(runtime), "; update the driver");
  } else if (cudaGetDeviceCount(&all->count) != cudaSuccess || all->count == 0) {
    all->count = 0;
    all->problem = concat("no GPU: the NVIDIA driver is here, and says: ",
                          cudaGetErrorString(cudaGetLastError()));
  }
  if (all->count > max_gpus) all->count = max_gpus;
  for (int i = 0; i < all->count && all->problem.empty(); ++i)
    if (!start(all->gpu[i], i))
      all->problem = concat("GPU ", i, " does not start: ", cudaGetErrorString(cudaGetLastError()));
  return all;
}
Gpus& gpus() {
  static Gpus* all = find();
  return *all;
}
Gpu& gpu(Device d) { return gpus().gpu[number(d)]; }

bool debugging() {
  static const bool on = [] {
    const char* text = std::getenv("WENGERT_CUDA_DEBUG");
    return text && *text && *text != '0';
  }();
  return on;
}

// Powers of two, each split in eight.
int64_t size_class(int64_t bytes) {
  if (debugging()) return bytes > 0 ? bytes : 1;
  int64_t step = 512;
  while (step * 16 <= bytes) step *= 2;
  return bytes <= 0 ? step : (bytes + step - 1) / step * step;
}

void release_all(Gpu& g) {
  if (g.free.empty()) return;
  cudaStreamSynchronize(g.stream);
  for (auto& [bytes, blocks] : g.free)
    for (void* block : blocks) cudaFree(block);
  g.free.clear();
  g.figures.cached = 0;
}

void throw_report(Gpu& g) {
  Report r = *g.report;
  if (r.fault == 0) return;
  *g.report = {};
  constexpr auto where = " (found on the GPU: what was computed from it since is of no use)";
  switch (static_cast<Fault>(r.fault)) {
    case Fault::cross_entropy:
      fail<IndexError>("cross_entropy: class index ", r.got, " at row ", r.at,
                       " is out of range; there are classes 0 to ", r.size - 1, where);
    case Fault::embedding:
      fail<IndexError>("embedding: id ", r.got, ", number ", r.at,
                       ", is out of range; the table's rows are ", r.size, ": 0 to ", r.size - 1,
                       where);
    case Fault::one_hot:
      fail<IndexError>("one_hot: id ", r.got, ", number ", r.at,
                       ", is out of range; num_classes is ", r.size, ": 0 to ", r.size - 1, where);
    default:
      fail<IndexError>("index ", r.got, " is out of range for an axis of size ", r.size, where);
  }
}

// What waits, or brings memory of the host, cannot be a part of a step that is recorded.
void not_recorded(const char* what) {
  if (active_steps) fail<DeviceError>(what, ": not possible while a step is recorded");
}

void wait(Device d, const char* what) {
  check(cudaStreamSynchronize(stream_of(d)), what, d);
  throw_report(gpu(d));
}

}  // namespace

cudaStream_t stream_of(Device d) {
  Gpu& g = gpu(d);
  if (!g.lost.empty())
    fail<DeviceError>(d, ": is lost since ", g.lost, "; the process cannot use it any more");
  cudaSetDevice(number(d));
  const cudaStream_t recorded = active_steps ? active_steps->stream() : nullptr;
  return recorded ? recorded : g.stream;
}
Report* report_of(Device d) { return gpu(d).report; }
int64_t shared_memory(Device d) {
  return static_cast<int64_t>(gpu(d).properties.sharedMemPerBlockOptin);
}
int processors(Device d) { return gpu(d).properties.multiProcessorCount; }
int compute_capability(Device d) {
  return gpu(d).properties.major * 10 + gpu(d).properties.minor;
}

void check(cudaError_t error, const char* what, Device d) {
  if (error == cudaSuccess) return;
  if (error == cudaErrorMemoryAllocation)
    fail<OutOfMemory>(what, ": no memory on ", d, "; free some tensors first");
  if (error == cudaErrorStreamCaptureUnsupported || error == cudaErrorStreamCaptureInvalidated)
    fail<DeviceError>(what, ": not possible while a step is recorded");
  const cudaDeviceProp& p = gpu(d).properties;
  if (error == cudaErrorNoKernelImageForDevice)
    fail<DeviceError>(what, ": this build has no code for ", p.name, " (compute capability ",
                      p.major, ".", p.minor, "); build with WENGERT_CUDA_ARCHITECTURES for it");
  if (error == cudaErrorInvalidConfiguration || error == cudaErrorInvalidValue)
    fail<DeviceError>(what, ": was not launched: ", cudaGetErrorString(error));
  gpu(d).lost = concat("'", what, "' (", cudaGetErrorString(error), ")");
  fail<DeviceError>(what, ": ", p.name, " reports: ", cudaGetErrorString(error), "; ", d,
                    " and the tensors on it are lost to this process. The cause may be an earlier "
                    "op: run with CUDA_LAUNCH_BLOCKING=1 to see which");
}

const char* cuda_problem() { return gpus().problem.empty() ? nullptr : gpus().problem.c_str(); }
int cuda_devices() { return gpus().count; }
const char* cuda_device_name(Device d) { return gpu(d).properties.name; }

void* cuda_allocate(Device d, int64_t bytes) {
  if (bytes > (int64_t{1} << 62)) return nullptr;
  const int64_t size = size_class(bytes);
  if (active_steps && active_steps->records()) return active_steps->take(size);
  Gpu& g = gpu(d);
  stream_of(d);
  const std::lock_guard lock(g.mutex);
  void* block = nullptr;
  const auto kept = g.free.find(size);
  if (kept != g.free.end()) {
    block = kept->second.back();
    kept->second.pop_back();
    if (kept->second.empty()) g.free.erase(kept);
    g.figures.cached -= size;
  } else if (cudaMalloc(&block, static_cast<size_t>(size)) != cudaSuccess) {
    cudaGetLastError();
    release_all(g);
    if (cudaMalloc(&block, static_cast<size_t>(size)) != cudaSuccess) {
      cudaGetLastError();
      return nullptr;
    }
  }
  if (debugging()) cudaMemsetAsync(block, 255, static_cast<size_t>(size), g.stream);
  g.figures.allocated += size;
  if (g.figures.allocated > g.figures.peak) g.figures.peak = g.figures.allocated;
  return block;
}

void cuda_deallocate(Device d, void* block, int64_t bytes) {
  if (active_steps && active_steps->records() && active_steps->give(block)) return;
  Gpu& g = gpu(d);
  const int64_t size = size_class(bytes);
  const std::lock_guard lock(g.mutex);
  g.figures.allocated -= size;
  if (debugging()) return static_cast<void>(cudaFree(block));  // waits for what uses it
  g.figures.cached += size;
  g.free[size].push_back(block);
}

DeviceScratch::DeviceScratch(Device d, int64_t bytes)
    : device_(d), bytes_(bytes), data_(cuda_allocate(d, bytes)) {
  if (!data_)
    fail<OutOfMemory>("no memory on ", d, " for a kernel's working space of ", bytes, " bytes; ",
                      cuda_memory(d).allocated, " bytes are in use by tensors, ",
                      cuda_memory_free(d), " are free");
}
DeviceScratch::~DeviceScratch() { cuda_deallocate(device_, data_, bytes_); }

void* cuda_allocate_pinned(int64_t bytes) {
  void* block = nullptr;
  if (cudaHostAlloc(&block, static_cast<size_t>(bytes), 0) != cudaSuccess) {
    cudaGetLastError();
    return nullptr;
  }
  return block;
}
void cuda_deallocate_pinned(void* block) { cudaFreeHost(block); }  // waits for copies from it

MemoryFigures cuda_memory(Device d) {
  const std::lock_guard lock(gpu(d).mutex);
  return gpu(d).figures;
}
int64_t cuda_memory_free(Device d) {
  size_t free = 0, total = 0;
  stream_of(d);
  cudaMemGetInfo(&free, &total);
  return static_cast<int64_t>(free) + cuda_memory(d).cached;
}
void cuda_reset_peak(Device d) {
  const std::lock_guard lock(gpu(d).mutex);
  gpu(d).figures.peak = gpu(d).figures.allocated;
}
void cuda_empty_cache(Device d) {
  stream_of(d);
  const std::lock_guard lock(gpu(d).mutex);
  release_all(gpu(d));
}

void cuda_to_host(Device d, void* to, const void* from, int64_t bytes) {
  not_recorded("copy to the CPU");
  check(cudaMemcpyAsync(to, from, static_cast<size_t>(bytes), cudaMemcpyDeviceToHost, stream_of(d)),
        "copy to the CPU", d);
  wait(d, "copy to the CPU");
}
void cuda_synchronize(Device d) {
  not_recorded("synchronize");
  wait(d, "synchronize");
}

void cuda_to_device(Device d, void* to, const void* from, int64_t bytes, bool may_wait) {
  if (active_steps) {  // a few bytes are as good as numbers
    if (const void* slot = slot_for(from, bytes)) cuda_copy_bytes(d, to, slot, bytes);
    return;
  }
  check(cudaMemcpyAsync(to, from, static_cast<size_t>(bytes), cudaMemcpyHostToDevice, stream_of(d)),
        "copy to the GPU", d);
  // From ordinary memory the call itself returns when it has read all; pinned memory is read later.
  cudaPointerAttributes attributes{};
  if (may_wait && cudaPointerGetAttributes(&attributes, from) == cudaSuccess &&
      attributes.type == cudaMemoryTypeHost)
    wait(d, "copy to the GPU");
}

void cuda_copy_bytes(Device d, void* to, const void* from, int64_t bytes) {
  if (left_out("copy")) return;
  check(
      cudaMemcpyAsync(to, from, static_cast<size_t>(bytes), cudaMemcpyDeviceToDevice, stream_of(d)),
      "copy", d);
}

namespace {
// Work of stream b goes on behind what stream a has now.
void order(cudaStream_t a, Device a_device, cudaStream_t b, Device b_device) {
  cudaEvent_t event;
  stream_of(a_device);
  check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "event", a_device);
  check(cudaEventRecord(event, a), "event", a_device);
  stream_of(b_device);
  check(cudaStreamWaitEvent(b, event, 0), "event", b_device);
  cudaEventDestroy(event);  // goes when it has happened
}
}  // namespace

void cuda_copy_peer(Device to_device, void* to, Device from_device, const void* from,
                    int64_t bytes) {
  not_recorded("copy between GPUs");
  const cudaStream_t there = stream_of(to_device), here = stream_of(from_device);
  order(there, to_device, here, from_device);
  check(cudaMemcpyPeerAsync(to, number(to_device), from, number(from_device),
                            static_cast<size_t>(bytes), here),
        "copy between GPUs", from_device);
  order(here, from_device, there, to_device);
}
uintptr_t cuda_stream(Device d) { return reinterpret_cast<uintptr_t>(stream_of(d)); }
void cuda_let_wait(Device d, uintptr_t stream) {
  not_recorded("waiting for a stream");
  order(stream_of(d), d, reinterpret_cast<cudaStream_t>(stream), d);
}

void* cuda_make_event(Device d, bool timed) {
  cudaEvent_t event = nullptr;
  stream_of(d);
  check(cudaEventCreateWithFlags(&event, timed ? 0 : cudaEventDisableTiming), "event", d);
  return event;
}
void cuda_free_event(Device d, void* event) {
  if (gpu(d).lost.empty()) cudaEventDestroy(static_cast<cudaEvent_t>(event));
}
void cuda_record_event(Device d, void* event) {
  const cudaStream_t stream = stream_of(d);
  check(cudaEventRecord(static_cast<cudaEvent_t>(event), stream), "event", d);
}
void cuda_wait_for_event(Device d, void* event) {
  const cudaStream_t stream = stream_of(d);
  check(cudaStreamWaitEvent(stream, static_cast<cudaEvent_t>(event), 0), "event", d);
}
bool cuda_event_done(Device d, void* event, bool wait) {
  stream_of(d);
  const auto e = static_cast<cudaEvent_t>(event);
  const cudaError_t said = wait ? cudaEventSynchronize(e) : cudaEventQuery(e);
  if (said == cudaErrorNotReady) return false;
  check(said, "event", d);
  if (wait) throw_report(gpu(d));
  return true;
}
float cuda_milliseconds(Device d, void* from, void* to) {
  float ms = 0;
  stream_of(d);
  check(cudaEventElapsedTime(&ms, static_cast<cudaEvent_t>(from), static_cast<cudaEvent_t>(to)),
        "elapsed_time", d);
  return ms;
}

}  // namespace wengert
