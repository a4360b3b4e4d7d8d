// Elementwise functions and methods: one of each row of ops/elementwise/rows.h, its docstring from
// the row's formulas; by hand those that are more than a row.
#include <cfloat>

#include "bindings/fast.h"

namespace wengert::bindings {

namespace {

// ---- of rows ----

// What a row gives for numbers, as Python prints it; for a larger first one where that is NaN.
template <class F>
std::string example(const char* name, double a, std::optional<double> b, DType dtype, F f) {
  const auto operand = [&](double number) { return full({}, number, dtype); };
  Tensor y;
  if constexpr (std::is_invocable_v<F, const Tensor&>)
    y = f(operand(a));
  else
    y = f(operand(a), operand(*b));
  py::object value = item(y);
  if (const auto v = value.cast<double>(); v != v) return example(name, a + 1, b, dtype, f);
  std::string call = concat("wg.", name, b ? "(" : "(wg.tensor(", a, b ? concat(", ", *b) : ")");
  call += ").item()";
  if (is_floating(y.dtype())) {
    call = concat("round(", call, ", 4)");
    value = py::module_::import("builtins").attr("round")(value, 4);
  }
  return concat(">>> ", call, '\n', py::repr(value).cast<std::string>());
}

template <class Row, class F>
std::string doc_of(const Op& op, F f, double a, std::optional<double> b = {},
                   DType dtype = DType::float32) {
  std::string doc = formula_of(op);
  if constexpr (requires { Row::note; }) doc += concat("; ", Row::note);
  const std::vector<std::string> gradients = gradients_of(op), operands = operands_of(op);
  for (size_t i = 0; i < gradients.size(); ++i)
    doc += concat(i ? ", d" : ". Gradient: d", operands[i], " = ", gradients[i]);
  if constexpr (requires { Row::of_whole_numbers; })
    doc += ". Integers stay as they are";
  else if constexpr (requires { Row::takes; })
    if (Row::takes == Takes::floating) doc += ". Integers become float32";
  doc += b ? ".\n\na and b broadcast; ShapeError where they cannot."
           : ".\n\nThe result has x's shape.";
  return concat(doc, " DTypeError of what is no number.\n\n", example(Row::name, a, b, dtype, f));
}

// A function of x, which may be a number or an array too, and the method.
template <class... Rest, class... Extra>
void of_one(py::module_& m, TensorClass& cls, const char* name, Tensor (*f)(const Tensor&, Rest...),
            const Extra&... extra) {
  const auto function = [name, f](py::handle x, Rest... rest) {
    return f(to_operand(name, x, Tensor()), rest...);
  };
  m.def(name, function, py::arg("x"), extra...);
  cls.def(name, f, extra...);
}

template <class Row, class Rows> void add_row(py::module_& m, TensorClass& cls, Rows) {
  constexpr bool is_unary = std::is_same_v<Rows, UnaryRows>;
  if constexpr (requires { Row::by_hand; })
    return;
  else if constexpr (is_unary && requires { Row::params; }) {
    static_assert(std::size(Row::params) == 1, "a row with more parameters is bound by hand");
    const auto f = [](const Tensor& x, double a) { return unary<Row>(x, {a}); };
    const auto usual = [=](const Tensor& x) { return f(x, Row::defaults.a); };
    of_one(m, cls, Row::name, +f, py::arg(Row::params[0]) = Row::defaults.a,
           doc_of<Row>(unary_op<Row>(), usual, -0.5).c_str());
  } else if constexpr (is_unary) {
    const auto f = [](const Tensor& x) { return unary<Row>(x); };
    add_unary<Row>(m, cls, doc_of<Row>(unary_op<Row>(), f, -0.5).c_str());
  } else {
    const auto add = [&](const Op& op, auto f, double a, double b, DType dtype) {
      add_binary(m, cls, Row::name, f, doc_of<Row>(op, f, a, b, dtype).c_str());
    };
    if constexpr (std::is_same_v<Rows, BinaryRows>)
      add(binary_op<Row>(), binary<Row>, 0.5, 2.0, DType::float32);
    else if constexpr (std::is_same_v<Rows, TestRows>)
      add(test_op<Row>(), test<Row>, 0.5, 2.0, DType::float32);
    else
      add(logic_op<Row>(), logic<Row>, 6, 3, DType::int64);
  }
}
template <class... Rows> void add_rows(py::module_& m, TensorClass& cls, List<Rows...> rows) {
  (add_row<Rows>(m, cls, rows), ...);
}

// ---- by hand ----

std::optional<Number> bound(const char* name, py::handle given) {
  return given.is_none() ? std::optional<Number>() : to_number("clamp", name, given);
}

Tensor nan_to_num(const Tensor& x, double nan, std::optional<double> posinf,
                  std::optional<double> neginf) {
  if (!is_floating(x.dtype())) return clone(x);
  const double largest = x.dtype() == DType::float64    ? DBL_MAX
                         : x.dtype() == DType::bfloat16 ? 0x1.fep127
                                                        : FLT_MAX;
  const Tensor y = select(x == INFINITY, posinf.value_or(largest), select(x != x, nan, x));
  return select(x == -INFINITY, neginf.value_or(-largest), y);
}

Tensor gelu(const Tensor& x, const std::string& approximate) {
  if (approximate == "tanh") return unary<GeluTanh>(x);
  if (approximate != "none")
    fail<ValueError>("gelu: approximate is \"", approximate, "\"; expected \"none\" or \"tanh\"",
                     did_you_mean(approximate, {"none", "tanh"}));
  return unary<Gelu>(x);
}

}  // namespace

void add_elementwise(py::module_& m, TensorClass& cls) {
  add_rows(m, cls, UnaryRows{});
  add_rows(m, cls, BinaryRows{});
  add_rows(m, cls, TestRows{});
  add_rows(m, cls, LogicRows{});

  of_one(m, cls, "gelu", gelu, py::arg("approximate") = "none",
         "x * P(normal < x), exactly (erf) or by a tanh. arXiv 1606.08415.");
  of_one(
      m, cls, "clamp",
      +[](const Tensor& x, py::handle min, py::handle max) {
        return clamp(x, bound("min", min), bound("max", max));
      },
      py::arg("min") = py::none(), py::arg("max") = py::none(),
      "x within [min, max]; gradient 1 at both ends.");
  of_one(
      m, cls, "hardtanh",
      +[](const Tensor& x, double low, double high) {
        if (low >= high)
          fail<ValueError>("hardtanh: min_val is ", low, " and max_val is ", high,
                           "; expected min_val < max_val");
        return unary<Hardtanh>(x, {low, high});
      },
      py::arg("min_val") = -1.0, py::arg("max_val") = 1.0,
      "x within [min_val, max_val]; gradient 0 at both ends. Integers become float32.");
  add_binary(
      m, cls, "nextafter",
      [](const Tensor& a, const Tensor& b) {
        if (promote(a.dtype(), b.dtype()) == DType::bfloat16)
          fail<DTypeError>(
              "nextafter: does not support bfloat16, which is computed in float32; "
              "convert with .float() first");
        return binary<NextAfter>(a, b);
      },
      "The number next to a, towards b. Gradient: da = g, db = 0. Integers become float32.");
  const auto polygamma_of = [](int64_t n, const Tensor& x) {
    if (n < 0 || n > 100)
      fail<ValueError>("polygamma: n is ", n, "; expected a whole number from 0 to 100");
    return polygamma(x, static_cast<double>(n));
  };
  const char* of_digamma =
      "Derivative n of digamma, itself that of lgamma. Gradient: dx = g * polygamma(n + 1, x). "
      "Integers become float32.";
  m.def("polygamma", polygamma_of, py::arg("n"), py::arg("x"), of_digamma);
  cls.def(
      "polygamma", [=](const Tensor& x, int64_t n) { return polygamma_of(n, x); }, py::arg("n"),
      of_digamma);
  of_one(
      m, cls, "digamma", +[](const Tensor& x) { return polygamma(x, 0); },
      "The derivative of lgamma; polygamma(0, x). Integers become float32.");
  of_one(
      m, cls, "signbit",
      +[](const Tensor& x) {
        return (is_floating(x.dtype()) ? copysign(scalar_like(1.0, x), x) : x) < 0.0;
      },
      "Is the sign set, also of -0.0 and NaN? A bool tensor.");
  of_one(
      m, cls, "nan_to_num", nan_to_num, py::arg("nan") = 0.0, py::arg("posinf") = py::none(),
      py::arg("neginf") = py::none(),
      "x with `nan` for NaN, and posinf and neginf for the infinities: None is the largest and the "
      "lowest number of the dtype. Gradient 0 there. Integers stay as they are.");
  const auto logical = [&](const char* name, auto f) {
    add_binary(
        m, cls, name, [f](const Tensor& a, const Tensor& b) { return f(a != 0.0, b != 0.0); },
        "Of truth values: not zero is true.");
  };
  logical("logical_and", logic<And>);
  logical("logical_or", logic<Or>);
  logical("logical_xor", logic<Xor>);
  of_one(m, cls, "logical_not", +[](const Tensor& x) { return x == 0.0; }, "x == 0.");
  of_one(m, cls, "isnan", +[](const Tensor& x) { return x != x; }, "Is it NaN?");
  of_one(
      m, cls, "isinf",
      +[](const Tensor& x) { return abs(to_dtype(x, to_floating(x.dtype()))) == INFINITY; },
      "Is it an infinity?");
  of_one(
      m, cls, "isfinite",
      +[](const Tensor& x) { return abs(to_dtype(x, to_floating(x.dtype()))) < INFINITY; },
      "Is it neither NaN nor an infinity?");
  m.def(
      "where",
      [](const Tensor& condition, py::handle a, py::handle b) {
        return of_two("where", [&](const Tensor& x, const Tensor& y) {
          return where(condition, x, y);
        })(a, b);
      },
      py::arg("condition"), py::arg("a"), py::arg("b"),
      "a where the condition (bool) holds, else b; the three broadcast. DTypeError unless the "
      "condition is bool.\n\n"
      ">>> wg.where(wg.tensor([True, False]), wg.ones(2), 0.0)\n"
      "tensor([1., 0.])");
  m.def("_times", of_two("times", binary<Times>), py::arg("a"), py::arg("b"),
        "a * b, and 0 where a is 0, even if b is infinite or NaN.");
  m.def(
      "_huber", [](const Tensor& x, double delta) { return unary<Huber>(x, {delta}); },
      py::arg("x"), py::arg("delta"), "Element by element; see huber_loss.");
  m.def("binary_cross_entropy_with_logits_elements",
        of_two("binary_cross_entropy_with_logits", binary<BceWithLogits>), py::arg("logits"),
        py::arg("target"), "Element by element; see binary_cross_entropy_with_logits.");
}

}  // namespace wengert::bindings
