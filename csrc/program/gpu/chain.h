// A chain (chain.h) as one kernel of a GPU: each thread takes its elements through all lines, so
// what only the chain needs stays in registers. The kernel's source is written here, of the ops'
// names alone, and compiled by the CUDA library (gpu/compiler.h) from the very formulas of the
// unfused kernels (ops/elementwise/chain_kernel.h), so the bits are the same.
#pragma once

#include "program/cpu/chain.h"

namespace wengert {

// As for Chain: the lines may be chained, `grid` is theirs, and `base` is null for what is not
// stored. Where there is no compiler, cuda_fuses() is false, and no such chain is made.
std::unique_ptr<const Ready> device_chain(const StepList& list,
                                          std::span<const StepList::Line> lines, const Grid& grid,
                                          std::span<char* const> base, Device device);

}  // namespace wengert
