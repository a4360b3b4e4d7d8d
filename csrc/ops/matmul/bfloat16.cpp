// matmul in bfloat16: products and sums in float32, each element of the result rounded once.
//
// With AVX512-BF16 the kernel takes pairs: 32 bits that hold two terms, 2t and 2t + 1, of a row of
// a or a column of b. To the rest of gemm.simd.cpp a pair is one element of a product half as
// long. Where two such terms lie side by side, as in a contiguous a or the transpose of contiguous
// weights, the memory is read as it is; else the pairs are put together in a copy. The processor
// takes numbers below 2^-126 for 0: where a sum may feel that, it is made again, as on tiles.
// On tiles (amx.h) a and b are read as they are, if the product is large enough.
// Everywhere else, where that instruction is slower than float32's (base/isa.cpp), and for a matrix
// times a column, a and b are widened to float32 copies.
#include <atomic>

#include "base/pool.h"
#include "ops/functions.h"
#include "ops/matmul/amx.h"
#include "ops/matmul/tiles.h"
#include "tensor/copy.h"

namespace wengert {

namespace {

constexpr int64_t chunk_elements = 1 << 15;

#if defined(__x86_64__) && !defined(WENGERT_BASELINE)
// Rows of a, or columns of b, as pairs of their terms.
struct Pairs {
  const uint32_t* data;
  int64_t step, next;  // from a row to the next, from a pair to the next
  uint32_t least;      // the smallest magnitude that is not 0, as bits
};
Pairs pairs(const void* from, int64_t count, int64_t terms, int64_t step, int64_t next,
            Tensor& memory) {
  static const auto smallest = WENGERT_PICK_KERNELS(matmul_kernels).smallest;
  const auto* const x = static_cast<const uint16_t*>(from);
  const int64_t halves = ceil_div(terms, 2);
  const bool adjacent = next == 1 && terms % 2 == 0 && (step % 2 == 0 || count == 1) &&
                        reinterpret_cast<uintptr_t>(x) % 4 == 0;
  if (!adjacent) memory = Tensor({halves, count}, DType::float32);
  uint32_t* const to = adjacent ? nullptr : memory.data<uint32_t>();
  const auto copy = [&](int64_t r) {  // the pairs of number r
    const uint16_t *const low = x + 2 * r * next, *const high = low + next;
    uint32_t* const row = to + r * count;
    if (2 * r + 1 == terms)  // the last one has no neighbour
      for (int64_t i = 0; i < count; ++i) row[i] = low[i * step];
    else if (step == 1)
      for (int64_t i = 0; i < count; ++i) row[i] = low[i] | static_cast<uint32_t>(high[i]) << 16;
    else
      for (int64_t i = 0; i < count; ++i)
        row[i] = low[i * step] | static_cast<uint32_t>(high[i * step]) << 16;
  };
  std::atomic<uint32_t> least = ~0u;
  const int64_t lines = adjacent ? count : halves, length = adjacent ? halves : count,
                per_chunk = 1 + chunk_elements / (length + 1);
  const uint16_t* const words = adjacent ? x : reinterpret_cast<const uint16_t*>(to);
  const int64_t line = adjacent ? step : 2 * count;
  parallel_for(ceil_div(lines, per_chunk), [&](int64_t chunk) {
    const int64_t first = chunk * per_chunk, end = std::min(lines, first + per_chunk);
    for (int64_t r = first; r < end && !adjacent; ++r) copy(r);
    uint32_t found = ~0u;
    if (line == 2 * length)  // they follow each other
      found = smallest(words + first * line, (end - first) * line);
    else
      for (int64_t r = first; r < end; ++r)
        found = std::min(found, smallest(words + r * line, 2 * length));
    for (uint32_t old = least; found < old && !least.compare_exchange_weak(old, found);) {
    }
  });
  if (adjacent) return {reinterpret_cast<const uint32_t*>(x), step / 2, 1, least};
  return {to, 1, count, least};
}
float value(uint32_t bits) { return __builtin_bit_cast(float, bits << 16); }

void multiply_pairs(const Gemm& g) {
  Tensor a_memory, b_memory;
  const Pairs a = pairs(g.a, g.m, g.k, g.a_row, g.a_col, a_memory),
              b = pairs(g.b, g.n, g.k, g.b_col, g.b_row, b_memory);
  Gemm half = g;
  half.k = ceil_div(g.k, 2);
  half.a = a.data, half.a_row = a.step, half.a_col = a.next;
  half.b = b.data, half.b_row = b.next, half.b_col = b.step;
  const float x = value(a.least), y = value(b.least);
  const bool exact = x * y >= safe_product && x >= safe_operand && y >= safe_operand;
  if (!exact) half.epilogue = {};
  avx512bf16::multiply_pairs(half);
  if (exact) return;

  const bool good = avx512::tile_kernels.check(g);
  const Tensor again({good ? 0 : g.m, g.n}, DType::float32);
  if (!good) {
    Gemm plain = g;
    plain.c = again.data(), plain.c_row = g.n, plain.epilogue = {};
    plain_bfloat16(plain);
  }
  const int64_t rows = 1 + chunk_elements / g.n;
  parallel_for(ceil_div(g.m, rows), [&](int64_t chunk) {
    const int64_t first = chunk * rows, end = std::min(g.m, first + rows);
    float* const c = static_cast<float*>(g.c) + first * g.c_row;
    for (int64_t i = first; i < end && !good; ++i)
      for (int64_t j = 0; j < g.n; ++j)
        if (float& x = c[(i - first) * g.c_row + j]; !is_finite(x))
          x = again.data<float>()[i * g.n + j];
    g.epilogue.apply(g.epilogue.context, {c, g.c_row, end - first, g.n, g.row + first, g.col});
  });
}
#endif

View widened(const View& x, Tensor& memory) {
  memory = Tensor(x.shape, DType::float32);
  copy_into(memory.view(), x);
  return memory.view();
}

}  // namespace

void matmul_bfloat16(const View& y, const View& a, const View& b) {
  const Tensor sums(y.shape, DType::float32);
  // Each block is rounded while it is in the cache. y is contiguous: a stack is a tall matrix.
  const Epilogue round{[](const void* context, const Epilogue::Block& block) {
                         const View& to = *static_cast<const View*>(context);
                         static const MatmulKernels& table = WENGERT_PICK_KERNELS(matmul_kernels);
                         table.round(block, to.as<bfloat16>(), to.shape.back());
                       },
                       &y};
  GemmKernel kernel = tile_kernel(whole_of(y, a, b), DType::bfloat16, MatmulPrecision::strict);
#if defined(__x86_64__) && !defined(WENGERT_BASELINE)
  if (!kernel && has_bfloat16() && b.shape.back() > 1) kernel = multiply_pairs;
#endif
  if (kernel) return multiply(kernel, sums.view(), a, b, round);
  Tensor a_memory, b_memory;
  multiply(gemm_kernel(DType::float32), sums.view(), widened(a, a_memory), widened(b, b_memory),
           round);
}

}  // namespace wengert
