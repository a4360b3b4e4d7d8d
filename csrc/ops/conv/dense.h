// What dense.simd.cpp offers: the product that all three convolutions between many channels are.
#pragma once

#include <cstdint>

#include "base/isa.h"

namespace wengert {

constexpr int64_t dense_tile = 6;  // rows that are summed at once

// c[results[i], l] (+)= sum over k of x[rows[i] + terms[k]] * b[k, l]
struct DenseProduct {
  const void* x;
  const int64_t *rows, *results;
  int64_t row_count;  // a multiple of dense_tile
  const int64_t* terms;
  int64_t term_count;
  const void* b;
  void* c;
  int64_t vectors;  // in a row of b and of c, at most most_vectors
  bool add;
  const void* const* ahead;  // lines of memory that are needed next: brought into L2 meanwhile
  int64_t ahead_count;
};
// to[at[j] * width + l] = from[l * step + j] for l < lanes, at most a vector, and j < n. Without
// `at` it is j; where it is negative j is left out. `stored` lanes are written.
struct DenseTurn {
  const void* from;
  int64_t step, lanes, n;
  void* to;
  int64_t width, stored;
  const int64_t* at = nullptr;
};
struct DenseKernels {
  void (*multiply[2])(const DenseProduct& p);  // [of float64]
  void (*turn[2])(const DenseTurn& t);
  int64_t lanes[2], most_vectors;
};
WENGERT_DECLARE_KERNELS(DenseKernels, dense_kernels)

}  // namespace wengert
