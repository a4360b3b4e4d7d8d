// How elements become a sum, a product, a largest, and so on: the folds of the reduction kernels,
// on the CPU (reduce.simd.cpp) and on a GPU (reduce.cu).
#pragma once

#include <limits>
#include <type_traits>

#include "base/simd.h"

namespace wengert::WENGERT_ISA {
namespace {

// A fold: an accumulator type, and how elements and accumulators combine.
template <class T> struct Sum {
  using Acc = std::conditional_t<std::is_floating_point_v<T>, double, int64_t>;
  using Out = std::conditional_t<std::is_floating_point_v<T>, T, int64_t>;
  FN static Acc start() { return 0; }
  FN static Acc fold(Acc a, T x, int64_t) { return a + static_cast<Acc>(x); }
  template <class V> FN static V merge(V a, V b) { return a + b; }  // vectors of them, too
  template <class V> FN static V lift(V x) { return x; }            // an element's accumulator
  FN static Out finish(Acc a, double divisor) {
    if constexpr (std::is_floating_point_v<T>) return static_cast<Out>(a / divisor);
    return static_cast<Out>(a);
  }
};
template <class T> struct SumSquares : Sum<T> {
  using typename Sum<T>::Acc;
  using Out = Acc;
  FN static Acc fold(Acc a, T x, int64_t) { return a + static_cast<Acc>(x) * static_cast<Acc>(x); }
  template <class V> FN static V lift(V x) { return x * x; }
  FN static Out finish(Acc a, double) { return a; }
};
template <class T> struct Prod {
  using Acc = typename Sum<T>::Acc;
  using Out = typename Sum<T>::Out;
  FN static Acc start() { return 1; }
  FN static Acc fold(Acc a, T x, int64_t) { return a * static_cast<Acc>(x); }
  template <class V> FN static V merge(V a, V b) { return a * b; }
  template <class V> FN static V lift(V x) { return x; }
  FN static Out finish(Acc a, double) { return static_cast<Out>(a); }
};
template <class T, bool largest> struct Extreme {  // NaN where there is one
  using Acc = T;
  using Out = T;
  FN static Acc start() {
    using L = std::numeric_limits<T>;
    if constexpr (std::is_floating_point_v<T>)
      return largest ? -L::infinity() : L::infinity();
    else
      return largest ? L::lowest() : L::max();
  }
  template <class V> FN static V better(V a, V x) {
    if constexpr (largest)
      return select((x > a) | (x != x), x, a);
    else
      return select((x < a) | (x != x), x, a);
  }
  FN static Acc fold(Acc a, T x, int64_t) { return better(Lane<T>(a), Lane<T>(x)).v; }
  FN static Acc merge(Acc a, Acc b) { return fold(a, b, 0); }
  template <class V> FN static V merge(V a, V b) { return better(a, b); }
  template <class V> FN static V lift(V x) { return x; }
  FN static Out finish(Acc a, double) { return a; }
};
template <class T> using Max = Extreme<T, true>;
template <class T> using Min = Extreme<T, false>;
template <class T> struct Any {
  using Acc = bool;
  using Out = bool;
  FN static Acc start() { return false; }
  FN static Acc fold(Acc a, T x, int64_t) { return a | (x != T(0)); }
  FN static Acc merge(Acc a, Acc b) { return a | b; }
  FN static Out finish(Acc a, double) { return a; }
};
template <class T> struct All {
  using Acc = bool;
  using Out = bool;
  FN static Acc start() { return true; }
  FN static Acc fold(Acc a, T x, int64_t) { return a & (x != T(0)); }
  FN static Acc merge(Acc a, Acc b) { return a & b; }
  FN static Out finish(Acc a, double) { return a; }
};
template <class T, bool largest>
struct ArgExtreme {  // the first of equal ones; the first NaN where there is one
  struct Acc {
    T value;
    int64_t at;
  };
  using Out = int64_t;
  using Value = Extreme<T, largest>;
  FN static Acc start() { return {Extreme<T, largest>::start(), -1}; }
  FN static Acc better(Acc a, Acc b) {
    const bool a_nan = a.value != a.value, b_nan = b.value != b.value;
    const bool beats = a.at < 0 || (b_nan && !a_nan) ||
                       (!a_nan && (largest ? b.value > a.value : b.value < a.value));
    const bool ties = (a_nan && b_nan) || a.value == b.value;
    return b.at >= 0 && (beats || (ties && b.at < a.at)) ? b : a;
  }
  FN static Acc fold(Acc a, T x, int64_t at) { return better(a, {x, at}); }
  FN static Acc merge(Acc a, Acc b) { return better(a, b); }
  FN static Out finish(Acc a, double) { return a.at; }
};
template <class T> using ArgMax = ArgExtreme<T, true>;
template <class T> using ArgMin = ArgExtreme<T, false>;

}  // namespace
}  // namespace wengert::WENGERT_ISA
