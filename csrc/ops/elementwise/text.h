// Text: a value type whose words write source code. A row's formula, instantiated with it, gives an
// expression, which `write` spells in a dialect. Only elementwise.cpp does so: kernels never see
// it.
#pragma once

#include <memory>
#include <vector>

#include "graph/op.h"
#include "ops/elementwise/rows.h"

namespace wengert {

class Text {
 public:
  explicit Text(const char* operand) : Text(operand, 0, {}) {}
  Text(double number) : Text(nullptr, number, {}) {}  // NOLINT: implicit on purpose, `1.0 + x`

  // The lines of code: `name = ...` of what is used more than once, then the result.
  Source write(Dialect dialect) const;

  friend Text operator-(const Text& x) { return {"neg", 0, {x}}; }
  friend Text flat(const Text& g, const Text&) { return g; }
  friend Text select(const Text& condition, const Text& a, const Text& b) {
    return {"select", 0, {condition, a, b}};
  }

 private:
  struct Node {
    const char* word;  // null: a number
    double number;
    std::vector<Text> of;  // empty: an operand, or a number
  };
  struct Writer;
  Text(const char* word, double number, std::vector<Text> of)
      : node_(std::make_shared<const Node>(Node{word, number, std::move(of)})) {}
  std::shared_ptr<const Node> node_;

 public:
#define UNARY(word) \
  friend Text word(const Text& x) { return {#word, 0, {x}}; }
#define BINARY(word, spelling) \
  friend Text word(const Text& a, const Text& b) { return {spelling, 0, {a, b}}; }
  // clang-format off
  UNARY(abs) UNARY(sign) UNARY(exp) UNARY(expm1) UNARY(log) UNARY(log1p) UNARY(sqrt) UNARY(sin)
  UNARY(cos) UNARY(tanh) UNARY(sigmoid) UNARY(erf) UNARY(floor) UNARY(ceil) UNARY(round)
  UNARY(trunc) UNARY(exp2) UNARY(log2) UNARY(log10) UNARY(tan) UNARY(asin) UNARY(acos) UNARY(atan)
  UNARY(sinh) UNARY(cosh) UNARY(asinh) UNARY(acosh) UNARY(atanh) UNARY(erfinv) UNARY(lgamma)
  BINARY(operator+, "+") BINARY(operator-, "-") BINARY(operator*, "*") BINARY(operator/, "/")
  BINARY(operator==, "==") BINARY(operator!=, "!=") BINARY(operator<, "<") BINARY(operator<=, "<=")
  BINARY(operator>, ">") BINARY(operator>=, ">=") BINARY(operator&, "&") BINARY(operator|, "|")
  BINARY(operator^, "^") BINARY(pow, "**") BINARY(floor_divide, "//") BINARY(remainder, "%")
  BINARY(maximum, "maximum") BINARY(minimum, "minimum") BINARY(times, "times") BINARY(over, "over")
  BINARY(fmod, "fmod") BINARY(copysign, "copysign") BINARY(atan2, "atan2") BINARY(hypot, "hypot")
  BINARY(nextafter, "nextafter") BINARY(polygamma, "polygamma")
  BINARY(shift_left, "<<") BINARY(shift_right, ">>")
};
// clang-format on
#undef UNARY
#undef BINARY

template <> struct ParamsFor<Text> {
  struct type {
    Text a, b;
  };
};

}  // namespace wengert
