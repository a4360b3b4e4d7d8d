// GFLOP/s of float32 matmul for given shapes and given choices of blocking, on one AVX-512 machine:
//
//   g++ -O3 -std=c++20 -fwrapv -ffp-contract=off -fno-math-errno -fno-trapping-math -Icsrc -mfma
//       -mavx512f -mavx512bw -mavx512dq -mavx512vl -mprefer-vector-width=512
//       benchmarks/blocking.cpp csrc/base/scratch.cpp csrc/base/{pool,isa,allocator}.cpp
//       -lpthread -o blocking
//   ./blocking THREADS [NAME=VALUE ...] MxKxN ...
//
// NAME is one of the WENGERT_TUNABLE constants of csrc/ops/matmul/gemm.simd.cpp. A line per shape:
// a @ b, a @ b.T, a.T @ b, a.T @ b.T, best of the repeats. results/ has what was measured.
#define WENGERT_TUNABLE static
#define WENGERT_ISA avx512
#include "ops/matmul/gemm.simd.cpp"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <vector>

using namespace wengert;

static double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

static double rate(int64_t m, int64_t k, int64_t n, bool a_transposed, bool b_transposed) {
  std::vector<float> a(m * k + 16, 0.5f), b(k * n + 16, 0.25f), c(m * n + 16);
  const auto aligned = [](std::vector<float>& x) {
    return reinterpret_cast<float*>((reinterpret_cast<uintptr_t>(x.data()) + 63) / 64 * 64);
  };
  Gemm g{};
  g.m = m, g.n = n, g.k = k, g.c_row = n;
  g.a = aligned(a), g.b = aligned(b), g.c = aligned(c);
  g.a_row = a_transposed ? 1 : k, g.a_col = a_transposed ? m : 1;
  g.b_row = b_transposed ? 1 : n, g.b_col = b_transposed ? k : 1;
  const auto multiply = avx512::matmul_kernels.f32;
  multiply(g);
  double began = now();
  multiply(g);
  const int calls = 1 + static_cast<int>(0.002 / (now() - began));
  double best = 1e9;
  for (int repeat = 0; repeat < 7; ++repeat) {
    began = now();
    for (int i = 0; i < calls; ++i) multiply(g);
    const double time = (now() - began) / calls;
    if (time < best) best = time;
  }
  return 2.0 * static_cast<double>(m * n * k) / best / 1e9;
}

int main(int argc, char** argv) {
  struct {
    const char* name;
    int64_t* value;
  } const choices[] = {
      {"direct_rows", &avx512::direct_rows},     {"direct_bytes", &avx512::direct_bytes},
      {"unpacked_cols", &avx512::unpacked_cols}, {"aliased_cols", &avx512::aliased_cols},
      {"tall_elements", &avx512::tall_elements}, {"side_limit", &avx512::side_limit},
      {"chunks_wanted", &avx512::chunks_wanted}, {"chunk_work", &avx512::chunk_work},
      {"shared_rows", &avx512::shared_rows},     {"shared_work", &avx512::shared_work},
      {"shared_chunks", &avx512::shared_chunks}};
  set_num_threads(argc > 1 ? std::atoi(argv[1]) : 1);
  for (int i = 2; i < argc; ++i) {
    long m, k, n;
    if (std::sscanf(argv[i], "%ldx%ldx%ld", &m, &k, &n) == 3) {
      std::printf("%5ld %5ld %5ld ", m, k, n);
      for (int way = 0; way < 4; ++way) std::printf(" %8.1f", rate(m, k, n, way & 2, way & 1));
      std::printf("\n");
      std::fflush(stdout);
      continue;
    }
    const char* sign = std::strchr(argv[i], '=');
    bool known = false;
    for (const auto& [name, value] : choices)
      if (sign && std::string_view(argv[i], sign) == name)
        *value = std::atol(sign + 1), known = true;
    if (!known) return std::fprintf(stderr, "unknown: %s\n", argv[i]), 1;
  }
}
