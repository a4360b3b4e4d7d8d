// The epilogue of all products on a GPU (ops/matmul/epilogue.h): what a thread does with some
// results that it has in registers. A step's formula is looked for at run time, so that each kernel
// has each formula once. Formulas, and so the bits, are those of the kernels of single ops.
#pragma once

#include "gpu/launch.h"
#include "ops/elementwise/formulas.h"
#include "ops/matmul/epilogue.h"
#include "ops/matmul/tiles.h"

namespace wengert::WENGERT_ISA {

// Calls f(x, i) for four of the numbers after another, i counting the fours: they move through
// x[0], since a loop that stays one cannot choose among registers.
template <int count, class F> __device__ void each_four(float (&x)[count][4], const F& f) {
  static_assert(count % 4 == 0);
#pragma unroll 1
  for (int i = 0; i < count; ++i) {
    f(x[0], i);
#pragma unroll
    for (int j = 0; j < 3; ++j)
#pragma unroll
      for (int e = 0; e < 4; ++e) x[j][e] = x[j + 1][e];
    if (i % 4 < 3) continue;
#pragma unroll
    for (int j = 0; j < count; ++j)
#pragma unroll
      for (int e = 0; e < 4; ++e) x[j][e] = x[j + 4 < count ? j + 4 : j][e];
  }
}

template <int n, class... U, class... B>
__device__ void apply(List<U...> unary, List<B...> binary, const CudaEpilogue::Step& s,
                      float (&x)[n], const float (&other)[n]) {
  const auto with = [&](int formula, const auto& f) {
    if (s.formula != formula) return false;
#pragma unroll
    for (int i = 0; i < n; ++i) x[i] = f(x[i], other[i]);
    return true;
  };
  (with(CudaEpilogue::binaries + index_of<B>(binary),
        [&](float p, float q) {
          return BinaryFormula<B, float>::apply(s.params, s.swapped ? q : p, s.swapped ? p : q);
        }) ||
   ...) ||
      (with(index_of<U>(unary),
            [&](float p, float) { return UnaryFormula<U, float>::apply(s.params, p); }) ||
       ...) ||
      (with(CudaEpilogue::vjps + index_of<U>(unary),
            [&](float p, float q) { return VjpFormula<U, float>::apply(s.params, p, q); }) ||
       ...);
}

// n results in runs of `width` neighbours along a row. Where they belong: at(run) is the row and
// the column, in its matrix, at which a run begins.
template <int width, int n, class At> struct Results {
  int rows, columns;
  int64_t first_row;  // of the matrix, in a stack
  const At& at;

  // Calls f(i, row, column) for those inside.
  template <class F> __device__ void each(const F& f) const {
#pragma unroll
    for (int i = 0; i < n; ++i) {
      const auto [row, column] = at(i / width);
      if (row < rows && column + i % width < columns) f(i, first_row + row, column + i % width);
    }
  }
  template <class T> __device__ void store(T* to, const T (&y)[n]) const {
    struct alignas(width * sizeof(T)) Run {
      T v[width];
    };
    if (columns % width)
      return each([&](int i, int64_t row, int column) { to[row * columns + column] = y[i]; });
#pragma unroll
    for (int run = 0; run < n / width; ++run) {
      const auto [row, column] = at(run);
      if (row >= rows || column >= columns) continue;
      Run whole;
#pragma unroll
      for (int i = 0; i < width; ++i) whole.v[i] = y[run * width + i];
      *reinterpret_cast<Run*>(to + (first_row + row) * columns + column) = whole;
    }
  }
};
template <int width, int n, class At>
__device__ Results<width, n, At> results(const float (&)[n], int rows, int columns,
                                         int64_t first_row, const At& at) {
  return {rows, columns, first_row, at};
}

template <class... Rows>
__device__ void update(List<Rows...> rows, const UpdateInMatmul& u, int64_t j, float g) {
  const UpdateConstants& constants = u.at ? *u.at : u.constants;
  const auto with = [&](int row, const auto& s) {
    if (u.row != row) return false;
    update_element<Lane<float>>(s, u.p, u.state, j, g);
    return true;
  };
  (with(index_of<Rows>(rows), static_cast<const Rows&>(constants)) || ...);
}

// What the epilogue does with x, but for the product itself.
template <int n, class R> __device__ void finish(const CudaEpilogue& e, float (&x)[n], const R& r) {
#pragma unroll 1
  for (int k = 0; k < e.steps; ++k) {
    const CudaEpilogue::Step& s = e.step[k];
    float other[n];
#pragma unroll
    for (int i = 0; i < n; ++i) other[i] = s.value;
    if (s.other)
      r.each([&](int i, int64_t row, int column) {
        other[i] = s.other[row * s.row + column * s.column];
      });
    apply(EpilogueUnary{}, EpilogueBinary{}, s, x, other);
    if (s.out) r.store(s.out, x);
  }
  if (e.slices) {
    uint16_t slices[3][n];
#pragma unroll
    for (int i = 0; i < n; ++i) {
      bfloat16 of[3];
      split(x[i], of);
#pragma unroll
      for (int p = 0; p < 3; ++p) slices[p][i] = of[p].bits;
    }
#pragma unroll
    for (int p = 0; p < 3; ++p)
      if (p < e.slice_count) r.store(e.slices + p * e.slice, slices[p]);
  }
  if (!e.update.p) return;
  r.each([&](int i, int64_t row, int column) {
    update(InnerUpdateRows{}, e.update, row * r.columns + column, x[i]);
  });
}

}  // namespace wengert::WENGERT_ISA
