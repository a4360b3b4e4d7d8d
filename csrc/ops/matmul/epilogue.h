// What a matrix product on a GPU does with its results while they are in registers: up to four
// elementwise steps, such as a bias and an activation, or the gradient of one; the last result as
// slices of bfloat16 for the next product; the update of the parameter whose gradient it is. Plain
// data, written by the plan of a compiled step (program/gpu/matmul.cpp); the kernels' part is
// ops/matmul/finish.h.
#pragma once

#include <string_view>

#include "ops/elementwise/rows.h"
#include "ops/update/rows.h"

namespace wengert {

// The rows that a step may be; of the first also their gradients.
using EpilogueUnary = List<Relu, LeakyRelu, Sigmoid, Tanh, Gelu, GeluTanh, Silu>;
using EpilogueBinary = List<Add, Sub, Mul, Times>;

struct CudaEpilogue {
  static constexpr int most_steps = 4;

  struct Step {       // x = f(x) or f(x, other), x being the product or what the step before gave
    int formula = 0;  // number_of() its op
    bool swapped = false;          // f(other, x)
    const float* other = nullptr;  // null: value
    float value = 0;
    int64_t row = 0, column = 0;  // strides of `other`; a stack of matrices is one tall one
    float* out = nullptr;         // null: not stored
    Params params = {};
  };

  bool keeps_product = true;  // stores it too, in y
  int steps = 0;
  uint32_t given = 0;  // by step: `other` is a number on the CPU, read at each launch
  Step step[most_steps];
  uint16_t* slices = nullptr;  // of the last result, which are `slice` elements apart; null: none
  int slice_count = 0;
  int64_t slice = 0;
  UpdateInMatmul update;  // where that is a parameter's gradient

  FN bool finishes() const { return steps || slices || update.p; }

  // An op's number as a step; -1: it is none.
  static int number_of(std::string_view op) { return find(op, EpilogueUnary{}, EpilogueBinary{}); }
  static constexpr int vjps = EpilogueUnary::size, binaries = 2 * vjps;
  static bool is_vjp(int formula) { return formula >= vjps && formula < binaries; }

 private:
  template <class... U, class... B> static int find(std::string_view op, List<U...>, List<B...>) {
    int found = -1, i = 0;
    const bool gradient = op.ends_with("_vjp");
    if (gradient) op.remove_suffix(4);
    ((found = op == U::name ? i + (gradient ? vjps : 0) : found, ++i), ...);
    i = binaries;
    ((found = !gradient && op == B::name ? i : found, ++i), ...);
    return found;
  }
};

}  // namespace wengert
