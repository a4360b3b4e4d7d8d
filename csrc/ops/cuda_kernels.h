// The kernels of the ops on a GPU: one typed table, which the CUDA library fills in. Views that
// reach it lie on one device (a constant of an elementwise op may lie on the CPU).
#pragma once

#include <span>

#include "base/cuda.h"
#include "ops/elementwise.h"
#include "ops/philox.h"
#include "ops/reduce.h"
#include "ops/softmax.h"
#include "ops/update.h"

namespace wengert {

using CudaElementwise = void (*)(const View& out, const View* in, const Params& params);

// [outer axes], then `rows` that are reduced, then `inner` adjacent elements that are not.
struct ReduceBlock {
  int dims = 0;  // outer axes
  int64_t size[max_dims], stride[max_dims];
  int64_t rows = 1, row_stride = 1, inner = 1;
};

// One parameter of an update: n elements; the states that it has.
template <class Pointer = void*> struct UpdatePart {
  int64_t n;
  Pointer p, g, state[2];
};

struct CudaKernels {
  ElementwiseTable<CudaElementwise> elementwise;

  void (*fill)(const View& out, double value);  // contiguous
  void (*arange)(const View& out, double start, double step);
  void (*reduce)(Reduction kind, const View& out, const View& x, const ReduceBlock& block,
                 double divisor);

  // On contiguous rows; the arguments are those of RowKernels (ops/softmax.h).
  void (*rows)(RowOp op, const View& out, const View* auxiliary, std::span<const View> in);

  // y = a @ b for stacks of matrices of any strides, y contiguous.
  void (*matmul)(const View& y, const View& a, const View& b);

  // Row numbers of index tuples; an index out of range is an error at the next wait.
  void (*ravel)(const View& rows, std::span<const View> indices, const Dims& sizes);
  void (*take)(const View& out, const View& x, const View& rows, int64_t row_elements);
  // In the order of the rows, as on the CPU. `out` holds x already.
  void (*put)(const View& out, const View& value, const View& rows, int64_t row_elements, bool add);

  void (*random)(RandomKind kind, const View& out, uint64_t seed, uint64_t first_block, int64_t low,
                 int64_t high);

  void (*sgd)(Device d, DType dtype, std::span<const UpdatePart<>> parts, const SgdStep& s);
  void (*adam)(Device d, DType dtype, std::span<const UpdatePart<>> parts, const AdamStep& s);
  void (*rmsprop)(Device d, DType dtype, std::span<const UpdatePart<>> parts, const RmspropStep& s);
};

inline const CudaKernels& cuda_kernels() { return *cuda().kernels; }

}  // namespace wengert
