// How the module's functions and methods are called: what PyTorch and NumPy call an argument is
// accepted, and a call that does not fit becomes an error that says what came and what was expected
// (python/wengert/_calls.py writes its sentences). Each pybind11 function is replaced by an object
// that calls pybind11's dispatcher directly; all else happens only where that refuses the call.
#include "bindings/fast.h"

#include <structmember.h>

#include <string_view>

namespace wengert::bindings {

namespace {

using Record = py::detail::function_record;
using Dispatcher = PyObject* (*)(PyObject*, PyObject* const*, Py_ssize_t, PyObject*);

struct Function {
  PyObject ob_base;
  vectorcallfunc vectorcall;
  Dispatcher dispatcher;
  PyObject* self;   // of the dispatcher: it holds the record
  PyObject* inner;  // pybind11's function
  Record* record;
  PyObject* name;    // with its class
  bool is_operator;  // may give NotImplemented
};

Function* as_function(PyObject* o) { return reinterpret_cast<Function*>(o); }

// What PyTorch or NumPy call an argument, and what it is called here.
constexpr std::pair<std::string_view, std::string_view> synonyms[] = {
    {"dim", "axis"},
    {"dim", "axes"},
    {"dims", "axes"},
    {"dims", "axis"},
    {"axes", "axis"},
    {"axis", "axes"},
    {"keepdim", "keepdims"},
    {"input", "x"},
    {"input", "a"},
    {"input", "logits"},
    {"input", "ids"},
    {"tensor", "x"},
    {"tensor", "ids"},
    {"other", "b"},
    {"exponent", "b"},
    {"exponent", "other"},
    {"mat2", "b"},
    {"mat2", "other"},
    {"tensor2", "other"},
    {"x1", "a"},
    {"x2", "b"},
    {"x", "a"},
    {"y", "b"},
    {"size", "shape"},
    {"sizes", "shape"},
    {"newshape", "shape"},
    {"fill_value", "value"},
    {"unbiased", "correction"},
    {"ddof", "correction"},
    {"dim0", "a"},
    {"dim1", "b"},
    {"dim1", "axis1"},
    {"dim2", "axis2"},
    {"axis1", "a"},
    {"axis2", "b"},
    {"start_dim", "start_axis"},
    {"end_dim", "end_axis"},
    {"a_min", "min"},
    {"a_max", "max"},
    {"steps", "num"},
    {"end", "stop"},
    {"N", "n"},
    {"M", "m"},
    {"split_size_or_sections", "split_size"},
    {"indices_or_sections", "split_size"},
    {"arrays", "tensors"},
    {"src", "other"},
    {"value", "src"},
    {"tensor", "source"},
    {"src", "source"},
    {"indices", "index"},
};

bool has_argument(const Record& record, std::string_view name) {
  for (const auto& argument : record.args)
    if (argument.name && name == argument.name) return true;
  return false;
}

bool has_values_alone(const Record& record) {
  const std::string_view name = record.name;
  return name == "max" || name == "min";
}

std::string_view text_of(PyObject* name) {
  Py_ssize_t size = 0;
  const char* text = PyUnicode_AsUTF8AndSize(name, &size);
  if (!text) throw py::error_already_set();
  return {text, static_cast<size_t>(size)};
}

// NumPy's functions pass on what they were not given: np.sum(x) calls x.sum(axis=None, out=None).
bool is_left_out(std::string_view name, PyObject* value) {
  if (name == "order") return PyUnicode_Check(value) && text_of(value) == "C";
  return value == Py_None && (name == "out" || name == "dtype");
}

struct Call {
  std::vector<PyObject*> arguments;  // borrowed
  Py_ssize_t count;                  // by place
  std::vector<py::object> names;
  bool changed = false;
};

Call translated(const Record& record, PyObject* const* args, Py_ssize_t count, PyObject* names) {
  Call call{{args, args + count}, count, {}};
  const Py_ssize_t named = names ? PyTuple_GET_SIZE(names) : 0;
  std::vector<std::string_view> taken;
  for (Py_ssize_t i = 0; i < named; ++i) taken.push_back(text_of(PyTuple_GET_ITEM(names, i)));
  for (Py_ssize_t i = 0; i < named; ++i) {
    const std::string_view name = taken[static_cast<size_t>(i)];
    PyObject* value = args[count + i];
    std::string_view used = name;
    if (!has_argument(record, name)) {
      call.changed = true;
      if (is_left_out(name, value)) continue;
      const bool sizes = name == "shape" || name == "axes";
      // PyTorch's max(dim=1) gives values and indices: its [1] would be a row of the values here.
      const bool pair = name == "dim" && has_values_alone(record);
      for (const auto& [theirs, ours] : synonyms) {
        const bool free = std::find(taken.begin(), taken.end(), ours) == taken.end();
        if (theirs == name && free && !pair && has_argument(record, ours)) used = ours;
        // reshape(shape=(2, 3)), whose sizes come by place
        if (record.has_args && count == 1 && named == 1 &&
            (sizes || (theirs == name && (ours == "shape" || ours == "axes")))) {
          call.arguments.push_back(value);
          ++call.count;
          return call;
        }
        if (used != name) break;
      }
      taken.push_back(used);
    }
    call.arguments.push_back(value);
    call.names.push_back(py::str(used.data(), used.size()));
  }
  return call;
}

PyObject* second_try(const Function& f, PyObject* const* args, Py_ssize_t count, PyObject* names) {
  return guarded([&]() -> PyObject* {
    const Call call = translated(*f.record, args, count, names);
    if (call.changed) {
      py::tuple given(call.names.size());
      for (size_t i = 0; i < call.names.size(); ++i) {
        given[i] = call.names[i];
      }
      PyObject* result = f.dispatcher(f.self, call.arguments.data(), call.count,
                                      call.names.empty() ? nullptr : given.ptr());
      if (result != Py_NotImplemented) return result;
      Py_DECREF(result);
    }
    explain_call(PyUnicode_AsUTF8(f.name), f.record->signature, args, count, names);
  });
}

py::tuple tuple_of(PyObject* const* args, Py_ssize_t count) {
  py::tuple given(static_cast<size_t>(count));
  for (size_t i = 0; i < given.size(); ++i) given[i] = py::reinterpret_borrow<py::object>(args[i]);
  return given;
}

// What readers of arguments say does not name the function: it is added.
void name_function(const Function& f, PyObject* const* args, Py_ssize_t count) {
  if (!PyErr_ExceptionMatches(PyExc_ValueError) && !PyErr_ExceptionMatches(PyExc_TypeError)) return;
  py::error_already_set error;
  try {
    const auto text = py::str(error.value()).cast<std::string>();
    for (const char* start : {"dtype: ", "device: ", "the integer ", "the number ", "a tensor has"})
      if (text.starts_with(start))
        error.value().attr("args") =
            py::make_tuple(py::module_::import("wengert._calls")
                               .attr("amend")(py::handle(f.name), f.record->signature,
                                              tuple_of(args, count), text));
  } catch (py::error_already_set&) {  // the error stays as it is
  }
  error.restore();
}

PyObject* call(PyObject* callable, PyObject* const* args, size_t nargsf, PyObject* names) {
  const Function& f = *as_function(callable);
  const Py_ssize_t count = PyVectorcall_NARGS(nargsf);
  PyObject* result = f.dispatcher(f.self, args, count, names);
  if (!result) name_function(f, args, count);
  if (result != Py_NotImplemented) return result;
  if (f.is_operator && !names && count >= 2 && as_tensor(args[0])) return result;
  Py_DECREF(result);
  return second_try(f, args, count, names);
}

// ---- the two types

PyObject* get_signature(PyObject* self, void*) {
  return guarded([&] {
    const Function& f = *as_function(self);
    return py::module_::import("wengert._calls")
        .attr("signature")(py::handle(f.name), f.record->signature)
        .release()
        .ptr();
  });
}

PyGetSetDef getters[] = {
    {"__name__",
     [](PyObject* self, void*) { return PyUnicode_FromString(as_function(self)->record->name); },
     nullptr, nullptr, nullptr},
    {"__qualname__", [](PyObject* self, void*) { return Py_NewRef(as_function(self)->name); },
     nullptr, nullptr, nullptr},
    {"__doc__",
     [](PyObject* self, void*) {
       const char* doc = as_function(self)->record->doc;
       return PyUnicode_FromString(doc ? doc : "");
     },
     nullptr, nullptr, nullptr},
    {"__signature__", get_signature, nullptr, nullptr, nullptr},
    {"_signature",  // as pybind11 writes it, from which the type stub is made
     [](PyObject* self, void*) {
       return PyUnicode_FromString(as_function(self)->record->signature);
     },
     nullptr, nullptr, nullptr},
    {},
};

PyMethodDef methods[] = {
    {"__reduce__",  // a copy, or what pickle finds under its name, is itself
     [](PyObject* self, PyObject*) { return Py_NewRef(as_function(self)->name); }, METH_NOARGS,
     nullptr},
    {},
};

PyMemberDef members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(Function, vectorcall), READONLY, nullptr},
    {},
};

