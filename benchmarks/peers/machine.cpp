// What the machine can do at most: multiply-adds that wait for nothing, and copies, plain and past the cache.
// Compiled when it is measured, with -O3 -march=native. Threads are made anew in each call: a call should last
// milliseconds.
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <thread>
#include <vector>

#if defined(__AVX512F__)
constexpr int Bytes = 64, Registers = 24;
#elif defined(__AVX__)
constexpr int Bytes = 32, Registers = 12;
#else
constexpr int Bytes = 16, Registers = 12;
#endif

template <class F> static void on_threads(int count, F f) {
  std::vector<std::thread> others;
  for (int i = 1; i < count; ++i) others.emplace_back(f, i);
  f(0);
  for (auto& t : others) t.join();
}

// Registers independent chains of multiply-adds; more than latency times width of any current core.
template <class T> static double chains(long rounds) {
  typedef T Vector __attribute__((vector_size(Bytes)));
  Vector sums[Registers], a, b;
  for (size_t i = 0; i < Bytes / sizeof(T); ++i) a[i] = T(0.999), b[i] = T(0.001);
  for (auto& s : sums) s = b;
  for (long r = 0; r < rounds; ++r) {
#pragma GCC unroll 24
    for (int i = 0; i < Registers; ++i) {
      sums[i] = sums[i] * a + b;
#if defined(__x86_64__)
      asm volatile("" : "+v"(sums[i]));  // each stays a register, and each round happens
#endif
    }
  }
  double total = 0;
  for (auto& s : sums) total += double(s[0]);
  return total;
}

template <class T> static double fma(long rounds, int threads) {
  std::atomic<double> sink{0};
  on_threads(threads, [&](int) { sink = chains<T>(rounds); });
  return double(rounds) * Registers * (Bytes / sizeof(T)) * 2 * threads;
}

static void stream(float* to, const float* from, size_t n) {
  typedef float Vector __attribute__((vector_size(Bytes)));
  size_t i = 0;
#if defined(__AVX512F__) || defined(__AVX__) || defined(__SSE__)
  constexpr size_t Width = Bytes / sizeof(float);
  for (; i < n && reinterpret_cast<uintptr_t>(to + i) % Bytes; ++i) to[i] = from[i];
  for (; i + Width <= n; i += Width) {
    Vector v;
    std::memcpy(&v, from + i, Bytes);
#if defined(__AVX512F__)
    __builtin_ia32_movntps512(to + i, v);
#elif defined(__AVX__)
    __builtin_ia32_movntps256(to + i, v);
#else
    __builtin_ia32_movntps(to + i, v);
#endif
  }
  __builtin_ia32_sfence();
#endif
  for (; i < n; ++i) to[i] = from[i];
}

static void copy_part(float* to, const float* from, size_t n, int past_cache) {
  if (past_cache)
    stream(to, from, n);
  else
    std::memcpy(to, from, n * sizeof(float));
}

extern "C" {

double fma_float(long rounds, int threads) { return fma<float>(rounds, threads); }
double fma_double(long rounds, int threads) { return fma<double>(rounds, threads); }

// Each thread copies its part `times` over; small arrays are one thread's.
void copy(float* to, const float* from, size_t n, long times, int threads, int past_cache) {
  if (n < 100'000) threads = 1;
  on_threads(threads, [&](int i) {
    const size_t begin = n * size_t(i) / size_t(threads), end = n * size_t(i + 1) / size_t(threads);
    for (long t = 0; t < times; ++t) {
      copy_part(to + begin, from + begin, end - begin, past_cache);
      asm volatile("" ::: "memory");
    }
  });
}
}
