// FN: how functions are marked that formulas are made of: always inlined, and on the device too
// under CUDA.
#pragma once

#if defined(__CUDACC__)
#define FN __host__ __device__ __forceinline__
#else
#define FN inline __attribute__((always_inline))
#endif
