// One job at a time: a job is a counter for each thread, from which it draws the numbers of its own
// run of chunks, and then those of the others'. So, job after job, a thread meets the same parts of
// the same data, which are still in its core's caches.
// Workers spin for a moment between jobs (a training step is many short jobs) and then sleep.
#include "base/pool.h"

#include <pthread.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <new>
#include <thread>
#include <utility>

#include "base/error.h"
#include "base/scratch.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace wengert {

Host host;

namespace {

using Clock = std::chrono::steady_clock;
constexpr auto poll_interval = std::chrono::milliseconds(50);
constexpr int spins_before_sleep = 4000;  // about 50 us
constexpr int max_threads = 256;

struct Job {
  void (*body)(const void*, int64_t) = nullptr;
  const void* context = nullptr;
  int64_t chunks = 0;
};

struct Pool {
  std::mutex use;  // held by the caller whose job runs; others run their chunks alone meanwhile
  std::mutex sleep;
  std::condition_variable wake;
  int workers = 0;
  Job job;
  struct alignas(64) Share {  // the chunks that one thread begins with
    std::atomic<int64_t> next{0};
    int64_t end = 0;
  };
  Share shares[max_threads];
  int threads = 0;                      // that have a share in this job
  std::atomic<int> wanted{0};           // workers that may take part in this job
  std::atomic<int> busy{0};             // workers inside the job
  std::atomic<uint64_t> generation{0};  // number of jobs begun
  std::atomic<bool> cancelled{false};
  std::exception_ptr error;  // the first that a body threw; guarded by `sleep`
};

// The pool is never destroyed: workers may outlive static destructors. After fork the child, which
// has only the forking thread, starts with a new one.
Pool* pool = new Pool;
std::atomic<int> threads_wanted{0};
thread_local bool inside_job = false;
thread_local bool interrupts_held = false;

void pause_briefly() {
#if defined(__x86_64__)
  _mm_pause();
#endif
}

void run_chunk(Pool& p, const Job& job, int64_t chunk) {
  try {
    job.body(job.context, chunk);
  } catch (...) {
    std::lock_guard lock(p.sleep);
    if (!p.error) p.error = std::current_exception();
    p.cancelled.store(true, std::memory_order_relaxed);
  }
}

// Draws chunks, from share `first` on; `after` is called behind each.
template <class After> void work(Pool& p, const Job& job, int first, const After& after) {
  for (int i = 0; i < p.threads; ++i) {
    Pool::Share& share = p.shares[(first + i) % p.threads];
    for (int64_t at; (at = share.next.fetch_add(1, std::memory_order_relaxed)) < share.end;) {
      if (p.cancelled.load(std::memory_order_relaxed)) return;
      run_chunk(p, job, at);
      after();
    }
  }
}

void worker_main(Pool* p, int number) {
  inside_job = true;
  uint64_t seen = 0;
  for (;;) {
    int spins = 0;
    while (p->generation.load(std::memory_order_acquire) == seen) {
      if (++spins < spins_before_sleep) {
        pause_briefly();
      } else {
        std::unique_lock lock(p->sleep);
        p->wake.wait(lock, [&] { return p->generation.load(std::memory_order_acquire) != seen; });
      }
    }
    seen = p->generation.load(std::memory_order_acquire);
    // Enter before looking at `wanted`: the caller closes the job by setting it to zero and then
    // waits until no worker is busy, so a late worker either sees zero or is waited for.
    p->busy.fetch_add(1, std::memory_order_seq_cst);
    if (p->wanted.fetch_sub(1, std::memory_order_seq_cst) > 0)
      work(*p, p->job, number % p->threads, [] {});
    p->busy.fetch_sub(1, std::memory_order_seq_cst);
  }
}

void ensure_workers(int n) {
  for (; pool->workers < n; ++pool->workers) {
    try {
      std::thread(worker_main, pool, pool->workers + 1).detach();
    } catch (const std::system_error&) {
      return;  // fewer threads, same results
    }
  }
}

[[maybe_unused]] const int fork_handler = [] {
  // No lock is taken before the fork: whatever state the old pool is in, the child leaves it
  // behind.
  return pthread_atfork(nullptr, nullptr, [] {
    pool = new Pool;
    inside_job = false;
  });
}();

// Only the thread that began a job looks for signals. The time of its last look outlives the job: a
// kernel may be many short ones.
bool signalled() {
  thread_local Clock::time_point last = Clock::now();
  if (interrupts_held) return false;
  const auto now = Clock::now();
  if (now - last < poll_interval) return false;
  last = now;
  if (!host.interrupted) return false;
  const OtherScratch scratch;  // a handler may call kernels
  return host.interrupted();
}

// Returns whether a signal came.
bool run_alone(int64_t chunks, void (*body)(const void*, int64_t), const void* context) {
  for (int64_t i = 0; i < chunks; ++i) {
    body(context, i);
    if (signalled()) return true;
  }
  return false;
}

// Returns whether a signal came; throws what a body threw.
bool run_shared(Pool& p, const Job& job, int helpers) {
  p.job = job;
  p.cancelled.store(false, std::memory_order_relaxed);
  p.threads = helpers + 1;
  for (int i = 0; i < p.threads; ++i) {
    p.shares[i].next.store(job.chunks * i / p.threads, std::memory_order_relaxed);
    p.shares[i].end = job.chunks * (i + 1) / p.threads;
  }
  p.wanted.store(helpers, std::memory_order_seq_cst);
  {
    std::lock_guard lock(p.sleep);
    p.generation.fetch_add(1, std::memory_order_seq_cst);
  }
  p.wake.notify_all();

  bool found = false;
  const auto poll = [&] {
    if (!found && signalled()) p.cancelled.store(found = true, std::memory_order_relaxed);
  };
  work(p, job, 0, poll);
  p.wanted.store(0, std::memory_order_seq_cst);
  for (int spins = 0; p.busy.load(std::memory_order_seq_cst) > 0; ++spins) {
    pause_briefly();
    if (spins >= spins_before_sleep) std::this_thread::yield();  // a worker may wait for this core
    poll();
  }
  if (p.error) std::rethrow_exception(std::exchange(p.error, nullptr));
  return found;
}

}  // namespace

