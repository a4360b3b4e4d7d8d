// The GPU kernels of the ops: one table per family, in the family's gpu.h. The CUDA library fills
// them in (ops/gpu.cu). All views of a kernel are on one device; a constant of an elementwise op,
// and the state of a random op, may be on the CPU.
#pragma once

#include "gpu/loader.h"
#include "graph/op.h"

namespace wengert {

struct AttentionGpu;
struct ConvGpu;
struct CreateGpu;
struct ElementwiseGpu;
struct IndexGpu;
struct MatmulGpu;
struct NormGpu;
struct OrderGpu;
struct PersistentGpu;
struct RandomGpu;
struct RecurrentGpu;
struct ReduceGpu;
struct ScanGpu;
struct SoftmaxGpu;
struct UpdateGpu;

struct GpuKernels {
  const AttentionGpu* attention;
  const ConvGpu* conv;
  const CreateGpu* create;
  const ElementwiseGpu* elementwise;
  const IndexGpu* index;
  const MatmulGpu* matmul;
  const NormGpu* norm;
  const OrderGpu* order;
  const PersistentGpu* persistent;
  const RandomGpu* random;
  const RecurrentGpu* recurrent;
  const ReduceGpu* reduce;
  const ScanGpu* scan;
  const SoftmaxGpu* softmax;
  const UpdateGpu* update;
};

extern const GpuKernels gpu_kernel_tables;  // in the CUDA library; others call gpu_kernels()

// While this thread records steps for one kernel (program/gpu/persistent.cu): its tables.
inline thread_local const GpuKernels* recording_kernels = nullptr;
inline const GpuKernels& gpu_kernels() {
  return recording_kernels ? *recording_kernels : *cuda().kernels;
}

// An op's kernel, found in its family's table when it runs.
template <auto family, auto kernel> void on_gpu(Views out, Views in, const Attrs& attrs) {
  ((gpu_kernels().*family)->*kernel)(out, in, attrs);
}

// For families' tables: a kernel for float32 inputs and one for float64.
template <auto by_float, auto by_double>
void float_or_double(Views out, Views in, const Attrs& attrs) {
  (in[0].dtype == DType::float32 ? by_float : by_double)(out, in, attrs);
}

}  // namespace wengert
