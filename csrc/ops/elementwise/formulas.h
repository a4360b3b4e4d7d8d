// The rows as functions of plain values: what one thread of a GPU computes of one element, in the
// kernels of single ops (ops/elementwise/elementwise.cu) and in those of fused chains
// (ops/elementwise/chain_kernel.h).
#pragma once

#include "base/vocab.h"
#include "ops/elementwise/rows.h"

namespace wengert::WENGERT_ISA {

template <class Row, class T> struct UnaryFormula {
  static constexpr auto name = Row::name;
  FN static T apply(const Params& p, T x) {
    if constexpr (requires { Row::value(Lane<T>(x), p); })
      return Row::value(Lane<T>(x), p).v;
    else
      return Row::value(Lane<T>(x)).v;
  }
};
template <class Row, class T> struct VjpFormula {
  static constexpr auto name = Row::name;
  FN static T apply(const Params& p, T g, T kept) {
    if constexpr (requires { Row::vjp(Lane<T>(g), Lane<T>(kept), p); })
      return Row::vjp(Lane<T>(g), Lane<T>(kept), p).v;
    else
      return Row::vjp(Lane<T>(g), Lane<T>(kept)).v;
  }
};
template <class Row, class T> struct BinaryFormula {
  static constexpr auto name = Row::name;
  FN static T apply(const Params&, T a, T b) { return Row::value(Lane<T>(a), Lane<T>(b)).v; }
};
template <class Row, class T, class Out> struct PlainFormula {
  static constexpr auto name = Row::name;
  FN static Out apply(const Params&, T a, T b) { return Row::value(a, b); }
};
template <class T> struct WhereFormula {
  static constexpr auto name = "where";
  FN static T apply(const Params&, bool c, T a, T b) { return c ? a : b; }
};

}  // namespace wengert::WENGERT_ISA
