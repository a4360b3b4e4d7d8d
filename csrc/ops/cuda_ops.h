// The functions of ops/*.cu that the table of ops/gpu.h points to.
#pragma once

#include "ops/gpu.h"

namespace wengert {

extern const ElementwiseTable<CudaElementwise> cuda_elementwise;
void cuda_fill(const View& out, Number value);
void cuda_arange(const View& out, Number start, Number step);
void cuda_reduce(Reduction kind, const View& out, const View& x, const ReduceBlock& block,
                 double divisor);
void cuda_rows(RowOp op, const View& out, const View* auxiliary, std::span<const View> in);
void cuda_matmul(const View& y, const View& a, const View& b, MatmulPrecision precision,
                 const KeptPlanes& kept, const CudaEpilogue* epilogue);
const char* cuda_matmul_units(Device d);
int cuda_matmul_planes(const View& y, const View& a, const View& b, MatmulPrecision precision);
// float32, on tensor cores.
void cuda_multiply_planes(const View& y, const View& a, const View& b, int planes,
                          const KeptPlanes& kept, const CudaEpilogue* epilogue);
// y = the sum of what slabs of k gave, each of y's size; or what the epilogue does with it.
void cuda_add_slabs(const View& y, int64_t slabs, const float* partial, const CudaEpilogue& e);
void cuda_ravel(const View& rows, std::span<const View> indices, const Dims& sizes);
void cuda_take(const View& out, const View& x, const View& rows, int64_t row_elements);
void cuda_put(const View& out, const View& value, const View& rows, int64_t row_elements, Put how);
void cuda_embedding(const View& out, const View& table, const View& ids);
void cuda_embedding_vjp(const View& out, const View& g, const View& ids, int64_t padding);
void cuda_one_hot(const View& out, const View& ids);
void cuda_layer_norm(const View& y, const View& kept, std::span<const View> in, double eps);
void cuda_layer_norm_vjp(const View& dx, std::span<const View> in);
void cuda_layer_norm_affine_vjp(const View& both, const View& sums, std::span<const View> in,
                                int64_t part_rows);
void cuda_attention(const View& y, const View& lse, std::span<const View> in, double scale,
                    bool causal);
void cuda_attention_vjp(std::span<const View> grads, std::span<const View> in, double scale,
                        bool causal);
void cuda_random(RandomKind kind, const View& out, uint64_t seed, uint64_t first_block, int64_t low,
                 int64_t high);
void cuda_sgd(Device d, DType dtype, std::span<const UpdatePart<>> parts, const SgdStep& s);
void cuda_adam(Device d, DType dtype, std::span<const UpdatePart<>> parts, const AdamStep& s);
void cuda_rmsprop(Device d, DType dtype, std::span<const UpdatePart<>> parts, const RmspropStep& s);
CudaPersistent cuda_persistent(Device d, std::span<const CudaSteps::Moved> in,
                               std::span<const CudaSteps::Moved> out,
                               std::span<const CudaPersistent::Memory> memories);

}  // namespace wengert
extern "C" const wengert::CudaLibrary* wengert_cuda_library();
