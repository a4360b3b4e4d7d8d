#include "ops/matmul/amx.h"

#include <atomic>
#include <cstdlib>

#include "tensor/copy.h"

#if defined(__x86_64__) && defined(__linux__) && !defined(WENGERT_BASELINE)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace wengert {

namespace {

std::atomic<TileUse> tile_use{TileUse::gain};

const char* find_tiles() {
#if defined(__x86_64__) && defined(__linux__) && !defined(WENGERT_BASELINE)
  unsigned a = 0, b = 0, c = 0, d = 0;
  constexpr unsigned tiles = 1u << 24, of_bfloat16 = 1u << 22;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(d & tiles) || !(d & of_bfloat16))
    return "this processor has none";
  if (current_isa() != Isa::avx512 || std::getenv("WENGERT_ISA")) return "WENGERT_ISA forbids them";
  // Linux keeps room for a thread's tiles, 8 KiB, only in programs that ask. Children inherit it.
  constexpr long request = 0x1023, tile_data = 18;  // ARCH_REQ_XCOMP_PERM, XTILEDATA
  if (syscall(SYS_arch_prctl, request, tile_data) != 0)
    return "the system does not permit them (Linux 5.16 or newer is needed)";
  return "ready";
#else
  return "this build has none";
#endif
}
bool has_tiles() { return tile_status()[0] == 'r'; }

// A copy in float32, whose rows are adjacent.
Tensor widened(const void* x, int64_t rows, int64_t cols, int64_t row, int64_t col) {
  Tensor y({rows, cols}, DType::float32);
  copy_into(y.view(), {const_cast<void*>(x), {rows, cols}, {row, col}, DType::bfloat16});
  return y;
}

}  // namespace

void plain_bfloat16(const Gemm& g) {
  const Tensor a = widened(g.a, g.m, g.k, g.a_row, g.a_col),
               b = widened(g.b, g.k, g.n, g.b_row, g.b_col);
  Gemm wide = g;
  wide.a = a.data(), wide.a_row = g.k, wide.a_col = 1;
  wide.b = b.data(), wide.b_row = g.n, wide.b_col = 1;
  gemm_kernel(DType::float32)(wide);
}

namespace {

const TileKernels& kernels() {
#if defined(__x86_64__) && !defined(WENGERT_BASELINE)
  if (tile_use != TileUse::twin) return avx512::tile_kernels;
#endif
  return baseline::tile_kernels;
}
template <int slices, bool bfloat16> void multiply_on_tiles(const Gemm& g) {
  static const GemmKernel plain = bfloat16 ? plain_bfloat16 : gemm_kernel(DType::float32);
  if (!kernels().multiply({g, slices, bfloat16, plain})) plain(g);
}

}  // namespace

const char* tile_status() {
  static const char* const status = find_tiles();
  return status;
}
void set_tile_use(TileUse use) { tile_use = use; }

GemmKernel tile_kernel(const Gemm& g, DType dtype, MatmulPrecision precision) {
  const bool half = dtype == DType::bfloat16;
  if (!half && (dtype != DType::float32 || precision == MatmulPrecision::strict)) return nullptr;
  const int slices = half || precision == MatmulPrecision::bf16 ? 1
                     : precision == MatmulPrecision::fast       ? 2
                                                                : 3;
  const TileUse use = tile_use;
  // Longer sums, of which gemm.simd.cpp makes some in float64, would be less exact than strict.
  const int64_t most = slices == 3 ? 1 << 14 : 1 << 20;
  if (use == TileUse::never || g.m < 1 || g.n < 1 || g.k < 1 || g.k > most) return nullptr;
  // Splitting a and b must cost little compared with the product: measured on a Xeon of 2023.
  const double m = static_cast<double>(g.m), n = static_cast<double>(g.n),
               k = static_cast<double>(g.k),
               least = slices == 3   ? 64
                       : slices == 2 ? 32
                                     : 24;
  if (use == TileUse::gain && (g.k < 64 || m * n * k < 1 << 21 || m * n < least * (m + n)))
    return nullptr;
  if (use != TileUse::twin && !has_tiles()) return nullptr;
  return half          ? multiply_on_tiles<1, true>
         : slices == 3 ? multiply_on_tiles<3, false>
         : slices == 2 ? multiply_on_tiles<2, false>
                       : multiply_on_tiles<1, false>;
}

}  // namespace wengert
