// Matrix product: c[m, n] = sum over k of a[m, k] * b[k, n], for any strides of a and b.
#pragma once

#include <cstdint>

#include "base/isa.h"

namespace wengert {

// Strides count elements, may be zero or negative; c does not overlap a or b and is overwritten.
struct Gemm {
  int64_t m, n, k;
  const void* a;
  int64_t a_row, a_col;
  const void* b;
  int64_t b_row, b_col;
  void* c;
  int64_t c_row;  // c's columns are adjacent
};

struct MatmulKernels {
  void (*f32)(const Gemm&);
  void (*f64)(const Gemm&);
  void (*i32)(const Gemm&);
  void (*i64)(const Gemm&);
};
WENGERT_DECLARE_KERNELS(MatmulKernels, matmul_kernels)

struct Op;
extern const Op& matmul_op;  // of matrices and stacks of them

}  // namespace wengert
