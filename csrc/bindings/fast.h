// The hottest calls, past pybind11's dispatch: operators, unary functions and methods, and how a
// Tensor becomes a Python object.
#pragma once

#include "bindings/bindings.h"

namespace wengert::bindings {

// Runs f; what it throws becomes Python's error, and the result null.
template <class F> PyObject* guarded(const F& f) {
  try {
    return f();
  } catch (py::error_already_set& e) {
    e.restore();
  } catch (...) {
    py::detail::try_translate_exceptions();
  }
  return nullptr;
}

// A method without arguments, and the function of the same name, whose argument x may be a number
// or an array too. The text has pybind11's form, from which the type stub is made.
template <class Row> void add_unary(py::module_& m, TensorClass& cls, const char* doc) {
  static const std::string of_method =
      concat(Row::name, "(self: wengert._core.Tensor) -> wengert._core.Tensor\n\n", doc, "\n");
  static const std::string of_function =
      concat(Row::name, "(x: object) -> wengert._core.Tensor\n\n", doc, "\n");
  const auto method = [](PyObject* self, PyObject*) {
    return guarded([&] {
      const Tensor* x = as_tensor(self);
      return wrap(unary<Row>(x ? *x : py::handle(self).cast<Tensor>()));
    });
  };
  const auto function = [](PyObject*, PyObject* const* args, Py_ssize_t count, PyObject* names) {
    return guarded([&] {
      const Py_ssize_t named = names ? PyTuple_GET_SIZE(names) : 0;
      if (count + named != 1 ||
          (named && PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(names, 0), "x") != 0))
        throw py::type_error(concat(Row::name, "(x): got ", count, " positional and ", named,
                                    " named arguments; expected one, x"));
      const Tensor* x = as_tensor(args[0]);
      return wrap(unary<Row>(x ? *x : to_operand(Row::name, args[0], Tensor())));
    });
  };
  static PyMethodDef as_method{Row::name, +method, METH_NOARGS, of_method.c_str()};
  static PyMethodDef as_function{
      Row::name,
      reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(
          static_cast<PyObject* (*)(PyObject*, PyObject* const*, Py_ssize_t, PyObject*)>(
              function))),
      METH_FASTCALL | METH_KEYWORDS, of_function.c_str()};
  cls.attr(Row::name) =
      py::reinterpret_steal<py::object>(PyDescr_NewMethod(tensor_type, &as_method));
  m.attr(Row::name) = py::reinterpret_steal<py::object>(
      PyCFunction_NewEx(&as_function, nullptr, m.attr("__name__").ptr()));
}

}  // namespace wengert::bindings
