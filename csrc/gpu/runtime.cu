// Devices, streams, memory and errors: the host's side of CUDA.
//
// A stream does its work in order; so a freed block can be given away again at once in the stream
// for which it was taken: what the next owner does comes behind. Blocks are kept by stream and size
// class (compare base/allocator.h), and given back where the GPU has no more. A block that other
// streams use too is kept apart until they have done what they had when it was freed.
//
// WENGERT_CUDA_DEBUG=1, for tests and compute-sanitizer: each block is a fresh one, of the very
// size that was asked for and full of NaN (bytes of 255), so that what is written behind its end,
// or never written, is seen.
#include "gpu/runtime.h"

#include <algorithm>
#include <cstdlib>
#include <map>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "gpu/steps.h"

namespace wengert {

namespace {

constexpr size_t most_streams = 32;  // of a GPU, beside the default one; then they are shared

struct Uses {
  cudaStream_t owner;
  std::vector<cudaStream_t> others;
};
struct Freed {  // and still used
  void* block;
  int64_t size;
  cudaStream_t owner;
  std::vector<cudaEvent_t> until;
};

struct Gpu {
  std::mutex mutex;
  cudaStream_t stream = nullptr;      // the default one
  std::vector<cudaStream_t> streams;  // the others
  size_t made = 0;                    // how often one was asked for
  Report* report = nullptr;
  cudaDeviceProp properties{};
  std::map<std::pair<cudaStream_t, int64_t>, std::vector<void*>> free;  // by size class
  std::unordered_map<void*, Uses> uses;  // of blocks in use that are not the default stream's alone
  std::vector<Freed> freed;
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

void keep_what_is_done(Gpu& g) {
  std::erase_if(g.freed, [&](const Freed& f) {
    for (cudaEvent_t e : f.until)
      if (cudaEventQuery(e) == cudaErrorNotReady) return cudaGetLastError(), false;
    for (cudaEvent_t e : f.until) cudaEventDestroy(e);
    g.free[{f.owner, f.size}].push_back(f.block);
    return true;
  });
}

void release_all(Gpu& g) {
  if (g.free.empty() && g.freed.empty()) return;
  cudaStreamSynchronize(g.stream);
  for (cudaStream_t s : g.streams) cudaStreamSynchronize(s);
  keep_what_is_done(g);
  for (auto& [where, blocks] : g.free)
    for (void* block : blocks) cudaFree(block);
  g.free.clear();
  g.figures.cached = 0;
}

void throw_report(Gpu& g) {
  Report r = *g.report;
  if (r.fault <= 0) return;  // or another stream writes it just now
  *g.report = {};
  constexpr auto where = " (found on the GPU: what was computed from it since is of no use)";
  switch (static_cast<Fault>(r.fault)) {
    case Fault::cross_entropy:
      fail<IndexError>("cross_entropy: class index ", r.got, " at row ", r.at,
                       " is out of range; there are classes 0 to ", r.size - 1,
                       r.got == -100 ? ": write ignore_index=-100" : "", where);
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

// What a query said, or a wait.
bool done(cudaError_t said, bool waited, const char* what, Device d) {
  if (said == cudaErrorNotReady) return cudaGetLastError(), false;  // which would report it again
  check(said, what, d);
  if (waited) throw_report(gpu(d));
  return true;
}
void wait(Device d, const char* what) { done(cudaStreamSynchronize(stream_of(d)), true, what, d); }

thread_local cudaStream_t chosen[max_gpus] = {};  // null: the default one

cudaStream_t as_stream(uintptr_t s) { return reinterpret_cast<cudaStream_t>(s); }

}  // namespace

cudaStream_t stream_of(Device d) {
  Gpu& g = gpu(d);
  if (!g.lost.empty())
    fail<DeviceError>(d, ": is lost since ", g.lost, "; the process cannot use it any more");
  cudaSetDevice(number(d));
  const cudaStream_t recorded = active_steps ? active_steps->stream() : nullptr;
  if (recorded) return recorded;
  return chosen[number(d)] ? chosen[number(d)] : g.stream;
}
Report* report_of(Device d) { return gpu(d).report; }
int64_t shared_memory(Device d) {
  return static_cast<int64_t>(gpu(d).properties.sharedMemPerBlockOptin);
}
int processors(Device d) { return gpu(d).properties.multiProcessorCount; }
int compute_capability(Device d) { return gpu(d).properties.major * 10 + gpu(d).properties.minor; }

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
  if (error == cudaErrorUnsupportedPtxVersion)
    fail<DeviceError>(
        what, ": the driver is too old for the code of this build, which it would ",
        "have to compile; update it, or build with WENGERT_CUDA_ARCHITECTURES=", p.major, p.minor);
  if (error == cudaErrorInvalidConfiguration || error == cudaErrorInvalidValue ||
      error == cudaErrorLaunchOutOfResources)
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
  const cudaStream_t stream = stream_of(d);
  const std::lock_guard lock(g.mutex);
  keep_what_is_done(g);
  void* block = nullptr;
  const auto kept = g.free.find({stream, size});
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
  if (stream != g.stream) g.uses[block] = {stream, {}};
  if (debugging()) cudaMemsetAsync(block, 255, static_cast<size_t>(size), stream);
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
  Uses uses{g.stream, {}};
  if (const auto at = g.uses.find(block); at != g.uses.end()) {
    uses = std::move(at->second);
    g.uses.erase(at);
  }
  if (debugging()) return static_cast<void>(cudaFree(block));  // waits for what uses it
  g.figures.cached += size;
  if (uses.others.empty()) return g.free[{uses.owner, size}].push_back(block);
  Freed freed{block, size, uses.owner, {}};
  cudaSetDevice(number(d));
  for (cudaStream_t s : uses.others) {
    cudaEvent_t event;
    if (cudaEventCreateWithFlags(&event, cudaEventDisableTiming) == cudaSuccess &&
        cudaEventRecord(event, s) == cudaSuccess)
      freed.until.push_back(event);
    else  // lost, or almost: waiting is as good
      cudaStreamSynchronize(s);
  }
  g.freed.push_back(std::move(freed));
}

void cuda_use(Device d, void* block, uintptr_t stream) {
  Gpu& g = gpu(d);
  const std::lock_guard lock(g.mutex);
  const auto at = g.uses.try_emplace(block, Uses{g.stream, {}}).first;
  auto& [owner, others] = at->second;
  if (as_stream(stream) != owner && std::ranges::find(others, as_stream(stream)) == others.end())
    others.push_back(as_stream(stream));
  else if (owner == g.stream && others.empty())
    g.uses.erase(at);
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
  stream_of(d);
  std::vector<cudaStream_t> all{gpu(d).stream};
  {
    const std::lock_guard lock(gpu(d).mutex);
    all.insert(all.end(), gpu(d).streams.begin(), gpu(d).streams.end());
  }
  for (cudaStream_t s : all) check(cudaStreamSynchronize(s), "synchronize", d);
  throw_report(gpu(d));
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

void cuda_order(cudaStream_t a, Device a_device, cudaStream_t b, Device b_device) {
  cudaEvent_t event;
  stream_of(a_device);
  check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "event", a_device);
  check(cudaEventRecord(event, a), "event", a_device);
  stream_of(b_device);
  check(cudaStreamWaitEvent(b, event, 0), "event", b_device);
  cudaEventDestroy(event);  // goes when it has happened
}

void cuda_copy_peer(Device to_device, void* to, Device from_device, const void* from,
                    int64_t bytes) {
  not_recorded("copy between GPUs");
  const cudaStream_t there = stream_of(to_device), here = stream_of(from_device);
  cuda_order(there, to_device, here, from_device);
  check(cudaMemcpyPeerAsync(to, number(to_device), from, number(from_device),
                            static_cast<size_t>(bytes), here),
        "copy between GPUs", from_device);
  cuda_order(here, from_device, there, to_device);
}
uintptr_t cuda_stream(Device d) { return reinterpret_cast<uintptr_t>(stream_of(d)); }
void cuda_let_wait(Device d, uintptr_t stream) {
  not_recorded("waiting for a stream");
  cuda_order(stream_of(d), d, as_stream(stream), d);
}
uintptr_t cuda_default_stream(Device d) { return reinterpret_cast<uintptr_t>(gpu(d).stream); }
uintptr_t cuda_make_stream(Device d) {
  Gpu& g = gpu(d);
  stream_of(d);
  const std::lock_guard lock(g.mutex);
  if (g.streams.size() < most_streams) {
    cudaStream_t s = nullptr;
    check(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking), "Stream", d);
    g.streams.push_back(s);
  }
  return reinterpret_cast<uintptr_t>(g.streams[g.made++ % most_streams]);
}
void cuda_set_stream(Device d, uintptr_t stream) { chosen[number(d)] = as_stream(stream); }
bool cuda_stream_done(Device d, uintptr_t stream, bool wait) {
  stream_of(d);
  return done(wait ? cudaStreamSynchronize(as_stream(stream)) : cudaStreamQuery(as_stream(stream)),
              wait, "stream", d);
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
void cuda_record_event(Device d, uintptr_t stream, void* event) {
  stream_of(d);
  check(cudaEventRecord(static_cast<cudaEvent_t>(event), as_stream(stream)), "event", d);
}
void cuda_wait_for_event(Device d, uintptr_t stream, void* event) {
  stream_of(d);
  check(cudaStreamWaitEvent(as_stream(stream), static_cast<cudaEvent_t>(event), 0), "event", d);
}
bool cuda_event_done(Device d, void* event, bool wait) {
  stream_of(d);
  const auto e = static_cast<cudaEvent_t>(event);
  return done(wait ? cudaEventSynchronize(e) : cudaEventQuery(e), wait, "event", d);
}
float cuda_milliseconds(Device d, void* from, void* to) {
  float ms = 0;
  stream_of(d);
  check(cudaEventElapsedTime(&ms, static_cast<cudaEvent_t>(from), static_cast<cudaEvent_t>(to)),
        "elapsed_time", d);
  return ms;
}

}  // namespace wengert
