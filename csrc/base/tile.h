// Tile: the unit of elementwise work. A tile function makes n adjacent elements of the output from
// n of each input; an input whose bit is set in `scalars` is one element, used n times. Compiled
// steps chain tile functions while a tile is in the cache.
#pragma once

#include <cstdint>

namespace wengert {

struct Params {  // of rows that have them
  double a = 0, b = 0;
};

// `stream` in place of `scalars` says: no scalars, and the result, at a multiple of 64, goes past
// the caches (where the kernel knows how to).
constexpr uint32_t stream = 1u << 31;
using TileFn = void (*)(int64_t n, void* y, const void* const* x, uint32_t scalars,
                        const Params& params);

// What a chain that is one kernel of a GPU is given (ops/elementwise/chain_kernel.h).
struct ChainArguments {
  static constexpr int max_operands = 32, max_lines = 10;
  int64_t n = 0;                   // elements
  uint32_t given = 0;              // which operands are values from the CPU, one each
  uint64_t at[max_operands] = {};  // an operand's address; of one that is given, its bits
  Params params[max_lines];        // by line
};

}  // namespace wengert
