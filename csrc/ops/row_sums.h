// Part of kernels on rows (softmax, norm, attention), compiled once per instruction set: the sum
// over a row, whose partial sums go to float64, and its largest element.
#pragma once

#include "base/vocab.h"

namespace wengert::WENGERT_ISA {
namespace {

template <class T> struct RowSums {
  using V = Simd<T>;
  static constexpr int64_t block =
      16 * V::width;  // sums run in T for this long, then go to float64

  FN static double total(V v) {
    double s = 0;
    for (int j = 0; j < V::width; ++j) s += static_cast<double>(v.v[j]);
    return s;
  }
  // The sum over a row of term(i, count); lanes beyond the row's end count as zero.
  template <class Term> FN static double sum(int64_t n, const Term& term) {
    double s = 0;
    for (int64_t start = 0; start < n; start += block) {
      const int64_t end = start + block < n ? start + block : n;
      V acc(0.0);
      int64_t i = start;
      for (; i + V::width <= end; i += V::width) acc += term(i, V::width);
      s += total(acc);
      if (i < end) {
        const V last = term(i, static_cast<int>(end - i));
        for (int j = 0; j < end - i; ++j) s += static_cast<double>(last.v[j]);
      }
    }
    return s;
  }
  // The largest element; NaN if there is one, -inf of none.
  FN static T largest(int64_t n, const T* x) {
    V best(-__builtin_inf());
    T last = static_cast<T>(-__builtin_inf());
    int64_t i = 0;
    for (; i + V::width <= n; i += V::width) best = maximum(best, V::load(x + i));
    for (; i < n; ++i) last = x[i] > last || x[i] != x[i] ? x[i] : last;
    for (int j = 0; j < V::width; ++j)
      last = best.v[j] > last || best.v[j] != best.v[j] ? best.v[j] : last;
    return last;
  }
  // What exponents are shifted by.
  FN static T shift(int64_t n, const T* x) {
    const T m = largest(n, x);
    return __builtin_isinf(m) ? T(0) : m;
  }
};

}  // namespace
}  // namespace wengert::WENGERT_ISA
