// The elementwise ops: one row each. A row is a value, a gradient, and the fact what to save.
//
// V is a CPU vector (base/simd.h), a single lane of a CUDA kernel, Tensor, where the gradient
// itself must be differentiable, or Text, which writes source code; so a formula uses only the
// words of base/vocab.h, and `select` in place of `if`. x, or a and b, are the inputs, y the
// output, g the incoming gradient. A unary vjp gets g and the tensor that `saves` names.
// Subgradients at kinks are stated where there are any, and pinned by tests/rows.py.
//
// A gradient of 0 stays 0, whatever the slope: `times(g, slope)` and `over(g, x)` are g * slope and
// g / x, and 0 where g is 0. So a branch that `where` does not take adds nothing, also where its
// slope is infinite or NaN. `flat(g, x)` is g; it records that g depends on x, with the gradient 0:
// the second gradient of piecewise linear rows is 0, not missing.
#pragma once

#include <type_traits>

#include "base/fn.h"
#include "base/tile.h"

namespace wengert {

// What a vjp reads: its inputs, the output, or, with `other`, for the gradient of one input only
// the other one.
enum class Keep { nothing, input, output, other };
// Which dtypes a row takes: floating ones (integers are converted first), or all numbers.
enum class Takes { floating, numbers };

// How a row with numbers of its own, `p.a` and `p.b`, is given them.
template <class V> struct ParamsFor {
  using type = Params;
};
template <class V> using ParamsOf = typename ParamsFor<V>::type;

// A row is a Python function and a method, which bindings/elementwise.cpp makes of it. Words that a
// row may add:
//   params            names of the numbers that it takes, Params' a and b
//   defaults          their values
//   note              what the formulas do not say, for the docstring
//   of_whole_numbers  what it gives for integers, in place of a conversion to float32
//   refuses           for which b of integers there is no result, and `refusal`, what is said then
//   by_hand           its Python function, if there is one, is not made of the row
//
// Readers see the source text that the row's own formulas write (text.h). Where that hides the
// idea, the row ends with a text to show in its place: of the value, and of each gradient.
#define ROW(NAME, KEEP, TAKES, ...)                      \
  static constexpr auto name = NAME;                     \
  static constexpr Keep saves = Keep::KEEP;              \
  static constexpr Takes takes = Takes::TAKES;           \
  static constexpr const char* texts[3] = {__VA_ARGS__}; \
  template <class V>

// ---- One input ----

struct Neg {
  ROW("neg", nothing, numbers)
  FN static V value(V x) { return -x; }
  template <class V> FN static V vjp(V g, V) { return -g; }
};
struct Abs {
  ROW("abs", input, numbers)  // 0 at 0
  FN static V value(V x) { return abs(x); }
  template <class V> FN static V vjp(V g, V x) { return times(g, sign(x)); }
};
struct Sign {
  ROW("sign", nothing, numbers, nullptr, "0")
  FN static V value(V x) { return sign(x); }
  template <class V> FN static V vjp(V g, V) { return select(g != g, g, 0.0); }
};
struct Exp {
  ROW("exp", output, floating)
  FN static V value(V x) { return exp(x); }
  template <class V> FN static V vjp(V g, V y) { return times(g, y); }
};
struct Expm1 {
  static constexpr auto note = "accurate near 0";
  ROW("expm1", output, floating, "exp(x) - 1")
  FN static V value(V x) { return expm1(x); }
  template <class V> FN static V vjp(V g, V y) { return times(g, y + 1.0); }
};
struct Log {
  static constexpr auto note = "natural";
  ROW("log", input, floating)
  FN static V value(V x) { return log(x); }
  template <class V> FN static V vjp(V g, V x) { return over(g, x); }
};
struct Log1p {
  static constexpr auto note = "accurate near 0";
  ROW("log1p", input, floating, "log(1 + x)")
  FN static V value(V x) { return log1p(x); }
  template <class V> FN static V vjp(V g, V x) { return over(g, 1.0 + x); }
};
struct Exp2 {
  ROW("exp2", output, floating, "2 ** x", "g * log(2) * y")
  FN static V value(V x) { return exp2(x); }
  template <class V> FN static V vjp(V g, V y) { return times(g, 0.69314718055994531 * y); }
};
struct Log2 {
  ROW("log2", input, floating, nullptr, "g / (log(2) * x)")
  FN static V value(V x) { return log2(x); }
  template <class V> FN static V vjp(V g, V x) { return over(g, 0.69314718055994531 * x); }
};
struct Log10 {
  ROW("log10", input, floating, nullptr, "g / (log(10) * x)")
  FN static V value(V x) { return log10(x); }
  template <class V> FN static V vjp(V g, V x) { return over(g, 2.3025850929940457 * x); }
};
struct Sqrt {
  ROW("sqrt", output, floating)
  FN static V value(V x) { return sqrt(x); }
  template <class V> FN static V vjp(V g, V y) { return over(g, 2.0 * y); }
};
struct Rsqrt {
  ROW("rsqrt", output, floating)
  FN static V value(V x) { return 1.0 / sqrt(x); }
  template <class V> FN static V vjp(V g, V y) { return times(g, -0.5 * y * y * y); }
};
struct Reciprocal {
  ROW("reciprocal", output, floating)
  FN static V value(V x) { return 1.0 / x; }
  template <class V> FN static V vjp(V g, V y) { return times(-g, y * y); }
};
struct Square {
  ROW("square", input, numbers)
  FN static V value(V x) { return x * x; }
  template <class V> FN static V vjp(V g, V x) { return times(2.0 * g, x); }
};
struct Sin {
  static constexpr auto note = "x in radians";
  ROW("sin", input, floating)
  FN static V value(V x) { return sin(x); }
  template <class V> FN static V vjp(V g, V x) { return times(g, cos(x)); }
};
struct Cos {
  static constexpr auto note = "x in radians";
  ROW("cos", input, floating)
  FN static V value(V x) { return cos(x); }
  template <class V> FN static V vjp(V g, V x) { return times(-g, sin(x)); }
};
struct Tan {
  static constexpr auto note = "x in radians";
  ROW("tan", output, floating)
  FN static V value(V x) { return tan(x); }
  template <class V> FN static V vjp(V g, V y) { return times(g, 1.0 + y * y); }
};
struct Asin {
  ROW("asin", input, floating)
  FN static V value(V x) { return asin(x); }
  template <class V> FN static V vjp(V g, V x) { return over(g, sqrt((1.0 - x) * (1.0 + x))); }
};
struct Acos {
  ROW("acos", input, floating)
  FN static V value(V x) { return acos(x); }
  template <class V> FN static V vjp(V g, V x) { return -over(g, sqrt((1.0 - x) * (1.0 + x))); }
};
struct Atan {
  ROW("atan", input, floating)
  FN static V value(V x) { return atan(x); }
  template <class V> FN static V vjp(V g, V x) { return over(g, 1.0 + x * x); }
};
struct Sinh {
  ROW("sinh", input, floating)
  FN static V value(V x) { return sinh(x); }
  template <class V> FN static V vjp(V g, V x) { return times(g, cosh(x)); }
};
struct Cosh {
  ROW("cosh", input, floating)
  FN static V value(V x) { return cosh(x); }
  template <class V> FN static V vjp(V g, V x) { return times(g, sinh(x)); }
};
struct Asinh {
  ROW("asinh", input, floating, nullptr, "g / sqrt(x ** 2 + 1)")
  FN static V value(V x) { return asinh(x); }
  // x * x could overflow
  template <class V> FN static V vjp(V g, V x) { return over(g, hypot(x, 1.0)); }
};
struct Acosh {
  ROW("acosh", input, floating)
  FN static V value(V x) { return acosh(x); }
  template <class V> FN static V vjp(V g, V x) { return over(g, sqrt(x - 1.0) * sqrt(x + 1.0)); }
};
struct Atanh {
  ROW("atanh", input, floating)
  FN static V value(V x) { return atanh(x); }
  template <class V> FN static V vjp(V g, V x) { return over(g, (1.0 - x) * (1.0 + x)); }
};
struct Tanh {
  ROW("tanh", output, floating)
  FN static V value(V x) { return tanh(x); }
  template <class V> FN static V vjp(V g, V y) { return times(g, 1.0 - y * y); }
};
struct Sigmoid {
  ROW("sigmoid", output, floating, "1 / (1 + exp(-x))")
  FN static V value(V x) { return sigmoid(x); }
  template <class V> FN static V vjp(V g, V y) { return times(g, y * (1.0 - y)); }
};
struct Relu {
  ROW("relu", output, numbers)  // 0 at 0
  FN static V value(V x) { return maximum(x, 0.0); }
  template <class V> FN static V vjp(V g, V y) { return select(y <= 0.0, 0.0, flat(g, y)); }
};
struct LeakyRelu {
  static constexpr const char* params[] = {"negative_slope"};
  static constexpr Params defaults{0.01};
  ROW("leaky_relu", input, floating)  // a at 0
  FN static V value(V x, ParamsOf<V> p) { return select(x > 0.0, x, times(V(p.a), x)); }
  template <class V> FN static V vjp(V g, V x, ParamsOf<V> p) {
    g = flat(g, x);
    return select(x > 0.0, g, p.a * g);
  }
};
struct Elu {
  static constexpr const char* params[] = {"alpha"};
  static constexpr Params defaults{1.0};
  static constexpr auto note = "arXiv 1511.07289";
  ROW("elu", input, floating, "x where x > 0, else alpha * (exp(x) - 1)",
      "g where x > 0, else g * alpha * exp(x)")  // a at 0
  FN static V value(V x, ParamsOf<V> p) { return select(x > 0.0, x, p.a * expm1(minimum(x, 0.0))); }
  template <class V> FN static V vjp(V g, V x, ParamsOf<V> p) {
    return select(x > 0.0, g, times(g, p.a * exp(minimum(x, 0.0))));
  }
};
struct Gelu {  // Hendrycks and Gimpel 2016, arXiv 1606.08415
  static constexpr bool by_hand = true;
  ROW("gelu", input, floating, "x * (1 + erf(x / sqrt(2))) / 2",
      "g * (Phi(x) + x * phi(x)), Phi and phi of the normal distribution")
  // times: 0 at -inf
  FN static V value(V x) { return times(0.5 * (1.0 + erf(x * 0.70710678118654752)), x); }
  template <class V> FN static V vjp(V g, V x) {
    const V z = select(x < -40.0, -40.0, select(x > 40.0, 40.0, x));  // beyond, phi is 0
    const V cdf = 0.5 * (1.0 + erf(z * 0.70710678118654752));
    return times(g, cdf + z * (0.39894228040143268 * exp(-0.5 * z * z)));
  }
};
struct GeluTanh {
  static constexpr bool by_hand = true;
  ROW("gelu_tanh", input, floating,
      "x * (1 + tanh(u)) / 2, u = sqrt(2 / pi) * (x + 0.044715 * x ** 3)",
      "g * ((1 + tanh(u)) / 2 + x * (1 - tanh(u) ** 2) / 2 * du/dx)")
  FN static V value(V x) {
    return times(1.0 + tanh(0.79788456080286536 * (x + 0.044715 * x * x * x)), 0.5 * x);
  }
  template <class V> FN static V vjp(V g, V x) {
    const V z =
        select(x < -20.0, -20.0,
               select(x > 20.0, 20.0, x));  // beyond, t is 1 and a cube could overflow: 0 * inf
    const V t = tanh(0.79788456080286536 * (z + 0.044715 * z * z * z));
    const V du = 0.79788456080286536 * (1.0 + 0.134145 * z * z);
    return times(g, 0.5 * (1.0 + t) + 0.5 * z * (1.0 - t * t) * du);
  }
};
struct Silu {
  static constexpr auto note = "also called swish";
  ROW("silu", input, floating, nullptr, "g * s * (1 + x * (1 - s)), s = sigmoid(x)")
  FN static V value(V x) { return times(sigmoid(x), x); }  // 0 at -inf
  template <class V> FN static V vjp(V g, V x) {
    const V z = select(x < -1000.0, -1000.0, select(x > 1000.0, 1000.0, x));  // beyond, s is 0 or 1
    const V s = sigmoid(z);
    return times(g, s * (1.0 + z * (1.0 - s)));
  }
};
struct Mish {
  static constexpr auto note = "arXiv 1908.08681";
  // With e = exp(x), tanh(log(1 + e)) is n / (n + 2). Beyond 20 it is 1.
  ROW("mish", input, floating, "x * tanh(log(1 + exp(x)))",
      "g * (t + x * (1 - t ** 2) * sigmoid(x)), t = tanh(log(1 + exp(x)))")
  FN static V value(V x) {
    const V e = exp(minimum(x, 20.0)), n = e * (e + 2.0);
    return times(n / (n + 2.0), x);
  }
  template <class V> FN static V vjp(V g, V x) {
    const V z = select(x < -1000.0, -1000.0, minimum(x, 20.0)), e = exp(z), n = e * (e + 2.0);
    const V slope = (n + 4.0 * z * e * (e + 1.0) / (n + 2.0)) / (n + 2.0);
    return times(g, select(x > 20.0, 1.0, slope));
  }
};
struct Hardswish {
  static constexpr auto note = "0 up to -3. arXiv 1905.02244";
  ROW("hardswish", input, floating, "x * clamp(x + 3, 0, 6) / 6",
      "g * (x / 3 + 1 / 2) where |x| < 3, g above")  // 0 at -3, 1 at 3
  FN static V value(V x) {
    return times(minimum(maximum(x + 3.0, 0.0), 6.0) * 0.16666666666666666, x);
  }
  template <class V> FN static V vjp(V g, V x) {
    return times(g, select(x <= -3.0, 0.0, select(x >= 3.0, 1.0, x * 0.33333333333333333 + 0.5)));
  }
};
struct Softplus {
  ROW("softplus", input, floating, "log(1 + exp(x))")
  FN static V value(V x) { return maximum(x, 0.0) + log1p(exp(-abs(x))); }
  template <class V> FN static V vjp(V g, V x) { return times(g, sigmoid(x)); }
};
struct Erf {
  ROW("erf", input, floating, nullptr, "g * 2 / sqrt(pi) * exp(-x * x)")
  FN static V value(V x) { return erf(x); }
  template <class V> FN static V vjp(V g, V x) {
    return times(g, 1.1283791670955126 * exp(-x * x));
  }
};
struct Erfinv {
  static constexpr auto note = "the inverse of erf: infinite at -1 and 1, NaN beyond";
  ROW("erfinv", output, floating, nullptr, "g * sqrt(pi) / 2 * exp(y * y)")
  FN static V value(V x) { return erfinv(x); }
  template <class V> FN static V vjp(V g, V y) {
    return times(g, 0.88622692545275801 * exp(y * y));
  }
};
struct Lgamma {
  static constexpr auto note = "log(|gamma(x)|)";
  ROW("lgamma", input, floating, nullptr, "g * digamma(x)")
  FN static V value(V x) { return lgamma(x); }
  template <class V> FN static V vjp(V g, V x) { return times(g, polygamma(x, 0.0)); }
};
struct Polygamma {  // digamma, the derivative of lgamma, and its derivatives
  static constexpr bool by_hand = true;
  static constexpr const char* params[] = {"n"};
  ROW("polygamma", input, floating)
  FN static V value(V x, ParamsOf<V> p) { return polygamma(x, p.a); }
  template <class V> FN static V vjp(V g, V x, ParamsOf<V> p) {
    return times(g, polygamma(x, p.a + 1.0));
  }
};
struct Clamp {
  static constexpr bool by_hand = true;
  static constexpr const char* params[] = {"min", "max"};
  ROW("clamp", input, numbers)  // 1 at both ends
  FN static V value(V x, ParamsOf<V> p) { return minimum(maximum(x, p.a), p.b); }
  template <class V> FN static V vjp(V g, V x, ParamsOf<V> p) {
    return select(x < p.a, 0.0, select(x > p.b, 0.0, flat(g, x)));
  }
};
struct Hardtanh {
  static constexpr bool by_hand = true;
  static constexpr const char* params[] = {"min_val", "max_val"};
  ROW("hardtanh", input, floating)  // 0 at both ends
  FN static V value(V x, ParamsOf<V> p) { return minimum(maximum(x, p.a), p.b); }
  template <class V> FN static V vjp(V g, V x, ParamsOf<V> p) {
    return select(x <= p.a, 0.0, select(x >= p.b, 0.0, flat(g, x)));
  }
};
struct Huber {  // of huber_loss and smooth_l1_loss
  static constexpr bool by_hand = true;
  static constexpr const char* params[] = {"delta"};
  ROW("huber", input, floating, "x ** 2 / 2 where |x| < delta, else delta * (|x| - delta / 2)",
      "g * clamp(x, -delta, delta)")
  FN static V value(V x, ParamsOf<V> p) {
    const V near = minimum(abs(x), p.a);
    return near * (abs(x) - near * 0.5);
  }
  template <class V> FN static V vjp(V g, V x, ParamsOf<V> p) {
    return times(g, minimum(maximum(x, -p.a), p.a));
  }
};
struct Floor {
  static constexpr auto of_whole_numbers = "x";
  ROW("floor", nothing, floating, nullptr, "0")
  FN static V value(V x) { return floor(x); }
  template <class V> FN static V vjp(V g, V) { return select(g != g, g, 0.0); }
};
struct Ceil {
  static constexpr auto of_whole_numbers = "x";
  ROW("ceil", nothing, floating, nullptr, "0")
  FN static V value(V x) { return ceil(x); }
  template <class V> FN static V vjp(V g, V) { return select(g != g, g, 0.0); }
};
struct Round {
  static constexpr auto of_whole_numbers = "x";
  ROW("round", nothing, floating, "round(x), halves to even", "0")
  FN static V value(V x) { return round(x); }
  template <class V> FN static V vjp(V g, V) { return select(g != g, g, 0.0); }
};
struct Trunc {
  static constexpr auto of_whole_numbers = "x";
  ROW("trunc", nothing, floating, nullptr, "0")
  FN static V value(V x) { return trunc(x); }
  template <class V> FN static V vjp(V g, V) { return select(g != g, g, 0.0); }
};

// ---- Two inputs, which broadcast ----

struct Add {
  ROW("add", nothing, numbers)
  FN static V value(V a, V b) { return a + b; }
  template <class V> FN static V da(V g, V, V) { return g; }
  template <class V> FN static V db(V g, V, V) { return g; }
};
struct Sub {
  ROW("sub", nothing, numbers)
  FN static V value(V a, V b) { return a - b; }
  template <class V> FN static V da(V g, V, V) { return g; }
  template <class V> FN static V db(V g, V, V) { return -g; }
};
struct Mul {
  ROW("mul", other, numbers)
  FN static V value(V a, V b) { return a * b; }
  template <class V> FN static V da(V g, V, V b) { return times(g, b); }
  template <class V> FN static V db(V g, V a, V) { return times(g, a); }
};
struct Div {
  ROW("div", input, floating)
  FN static V value(V a, V b) { return a / b; }
  template <class V> FN static V da(V g, V, V b) { return over(g, b); }
  template <class V> FN static V db(V g, V a, V b) {
    return -times(over(g, b), a / b);
  }  // b * b could overflow
};
struct Pow {
  static constexpr auto refusal =
      "an integer to a negative power is no integer; convert with .float() first";
  template <class V> FN static auto refuses(const V& b) { return b < 0.0; }
  ROW("pow", input, numbers, nullptr, nullptr, "g * log(a) * a ** b")
  FN static V value(V a, V b) { return pow(a, b); }
  template <class V> FN static V da(V g, V a, V b) {
    return times(g, times(b, pow(a, b - 1.0)));  // 0 where b is
  }
  template <class V> FN static V db(V g, V a, V b) {  // 0 where a is 0 and b >= 0: the limit
    return times(g, times(log(select(a == 0.0, select(b >= 0.0, 1.0, a), a)), pow(a, b)));
  }
};
struct Maximum {
  static constexpr auto note = "NaN if either is";
  ROW("maximum", input, numbers)
  FN static V value(V a, V b) { return maximum(a, b); }
  template <class V> FN static V da(V g, V a, V b) {
    g = flat(flat(g, a), b);
    return select(a == b, 0.5 * g, select(a < b, 0.0, g));
  }
  template <class V> FN static V db(V g, V a, V b) {
    g = flat(flat(g, a), b);
    return select(a == b, 0.5 * g, select(b < a, 0.0, g));
  }
};
struct Minimum {
  static constexpr auto note = "NaN if either is";
  ROW("minimum", input, numbers)
  FN static V value(V a, V b) { return minimum(a, b); }
  template <class V> FN static V da(V g, V a, V b) {
    g = flat(flat(g, a), b);
    return select(a == b, 0.5 * g, select(a > b, 0.0, g));
  }
  template <class V> FN static V db(V g, V a, V b) {
    g = flat(flat(g, a), b);
    return select(a == b, 0.5 * g, select(b > a, 0.0, g));
  }
};
struct FloorDivide {
  static constexpr auto refusal = "integer division by zero";
  template <class V> FN static auto refuses(const V& b) { return b == 0.0; }
  ROW("floor_divide", nothing, numbers, nullptr, "0", "0")
  FN static V value(V a, V b) { return floor_divide(a, b); }
  template <class V> FN static V da(V g, V, V) { return select(g != g, g, 0.0); }
  template <class V> FN static V db(V g, V, V) { return select(g != g, g, 0.0); }
};
struct Remainder {
  static constexpr auto refusal = "integer division by zero";
  template <class V> FN static auto refuses(const V& b) { return b == 0.0; }
  static constexpr auto note = "the sign is b's, as in Python";
  ROW("remainder", input, numbers)
  FN static V value(V a, V b) { return remainder(a, b); }
  template <class V> FN static V da(V g, V, V) { return g; }
  template <class V> FN static V db(V g, V a, V b) { return -times(g, floor_divide(a, b)); }
};
struct Fmod {
  static constexpr auto refusal = "integer division by zero";
  template <class V> FN static auto refuses(const V& b) { return b == 0.0; }
  static constexpr auto note = "the sign is a's, as in C";
  ROW("fmod", input, numbers)
  FN static V value(V a, V b) { return fmod(a, b); }
  template <class V> FN static V da(V g, V, V) { return g; }
  template <class V> FN static V db(V g, V a, V b) { return -times(g, trunc(a / b)); }
};
struct Copysign {
  static constexpr auto note = "|a| with the sign of b, which a zero and NaN have too";
  ROW("copysign", input, floating, nullptr, "g where a and b have one sign, -g where not", "0")
  FN static V value(V a, V b) { return copysign(a, b); }
  template <class V> FN static V da(V g, V a, V b) {  // 0 where a is
    return times(g, sign(a) * copysign(sign(a), b));
  }
  template <class V> FN static V db(V g, V, V) { return select(g != g, g, 0.0); }
};
struct NextAfter {
  static constexpr bool by_hand = true;
  ROW("nextafter", nothing, floating, nullptr, nullptr, "0")
  FN static V value(V a, V b) { return nextafter(a, b); }
  template <class V> FN static V da(V g, V, V) { return g; }
  template <class V> FN static V db(V g, V, V) { return select(g != g, g, 0.0); }
};
struct Atan2 {
  static constexpr auto note = "the angle of the point (b, a), from -pi to pi";
  ROW("atan2", input, floating, nullptr, "g * b / (a ** 2 + b ** 2)", "-g * a / (a ** 2 + b ** 2)")
  FN static V value(V a, V b) { return atan2(a, b); }
  template <class V> FN static V da(V g, V a, V b) {  // 0 where both are 0; squares could overflow
    const V h = hypot(a, b);
    return times(g, over(over(b, h), h));
  }
  template <class V> FN static V db(V g, V a, V b) { return -da(g, b, a); }
};
struct Hypot {
  ROW("hypot", input, floating, "sqrt(a ** 2 + b ** 2)")  // 0 where both are 0
  FN static V value(V a, V b) { return hypot(a, b); }
  template <class V> FN static V da(V g, V a, V b) { return times(g, over(a, hypot(a, b))); }
  template <class V> FN static V db(V g, V a, V b) { return times(g, over(b, hypot(a, b))); }
};
struct Logaddexp {
  template <class V> FN static V apart(V a, V b) {  // of equal infinities, 0
    const V d = a - b;
    return select(d != d, select(a == b, 0.0, d), d);
  }
  ROW("logaddexp", input, floating, "log(exp(a) + exp(b))", "g * sigmoid(a - b)",
      "g * sigmoid(b - a)")
  FN static V value(V a, V b) { return maximum(a, b) + log1p(exp(-abs(apart(a, b)))); }
  template <class V> FN static V da(V g, V a, V b) { return times(g, sigmoid(apart(a, b))); }
  template <class V> FN static V db(V g, V a, V b) { return times(g, sigmoid(apart(b, a))); }
};
struct Xlogy {
  static constexpr auto note = "0 where a is 0, unless b is NaN";
  ROW("xlogy", input, floating, "a * log(b)", "g * log(b)", "g * a / b")
  FN static V value(V a, V b) { return select(b != b, b, times(a, log(b))); }
  template <class V> FN static V da(V g, V a, V b) {  // 0 where a is 0 and b <= 0
    return times(g, log(select(a == 0.0, select(b <= 0.0, 1.0, b), b)));
  }
  template <class V> FN static V db(V g, V a, V b) { return times(g, over(a, b)); }
};
// Binary cross-entropy of logit a against target b; 0 where a is infinite and b says so.
struct BceWithLogits {
  static constexpr bool by_hand = true;
  ROW("bce_with_logits", input, floating, "max(a, 0) - a * b + log(1 + exp(-|a|))")
  FN static V value(V a, V b) {
    return times(select(a > 0.0, 1.0 - b, -b), a) + log1p(exp(-abs(a)));
  }
  template <class V> FN static V da(V g, V a, V b) { return times(g, sigmoid(a) - b); }
  template <class V> FN static V db(V g, V a, V) { return -times(g, a); }
};
// What gradients are made with; see above.
struct Times {
  static constexpr bool by_hand = true;
  ROW("times", input, floating, "a * b, 0 where a is 0", nullptr, "g * a")
  FN static V value(V a, V b) { return times(a, b); }
  template <class V> FN static V da(V g, V, V b) { return times(g, b); }
  template <class V> FN static V db(V g, V a, V) { return select(g == 0.0, g, times(a, g)); }
};
struct Over {
  static constexpr bool by_hand = true;
  ROW("over", input, floating, "a / b, 0 where a is 0", nullptr, "-g * a / b ** 2")
  FN static V value(V a, V b) { return over(a, b); }
  template <class V> FN static V da(V g, V, V b) { return over(g, b); }
  template <class V> FN static V db(V g, V a, V b) {
    return -select(g == 0.0, g, times(over(a, b), over(g, b)));
  }
};
struct Flat {
  static constexpr bool by_hand = true;
  ROW("flat", nothing, floating, "a, whatever b is", nullptr, "0")
  FN static V value(V a, V) { return a; }
  template <class V> FN static V da(V g, V, V) { return g; }
  template <class V> FN static V db(V g, V, V) { return select(g != g, g, 0.0); }
};

#undef ROW

// ---- Comparisons, giving bool, and logic; neither has a gradient ----

#define TEST(ROW, NAME, SIGN)                                              \
  struct ROW {                                                             \
    static constexpr auto name = NAME;                                     \
    template <class V> FN static auto value(V a, V b) { return a SIGN b; } \
  };
TEST(Eq, "eq", ==)
TEST(Ne, "ne", !=)
TEST(Lt, "lt", <)
TEST(Le, "le", <=)
TEST(Gt, "gt", >)
TEST(Ge, "ge", >=)
#undef TEST

#define LOGIC(ROW, NAME, SIGN)                                                          \
  struct ROW {                                                                          \
    static constexpr auto name = NAME;                                                  \
    template <class V> FN static V value(V a, V b) { return static_cast<V>(a SIGN b); } \
  };
LOGIC(And, "bitwise_and", &)
LOGIC(Or, "bitwise_or", |)
LOGIC(Xor, "bitwise_xor", ^)
#undef LOGIC

// By all bits or more, or by less than none: 0, or, to the right, what the sign fills.
template <class T> FN T shift_left(T a, T b) {
  const auto n = static_cast<int64_t>(b);
  const bool fits = n >= 0 && n < static_cast<int64_t>(8 * sizeof(T));
  return static_cast<T>(fits ? static_cast<uint64_t>(a) << n : 0);
}
template <class T> FN T shift_right(T a, T b) {
  const auto n = static_cast<int64_t>(b), x = static_cast<int64_t>(a);
  const bool fits = n >= 0 && n < static_cast<int64_t>(8 * sizeof(T));
  return static_cast<T>(x >> (fits ? n : 63));
}
struct LeftShift {
  static constexpr auto name = "bitwise_left_shift";
  static constexpr bool of_integers = true;  // not of bools
  template <class V> FN static V value(V a, V b) { return shift_left(a, b); }
};
struct RightShift {
  static constexpr auto name = "bitwise_right_shift";
  static constexpr bool of_integers = true;
  template <class V> FN static V value(V a, V b) { return shift_right(a, b); }
};

// ---- The lists ----

template <class... Rows> struct List {
  static constexpr int size = sizeof...(Rows);
};
using UnaryRows =
    List<Neg, Abs, Sign, Exp, Expm1, Exp2, Log, Log1p, Log2, Log10, Sqrt, Rsqrt, Reciprocal, Square,
         Sin, Cos, Tan, Asin, Acos, Atan, Sinh, Cosh, Asinh, Acosh, Atanh, Tanh, Sigmoid, Relu,
         LeakyRelu, Elu, Gelu, GeluTanh, Silu, Mish, Hardswish, Softplus, Erf, Erfinv, Lgamma,
         Polygamma, Clamp, Hardtanh, Huber, Floor, Ceil, Round, Trunc>;
using BinaryRows =
    List<Add, Sub, Mul, Div, Pow, Maximum, Minimum, FloorDivide, Remainder, Fmod, Copysign,
         NextAfter, Atan2, Hypot, Logaddexp, Xlogy, BceWithLogits, Times, Over, Flat>;

using TestRows = List<Eq, Ne, Lt, Le, Gt, Ge>;
using LogicRows = List<And, Or, Xor, LeftShift, RightShift>;

template <class Row, class... Rows> FN constexpr int index_of(List<Rows...>) {
  int i = 0;
  (void)((std::is_same_v<Row, Rows> || (++i, false)) || ...);
  return i;
}

}  // namespace wengert
