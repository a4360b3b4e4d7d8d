// A chain (chain.h) as one kernel of a GPU: each thread takes its elements through all lines, so
// what only the chain needs stays in registers. The kernel's source is written here, of the ops'
// names alone, and compiled by the CUDA library (gpu/compiler.h) from the very formulas of the
// unfused kernels (ops/elementwise/chain_kernel.h), so the bits are the same.
#pragma once

#include "program/list.h"

namespace wengert {

// Where there is no compiler, cuda_fuses() is false, and no such chain is made.
std::unique_ptr<Ready> ready_gpu_chain(const Plan& plan, const StepList::Line& line);

}  // namespace wengert
