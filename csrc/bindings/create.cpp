// Functions that make a tensor.
#include <functional>

#include "bindings/bindings.h"

namespace wengert::bindings {

namespace {

const auto none = py::none();

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
        return empty(to_shape("empty", shape), floating_or_default(dtype), to_device(device));
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
        return full(to_shape("full", shape), v, wanted.value_or(v.dtype()), to_device(device));
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
        return empty(x.shape(), to_dtype_or_none(dtype).value_or(x.dtype()), x.device());
      },
      py::arg("x"), py::arg("dtype") = none, "As x in shape, dtype and device, uninitialised.");
  m.def(
      "arange",
      [](py::handle start, py::handle stop, py::handle step, py::handle dtype, py::handle device) {
        const Number first = to_number("arange", "start", start),
                     by = to_number("arange", "step", step);
        const bool one = stop.is_none();
        return range(one ? 0 : first, one ? first : to_number("arange", "stop", stop), by,
                     to_dtype_or_none(dtype), to_device(device));
      },
      py::arg("start"), py::arg("stop") = none, py::arg("step") = 1, py::arg("dtype") = none,
      py::arg("device") = none,
      "start, start + step, ... up to but without stop; int64 for integers, else float32.");
  m.def(
      "linspace",
      [](double start, double stop, int64_t count, py::handle dtype, py::handle device) {
        return linspace(start, stop, count, floating_or_default(dtype), to_device(device));
      },
      py::arg("start"), py::arg("stop"), py::arg("num"), py::arg("dtype") = none,
      py::arg("device") = none, "num numbers, evenly spaced from start to stop, both included.");
  m.def(
      "eye",
      [](int64_t n, py::handle columns, py::handle dtype, py::handle device) {
        return eye(n, columns.is_none() ? n : to_value<int64_t>("eye", "m", columns),
                   floating_or_default(dtype), to_device(device));
      },
      py::arg("n"), py::arg("m") = none, py::arg("dtype") = none, py::arg("device") = none,
      "n x m, ones on the diagonal.");
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

}  // namespace

void add_create(py::module_& m) {
  add_creation(m);
  add_random(m);
}

}  // namespace wengert::bindings
