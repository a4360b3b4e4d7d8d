// Folds that only scans have; sums and products are in ops/reduce/folds.h. For CPU and GPU.
#pragma once

#include <math.h>

#include "ops/reduce/folds.h"

namespace wengert::WENGERT_ISA {
namespace {

template <class T, bool largest>
struct Latest {  // the last of equal ones; from the first NaN on, the last NaN
  struct Acc {
    T value;
    int64_t at;
  };
  using Out = T;
  FN static Acc start() { return {Extreme<T, largest>::start(), -1}; }
  FN static Acc fold(Acc a, T x, int64_t at) {
    return (largest ? x >= a.value : x <= a.value) || x != x ? Acc{x, at} : a;
  }
  FN static Acc merge(Acc a, Acc b) { return b.at < 0 ? a : fold(a, b.value, b.at); }
  FN static Out finish(Acc a, double) { return a.value; }
};
template <class T> using LatestMax = Latest<T, true>;
template <class T> using LatestMin = Latest<T, false>;

template <class T> struct LogSumExp {
  struct Acc {
    double top, sum;  // log(exp(x) + ...) = top + log(sum)
  };
  using Out = T;
  FN static Acc start() { return {-INFINITY, 0}; }
  FN static Acc merge(Acc a, Acc b) {
    if (a.top == b.top) return {a.top, a.sum + b.sum};  // infinite, perhaps
    if (a.top > b.top) return {a.top, a.sum + b.sum * ::exp(b.top - a.top)};
    return {b.top, a.sum * ::exp(a.top - b.top) + b.sum};
  }
  FN static Acc fold(Acc a, T x, int64_t) { return merge(a, {static_cast<double>(x), 1}); }
  FN static Out finish(Acc a, double) { return static_cast<Out>(a.top + ::log(a.sum)); }
};

template <class T> struct Affine {  // h = a * (the h before) + b, from 0 on
  struct Acc {
    double a, b;
  };
  using Out = T;
  FN static Acc start() { return {1, 0}; }
  FN static Acc merge(Acc f, Acc g) { return {f.a * g.a, f.b * g.a + g.b}; }
  FN static Acc fold(Acc f, T a, T b) { return merge(f, {double(a), double(b)}); }
  FN static Out finish(Acc f, double) { return static_cast<Out>(f.b); }
};

}  // namespace
}  // namespace wengert::WENGERT_ISA
