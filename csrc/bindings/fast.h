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

// What says of a call that does not fit; see calls.cpp.
[[noreturn]] void explain_call(const char* name, const char* signature, PyObject* const* args,
                               Py_ssize_t count, PyObject* names);

// A method without arguments, and the function of the same name, whose argument x (PyTorch: input)
// may be a number or an array too. The text has CPython's form, which inspect and help() read.
template <class Row> void add_unary(py::module_& m, TensorClass& cls, const char* doc) {
  static const std::string of_method = concat(Row::name, "($self, /)\n--\n\n", doc);
  static const std::string of_function = concat(Row::name, "(x)\n--\n\n", doc);
  const auto method = [](PyObject* self, PyObject*) {
    return guarded([&] {
      const Tensor* x = as_tensor(self);
      return wrap(unary<Row>(x ? *x : py::handle(self).cast<Tensor>()));
    });
  };
  const auto function = [](PyObject*, PyObject* const* args, Py_ssize_t count, PyObject* names) {
    return guarded([&] {
      const Py_ssize_t named = names ? PyTuple_GET_SIZE(names) : 0;
      const auto is = [&](const char* name) {
        return PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(names, 0), name) == 0;
      };
      if (count + named != 1 || (named && !is("x") && !is("input")))
        explain_call(Row::name, "(x: object) -> wengert._core.Tensor", args, count, names);
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
