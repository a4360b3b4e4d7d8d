// What the machine can do at most: multiply-adds that wait for nothing, and copies, plain and past
// the cache. Compiled when it is measured, with -O3 -march=native. Threads are created in each
// call: a call should last milliseconds.
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <thread>
#include <vector>

#if defined(__AVX512F__)
constexpr int Bytes = 64;
#elif defined(__AVX__)
constexpr int Bytes = 32;
#else
constexpr int Bytes = 16;
#endif

template <class F> static void on_threads(int count, F f) {
  std::vector<std::thread> others;
  for (int i = 1; i < count; ++i) others.emplace_back(f, i);
  f(0);
  for (auto& t : others) t.join();
}

// Independent chains of multiply-adds, each in a register of its own (a nest of structs, for the
// compiler does not keep an array in registers). Twelve are more than latency times width of
// current cores, and fit in 16 registers.
constexpr int Chains = 12;
template <class T, int N> struct Sums {
  typedef T Vector __attribute__((vector_size(Bytes)));
  Vector first;
  Sums<T, N - 1> rest;
  void start(Vector x) {
    first = x;
    rest.start(x + x);
  }
  void step(Vector a, Vector b) {
    first = first * a + b;
#if defined(__x86_64__)
    asm volatile("" : "+v"(first));  // each round happens
#else
    asm volatile("" : "+w"(first));
#endif
    rest.step(a, b);
  }
  T total() const { return first[0] + rest.total(); }
};
template <class T> struct Sums<T, 0> {
  template <class V> void start(V) {}
  template <class V> void step(V, V) {}
  T total() const { return 0; }
};

template <class T> static double chains(long rounds) {
  typename Sums<T, 1>::Vector a, b;
  for (size_t i = 0; i < Bytes / sizeof(T); ++i) a[i] = T(0.999), b[i] = T(0.001);
  Sums<T, Chains> sums;
  sums.start(b);
  for (long r = 0; r < rounds; ++r) sums.step(a, b);
  return double(sums.total());
}

template <class T> static double fma(long rounds, int threads) {
  std::atomic<double> sink{0};
  on_threads(threads, [&](int) { sink = chains<T>(rounds); });
  return double(rounds) * Chains * (Bytes / sizeof(T)) * 2 * threads;
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
