// Matrix products of float32 and bfloat16 on the tiles of Intel's servers (AMX), which multiply
// bfloat16 at 8 to 16 times the rate of float32: a float32 is the sum of up to three bfloat16
// slices, and a product of two is that of their slices.
#pragma once

#include "ops/matmul/matmul.h"

namespace wengert {

// Tiles and AVX512-BF16 take numbers below 2^-126 for 0. It is never felt where all operands, but
// for zeros, and all products of two are at least:
constexpr float safe_operand = 0x1p-110f, safe_product = 0x1p-100f;

// c = a @ b in float32; a and b are float32, or bfloat16. `plain`
// makes what tiles cannot: sums that are not finite, or for which operands are too small.
struct TileGemm {
  const Gemm& g;
  int slices;  // 1, 2 or 3: with 1, 3 or 6 products
  bool bfloat16;
  GemmKernel plain;
};
struct TileKernels {
  bool (*multiply)(const TileGemm&);  // false: there was no memory to work in
  // Of bfloat16, where c was made by other instructions that take small numbers for 0: sets what is
  // doubtful to NaN. False if there is any, or no memory.
  bool (*check)(const Gemm&);
};
// avx512's has the instructions; the others have plain C++ in their place, and the same bits.
WENGERT_DECLARE_KERNELS(TileKernels, tile_kernels)

void plain_bfloat16(const Gemm& g);  // of bfloat16 a and b, by copies in float32

// Whether products may use tiles: "ready", or why not. The first call asks the system.
const char* tile_status();
// The kernel for a product on tiles; null where there are none, or nothing to gain.
GemmKernel tile_kernel(const Gemm& g, DType dtype, MatmulPrecision precision);

// For tests: tiles where something is gained; wherever there are any; or their twin in plain C++.
enum class TileUse : uint8_t { gain, always, twin, never };
void set_tile_use(TileUse use);

}  // namespace wengert
