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
  const auto of_shape = [&m](const char* name, auto make, const char* doc) {
    m.def(
        name,
        [=](py::handle shape, py::handle dtype, py::handle device) {
          return make(to_shape(name, shape), floating_or_default(dtype), to_device(device));
        },
        py::arg("shape"), py::arg("dtype") = none, py::arg("device") = none, doc);
  };
  const auto zeros = [](const Shape& s, DType t, Device d) { return full(s, 0, t, d); };
  const auto ones = [](const Shape& s, DType t, Device d) { return full(s, 1, t, d); };
  of_shape("zeros", zeros,
           "Zeros of a shape: an int or a tuple of ints. float32 unless dtype says otherwise.");
  of_shape("ones", ones,
           "Ones of a shape: an int or a tuple of ints. float32 unless dtype says otherwise.");
  of_shape("empty", empty, "A shape whose elements have any values: to be overwritten.");
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
  const auto like = [&m](const char* name, auto make, const char* doc) {
    m.def(
        name,
        [make](const Tensor& x, py::handle dtype) {
          return make(x.shape(), to_dtype_or_none(dtype).value_or(x.dtype()), x.device());
        },
        py::arg("x"), py::arg("dtype") = none, doc);
  };
  like("zeros_like", zeros, "Zeros, as x in shape, dtype and device.");
  like("ones_like", ones, "Ones, as x in shape, dtype and device.");
  like("empty_like", empty, "As x in shape, dtype and device, uninitialised.");
  m.def(
      "full_like",
      [](const Tensor& x, py::handle value, py::handle dtype) {
        return full(x.shape(), to_number("full_like", "value", value),
                    to_dtype_or_none(dtype).value_or(x.dtype()), x.device());
      },
      py::arg("x"), py::arg("value"), py::arg("dtype") = none,
      "As x in shape, dtype and device, filled with one number.");
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
      "start, start + step, ... up to but without stop; int64 for integers, else float32."
      "\n\n>>> wg.arange(2, 8, 2)\n"
      "tensor([2, 4, 6])");
  m.def(
      "linspace",
      [](double start, double stop, int64_t count, py::handle dtype, py::handle device) {
        return linspace(start, stop, count, floating_or_default(dtype), to_device(device));
      },
      py::arg("start"), py::arg("stop"), py::arg("num"), py::arg("dtype") = none,
      py::arg("device") = none,
      "num numbers, evenly spaced from start to stop, both included."
      "\n\n>>> wg.linspace(0, 1, 3)\n"
      "tensor([0. , 0.5, 1. ])");
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
  const auto drawn = [&m](const char* name, const char* as, auto draw, const char* doc) {
    m.def(
        name,
        [=](const Tensor& state, py::handle shape, py::handle dtype, py::handle device) {
          return draw(state, to_shape(as, shape), floating_or_default(dtype), to_device(device));
        },
        py::arg("state"), py::arg("shape"), py::arg("dtype") = none, py::arg("device") = none, doc);
  };
  drawn("_uniform", "rand", random_uniform, "Uniform numbers in [0, 1); see wengert.rand.");
  drawn("_normal", "randn", random_normal, "Normal numbers; see wengert.randn.");
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
