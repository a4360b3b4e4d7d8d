// The fibers, the barriers and the memory of the emulation.
#include "emulation.h"

#include <dlfcn.h>
#include <elf.h>
#include <sys/mman.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#define TSAN(call) call
#define UNSEEN __attribute__((no_sanitize("thread")))
#else
#define TSAN(call)
#define UNSEEN
#endif

struct EmulatedGraph {
  std::vector<std::function<void()>> calls;
};

namespace wengert::emulation {

namespace {

constexpr size_t stack_bytes = 256 << 10;
constexpr unsigned warp_size = 32;

size_t setting(const char* name, size_t otherwise) {
  const char* text = std::getenv(name);
  return text ? std::strtoull(text, nullptr, 10) : otherwise;
}

// ---- fibers: a stack each, and a way to change over ----

#if defined(__x86_64__)
extern "C" void wengert_change_stack(void** save, void* to);
asm(R"(
  .text
  .type wengert_change_stack, @function
wengert_change_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
  .size wengert_change_stack, .-wengert_change_stack
)");
struct Stack {
  void* top = nullptr;
  void prepare(char* base, void (*entry)()) {
    auto** p = reinterpret_cast<void**>(base + stack_bytes - 64);  // a multiple of 16
    *--p = nullptr;                                                // entry never returns
    *--p = reinterpret_cast<void*>(entry);
    top = p - 6;
  }
};
UNSEEN void change(Stack& from, Stack& to) { wengert_change_stack(&from.top, to.top); }
#else
struct Stack {
  ucontext_t context;
  void prepare(char* base, void (*entry)()) {
    getcontext(&context);
    context.uc_stack.ss_sp = base;
    context.uc_stack.ss_size = stack_bytes;
    makecontext(&context, entry, 0);
  }
};
UNSEEN void change(Stack& from, Stack& to) { swapcontext(&from.context, &to.context); }
#endif

enum class State { ready, at_warp, at_block, polling, done };

struct Fiber {
  Stack stack;
  char* base = nullptr;
  bool begun = false;  // its loop waits for work on its stack
  State state = State::done;
  Thread self;
  unsigned round = 0;      // of exchanges: two sets of slots take turns
  unsigned waits[2] = {};  // at barriers of its warp, and of its block
  std::deque<std::vector<std::function<void()>>> later{1};  // groups; the last one is open
  void* tsan = nullptr;
};

// Of the block that runs. One kernel runs at a time.
std::mutex one_kernel;
Fiber* current = nullptr;
Stack scheduler;
std::vector<Fiber*> fibers;
void (*call)(const void*);
const void* context;
Slot slots[2][1024];
bool votes[2][1024];
alignas(1024) char shared_block[232448];
size_t progress = 0;  // of who waits for an mbarrier
// ThreadSanitizer knows barriers by their addresses. Two take turns: who comes late to one must not
// be ordered behind what others did after it, on their way to the next.
char barriers[1024 / warp_size + 1][2];
[[maybe_unused]] void* scheduler_tsan = nullptr;
[[maybe_unused]] char block_begin, block_end;

UNSEEN void yield(State state) {
  Fiber& me = *current;
  me.state = state;
  TSAN(__tsan_switch_to_fiber(scheduler_tsan, __tsan_switch_to_fiber_no_sync));
  change(me.stack, scheduler);
}

UNSEEN void fiber_main() {
  for (;;) {
    TSAN(__tsan_acquire(&block_begin));
    current->later.assign(1, {});
    call(context);
    TSAN(__tsan_release(&block_end));
    yield(State::done);
  }
}

UNSEEN void resume(Fiber& f) {
  current = &f;
  TSAN(__tsan_switch_to_fiber(f.tsan, __tsan_switch_to_fiber_no_sync));
  change(scheduler, f.stack);
}

UNSEEN void start(Fiber& f) {
  f.state = State::ready;
  f.round = f.waits[0] = f.waits[1] = 0;
  if (f.begun) return;
  f.stack.prepare(f.base, fiber_main);
  TSAN(f.tsan = __tsan_create_fiber(0));
  f.begun = true;
}

// Lets go on who waited at `where`, if nobody of [first, end) is still on the way there.
UNSEEN bool release(unsigned first, unsigned end, State where) {
  bool any = false;
  for (unsigned i = first; i < end; ++i) {
    const State s = fibers[i]->state;
    if (s != where && s != State::done) return false;
    any |= s == where;
  }
  for (unsigned i = first; i < end; ++i)
    if (fibers[i]->state == where) fibers[i]->state = State::ready;
  return any;
}

bool backwards() {
  static const bool yes = setting("WENGERT_EMULATION_BACKWARDS", 0) != 0;
  return yes;
}

UNSEEN void run_block(unsigned n) {
  TSAN(__tsan_release(&block_begin));
  for (unsigned i = 0; i < n; ++i) start(*fibers[i]);
  for (;;) {
    bool moved = false;
    const size_t before = progress;
    const unsigned warps = (n + warp_size - 1) / warp_size;
    for (unsigned w = 0; w < warps; ++w) {
      const unsigned first = (backwards() ? warps - 1 - w : w) * warp_size;
      const unsigned end = first + warp_size < n ? first + warp_size : n;
      do {
        for (unsigned n = 0; n < end - first; ++n) {
          Fiber& f = *fibers[backwards() ? end - 1 - n : first + n];
          if (f.state != State::ready) continue;
          resume(f);
          moved |= f.state != State::polling;
        }
      } while (release(first, end, State::at_warp));
    }
    if (release(0, n, State::at_block)) continue;
    bool done = true;
    for (unsigned i = 0; i < n; ++i) {
      done &= fibers[i]->state == State::done;
      if (fibers[i]->state == State::polling) fibers[i]->state = State::ready;
    }
    if (done) break;
    if (!moved && progress == before) {
      std::fputs("emulated CUDA: the threads of a block wait at different barriers\n", stderr);
      std::abort();
    }
  }
  TSAN(__tsan_acquire(&block_end));
}

// ---- memory ----

struct Memory {
  size_t size = setting("WENGERT_EMULATION_MEMORY", size_t{1} << 30), end = 0, used = 0;
  char* base = static_cast<char*>(
      mmap(nullptr, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
  std::map<size_t, size_t> free{{0, size}};  // size by place
  struct Block {
    size_t bytes, room;
  };
  std::map<size_t, Block> blocks;

  void open(bool yes) {  // all that was ever in use
    if (end) mprotect(base, end, yes ? PROT_READ | PROT_WRITE : PROT_NONE);
  }
  // Behind each block lies a strip that nobody may write to.
  static constexpr unsigned char mark = 0xa5;
  void* take(size_t bytes) {
    const size_t needed = (bytes + 64 + 255) / 256 * 256;
    for (auto [at, room] : free) {
      if (room < needed) continue;
      free.erase(at);
      if (room > needed) free[at + needed] = room - needed;
      blocks[at] = {bytes, needed};
      used += bytes;
      if (end < at + needed) end = at + needed;
      open(true);
      std::memset(base + at + bytes, mark, needed - bytes);
      open(false);
      return base + at;
    }
    return nullptr;
  }
  UNSEEN void check_strips() {  // after each kernel
    for (const auto& [at, block] : blocks)
      for (size_t i = block.bytes; i < block.room; ++i)
        if (static_cast<unsigned char>(base[at + i]) != mark) {
          std::fprintf(stderr,
                       "emulated CUDA: a kernel wrote behind the end of a block, of %zu bytes\n",
                       block.bytes);
          std::abort();
        }
  }
  void give(void* block) {
    const auto at = blocks.find(static_cast<size_t>(static_cast<char*>(block) - base));
    used -= at->second.bytes;
    auto fresh = free.emplace(at->first, at->second.room).first;
    blocks.erase(at);
    if (const auto next = std::next(fresh);
        next != free.end() && fresh->first + fresh->second == next->first) {
      fresh->second += next->second;
      free.erase(next);
    }
    if (fresh == free.begin()) return;
    if (const auto before = std::prev(fresh); before->first + before->second == fresh->first) {
      before->second += fresh->second;
      free.erase(fresh);
    }
  }
};
Memory& memory() {
  static auto* m = new Memory;
  return *m;
}
std::map<const void*, size_t>& pinned() {
  static auto* p = new std::map<const void*, size_t>;
  return *p;
}

class OpenMemory {
 public:
  OpenMemory() { memory().open(true); }
  ~OpenMemory() { memory().open(false); }

 private:
  std::lock_guard<std::mutex> lock_{one_kernel};
};

// ---- streams and graphs ----

struct Stream {
  bool late;
  EmulatedGraph* capture = nullptr;
  bool invalid = false;  // something was done that a capture does not allow
  std::deque<std::function<void()>> queue = {};
  uint64_t given = 0, done = 0;  // calls, so far

  void work(uint64_t until) {
    while (done < until) {
      const auto call = std::move(queue.front());
      queue.pop_front();
      call();
      ++done;
    }
  }
};
std::recursive_mutex streams_mutex;  // of all queues
std::vector<Stream*>& streams() {    // that exist: first the one of handles 0 to 2, CUDA's own
  static auto* all = new std::vector{new Stream{setting("WENGERT_EMULATION_STREAMS", 0) != 0}};
  return *all;
}
Stream& stream_at(void* handle) {
  return reinterpret_cast<uintptr_t>(handle) <= 2 ? *streams()[0] : *static_cast<Stream*>(handle);
}
void wait_for_all() {
  const std::lock_guard lock(streams_mutex);
  for (Stream* s : streams()) s->work(s->given);
}
thread_local Stream* captured = nullptr;  // by this thread, in a mode that forbids much
thread_local cudaStreamCaptureMode capture_mode = cudaStreamCaptureModeThreadLocal;

// What must wait, or allocates, ends a capture on this thread.
bool forbidden() {
  if (!captured || capture_mode == cudaStreamCaptureModeRelaxed) return false;
  return captured->invalid = true;
}

size_t launches = 0;
cudaError_t last_error = cudaSuccess;

}  // namespace

UNSEEN const Thread& self() { return current->self; }

UNSEEN void wait_for_block() {
  [[maybe_unused]] char* barrier = &barriers[1024 / warp_size][current->waits[1]++ % 2];
  TSAN(__tsan_release(barrier));
  yield(State::at_block);
  TSAN(__tsan_acquire(barrier));
}
UNSEEN bool any_of_block(bool yes) {
  bool* const all = votes[current->waits[1] % 2];
  all[current->self.thread.x] = yes;
  wait_for_block();
  return std::any_of(all, all + current->self.block_size.x, [](bool vote) { return vote; });
}
UNSEEN void wait_for_warp() {
  [[maybe_unused]] char* barrier =
      &barriers[current->self.thread.x / warp_size][current->waits[0]++ % 2];
  TSAN(__tsan_release(barrier));
  yield(State::at_warp);
  TSAN(__tsan_acquire(barrier));
}
UNSEEN Slot* warp_slots() {
  return slots[current->round++ % 2] + current->self.thread.x / warp_size * warp_size;
}

char* dynamic_shared() { return shared_block; }

UNSEEN void later(std::function<void()> work) { current->later.back().push_back(std::move(work)); }
UNSEEN void end_group() { current->later.emplace_back(); }
void wait_for_groups(int left) {
  for (auto& groups = current->later; static_cast<int>(groups.size()) - 1 > left;
       groups.pop_front())
    for (const auto& work : groups.front()) work();
}

namespace {
UNSEEN void end_phase(Barrier* b) {
  if (b->missing || b->bytes) return;
  b->missing = b->arrivals;
  b->parity ^= 1;
  ++progress;
}
}  // namespace
UNSEEN void begin(Barrier* b, int arrivals) {
  *b = {static_cast<uint16_t>(arrivals), static_cast<uint16_t>(arrivals), 0, 0};
}
UNSEEN void arrive(Barrier* b, int bytes) {
  TSAN(__tsan_release(b));
  b->bytes += bytes;
  --b->missing;
  end_phase(b);
}
UNSEEN void complete(Barrier* b, int bytes) {
  TSAN(__tsan_release(b));
  b->bytes -= bytes;
  end_phase(b);
}
UNSEEN void wait(Barrier* b, unsigned parity) {
  while (b->parity == parity) yield(State::polling);
  ++progress;
  TSAN(__tsan_acquire(b));
}

void run(dim3 grid, unsigned block, void (*kernel)(const void*), const void* arguments) {
  const OpenMemory open;
  if (last_error) return;
  if (static const size_t bad = setting("WENGERT_EMULATION_FAIL", 0); bad && ++launches == bad) {
    last_error =
        static_cast<cudaError_t>(setting("WENGERT_EMULATION_ERROR", cudaErrorLaunchFailure));
    return;
  }
  call = kernel;
  context = arguments;
  TSAN(scheduler_tsan = __tsan_get_current_fiber());
  while (fibers.size() < block) {
    auto* f = new Fiber;
    f->base = static_cast<char*>(mmap(nullptr, stack_bytes, PROT_READ | PROT_WRITE,
                                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    fibers.push_back(f);
  }
  const uint64_t blocks = uint64_t{grid.x} * grid.y * grid.z;
  for (uint64_t n = 0; n < blocks; ++n) {
    const uint64_t b = backwards() ? blocks - 1 - n : n;
    const dim3 at{static_cast<unsigned>(b % grid.x), static_cast<unsigned>(b / grid.x % grid.y),
                  static_cast<unsigned>(b / grid.x / grid.y)};
    for (unsigned i = 0; i < block; ++i) fibers[i]->self = {{i, 0, 0}, at, {block, 1, 1}, grid};
    run_block(block);
  }
  memory().check_strips();
}

void submit(void* stream, std::function<void()> call) {
  const std::lock_guard lock(streams_mutex);
  Stream& s = stream_at(stream);
  if (s.capture) return s.capture->calls.push_back(std::move(call));
  s.queue.push_back(std::move(call));
  ++s.given;
  if (!s.late) s.work(s.given);
}

}  // namespace wengert::emulation

using namespace wengert::emulation;

cudaError_t cudaGetDeviceCount(int* count) {
  *count = static_cast<int>(setting("WENGERT_EMULATION_DEVICES", 1));
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* p, int) {
  const int capability = static_cast<int>(setting("WENGERT_EMULATION_CAPABILITY", 0));
  *p = {"emulated on the CPU", capability / 10, capability % 10, 2, sizeof shared_block};
  return cudaSuccess;
}
cudaError_t cudaMalloc(void** block, size_t bytes) {
  if (forbidden()) return cudaErrorStreamCaptureUnsupported;
  const std::lock_guard lock(one_kernel);
  *block = memory().take(bytes);
  return *block ? cudaSuccess : cudaErrorMemoryAllocation;
}
cudaError_t cudaFree(void* block) {
  if (forbidden()) return cudaErrorStreamCaptureUnsupported;
  wait_for_all();
  const std::lock_guard lock(one_kernel);
  memory().give(block);
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  *total = memory().size;
  *free = memory().size - memory().used;
  return cudaSuccess;
}
cudaError_t cudaHostAlloc(void** block, size_t bytes, unsigned) {
  *block = std::malloc(bytes ? bytes : 1);
  pinned()[*block] = bytes;
  return *block ? cudaSuccess : cudaErrorMemoryAllocation;
}
cudaError_t cudaFreeHost(void* block) {
  wait_for_all();
  pinned().erase(block);
  std::free(block);
  return cudaSuccess;
}
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* p) {
  const auto at = pinned().upper_bound(p);
  attributes->type = 0;
  if (at != pinned().begin() &&
      static_cast<const char*>(p) <
          static_cast<const char*>(std::prev(at)->first) + std::prev(at)->second)
    attributes->type = cudaMemoryTypeHost;
  return cudaSuccess;
}
// Ordinary memory of the host is read before the call returns, and written before it does.
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  cudaPointerAttributes at{};
  cudaPointerGetAttributes(&at, kind == cudaMemcpyHostToDevice ? from : to);
  const bool now = at.type != cudaMemoryTypeHost;
  std::vector<char> read;
  if (now && kind == cudaMemcpyHostToDevice)
    read.assign(static_cast<const char*>(from), static_cast<const char*>(from) + bytes);
  submit(stream, [=, read = std::move(read)] {
    const OpenMemory open;
    std::memcpy(to, read.empty() ? from : read.data(), bytes);
  });
  if (now && kind == cudaMemcpyDeviceToHost) cudaStreamSynchronize(stream);
  return last_error;
}
cudaError_t cudaMemsetAsync(void* to, int byte, size_t bytes, cudaStream_t stream) {
  submit(stream, [=] {
    const OpenMemory open;
    std::memset(to, byte, bytes);
  });
  return last_error;
}
cudaError_t cudaMemcpyPeerAsync(void* to, int, const void* from, int, size_t bytes,
                                cudaStream_t s) {
  return cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, s);
}
cudaError_t cudaLibraryLoadData(cudaLibrary_t* library, const void* code, void*, void*, unsigned,
                                void*, void*, unsigned) {
  Dl_info here;  // the code needs self() of this library, which was loaded for its own use only
  if (dladdr(reinterpret_cast<const void*>(&self), &here))
    dlopen(here.dli_fname, RTLD_NOW | RTLD_NOLOAD | RTLD_GLOBAL);
  const auto* head = static_cast<const Elf64_Ehdr*>(code);
  const size_t bytes = head->e_shoff + size_t{head->e_shnum} * head->e_shentsize;
  const int file = memfd_create("kernel", 0);
  const bool written = write(file, code, bytes) == static_cast<ssize_t>(bytes);
  char name[32];
  std::snprintf(name, sizeof name, "/proc/self/fd/%d", file);
  *library = written ? dlopen(name, RTLD_NOW) : nullptr;
  // Not closed: the next one would have the same name, and dlopen() take it for this one.
  return *library ? cudaSuccess : cudaErrorLaunchFailure;
}
cudaError_t cudaLibraryGetKernel(cudaKernel_t* kernel, cudaLibrary_t library, const char* name) {
  *kernel = dlsym(library, name);
  return *kernel ? cudaSuccess : cudaErrorLaunchFailure;
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* s, unsigned) {
  const std::lock_guard lock(streams_mutex);
  // The first of each GPU, which are made before others can be, is as the default one.
  int devices = 0;
  cudaGetDeviceCount(&devices);
  const bool first = static_cast<int>(streams().size()) <= devices;
  streams().push_back(new Stream{streams()[0]->late == first});
  *s = streams().back();
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t s) {
  const std::lock_guard lock(streams_mutex);
  stream_at(s).work(stream_at(s).given);
  std::erase(streams(), s);
  delete static_cast<Stream*>(s);
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t handle) {
  const std::lock_guard lock(streams_mutex);
  Stream& s = stream_at(handle);
  if (s.capture) return s.invalid = true, cudaErrorStreamCaptureUnsupported;
  s.work(s.given);
  return last_error;
}
namespace {
// A query that finds nothing done yet lets something be done: whoever asks again and again gets on.
cudaError_t query(Stream& s, uint64_t until) {
  if (s.done >= until || last_error) return last_error;
  s.work(s.done + 1);
  return last_error = cudaErrorNotReady;
}
}  // namespace
cudaError_t cudaStreamQuery(cudaStream_t s) {
  const std::lock_guard lock(streams_mutex);
  return query(stream_at(s), stream_at(s).given);
}
cudaError_t cudaStreamBeginCapture(cudaStream_t s, cudaStreamCaptureMode) {
  captured = static_cast<Stream*>(s);
  captured->capture = new EmulatedGraph;
  captured->invalid = false;
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t* graph) {
  auto* stream = static_cast<Stream*>(s);
  captured = nullptr;
  *graph = std::exchange(stream->capture, nullptr);
  if (!stream->invalid) return cudaSuccess;
  delete std::exchange(*graph, nullptr);
  return cudaErrorStreamCaptureInvalidated;
}
cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode) {
  std::swap(*mode, capture_mode);
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long) {
  return *exec = new EmulatedGraph(*graph), cudaSuccess;
}
cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t*, size_t* count) {
  return *count = graph->calls.size(), cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t s) {
  for (const auto& call : exec->calls) submit(s, call);
  return last_error;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) { return delete graph, cudaSuccess; }
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) { return delete exec, cudaSuccess; }

