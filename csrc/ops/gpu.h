// The kernels of the ops on a GPU: one typed table, which the CUDA library fills in. Views that
// reach it lie on one device (a constant of an elementwise op may lie on the CPU).
#pragma once

#include <span>

#include "gpu/loader.h"
#include "ops/elementwise/elementwise.h"
#include "ops/matmul/epilogue.h"
#include "ops/matmul/matmul.h"
#include "ops/random/philox.h"
#include "ops/reduce/reduce.h"
#include "ops/rows/softmax.h"
#include "ops/update/update.h"

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

// Operands of a product that an epilogue has written as planes already, whose rows lie along k;
// null: it has not.
struct KeptPlanes {
  const uint16_t *a = nullptr, *b = nullptr;
};

struct CudaKernels;
// Steps inside one kernel (program/gpu/persistent.cu), and the ops that put them down.
struct CudaPersistent {
  struct Memory {  // of the step, in one piece
    void* data;
    int64_t bytes;
    bool before, after;  // whether what it holds counts before the steps, and after them
  };
  std::unique_ptr<CudaSteps> steps;
  const CudaKernels* kernels;
};
// What put does with values for rows: the last one stays; they are added, in their order; or their
// sum, gathered in float64, replaces the row (a floating dtype).
enum class Put { replace, add, gather };

struct CudaKernels {
  ElementwiseTable<CudaElementwise> elementwise;

  void (*fill)(const View& out, Number value);  // contiguous
  void (*arange)(const View& out, Number start, Number step);
  void (*reduce)(Reduction kind, const View& out, const View& x, const ReduceBlock& block,
                 double divisor);

  // On contiguous rows; the arguments are those of RowKernels (ops/rows/softmax.h).
  void (*rows)(RowOp op, const View& out, const View* auxiliary, std::span<const View> in);

  // y = a @ b for stacks of matrices of any strides, y contiguous. With an epilogue (float32) only
  // what it stores is written.
  void (*matmul)(const View& y, const View& a, const View& b, MatmulPrecision precision,
                 const KeptPlanes& kept, const CudaEpilogue* epilogue);
  // As how many planes of bfloat16 that takes its operands; 0: as they are.
  int (*matmul_planes)(const View& y, const View& a, const View& b, MatmulPrecision precision);
  // Which instructions serve precisions other than strict: "wgmma", "mma", or null: none does.
  const char* (*matmul_units)(Device d);

  // Row numbers of index tuples; an index out of range is an error at the next wait.
  void (*ravel)(const View& rows, std::span<const View> indices, const Dims& sizes);
  void (*take)(const View& out, const View& x, const View& rows, int64_t row_elements);
  // In the order of the rows, as on the CPU. `out` holds x already.
  void (*put)(const View& out, const View& value, const View& rows, int64_t row_elements, Put how);
  void (*embedding)(const View& out, const View& table, const View& ids);
  void (*embedding_vjp)(const View& out, const View& g, const View& ids, int64_t padding);
  void (*one_hot)(const View& out, const View& ids);

  // Outputs and inputs are those of the ops (ops/rows/norm.cpp, ops/attention/attention.cpp).
  void (*layer_norm)(const View& y, const View& kept, std::span<const View> in, double eps);
  void (*layer_norm_vjp)(const View& dx, std::span<const View> in);
  void (*layer_norm_affine_vjp)(const View& both, const View& sums, std::span<const View> in,
                                int64_t part_rows);
  void (*attention)(const View& y, const View& lse, std::span<const View> in, double scale,
                    bool causal);
  void (*attention_vjp)(std::span<const View> grads, std::span<const View> in, double scale,
                        bool causal);

  void (*random)(RandomKind kind, const View& out, uint64_t seed, uint64_t first_block, int64_t low,
                 int64_t high);

  void (*sgd)(Device d, DType dtype, std::span<const UpdatePart<>> parts, const SgdStep& s);
  void (*adam)(Device d, DType dtype, std::span<const UpdatePart<>> parts, const AdamStep& s);
  void (*rmsprop)(Device d, DType dtype, std::span<const UpdatePart<>> parts, const RmspropStep& s);

  // As CudaLibrary::record, with all the memory that the step touches. A DeviceError where it
  // cannot.
  CudaPersistent (*persistent)(Device d, std::span<const CudaSteps::Moved> in,
                               std::span<const CudaSteps::Moved> out,
                               std::span<const CudaPersistent::Memory> memories);
};

// While this thread puts down steps inside one kernel: their table.
inline thread_local const CudaKernels* recording_kernels = nullptr;

inline const CudaKernels& cuda_kernels() {
  return recording_kernels ? *recording_kernels : *cuda().kernels;
}

}  // namespace wengert
