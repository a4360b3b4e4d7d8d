// The one function that the CUDA library exports: the tables of gpu/loader.h and ops/gpu.h.
#include "gpu/compiler.h"
#include "gpu/runtime.h"
#include "ops/gpu.h"

namespace wengert {

// At the end of each family's .cu file.
extern const AttentionGpu attention_gpu;
extern const ConvGpu conv_gpu;
extern const CreateGpu create_gpu;
extern const ElementwiseGpu elementwise_gpu;
extern const IndexGpu index_gpu;
extern const MatmulGpu matmul_gpu;
extern const NormGpu norm_gpu;
extern const OrderGpu order_gpu;
extern const PersistentGpu persistent_gpu;
extern const RandomGpu random_gpu;
extern const RecurrentGpu recurrent_gpu;
extern const ReduceGpu reduce_gpu;
extern const ScanGpu scan_gpu;
extern const SoftmaxGpu softmax_gpu;
extern const UpdateGpu update_gpu;

const GpuKernels gpu_kernel_tables{
    .attention = &attention_gpu,
    .conv = &conv_gpu,
    .create = &create_gpu,
    .elementwise = &elementwise_gpu,
    .index = &index_gpu,
    .matmul = &matmul_gpu,
    .norm = &norm_gpu,
    .order = &order_gpu,
    .persistent = &persistent_gpu,
    .random = &random_gpu,
    .recurrent = &recurrent_gpu,
    .reduce = &reduce_gpu,
    .scan = &scan_gpu,
    .softmax = &softmax_gpu,
    .update = &update_gpu,
};

void cuda_copy(const View& to, const View& from);  // tensor/copy.cu

}  // namespace wengert

#define WENGERT_TEXT_OF(x) #x
#define WENGERT_TEXT(x) WENGERT_TEXT_OF(x)

extern "C" __attribute__((visibility("default"))) const wengert::CudaLibrary*
wengert_cuda_library() {
  using namespace wengert;
  static const CudaLibrary library{
      .abi = cuda_abi,
#if defined(__CUDACC__)
      .made = "CUDA " WENGERT_TEXT(__CUDACC_VER_MAJOR__) "." WENGERT_TEXT(__CUDACC_VER_MINOR__),
#else
      .made = "EMULATED on the CPU, to test kernels",
#endif
      .problem = cuda_problem,
      .devices = cuda_devices,
      .device_name = cuda_device_name,
      .allocate = cuda_allocate,
      .deallocate = cuda_deallocate,
      .allocate_pinned = cuda_allocate_pinned,
      .deallocate_pinned = cuda_deallocate_pinned,
      .memory = cuda_memory,
      .memory_free = cuda_memory_free,
      .reset_peak = cuda_reset_peak,
      .empty_cache = cuda_empty_cache,
      .to_host = cuda_to_host,
      .synchronize = cuda_synchronize,
      .to_device = cuda_to_device,
      .copy = cuda_copy,
      .copy_peer = cuda_copy_peer,
      .stream = cuda_stream,
      .default_stream = cuda_default_stream,
      .make_stream = cuda_make_stream,
      .set_stream = cuda_set_stream,
      .stream_done = cuda_stream_done,
      .let_wait = cuda_let_wait,
      .use = cuda_use,
      .record = cuda_record,
      .make_event = cuda_make_event,
      .free_event = cuda_free_event,
      .record_event = cuda_record_event,
      .wait_for_event = cuda_wait_for_event,
      .event_done = cuda_event_done,
      .milliseconds = cuda_milliseconds,
      .compiler_problem = compiler_problem,
      .compiler_name = compiler_name,
      .compile_source = compile_source,
      .chain_kernel = chain_kernel,
      .launch_chain = launch_chain,
      .kernels = &gpu_kernel_tables,
  };
  return &library;
}
