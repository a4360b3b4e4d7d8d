// Part of kernels on rows (softmax, norm, attention), compiled once per instruction set: the sum
// over a row, whose partial sums go to float64, and its largest element.
#pragma once

#include "base/pool.h"
#include "base/vocab.h"

namespace wengert::WENGERT_ISA {
namespace {

template <class T> struct RowSums {
  using V = Simd<T>;
  static constexpr int64_t block =
      16 * V::width;                           // sums run in T for this long, then go to float64
  static constexpr int64_t section = 1 << 18;  // a long row looks for Ctrl-C between such parts

  // f(i, count) for the vectors of a row.
  template <class F> FN static void each(int64_t n, const F& f) {
    for (int64_t start = 0; start < n; start += section) {
      if (start) poll_interrupt();
      each_vector<V>(n - start < section ? n - start : section,
                     [&](int64_t i, int count) INLINE { f(start + i, count); });
    }
  }

  // In float64, lanes of both halves added.
  FN static f64 widened(V v) {
    if constexpr (sizeof(T) == sizeof(double)) {
      return v;
    } else {
      f64 half[2];
      widen(v, half);
      return half[0] + half[1];
    }
  }
  FN static double lanes_of(f64 sums) {
    return fold(sums, [](f64 a, f64 b) INLINE { return a + b; }).v[0];
  }
  FN static double total(V v) { return lanes_of(widened(v)); }
  // The sum over a row of term(i, count).
  template <class Term> FN static double sum(int64_t n, const Term& term) {
    double s = 0;
    for (int64_t start = 0; start < n; start += block) {
      V acc(0.0);
      each_vector<V>(n - start < block ? n - start : block, [&](int64_t i, int count) INLINE {
        acc += first(term(start + i, count), count, 0);
      });
      s += total(acc);
      if (start % section == section - block) poll_interrupt();
    }
    return s;
  }
  // The largest lane; NaN if there is one.
  FN static T top(V v) {
    return fold(v, [](V a, V b) INLINE { return maximum(a, b); }).v[0];
  }
  // The largest element; NaN if there is one, -inf of none.
  FN static T largest(int64_t n, const T* x) {
    const T lowest = static_cast<T>(-__builtin_inf());
    V best(lowest);
    each(n, [&](int64_t i, int count)
                INLINE { best = maximum(best, first(load<V>(x + i, count), count, lowest)); });
    return top(best);
  }
  // What exponents are shifted by.
  FN static T shift(int64_t n, const T* x) {
    const T m = largest(n, x);
    return __builtin_isinf(m) ? T(0) : m;
  }
};

}  // namespace
}  // namespace wengert::WENGERT_ISA