int num_threads() {
  int n = threads_wanted.load(std::memory_order_relaxed);
  if (n == 0) {
    const char* text = std::getenv("WENGERT_THREADS");
    n = text ? std::atoi(text) : static_cast<int>(std::thread::hardware_concurrency());
    n = n < 1 ? 1 : n > max_threads ? max_threads : n;
    threads_wanted.store(n, std::memory_order_relaxed);
  }
  return n;
}

void set_num_threads(int n) {
  if (n < 1 || n > max_threads)
    fail<ValueError>("set_num_threads: got ", n, "; expected 1 to ", max_threads);
  threads_wanted.store(n, std::memory_order_relaxed);
}

void parallel_for(int64_t chunks, void (*body)(const void*, int64_t), const void* context) {
  if (chunks <= 0) return;
  if (chunks == 1) return body(context, 0);
  if (inside_job) {
    for (int64_t i = 0; i < chunks; ++i) {
      body(context, i);
      poll_interrupt();
    }
    return;
  }
  bool found;  // a signal
  {
    WithoutHostLock unlocked;
    Pool& p = *pool;
    const int helpers = static_cast<int>(chunks < num_threads() ? chunks : num_threads()) - 1;
    if (helpers > 0 && p.use.try_lock()) {
      std::lock_guard lock(p.use, std::adopt_lock);
      struct Inside {
        Inside() { inside_job = true; }
        ~Inside() { inside_job = false; }
      } inside;
      ensure_workers(helpers);
      found = run_shared(p, {body, context, chunks}, helpers < p.workers ? helpers : p.workers);
    } else {
      found = run_alone(chunks, body, context);
    }
  }
  if (found) throw Interrupted();
}

WithoutInterrupts::WithoutInterrupts() : before_(std::exchange(interrupts_held, true)) {}
WithoutInterrupts::~WithoutInterrupts() { interrupts_held = before_; }

void poll_interrupt() {
  if (inside_job && pool->cancelled.load(std::memory_order_relaxed)) throw Interrupted();
  if (signalled()) throw Interrupted();
}

}  // namespace wengert
