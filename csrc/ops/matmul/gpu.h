// Matrix products on a GPU.
#pragma once

#include "graph/op.h"
#include "ops/matmul/epilogue.h"
#include "ops/matmul/matmul.h"

namespace wengert {

// Operands that an epilogue has written as bf16 slices already, whose rows lie along k; null: not.
struct KeptSlices {
  const uint16_t *a = nullptr, *b = nullptr;
};
struct MatmulGpuAttrs {  // in place of the op's
  MatmulPrecision precision;
  KeptSlices kept = {};
  const CudaEpilogue* epilogue = nullptr;  // float32; only what it stores is written
};

struct MatmulGpu {
  // y = a @ b for stacks of matrices of any strides, y contiguous.
  OpKernel matmul;
  // The number of bf16 slices that it splits its operands into; 0: none.
  int (*slices)(const View& y, const View& a, const View& b, MatmulPrecision precision);
  // Which instructions serve precisions other than strict: "wgmma", "mma", or null: none does.
  const char* (*units)(Device d);
};

// For both .cu files. float32, on tensor cores.
int matmul_slices(const View& y, const View& a, const View& b, MatmulPrecision precision);
const char* matmul_units(Device d);
void multiply_slices(const View& y, const View& a, const View& b, int slices,
                     const KeptSlices& kept, const CudaEpilogue* epilogue);
// y = the sum of what slabs of k gave, each of y's size; or what the epilogue does with it.
void add_slabs(const View& y, int64_t slabs, const float* partial, const CudaEpilogue& e);

}  // namespace wengert