void free_call(PyObject* self) {
  PyTypeObject* type = Py_TYPE(self);
  Py_XDECREF(as_function(self)->inner);
  Py_XDECREF(as_function(self)->name);
  type->tp_free(self);
  Py_DECREF(type);
}

PyObject* representation(PyObject* self) {
  const Function& f = *as_function(self);
  return PyUnicode_FromFormat(f.record->is_method ? "<method %U>" : "<function wengert.%U>",
                              f.name);
}

// A function is no method of a class that has it as an attribute, as those of C are none.
PyObject* get_function(PyObject* self, PyObject*, PyObject*) { return Py_NewRef(self); }
PyObject* get_method(PyObject* self, PyObject* of, PyObject*) {
  return of ? PyMethod_New(self, of) : Py_NewRef(self);
}

py::object make_type(const char* name, descrgetfunc get, unsigned flags) {
  PyType_Slot slots[] = {
      {Py_tp_dealloc, reinterpret_cast<void*>(free_call)},
      {Py_tp_call, reinterpret_cast<void*>(PyVectorcall_Call)},
      {Py_tp_repr, reinterpret_cast<void*>(representation)},
      {Py_tp_getset, getters},
      {Py_tp_methods, methods},
      {Py_tp_members, members},
      {Py_tp_descr_get, reinterpret_cast<void*>(get)},
      {0, nullptr},
  };
  PyType_Spec spec{
      name, sizeof(Function), 0,
      static_cast<unsigned>(Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_VECTORCALL |
                            Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION | flags),
      slots};
  PyObject* type = PyType_FromSpec(&spec);
  if (!type) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(type);
}