// ---- events ----

struct EmulatedEvent {
  Stream* stream = streams()[0];
  uint64_t at = 0;  // how many of its calls come before
  std::shared_ptr<double> seconds = std::make_shared<double>(0);
};
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* e, unsigned) {
  return *e = new EmulatedEvent, cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t e) { return delete e, cudaSuccess; }
cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s) {
  const std::lock_guard lock(streams_mutex);
  e->seconds = std::make_shared<double>(0);
  submit(s, [to = e->seconds] {
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC, &now);
    *to = static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
  });
  e->stream = &stream_at(s);
  e->at = e->stream->given;
  return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t e) {
  const std::lock_guard lock(streams_mutex);
  e->stream->work(e->at);
  return last_error;
}
cudaError_t cudaEventQuery(cudaEvent_t e) {
  const std::lock_guard lock(streams_mutex);
  return query(*e->stream, e->at);
}
cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned) {
  submit(s, [of = e->stream, at = e->at] { of->work(at); });
  return cudaSuccess;
}
cudaError_t cudaEventElapsedTime(float* ms, cudaEvent_t from, cudaEvent_t to) {
  return *ms = static_cast<float>((*to->seconds - *from->seconds) * 1e3), cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int* version) {
  *version = static_cast<int>(setting("WENGERT_EMULATION_DRIVER", 13000));
  return cudaSuccess;
}
cudaError_t cudaGetLastError() {
  const cudaError_t e = last_error;
  if (e != cudaErrorLaunchFailure) last_error = cudaSuccess;  // that one stays
  return e;
}
const char* cudaGetErrorString(cudaError_t e) {
  switch (e) {
    case cudaSuccess:
      return "no error";
    case cudaErrorNotReady:
      return "device not ready";
    case cudaErrorInvalidValue:
      return "invalid argument";
    case cudaErrorStreamCaptureUnsupported:
    case cudaErrorStreamCaptureInvalidated:
      return "operation not permitted when stream is capturing";
    case cudaErrorMemoryAllocation:
      return "out of memory";
    case cudaErrorInvalidConfiguration:
      return "invalid configuration argument";
    case cudaErrorLaunchOutOfResources:
      return "too many resources requested for launch";
    case cudaErrorUnsupportedPtxVersion:
      return "the provided PTX was compiled with an unsupported toolchain.";
    case cudaErrorNoKernelImageForDevice:
      return "no kernel image is available for execution on the device";
    default:
      return "unspecified launch failure";
  }
}
