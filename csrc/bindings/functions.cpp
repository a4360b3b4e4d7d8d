// Functions of tensors, most of them methods too.
#include <cmath>
#include <functional>

#include "bindings/fast.h"
#include "ops/update/rows.h"

namespace wengert::bindings {

namespace {

const auto none = py::none();

// A bool and nothing else: sum(0, 1) would take the 1 for it, and not for an axis.
py::arg_v keepdims_argument() { return py::arg("keepdims").noconvert() = false; }

DType floating_or_default(py::handle dtype) {
  return to_dtype_or_none(dtype).value_or(DType::float32);
}

// f of two operands, either of which may be a number or an array.
template <class F> auto of_two(const char* name, F f) {
  return [name, f](py::handle a, py::handle b) {
    Tensor x, y;
    if (py::isinstance<TensorBody>(b)) y = b.cast<Tensor>();
    x = to_operand(name, a, y);
    if (!y.defined()) y = to_operand(name, b, x);
    return f(x, y);
  };
}
template <class F>
void add_binary(py::module_& m, TensorClass& cls, const char* name, F f, const char* doc) {
  m.def(name, of_two(name, f), py::arg("a"), py::arg("b"), doc);
  cls.def(
      name, [g = of_two(name, f)](py::handle a, py::handle b) { return g(a, b); }, py::arg("other"),
      doc);
}

template <class F>
void add_reduction(py::module_& m, TensorClass& cls, const char* name, F f, const char* doc) {
  both(
      m, cls, name, "x",
      [name, f](const Tensor& x, py::handle axis, bool keepdims) {
        if (const std::string_view op = name; (op == "max" || op == "min") && as_tensor(axis.ptr()))
          throw py::type_error(concat(op,
                                      ": axis is a tensor; of two tensors, element by element: "
                                      "write wengert.",
                                      op, "imum(a, b)"));
        return f(x, to_axes(name, axis, x), keepdims);
      },
      py::arg("axis") = none, keepdims_argument(), doc);
}

// Sizes as one tuple or as arguments: reshape((2, 3)), reshape(2, 3).
Shape sizes(const char* op, const py::args& args) {
  return to_shape(op, args.size() == 1 && PySequence_Check(py::object(args[0]).ptr())
                          ? py::object(args[0])
                          : py::object(args));
}

// A view is another tensor than x, even of the same shape: hooks and flags set on it are its own.
Tensor fresh(const Tensor& y, const Tensor& x) {
  return y.body() == x.body() ? another_view(x) : y;
}

Tensor flatten(const Tensor& x, int64_t first, int64_t last) {
  if (x.dim() == 0) return reshape(x, Shape{1});
  const int from = normalize_axis("flatten", first, x.dim()),
            to = normalize_axis("flatten", last, x.dim());
  if (from > to)
    fail<ValueError>("flatten: start_axis ", first, " comes after end_axis ", last, " in shape ",
                     x.shape());
  Shape shape;
  for (int d = 0; d < x.dim(); ++d)
    if (d <= from || d > to)
      shape.push_back(x.shape()[d]);
    else
      shape[from] *= x.shape()[d];
  return fresh(reshape(x, shape), x);
}

Tensor squeeze_axes(const Tensor& x, py::handle axis) {
  if (!axis.is_none()) return fresh(squeeze(x, to_axes("squeeze", axis, x)), x);
  AxisMask ones = 0;
  for (int d = 0; d < x.dim(); ++d)
    if (x.shape()[d] == 1) ones |= 1u << d;
  return fresh(squeeze(x, ones), x);
}

Tensor stack(py::handle tensors, int64_t axis) {
  std::vector<Tensor> parts;
  const auto given = to_tensors("stack", tensors);
  if (given.empty()) fail<ValueError>("stack: got no tensors; expected at least one");
  for (const Tensor& x : given) {
    if (!parts.empty() &&
        !(x.shape() ==
          reduced_shape(parts[0].shape(), 1u << normalize_axis("stack", axis, x.dim() + 1), false)))
      fail<ShapeError>("stack: tensor ", parts.size(), " has shape ", x.shape(),
                       ", tensor 0 another; they must be equal");
    parts.push_back(unsqueeze(x, axis));
  }
  return concatenate(Tensors(parts), axis);
}

std::vector<Tensor> split(const Tensor& x, py::handle sizes, int64_t axis_given) {
  const int axis = normalize_axis("split", axis_given, x.dim());
  const int64_t length = x.shape()[axis];
  std::vector<int64_t> parts;
  if (PyIndex_Check(sizes.ptr())) {
    const auto size = to_value<int64_t>("split", "split_size", sizes);
    if (size < 1) fail<ValueError>("split: got split_size = ", size, "; expected 1 or more");
    for (int64_t at = 0; at < length; at += size) parts.push_back(std::min(size, length - at));
    if (length == 0) parts.push_back(0);
  } else {
    parts = to_value<std::vector<int64_t>>("split", "split_size", sizes);
  }
  int64_t total = 0;
  for (int64_t size : parts) total = size < 0 || total < 0 ? -1 : total + size;
  if (total != length)
    fail<ShapeError>("split: the sizes must be 0 or more and add up to ", length, ", axis ", axis,
                     " of shape ", x.shape(), "; got ", shown(sizes));
  std::vector<Tensor> result;
  int64_t at = 0;
  for (int64_t size : parts) {
    result.push_back(slice(x, axis, at, 1, size));
    at += size;
  }
  return result;
}

// ---- creation ----

Tensor range(Number start, Number stop, Number step, py::handle dtype, py::handle device) {
  const auto from = start.as(), to = stop.as(), by = step.as();
  if (by == 0 || !std::isfinite(from) || !std::isfinite(to) || !std::isfinite(by))
    fail<ValueError>("arange: got start ", start, ", stop ", stop, ", step ", step,
                     "; expected finite numbers and a step other than 0");
  const bool whole = start.is_whole() && stop.is_whole() && step.is_whole();
  double count = std::ceil((to - from) / by);
  if (whole) {  // differences of 64 bits keep their digits
    const auto way = [by](int64_t a, int64_t b) {
      return static_cast<uint64_t>(by < 0 ? a : b) - static_cast<uint64_t>(by < 0 ? b : a);
    };
    const auto a = start.as<int64_t>(), b = stop.as<int64_t>();
    const uint64_t size = way(0, step.as<int64_t>());
    const uint64_t n = (by < 0 ? a > b : a < b) ? (way(a, b) - 1) / size + 1 : 0;
    count = static_cast<double>(n);
    if (count <= 0x1p52)
      return arange(start, step, static_cast<int64_t>(n),
                    to_dtype_or_none(dtype).value_or(DType::int64), to_device(device));
  }
  if (count > 0x1p52) fail<ValueError>("arange: ", count, " elements are too many");
  return arange(start, step, count > 0 ? static_cast<int64_t>(count) : 0,
                to_dtype_or_none(dtype).value_or(DType::float32), to_device(device));
}

Tensor linspace(double start, double stop, int64_t count, py::handle dtype, py::handle device) {
  if (count < 0) fail<ValueError>("linspace: got num = ", count, "; expected 0 or more");
  const DType to = floating_or_default(dtype);
  const Tensor x = arange(start, count > 1 ? (stop - start) / static_cast<double>(count - 1) : 0,
                          count, DType::float64);
  if (count > 1) x.data<double>()[count - 1] = stop;  // exactly
  return to_device(to_dtype(x, to), to_device(device));
}

Tensor eye(int64_t n, py::handle columns, py::handle dtype, py::handle device) {
  const Tensor rows = arange(0, 1, n, DType::int64);
  const Tensor cols =
      arange(0, 1, columns.is_none() ? n : to_value<int64_t>("eye", "m", columns), DType::int64);
  return to_device(to_dtype(unsqueeze(rows, 1) == cols, floating_or_default(dtype)),
                   to_device(device));
}

// Any bytes are a number, but only 0 and 1 are a bool.
Tensor uninitialised(const Shape& shape, DType dtype, Device device) {
  return dtype == DType::bool_ ? full(shape, 0, dtype, device) : Tensor(Meta{shape, dtype, device});
}

Tensor as_leaf(const char* op, const Tensor& x, bool requires_grad) {
  if (requires_grad && !is_floating(x.dtype()))
    fail<DTypeError>(op, ": a tensor of ", x.dtype(),
                     " cannot require a gradient; say dtype=\"float32\"");
  if (requires_grad) x->leaf_requires_grad = true;
  return x;
}

// Adds functions that make a tensor, each with a last argument requires_grad.
struct Creation {
  template <class F, class... Extra> void def(const char* name, F f, const Extra&... extra) const {
    add(name, std::function(f), extra...);
  }
  template <class... A, class... Extra>
  void add(const char* name, std::function<Tensor(A...)> f, const Extra&... extra) const {
    module.def(
        name,
        [name, f](A... arguments, bool requires_grad) {
          return as_leaf(name, f(arguments...), requires_grad);
        },
        extra..., py::arg("requires_grad").noconvert() = false);
  }
  py::module_& module;
};

void add_creation(py::module_& module) {
  const Creation m{module};
  module.def(
      "tensor",
      [](py::handle data, py::handle dtype, bool requires_grad, py::handle device) {
        Tensor x = from_python(data, to_dtype_or_none(dtype));
        if (!device.is_none()) x = to_device(x, to_device(device));
        return as_leaf("tensor", x, requires_grad);
      },
      py::arg("data"), py::arg("dtype") = none, py::arg("requires_grad") = false,
      py::arg("device") = none,
      "A tensor with a copy of the data: a number, nested lists, an array, or another tensor.\n\n"
      "Python floats become float32, ints int64, bools bool, unless dtype says otherwise; arrays "
      "keep their dtype.");
  m.def(
      "zeros",
      [](py::handle shape, py::handle dtype, py::handle device) {
        return full(to_shape("zeros", shape), 0, floating_or_default(dtype), to_device(device));
      },
      py::arg("shape"), py::arg("dtype") = none, py::arg("device") = none,
      "Zeros of a shape: an int or a tuple of ints. float32 unless dtype says otherwise.");
  m.def(
      "ones",
      [](py::handle shape, py::handle dtype, py::handle device) {
        return full(to_shape("ones", shape), 1, floating_or_default(dtype), to_device(device));
      },
      py::arg("shape"), py::arg("dtype") = none, py::arg("device") = none,
      "Ones of a shape: an int or a tuple of ints. float32 unless dtype says otherwise.");
  m.def(
      "empty",
      [](py::handle shape, py::handle dtype, py::handle device) {
        return uninitialised(to_shape("empty", shape), floating_or_default(dtype),
                             to_device(device));
      },
      py::arg("shape"), py::arg("dtype") = none, py::arg("device") = none,
      "A shape whose elements have any values: to be overwritten.");
  m.def(
      "full",
      [](py::handle shape, py::handle value, py::handle dtype, py::handle device) {
        const std::optional<DType> wanted = to_dtype_or_none(dtype);
        const Tensor v = PyFloat_Check(value.ptr()) || PyLong_Check(value.ptr())
                             ? from_python(value, wanted)
                             : to_operand("full", value, Tensor());
        if (v.numel() != 1)
          fail<ShapeError>("full: got a value of shape ", v.shape(), "; expected one number");
        return clone(expand(
            to_device(to_dtype(reshape(v, Shape{}), wanted.value_or(v.dtype())), to_device(device)),
            to_shape("full", shape)));
      },
      py::arg("shape"), py::arg("value"), py::arg("dtype") = none, py::arg("device") = none,
      "A shape filled with one value, of the value's dtype unless dtype says otherwise; ShapeError "
      "for a value of several elements.");
  const auto like = [&m](const char* name, double value, const char* doc) {
    m.def(
        name,
        [value](const Tensor& x, py::handle dtype) {
          return full(x.shape(), value, to_dtype_or_none(dtype).value_or(x.dtype()), x.device());
        },
        py::arg("x"), py::arg("dtype") = none, doc);
  };
  like("zeros_like", 0, "Zeros, as x in shape, dtype and device.");
  like("ones_like", 1, "Ones, as x in shape, dtype and device.");
  m.def(
      "full_like",
      [](const Tensor& x, py::handle value, py::handle dtype) {
        return full(x.shape(), to_number("full_like", "value", value),
                    to_dtype_or_none(dtype).value_or(x.dtype()), x.device());
      },
      py::arg("x"), py::arg("value"), py::arg("dtype") = none,
      "As x in shape, dtype and device, filled with one number.");
  m.def(
      "empty_like",
      [](const Tensor& x, py::handle dtype) {
        return uninitialised(x.shape(), to_dtype_or_none(dtype).value_or(x.dtype()), x.device());
      },
      py::arg("x"), py::arg("dtype") = none, "As x in shape, dtype and device, uninitialised.");
  m.def(
      "arange",
      [](py::handle start, py::handle stop, py::handle step, py::handle dtype, py::handle device) {
        const Number first = to_number("arange", "start", start),
                     by = to_number("arange", "step", step);
        return stop.is_none() ? range(0, first, by, dtype, device)
                              : range(first, to_number("arange", "stop", stop), by, dtype, device);
      },
      py::arg("start"), py::arg("stop") = none, py::arg("step") = 1, py::arg("dtype") = none,
      py::arg("device") = none,
      "start, start + step, ... up to but without stop; int64 for integers, else float32.");
  m.def("linspace", linspace, py::arg("start"), py::arg("stop"), py::arg("num"),
        py::arg("dtype") = none, py::arg("device") = none,
        "num numbers, evenly spaced from start to stop, both included.");
  m.def("eye", eye, py::arg("n"), py::arg("m") = none, py::arg("dtype") = none,
        py::arg("device") = none, "n x m, ones on the diagonal.");
}

void add_random(py::module_& m) {
  // Drawn from a state tensor; the generators around it are Python's (python/wengert/random.py).
  m.def(
      "_uniform",
      [](const Tensor& state, py::handle shape, py::handle dtype, py::handle device) {
        return random_uniform(state, to_shape("rand", shape), floating_or_default(dtype),
                              to_device(device));
      },
      py::arg("state"), py::arg("shape"), py::arg("dtype") = none, py::arg("device") = none,
      "Uniform numbers in [0, 1); see wengert.rand.");
  m.def(
      "_normal",
      [](const Tensor& state, py::handle shape, py::handle dtype, py::handle device) {
        return random_normal(state, to_shape("randn", shape), floating_or_default(dtype),
                             to_device(device));
      },
      py::arg("state"), py::arg("shape"), py::arg("dtype") = none, py::arg("device") = none,
      "Normal numbers; see wengert.randn.");
  m.def(
      "_integers",
      [](const Tensor& state, int64_t low, int64_t high, py::handle shape, py::handle device) {
        return random_integers(state, to_shape("randint", shape), low, high, to_device(device));
      },
      py::arg("state"), py::arg("low"), py::arg("high"), py::arg("shape"), py::arg("device") = none,
      "Whole numbers from low to high - 1; see wengert.randint.");
  m.def("_permutation", random_permutation, py::arg("state"), py::arg("n"),
        "0 to n - 1 in random order; see wengert.randperm.");
}

template <size_t> using Handle = py::handle;

// `sgd_step(params, grads, momentum_buffers, options, step, nesterov=False)`, and so on.
template <class Row, size_t... i> void add_update(py::module_& m, std::index_sequence<i...>) {
  const auto update = [](py::handle params, py::handle grads, Handle<i>... states,
                         const Tensor& options, const Tensor& step, bool flag) {
    const auto p = to_tensors(Row::name, params), g = to_tensors(Row::name, grads);
    const std::vector<Tensor> all[] = {to_tensors(Row::name, states)...};
    update_step(update_op_at(index_of<Row>(UpdateRows{})), p, g, all, Row::needed, options, step,
                flag);
  };
  std::string numbers, optional;
  for (const char* name : Row::options) numbers += concat(numbers.empty() ? "" : ", ", name);
  for (size_t s = Row::needed; s < Row::states.size(); ++s)
    optional +=
        concat("\n", Row::states[s], ": one for each parameter, or empty without momentum.");
  const std::string doc =
      concat("One step of the optimizer on all parameters, in place: ", Row::formula,
             ".\noptions: float64 of shape (", Row::options.size(), ",): ", numbers,
             "; step: int64 of one element, counted up first.", optional);
  using py::arg;
  if constexpr (Row::flag != nullptr)
    m.def(Row::name, update, arg("params"), arg("grads"), arg(Row::states[i])..., arg("options"),
          arg("step"), arg(Row::flag) = false, doc.c_str());
  else
    m.def(
        Row::name,
        [update](py::handle params, py::handle grads, Handle<i>... states, const Tensor& options,
                 const Tensor& step) { update(params, grads, states..., options, step, false); },
        arg("params"), arg("grads"), arg(Row::states[i])..., arg("options"), arg("step"),
        doc.c_str());
}
template <class... Rows> void add_updates(py::module_& m, List<Rows...>) {
  (add_update<Rows>(m, std::make_index_sequence<states_of<Rows>>{}), ...);
}

void add_clipping(py::module_& m) {
  m.def(
      "clip_grad_norm_step",
      [](py::handle grads_given, double max_norm) {
        const GradMode off(false);
        const auto grads = to_tensors("clip_grad_norm_step", grads_given);
        if (!(max_norm >= 0))
          fail<ValueError>("clip_grad_norm_step: got max_norm = ", max_norm,
                           "; expected 0 or more");
        for (const Tensor& g : grads)
          if (!is_floating(g.dtype()))
            fail<DTypeError>("clip_grad_norm_step: got a gradient of ", g.dtype(),
                             "; expected float32 or float64");
        // Squares of float32 fit into float64. Those of float64 do where the largest is 1.
        Tensor scale, total = full(Shape{}, 0, DType::float64);
        const auto wide = [](const Tensor& g) { return g.dtype() == DType::float64; };
        if (std::any_of(grads.begin(), grads.end(), wide)) {
          scale = total;
          for (const Tensor& g : grads)
            if (g.numel() > 0) scale = binary<Maximum>(scale, amax(abs(g), all_axes(g), false));
          scale = select(logic<And>(scale > 0.0, scale < INFINITY), scale, 1.0);
        }
        for (const Tensor& g : grads) total = total + sum_squares(scale.defined() ? g / scale : g);
        Tensor norm = sqrt(total);
        if (scale.defined()) norm = norm * scale;
        const Tensor factor = clamp(max_norm / (norm + 1e-6), 0, 1);
        // A factor that float32 cannot hold is two; the second one is nearly always 1.
        const Tensor first = maximum(factor, 0x1p-100), second = factor / first;
        for (const Tensor& g : grads) {
          if (g.dtype() == DType::bfloat16) {
            const Tensor in[] = {to_dtype(g, DType::float64) * factor};
            apply_in_place(g, cast_op, Tensors(in), g.dtype(), "clip_grad_norm_step");
            continue;
          }
          const bool narrow = g.dtype() == DType::float32;
          for (const Tensor& by : {narrow ? first : factor, second}) {
            const Tensor in[] = {g, to_dtype(by, g.dtype())};
            apply_in_place(g, binary_op<Mul>(), Tensors(in));
            if (!narrow) break;
          }
        }
        return norm;
      },
      py::arg("grads"), py::arg("max_norm"),
      "Scales the gradients in place so that their joint 2-norm is at most max_norm; returns the "
      "norm before, float64.");
}

}  // namespace

void add_functions(py::module_& m, TensorClass& cls) {
  add_creation(m);
  add_random(m);
  add_updates(m, UpdateRows{});
  add_clipping(m);

  add_unary<Neg>(m, cls, "-x");
  add_unary<Abs>(m, cls, "|x|; gradient 0 at 0.");
  add_unary<Sign>(m, cls, "-1, 0 or 1.");
  add_unary<Exp>(m, cls, "e to the x.");
  add_unary<Expm1>(m, cls, "exp(x) - 1, accurate near 0.");
  add_unary<Log>(m, cls, "Natural logarithm.");
  add_unary<Log1p>(m, cls, "log(1 + x), accurate near 0.");
  add_unary<Sqrt>(m, cls, "Square root.");
  add_unary<Rsqrt>(m, cls, "1 / sqrt(x).");
  add_unary<Square>(m, cls, "x * x.");
  add_unary<Sin>(m, cls, "Sine, x in radians.");
  add_unary<Cos>(m, cls, "Cosine, x in radians.");
  add_unary<Tanh>(m, cls, "Hyperbolic tangent.");
  add_unary<Sigmoid>(m, cls, "1 / (1 + exp(-x)).");
  add_unary<Relu>(m, cls, "max(x, 0); gradient 0 at 0.");
  add_unary<Silu>(m, cls, "x * sigmoid(x), also called swish.");
  add_unary<Softplus>(m, cls, "log(1 + exp(x)).");
  add_unary<Erf>(m, cls, "Error function.");
  add_unary<Floor>(m, cls, "Largest whole number not above x, of x's dtype.");
  add_unary<Ceil>(m, cls, "Smallest whole number not below x, of x's dtype.");
  add_unary<Round>(m, cls, "Nearest whole number, halves to even, of x's dtype.");
  both(
      m, cls, "leaky_relu", "x",
      [](const Tensor& x, double slope) { return unary<LeakyRelu>(x, {slope}); },
      py::arg("negative_slope") = 0.01, "x where x > 0, else negative_slope * x.");
  both(
      m, cls, "elu", "x", [](const Tensor& x, double alpha) { return unary<Elu>(x, {alpha}); },
      py::arg("alpha") = 1.0, "x where x > 0, else alpha * (exp(x) - 1). arXiv 1511.07289.");
  both(
      m, cls, "gelu", "x",
      [](const Tensor& x, const std::string& approximate) {
        if (approximate == "tanh") return unary<GeluTanh>(x);
        if (approximate != "none")
          fail<ValueError>("gelu: approximate is \"", approximate,
                           "\"; expected \"none\" or \"tanh\"",
                           did_you_mean(approximate, {"none", "tanh"}));
        return unary<Gelu>(x);
      },
      py::arg("approximate") = "none",
      "x * P(normal < x), exactly (erf) or by a tanh. arXiv 1606.08415.");
  both(
      m, cls, "clamp", "x",
      [](const Tensor& x, py::handle min, py::handle max) {
        const auto bound = [](const char* name, py::handle given) {
          return given.is_none() ? std::optional<Number>() : to_number("clamp", name, given);
        };
        const std::optional<Number> low = bound("min", min), high = bound("max", max);
        if (low && high &&
            (low->is_whole() && high->is_whole() ? low->as<int64_t>() > high->as<int64_t>()
                                                 : low->as() > high->as()))
          fail<ValueError>("clamp: min ", *low, " is larger than max ", *high);
        if (is_floating(x.dtype()))
          return clamp(x, low ? low->as() : -INFINITY, high ? high->as() : INFINITY);
        // Integers have no infinity: a bound beyond them all is none.
        Tensor y = x.dtype() == DType::bool_ ? to_dtype(x, DType::int64) : x;
        const auto apply_bound = [&](const Number& at, bool is_low) {
          const int beyond = dispatch(y.dtype(), [&](auto type) {
            using T = typename decltype(type)::type;
            return at.fits<T>() ? 0 : at.as() < 0 ? -1 : 1;
          });
          const bool number = at.as() == at.as();
          if (number && beyond == (is_low ? -1 : 1)) return;
          if (beyond)
            fail<ValueError>("clamp: the bound ", at, " does not fit into ", y.dtype(),
                             "; convert the tensor with .to(\"int64\") or .float()");
          const Tensor limit = scalar_like(at, y);
          y = is_low ? binary<Maximum>(y, limit) : binary<Minimum>(y, limit);
        };
        if (low) apply_bound(*low, true);
        if (high) apply_bound(*high, false);
        return y;
      },
      py::arg("min") = none, py::arg("max") = none,
      "x within [min, max]; gradient 1 at both ends.");

  add_binary(m, cls, "add", binary<Add>, "a + b.");
  add_binary(m, cls, "sub", binary<Sub>, "a - b.");
  add_binary(m, cls, "mul", binary<Mul>, "a * b.");
  add_binary(m, cls, "div", binary<Div>, "a / b, floating.");
  add_binary(m, cls, "pow", power, "a to the b.");
  add_binary(m, cls, "floor_divide", floor_divide, "floor(a / b); gradient 0.");
  add_binary(m, cls, "remainder", remainder,
             "a - b * floor(a / b): the sign is b's, as in Python.");
  add_binary(m, cls, "maximum", binary<Maximum>,
             "The larger; NaN if either is; where equal each gets half the gradient.");
  add_binary(m, cls, "minimum", binary<Minimum>,
             "The smaller; NaN if either is; where equal each gets half the gradient.");
  add_binary(m, cls, "eq", test<Eq>, "a == b.");
  add_binary(m, cls, "ne", test<Ne>, "a != b.");
  add_binary(m, cls, "lt", test<Lt>, "a < b.");
  add_binary(m, cls, "le", test<Le>, "a <= b.");
  add_binary(m, cls, "gt", test<Gt>, "a > b.");
  add_binary(m, cls, "ge", test<Ge>, "a >= b.");
  add_binary(m, cls, "bitwise_and", logic<And>, "a & b, of bools or integers.");
  add_binary(m, cls, "bitwise_or", logic<Or>, "a | b, of bools or integers.");
  add_binary(m, cls, "bitwise_xor", logic<Xor>, "a ^ b, of bools or integers.");
  const auto logical = [&](const char* name, auto f) {
    add_binary(
        m, cls, name, [f](const Tensor& a, const Tensor& b) { return f(a != 0.0, b != 0.0); },
        "Of truth values: not zero is true.");
  };
  logical("logical_and", logic<And>);
  logical("logical_or", logic<Or>);
  logical("logical_xor", logic<Xor>);
  both(m, cls, "logical_not", "x", [](const Tensor& x) { return x == 0.0; }, "x == 0.");
  both(m, cls, "isnan", "x", [](const Tensor& x) { return x != x; }, "Is it NaN?");
  both(
      m, cls, "isinf", "x",
      [](const Tensor& x) { return abs(to_dtype(x, to_floating(x.dtype()))) == INFINITY; },
      "Is it an infinity?");
  both(
      m, cls, "isfinite", "x",
      [](const Tensor& x) { return abs(to_dtype(x, to_floating(x.dtype()))) < INFINITY; },
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
      "condition is bool.");
  m.def("_times", of_two("times", binary<Times>), py::arg("a"), py::arg("b"),
        "a * b, and 0 where a is 0, even if b is infinite or NaN.");
  m.def("binary_cross_entropy_with_logits_elements",
        of_two("binary_cross_entropy_with_logits", binary<BceWithLogits>), py::arg("logits"),
        py::arg("target"), "Element by element; see binary_cross_entropy_with_logits.");

  add_reduction(m, cls, "sum", sum,
                "Sum over the axes (all by default). Gathered in float64, whatever the dtype; of "
                "ints and bools int64. IndexError for an axis that is not there.");
  add_reduction(m, cls, "mean", mean, "Mean over the axes (all by default).");
  add_reduction(m, cls, "prod", prod, "Product over the axes (all by default).");
  add_reduction(
      m, cls, "max", amax,
      "Largest over the axes; NaN if there is one, and then all gradients are; ties share the "
      "gradient. Values alone, as in NumPy: argmax() gives their places.\n`values, indices = "
      "x.max(1)` and "
      "max(dim=1) are TypeErrors; x.max(1)[1] is the second of the values, as in NumPy.");
  add_reduction(
      m, cls, "min", amin,
      "Smallest over the axes; NaN if there is one, and then all gradients are; ties share the "
      "gradient. Values alone, as in NumPy: argmin() gives their places.\n`values, indices = "
      "x.min(1)` and min(dim=1) are TypeErrors; x.min(1)[1] is the second of the values, as in "
      "NumPy.");
  add_reduction(m, cls, "any", any, "Is any element not zero?");
  add_reduction(m, cls, "all", all, "Is no element zero?");
  add_reduction(m, cls, "logsumexp", logsumexp, "log(sum(exp(x))), stable.");
  both(
      m, cls, "var", "x",
      [](const Tensor& x, py::handle axis, bool keepdims, double correction) {
        return variance(x, to_axes("var", axis, x), correction, keepdims);
      },
      py::arg("axis") = none, keepdims_argument(), py::arg("correction") = 0.0,
      "Mean squared distance from the mean, over n - correction.");
  both(
      m, cls, "std", "x",
      [](const Tensor& x, py::handle axis, bool keepdims, double correction) {
        return deviation(x, to_axes("std", axis, x), correction, keepdims);
      },
      py::arg("axis") = none, keepdims_argument(), py::arg("correction") = 0.0,
      "Square root of var(); gradient 0 where all elements are equal.");
  both(m, cls, "argmax", "x", argmax, py::arg("axis") = none, keepdims_argument(),
       "Index of the first largest along an axis, or, without one, in x as one row; int64.");
  both(m, cls, "argmin", "x", argmin, py::arg("axis") = none, keepdims_argument(),
       "Index of the first smallest along an axis, or, without one, in x as one row; int64.");
  both(m, cls, "nonzero", "x", nonzero,
       "Places of the elements that are not zero: (count, ndim), int64.");

  add_binary(m, cls, "matmul", matmul,
             "Matrix product of the last two axes, (..., n, k) @ (..., k, m) -> (..., n, m); "
             "vectors and batches as in NumPy. ShapeError where the inner sizes differ.");
  both(m, cls, "softmax", "x", softmax, py::arg("axis") = -1,
       "exp(x) / sum(exp(x)) along an axis, stable; of x's shape, floating. IndexError for an axis "
       "that is not there.");
  both(m, cls, "log_softmax", "x", log_softmax, py::arg("axis") = -1,
       "log(softmax(x)) along an axis, stable; of x's shape, floating.");
  m.def(
      "linear",
      [](const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias) {
        if (weight.dim() != 2)
          fail<ShapeError>("linear: weight has shape ", weight.shape(), "; expected (out, in)");
        return linear(x, weight, bias.value_or(Tensor()));
      },
      py::arg("x"), py::arg("weight"), py::arg("bias") = none,
      "x @ weight.T + bias, for x (..., in), weight (out, in) and bias (out,).");
  m.def(
      "layer_norm",
      [](const Tensor& x, py::handle shape, const std::optional<Tensor>& weight,
         const std::optional<Tensor>& bias, double eps) {
        return layer_norm(x, to_shape("layer_norm", shape), weight.value_or(Tensor()),
                          bias.value_or(Tensor()), eps);
      },
      py::arg("x"), py::arg("normalized_shape"), py::arg("weight") = none, py::arg("bias") = none,
      py::arg("eps") = 1e-5,
      "(x - mean) / sqrt(var + eps) * weight + bias over x's last axes, which have "
      "normalized_shape. arXiv 1607.06450.");
  m.def(
      "scaled_dot_product_attention",
      [](const Tensor& q, const Tensor& k, const Tensor& v, const std::optional<Tensor>& mask,
         bool causal, std::optional<double> scale) {
        return attention(q, k, v, mask.value_or(Tensor()), causal, scale);
      },
      py::arg("query"), py::arg("key"), py::arg("value"), py::arg("attn_mask") = none,
      py::arg("is_causal") = false, py::arg("scale") = none,
      "softmax(query @ key.mT * scale + attn_mask) @ value, without the whole matrix of scores.\n\n"
      "query (..., L, D), key (..., S, D), value (..., S, E); attn_mask broadcasts to (..., L, S): "
      "bool (True: looked\n"
      "at) or floating (added). is_causal: query i looks at keys 0 to i. scale: 1 / sqrt(D). A "
      "query that may look at\n"
      "no key gets zeros. arXiv 1706.03762, 2205.14135.");
  m.def(
      "attention_weights",
      [](const Tensor& q, const Tensor& k, const std::optional<Tensor>& mask, bool causal,
         std::optional<double> scale) {
        return attention_weights(q, k, mask.value_or(Tensor()), causal, scale);
      },
      py::arg("query"), py::arg("key"), py::arg("attn_mask") = none, py::arg("is_causal") = false,
      py::arg("scale") = none,
      "The softmax inside scaled_dot_product_attention, (..., L, S), whole and in plain lines.");
  m.def(
      "embedding",
      [](const Tensor& ids, const Tensor& weight, std::optional<int64_t> padding) {
        if (!padding) return embedding(ids, weight);
        return embedding(ids, weight, *padding < 0 ? *padding + weight.shape()[0] : *padding);
      },
      py::arg("ids"), py::arg("weight"), py::arg("padding_idx") = none,
      "weight[ids]: rows of a table (rows, features), for integer ids of any shape, 0 to rows - "
      "1.\n\n"
      "The row padding_idx gets no gradient.");
  m.def(
      "one_hot",
      [](const Tensor& ids, int64_t classes, py::handle dtype) {
        return one_hot(ids, classes, to_dtype_or_none(dtype).value_or(DType::int64));
      },
      py::arg("ids"), py::arg("num_classes"), py::arg("dtype") = none,
      "1 at each id along a new last axis, else 0; int64 unless dtype says otherwise.");
  both(m, cls, "split", "x", split, py::arg("split_size"), py::arg("axis") = 0,
       "Views of x, end to end along an axis: of split_size elements each (the last may have "
       "fewer), "
       "or of the given sizes.");
  both(m, cls, "gather", "x", gather, py::arg("axis"), py::arg("index"),
       "y[i, j] = x[index[i, j], j] for axis 0, and so on: one element of x for each of the "
       "index.");
  m.def("cross_entropy_rows", cross_entropy_rows, py::arg("logits"), py::arg("target"),
        "-log_softmax(logits)[target] for each row; see cross_entropy.");

  const char* reshaped =
      "The elements in another shape of as many; one size may be -1. A view where the strides "
      "allow it, else a copy. ShapeError where the numbers differ.";
  const char* permuted = "The axes in another order, each named once. A view.";
  const char* expanded =
      "A view in which axes of size 1 are repeated, and new ones come first. ShapeError where the "
      "shape does not broadcast.";
  cls.def(
         "reshape",
         [](const Tensor& x, const py::args& shape) {
           return fresh(reshape(x, sizes("reshape", shape)), x);
         },
         reshaped)
      .def(
          "view",
          [](const Tensor& x, const py::args& shape) {
            const Tensor y = fresh(reshape(x, sizes("view", shape)), x);
            if (y->storage.get() != x->storage.get() && x.numel() > 0)
              fail<ShapeError>("view: shape ", x.shape(), " with strides ", x.strides(),
                               " cannot be seen as ", y.shape(),
                               " without a copy; write reshape(), which copies");
            return y;
          },
          "As reshape(), and never a copy: ShapeError where the strides do not allow it.")
      .def(
          "permute",
          [](const Tensor& x, const py::args& axes) { return permute(x, sizes("permute", axes)); },
          permuted)
      .def(
          "expand",
          [](const Tensor& x, const py::args& shape) {
            return fresh(expand(x, sizes("expand", shape)), x);
          },
          expanded)
      .def_property_readonly(
          "T",
          [](const Tensor& x) {
            if (x.dim() != 2)
              fail<ShapeError>("T: a tensor of shape ", x.shape(), " has ", x.dim(),
                               " axes; expected 2: use mT or permute()");
            return transpose(x, 0, 1);
          },
          "The two axes of a matrix exchanged; a view. ShapeError unless there are two.")
      .def_property_readonly(
          "mT", [](const Tensor& x) { return transpose(x, -2, -1); },
          "The last two axes exchanged.");
  m.def(
      "reshape",
      [](const Tensor& x, py::handle shape) {
        return fresh(reshape(x, to_shape("reshape", shape)), x);
      },
      py::arg("x"), py::arg("shape"), reshaped);
  m.def(
      "permute",
      [](const Tensor& x, py::handle axes) { return permute(x, to_shape("permute", axes)); },
      py::arg("x"), py::arg("axes"), permuted);
  both(
      m, cls, "broadcast_to", "x",
      [](const Tensor& x, py::handle shape) {
        return fresh(expand(x, to_shape("broadcast_to", shape)), x);
      },
      py::arg("shape"), expanded);
  both(m, cls, "transpose", "x", transpose, py::arg("a"), py::arg("b"),
       "Axes a and b exchanged; a view. IndexError for an axis that is not there.");
  both(m, cls, "swapaxes", "x", transpose, py::arg("a"), py::arg("b"),
       "Axes a and b exchanged; a view. IndexError for an axis that is not there.");
  both(m, cls, "squeeze", "x", squeeze_axes, py::arg("axis") = none,
       "Without the named axes, or all, of size one; a view. ShapeError for an axis of another "
       "size.");
  both(m, cls, "unsqueeze", "x", unsqueeze, py::arg("axis"),
       "With a new axis of size one in front of `axis`; a view.");
  both(m, cls, "flatten", "x", flatten, py::arg("start_axis") = 0, py::arg("end_axis") = -1,
       "The axes from start to end as one.");
  m.def(
      "concatenate",
      [](py::handle tensors, int64_t axis) {
        const auto parts = to_tensors("concatenate", tensors);
        return concatenate(Tensors(parts), axis);
      },
      py::arg("tensors"), py::arg("axis") = 0,
      "Tensors end to end along an axis; the other sizes, and the dtypes' kind, must be equal. "
      "ShapeError where they are not.");
  m.def("stack", stack, py::arg("tensors"), py::arg("axis") = 0,
        "Tensors of one shape along a new axis. ShapeError where the shapes differ.");
}

}  // namespace wengert::bindings
