// Attention: what is done to a block of scores, row by row. A block is `rows` queries by `cols`
// keys, rows `row` elements apart; its scores are scale * s plus the mask, or -inf where masked.
#pragma once

#include <cstdint>

#include "base/isa.h"

namespace wengert {

constexpr int64_t query_block = 128, key_block = 256;  // rows and columns of a block, at most

struct ScoreMask {
  const void* data = nullptr;  // null: none. Of the block's first score
  bool additive = false;       // T, added; else bool, true where a key is looked at
  int64_t row = 0, col = 0;    // strides, in elements
  bool causal = false;         // query i looks at keys up to `first` + i of the block
  int64_t first = 0;
};

template <class T> struct AttentionKernel {
  // s becomes exp(score - m), where m is the largest score of the row so far: m and the sum l of
  // all exponentials so far are updated, and `factor` is what earlier ones must be scaled by.
  void (*exponentials)(int64_t rows, int64_t cols, T* s, int64_t row, double scale,
                       const ScoreMask& mask, T* m, double* l, T* factor);
  // y[r] = y[r] * factor[r] + add[r]
  void (*rescale_add)(int64_t rows, int64_t n, T* y, int64_t y_row, const T* factor, const T* add);
  // y[r] /= l[r], zero where l is; lse[r] = m[r] + log(l[r]), +inf where l is zero.
  void (*finish)(int64_t rows, int64_t n, T* y, int64_t y_row, const T* m, const double* l, T* lse,
                 int64_t lse_stride);
  // s becomes the weights exp(score - lse).
  void (*weights)(int64_t rows, int64_t cols, T* s, int64_t row, double scale,
                  const ScoreMask& mask, const T* lse, int64_t lse_stride);
  // delta[r] = sum(g[r] * y[r])
  void (*dots)(int64_t rows, int64_t n, const T* g, int64_t g_row, const T* y, int64_t y_row,
               T* delta);
  // dp = p * (dp - delta) * scale: the gradient of the products of queries and keys.
  void (*scores_vjp)(int64_t rows, int64_t cols, T* dp, const T* p, const T* delta, double scale);
};
struct AttentionKernels {
  AttentionKernel<float> f32;
  AttentionKernel<double> f64;
};
WENGERT_DECLARE_KERNELS(AttentionKernels, attention_kernels)

}  // namespace wengert
