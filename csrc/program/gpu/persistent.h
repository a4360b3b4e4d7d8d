// Steps inside one kernel (program/gpu/persistent.cu).
#pragma once

#include "ops/gpu.h"

namespace wengert {

// The recording, and the tables by which ops add their instructions to it.
struct Persistent {
  struct Memory {  // of the step, in one piece
    void* data;
    int64_t bytes;
    bool before, after;  // whether what it holds counts before the steps, and after them
  };
  std::unique_ptr<CudaSteps> steps;
  const GpuKernels* kernels;
};

struct PersistentGpu {
  // As CudaLibrary::record, with all the memory that the step touches. A DeviceError where it
  // cannot.
  Persistent (*record)(Device d, std::span<const CudaSteps::Moved> in,
                       std::span<const CudaSteps::Moved> out,
                       std::span<const Persistent::Memory> memories);
};

}  // namespace wengert
