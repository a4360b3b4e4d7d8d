// Recurrent layers: what one time computes after the product of the state with the weight. All
// data are rows of `width` elements for each sequence, several side by side where there are gates.
#pragma once

#include <cstdint>

#include "base/isa.h"
#include "base/simd.h"
#include "ops/recurrent/cells.h"

namespace wengert {

template <class T> struct CellRows {
  int64_t width;
  const T *x, *products, *bias, *before[2];
  T *kept, *state[2];
};
template <class T> struct CellGradient {
  int64_t width;
  bool last;  // time: no later one adds to the gradients of the states
  const T *kept, *before[2], *state[2], *g[2];
  const T* product;           // what the next time adds to the gradient of the state, ...
  T *carry[2], *made, *back;  // ... as does carry; back: the gradients of the products
};
template <class T> struct RecurrentKernel {  // of sequences from `first` to `end`
  void (*next)(const CellRows<T>& rows, int64_t first, int64_t end);
  void (*back)(const CellGradient<T>& rows, int64_t first, int64_t end);
};
struct RecurrentKernels {
  RecurrentKernel<float> f32[4];  // in the order of Cells
  RecurrentKernel<double> f64[4];
};
WENGERT_DECLARE_KERNELS(RecurrentKernels, recurrent_kernels)

namespace WENGERT_ISA {

// `count` units of sequence n from unit i on.
template <class C, class V, class T>
FN void next_units(const CellRows<T>& r, int64_t n, int64_t i, int count) {
  const int64_t width = r.width, at = n * width + i;
  V x[C::gates], p[C::gates], before[C::states], kept[C::keeps], state[C::states], bias(T(0));
  for (int j = 0; j < C::gates; ++j) {
    x[j] = load<V>(r.x + (n * C::gates + j) * width + i, count);
    p[j] = load<V>(r.products + (n * C::gates + j) * width + i, count);
  }
  for (int j = 0; j < C::states; ++j) before[j] = load<V>(r.before[j] + at, count);
  if (C::biased) bias = load<V>(r.bias + i, count);
  C::template next<V>(x, p, bias, before, kept, state);
  for (int j = 0; j < C::keeps; ++j) store(r.kept + (n * C::keeps + j) * width + i, count, kept[j]);
  for (int j = 0; j < C::states; ++j) store(r.state[j] + at, count, state[j]);
}
template <class C, class V, class T>
FN void back_units(const CellGradient<T>& r, int64_t n, int64_t i, int count) {
  const int64_t width = r.width, at = n * width + i;
  V kept[C::keeps], state[C::states], before[C::states], d[C::states], made[C::makes],
      carry[C::states];
  for (int j = 0; j < C::keeps; ++j)
    kept[j] = load<V>(r.kept + (n * C::keeps + j) * width + i, count);
  for (int j = 0; j < C::states; ++j) {
    state[j] = load<V>(r.state[j] + at, count);
    before[j] = load<V>(r.before[j] + at, count);
    d[j] = load<V>(r.g[j] + at, count);
    if (r.last) continue;
    if (j == 0) d[j] = d[j] + load<V>(r.product + at, count);
    if (C::carries(j)) d[j] = d[j] + load<V>(r.carry[j] + at, count);
  }
  C::template back<V>(kept, state, before, d, made, carry);
  for (int j = 0; j < C::makes; ++j) store(r.made + (n * C::makes + j) * width + i, count, made[j]);
  for (int j = 0; j < C::states; ++j)
    if (C::carries(j)) store(r.carry[j] + at, count, carry[j]);
  if constexpr (C::makes != C::gates)
    for (int j = 0; j < C::gates; ++j)
      store(r.back + (n * C::gates + j) * width + i, count, made[C::of_products(j)]);
}

}  // namespace WENGERT_ISA
}  // namespace wengert
