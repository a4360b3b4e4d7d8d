// The thread pool. `parallel_for(chunks, body)` runs body(0) ... body(chunks - 1), in any order, on
// up to num_threads() threads, and returns when all are done.
//
// Rules that callers keep:
// - The number and the size of chunks depend on the problem, never on the number of threads: so
//   results have the same bits for any number of threads.
// - A body touches no Python. What it throws ends the job, and is thrown to the caller.
// - A chunk takes a few milliseconds at most, or calls poll_interrupt() as often.
// With more than one chunk the caller's thread releases Python's lock meanwhile (through Host), and
// looks for Ctrl-C every 50 ms; `parallel_for` then throws Interrupted once running chunks have
// ended. A loop whose steps depend on each other is a `serial_for`.
#pragma once

#include <cstdint>

namespace wengert {

int num_threads();
void set_num_threads(int n);  // at least 1; takes effect at the next parallel_for

// What the pool needs of the program around it. The bindings fill it in; without them nothing
// happens.
struct Host {
  void* (*release)() = nullptr;            // releases the interpreter's lock; returns a token
  void (*acquire)(void* token) = nullptr;  // take it again
  bool (*interrupted)() = nullptr;         // is there a signal to answer? called without the lock
};
extern Host host;

void parallel_for(int64_t chunks, void (*body)(const void* context, int64_t chunk),
                  const void* context);

template <class Body> void parallel_for(int64_t chunks, const Body& body) {
  if (chunks == 1) return body(0);
  parallel_for(
      chunks,
      [](const void* context, int64_t chunk) { (*static_cast<const Body*>(context))(chunk); },
      &body);
}

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Releases the interpreter's lock for a scope, if this thread holds it.
class WithoutHostLock {
 public:
  WithoutHostLock() : token_(host.release ? host.release() : nullptr) {}
  ~WithoutHostLock() {
    if (token_) host.acquire(token_);
  }
  WithoutHostLock(const WithoutHostLock&) = delete;

 private:
  void* token_;
};

// For a scope that must run to its end: this thread looks for Ctrl-C after it.
class WithoutInterrupts {
 public:
  WithoutInterrupts();
  ~WithoutInterrupts();
  WithoutInterrupts(const WithoutInterrupts&) = delete;

 private:
  bool before_;
};

// For long loops, outside parallel_for or in one of its chunks: looks for Ctrl-C if 50 ms have
// passed, and throws Interrupted; in a job that has ended early, throws at once.
void poll_interrupt();

// body(first, end) for pieces of 0 to n - 1, in order, on the caller's thread, which releases
// Python's lock and looks for Ctrl-C, if there is more than one piece. A body touches no Python.
template <class Body> void serial_for(int64_t n, int64_t piece, const Body& body) {
  if (n <= piece) return n > 0 ? body(int64_t{0}, n) : void();
  const WithoutHostLock unlocked;
  for (int64_t first = 0; first < n; first += piece) {
    body(first, n - first < piece ? n : first + piece);
    poll_interrupt();
  }
}

}  // namespace wengert