// The object that stands for a pybind11 function, or null for anything else.
py::object replaced(const std::string& name, py::handle value, const py::object& function,
                    const py::object& method) {
  const py::handle inner = py::detail::get_function(value);
  if (!inner || !PyCFunction_Check(inner.ptr()) || !PyCFunction_GET_SELF(inner.ptr())) return {};
  PyObject* self = PyCFunction_GET_SELF(inner.ptr());
  Record* record = py::detail::function_record_ptr_from_PyObject(self);
  if (!record) return {};
  auto* type = reinterpret_cast<PyTypeObject*>(record->is_method ? method.ptr() : function.ptr());
  PyObject* made = type->tp_alloc(type, 0);
  if (!made) throw py::error_already_set();
  Function& f = *as_function(made);
  f.vectorcall = call;
  f.dispatcher = reinterpret_cast<Dispatcher>(
      reinterpret_cast<void (*)()>(PyCFunction_GET_FUNCTION(inner.ptr())));
  f.self = self;
  f.inner = Py_NewRef(inner.ptr());
  f.record = record;
  f.name = py::str(name).release().ptr();
  f.is_operator = std::string_view(record->name).starts_with("__") &&
                  (record->nargs == 2 || std::string_view(record->name).ends_with("pow__"));
  record->is_operator = true;  // pybind11 then gives NotImplemented where arguments do not fit
  // Whole numbers only: an axis of 1.7 would be taken for 1.
  const std::string_view rest = record->signature;
  for (auto& argument : record->args) {
    const std::string_view name = argument.name ? argument.name : "";
    const std::string whole = concat(name, ": typing.SupportsInt");
    if (rest.find("(" + whole) != rest.npos || rest.find(", " + whole) != rest.npos)
      argument.convert = false;
  }
  return py::reinterpret_steal<py::object>(made);
}

}  // namespace

void explain_call(const char* name, const char* signature, PyObject* const* args, Py_ssize_t count,
                  PyObject* names) {
  py::tuple given(static_cast<size_t>(count));
  for (size_t i = 0; i < given.size(); ++i) given[i] = py::reinterpret_borrow<py::object>(args[i]);
  py::dict named;
  for (Py_ssize_t i = 0; names && i < PyTuple_GET_SIZE(names); ++i)
    named[py::handle(PyTuple_GET_ITEM(names, i))] = py::handle(args[count + i]);
  py::list known;
  for (const auto& [theirs, ours] : synonyms)
    known.append(
        py::make_tuple(py::str(theirs.data(), theirs.size()), py::str(ours.data(), ours.size())));
  const py::object error =
      py::module_::import("wengert._calls")
          .attr("explain")(name, signature, tuple_of(args, count), named, known);
  if (!PyExceptionInstance_Check(error.ptr())) throw py::type_error(name);
  PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(error.ptr())), error.ptr());
  throw py::error_already_set();
}

std::string shown(py::handle value) {
  return py::module_::import("wengert._calls").attr("describe")(value).cast<std::string>();
}

std::string did_you_mean(const std::string& given, const std::vector<std::string>& known) {
  return py::module_::import("wengert._calls")
      .attr("did_you_mean")(given, known)
      .cast<std::string>();
}

void add_calls(py::module_& m) {
  const py::object function = make_type("wengert._core.Function", get_function, 0),
                   method =
                       make_type("wengert._core.Method", get_method, Py_TPFLAGS_METHOD_DESCRIPTOR);
  const auto replace_all = [&](py::handle owner, const std::string& prefix) {
    const py::dict found = py::module_::import("builtins").attr("dict")(owner.attr("__dict__"));
    for (const auto& [key, value] : found) {
      const std::string name = prefix + key.cast<std::string>();
      if (py::object f = replaced(name, value, function, method)) py::setattr(owner, key, f);
      if (Py_TYPE(value.ptr()) != &PyProperty_Type) continue;
      if (py::object f = replaced(name, value.attr("fset"), function, method))
        py::setattr(owner, key, value.attr("setter")(f));
    }
  };
  replace_all(m, "");
  for (const auto& [key, value] : py::dict(m.attr("__dict__")))
    if (PyType_Check(value.ptr())) replace_all(value, key.cast<std::string>() + ".");
}

}  // namespace wengert::bindings
