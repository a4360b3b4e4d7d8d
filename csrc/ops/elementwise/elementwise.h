// Elementwise ops: kernels by row, dtype and instruction set, and the loop that drives them.
#pragma once

#include <array>
#include <span>

#include "base/dtype.h"
#include "base/isa.h"
#include "base/tile.h"
#include "ops/elementwise/rows.h"
#include "tensor/view.h"

namespace wengert {

// Fn is TileFn here, and an OpKernel on a GPU (ops/elementwise/gpu.h).
template <class Fn> struct ElementwiseTable {
  // Null where a row does not take the dtype, and for bfloat16, which uses the kernel of float32.
  using ByDType = std::array<Fn, dtype_count>;
  std::array<ByDType, UnaryRows::size> unary;
  std::array<ByDType, UnaryRows::size> unary_vjp;  // inputs g and what was saved
  std::array<ByDType, BinaryRows::size> binary;
  std::array<ByDType, TestRows::size> test;  // output bool
  std::array<ByDType, LogicRows::size> logic;
  ByDType where;    // inputs condition (bool), a, b
  Fn widen, round;  // bfloat16 to float32, and back
};
using ElementwiseKernels = ElementwiseTable<TileFn>;
using ByDType = ElementwiseKernels::ByDType;
WENGERT_DECLARE_KERNELS(ElementwiseKernels, elementwise_kernels)

inline const ElementwiseKernels& elementwise_table() {
  static const ElementwiseKernels& table = WENGERT_PICK_KERNELS(elementwise_kernels);
  return table;
}

// Runs a tile function over views of any strides; inputs broadcast to the output's shape. Views of
// bfloat16 go through a tile function of float32.
void run_elementwise(TileFn tile, const View& out, std::span<const View> in,
                     const Params& params = {});

}  // namespace wengert
