// Matrix product: c[m, n] = sum over k of a[m, k] * b[k, n], for any strides of a and b.
#pragma once

#include <cstdint>

#include "base/isa.h"
#include "tensor/view.h"

namespace wengert {

class Tensor;

// The axes before a matrix's two.
inline Dims batch_of(const Dims& dims) {
  Dims batch;
  for (int d = 0; d + 2 < dims.size(); ++d) batch.push_back(dims[d]);
  return batch;
}

// What is done with each finished block of the product by the thread that made it, while it is in
// cache. The blocks cover the output once, are some rows by up to 512 columns, and do not depend on
// the number of threads. A stack of products counts as one tall matrix.
struct Epilogue {
  struct Block {
    void* c;  // the block's first element, at (row, col) of the output
    int64_t c_row, rows, cols, row, col;
  };
  void (*apply)(const void* context, const Block& block) = nullptr;
  const void* context = nullptr;
  bool whole_rows = false;  // in blocks of a few whole rows, where makes_whole_rows()
};

// How float32 is multiplied: as it is, or as products of bfloat16 slices, on a GPU's tensor cores
// (ops/matmul/tensor_cores.cu) or a CPU's tiles (ops/matmul/amx.h): six give float32's accuracy,
// three nearly so, one bfloat16's.
enum class MatmulPrecision : uint8_t { strict, fp32, fast, bf16 };
// Of products written from now on, by any thread; their gradients' products have the same.
MatmulPrecision matmul_precision();
void set_matmul_precision(MatmulPrecision precision);

// y = a @ b: matrices or stacks of them, whose batch axes broadcast; y is contiguous.
void matmul_into(const View& y, const View& a, const View& b,
                 MatmulPrecision precision = MatmulPrecision::strict,
                 const Epilogue& epilogue = {});

// linear() of a matrix x as one line; for eager calls only.
Tensor one_line_linear(const Tensor& x, const Tensor& weight, const Tensor& bias);

// Strides count elements, may be zero or negative; c does not overlap a or b and is overwritten.
struct Gemm {
  int64_t m, n, k;
  const void* a;
  int64_t a_row, a_col;
  const void* b;
  int64_t b_row, b_col;
  void* c;
  int64_t c_row;  // c's columns are adjacent
  Epilogue epilogue = {};
  int64_t row = 0, col = 0;      // of c's first element in the whole output, for the epilogue
  const void* packed = nullptr;  // b as `pack_f32` or `pack_f64` wrote it
};

// y = a @ b of bfloat16, summed in float32 and rounded once (bfloat16.cpp).
void matmul_bfloat16(const View& y, const View& a, const View& b);

struct MatmulKernels {
  void (*f32)(const Gemm&);
  void (*f64)(const Gemm&);
  void (*i32)(const Gemm&);
  void (*i64)(const Gemm&);
  void (*pack_f32)(const Gemm&, void* to);
  void (*pack_f64)(const Gemm&, void* to);
  void (*round)(const Epilogue::Block& floats, bfloat16* to, int64_t width);  // to its place there
  // The bits of the smallest magnitude among bfloat16 that is not 0; infinity's if there is none.
  uint32_t (*smallest)(const uint16_t* x, int64_t n);
};
WENGERT_DECLARE_KERNELS(MatmulKernels, matmul_kernels)
#if defined(__x86_64__) && !defined(WENGERT_BASELINE)
// a and b hold pairs of bfloat16, of terms that follow each other, in each 32 bits; c is float32.
// n > 1. gemm.simd.cpp once more, for processors with AVX512-BF16.
namespace avx512bf16 {
extern void (*const multiply_pairs)(const Gemm&);
}
#endif

// What matmul() does for two matrices, in two parts: for those who do it again and again.
using GemmKernel = void (*)(const Gemm&);
GemmKernel gemm_kernel(DType dtype);  // null for bfloat16
void multiply(GemmKernel kernel, const View& y, const View& a, const View& b,
              const Epilogue& epilogue);
Gemm gemm_of(const View& y, const View& a, const View& b, const Epilogue& epilogue = {});
// The same, but all of a stack that has one b, as one tall matrix, where its rows follow each
// other.
Gemm whole_of(const View& y, const View& a, const View& b, const Epilogue& epilogue = {});

// Whether blocks of whole rows cost nothing: each needs all of b, unpacked, in the cache.
bool makes_whole_rows(const Gemm& g);

struct Op;
class Attrs;
extern const Op& matmul_op;                        // of matrices and stacks of them
MatmulPrecision precision_of(const Attrs& attrs);  // of its line

}  // namespace wengert
