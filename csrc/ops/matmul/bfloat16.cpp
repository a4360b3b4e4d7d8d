// matmul in bfloat16: products and sums in float32, each element of the result rounded once.
//
// With AVX512-BF16 the kernel takes pairs: 32 bits that hold two terms, 2t and 2t + 1, of a row of
// a or a column of b. To the rest of gemm.simd.cpp a pair is one element of a product half as
// long. Where two such terms lie side by side, as in a contiguous a or the transpose of contiguous
// weights, the memory is read as it is; else the pairs are put together in a copy.
// On tiles (amx.h) a and b are read as they are, if the product is large enough.
// Everywhere else, where that instruction is slower than float32's (base/isa.cpp), and for a matrix
// times a column, a and b are widened to float32 copies.
#include "base/pool.h"
#include "ops/functions.h"
#include "ops/matmul/amx.h"
#include "tensor/copy.h"

namespace wengert {

namespace {

constexpr int64_t chunk_elements = 1 << 15;

GemmKernel pairs_kernel() {
#if defined(__x86_64__) && !defined(WENGERT_BASELINE)
  if (has_bfloat16()) return avx512bf16::multiply_pairs;
#endif
  return nullptr;
}

// x with pairs of terms along axis k; the other one of the last two is `other`.
View pairs(const View& x, int k, int other, Tensor& memory) {
  const int64_t terms = x.shape[k];
  View y{x.data, x.shape, x.strides, DType::float32};
  y.shape[k] = ceil_div(terms, 2);
  bool adjacent =
      terms % 2 == 0 && x.strides[k] == 1 && reinterpret_cast<uintptr_t>(x.data) % 4 == 0;
  for (int d = 0; d < x.shape.size(); ++d)
    if (d != k) {
      adjacent &= x.shape[d] == 1 || x.strides[d] % 2 == 0;
      y.strides[d] /= 2;
    }
  if (adjacent) return y;

  const int64_t n = x.shape[other], halves = y.shape[k], step = x.strides[other];
  Shape batch;
  for (int d = 0; d + 2 < x.shape.size(); ++d) batch.push_back(x.shape[d]);
  Shape shape = batch;
  shape.push_back(halves), shape.push_back(n);
  memory = Tensor(shape, DType::float32);
  const Strides strides = contiguous_strides(shape);
  for (int d = 0; d + 2 < shape.size(); ++d) y.strides[d] = strides[d];
  y.data = memory.data();
  y.strides[k] = n;
  y.strides[other] = 1;

  const int64_t rows = numel(batch) * halves, per_chunk = 1 + chunk_elements / (n + 1);
  parallel_for(ceil_div(rows, per_chunk), [&](int64_t chunk) {
    for (int64_t r = chunk * per_chunk; r < rows && r < (chunk + 1) * per_chunk; ++r) {
      const int64_t term = r % halves * 2;
      int64_t at = term * x.strides[k], rest = r / halves;
      for (int d = batch.size() - 1; d >= 0; --d) {
        at += rest % batch[d] * x.strides[d];
        rest /= batch[d];
      }
      const uint16_t* const low = x.as<uint16_t>() + at;
      const uint16_t* const high = low + x.strides[k];
      uint32_t* const to = memory.data<uint32_t>() + r * n;
      if (term + 1 == terms)  // the last one has no neighbour
        for (int64_t i = 0; i < n; ++i) to[i] = low[i * step];
      else if (step == 1)
        for (int64_t i = 0; i < n; ++i) to[i] = low[i] | static_cast<uint32_t>(high[i]) << 16;
      else
        for (int64_t i = 0; i < n; ++i)
          to[i] = low[i * step] | static_cast<uint32_t>(high[i * step]) << 16;
    }
  });
  return y;
}

View widened(const View& x, Tensor& memory) {
  memory = Tensor(x.shape, DType::float32);
  copy_into(memory.view(), x);
  return memory.view();
}

}  // namespace

void matmul_bfloat16(const View& y, const View& a, const View& b) {
  const int last_a = a.shape.size() - 1, last_b = b.shape.size() - 1;
  const GemmKernel pairwise = b.shape[last_b] > 1 ? pairs_kernel() : nullptr;
  Tensor a_memory, b_memory;
  const Tensor sums(y.shape, DType::float32);
  // Each block is rounded while it is in the cache. y is contiguous: a stack is a tall matrix.
  const Epilogue round{[](const void* context, const Epilogue::Block& block) {
                         const View& to = *static_cast<const View*>(context);
                         static const MatmulKernels& table = WENGERT_PICK_KERNELS(matmul_kernels);
                         table.round(block, to.as<bfloat16>(), to.shape.back());
                       },
                       &y};
  if (const GemmKernel on_tiles =
          tile_kernel(whole_of(y, a, b), DType::bfloat16, MatmulPrecision::strict))
    multiply(on_tiles, sums.view(), a, b, round);
  else if (pairwise)
    multiply(pairwise, sums.view(), pairs(a, last_a, last_a - 1, a_memory),
             pairs(b, last_b - 1, last_b, b_memory), round);
  else
    multiply(gemm_kernel(DType::float32), sums.view(), widened(a, a_memory), widened(b, b_memory),
             round);
}

}  // namespace wengert
