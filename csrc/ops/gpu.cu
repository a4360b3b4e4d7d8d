// The one function that the CUDA library exports: the tables of gpu/loader.h and ops/gpu.h.
#include "gpu/compiler.h"
#include "gpu/runtime.h"
#include "ops/cuda_ops.h"

namespace wengert {

void cuda_copy(const View& to, const View& from);  // tensor/copy.cu

}  // namespace wengert

#define WENGERT_TEXT_OF(x) #x
#define WENGERT_TEXT(x) WENGERT_TEXT_OF(x)

extern "C" __attribute__((visibility("default"))) const wengert::CudaLibrary*
wengert_cuda_library() {
  using namespace wengert;
  static const CudaKernels kernels{
      .elementwise = cuda_elementwise,
      .fill = cuda_fill,
      .arange = cuda_arange,
      .reduce = cuda_reduce,
      .rows = cuda_rows,
      .matmul = cuda_matmul,
      .matmul_planes = cuda_matmul_planes,
      .matmul_units = cuda_matmul_units,
      .ravel = cuda_ravel,
      .take = cuda_take,
      .put = cuda_put,
      .embedding = cuda_embedding,
      .embedding_vjp = cuda_embedding_vjp,
      .one_hot = cuda_one_hot,
      .layer_norm = cuda_layer_norm,
      .layer_norm_vjp = cuda_layer_norm_vjp,
      .layer_norm_affine_vjp = cuda_layer_norm_affine_vjp,
      .attention = cuda_attention,
      .attention_vjp = cuda_attention_vjp,
      .random = cuda_random,
      .sgd = cuda_sgd,
      .adam = cuda_adam,
      .rmsprop = cuda_rmsprop,
      .persistent = cuda_persistent,
  };
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
      .kernels = &kernels,
  };
  return &library;
}
