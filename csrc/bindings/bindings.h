// What the files of this folder share. Only here is pybind11 included; only here is Python known.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "engine/backward.h"
#include "ops/functions.h"

namespace py = pybind11;

PYBIND11_DECLARE_HOLDER_TYPE(T, wengert::Ref<T>, true)

namespace wengert::bindings {
// fast.cpp
extern PyTypeObject* tensor_type;  // the class Tensor
PyObject* wrap(Tensor x);          // the object that stands for x, or None; a new reference
// The tensor that an object of class Tensor stands for, null for any other object. It is the
// object's own share, and good while the object lives.
inline const Tensor* as_tensor(PyObject* o) {
  static_assert(sizeof(Tensor) == sizeof(Ref<TensorBody>));
  if (Py_TYPE(o) != tensor_type && !PyType_IsSubtype(Py_TYPE(o), tensor_type)) return nullptr;
  const auto* instance = reinterpret_cast<py::detail::instance*>(o);
  if (!instance->simple_layout || !instance->simple_holder_constructed) return nullptr;
  return reinterpret_cast<const Tensor*>(&instance->simple_value_holder[1]);
}
struct ValuesAndIndices;
}  // namespace wengert::bindings

namespace pybind11::detail {
// A Tensor is to Python an object of class Tensor, or None where it is undefined.
template <> struct type_caster<wengert::Tensor> {
  PYBIND11_TYPE_CASTER(wengert::Tensor, const_name("Tensor"));
  using Body = copyable_holder_caster<wengert::TensorBody, wengert::Ref<wengert::TensorBody>>;
  bool load(handle source, bool) {
    if (const wengert::Tensor* x = wengert::bindings::as_tensor(source.ptr())) {
      value = *x;
      return true;
    }
    Body body;
    if (source.is_none() || !body.load(source, false)) return false;
    value = wengert::Tensor(static_cast<wengert::Ref<wengert::TensorBody>&>(body));
    return true;
  }
  static handle cast(const wengert::Tensor& t, return_value_policy, handle) {
    return wengert::bindings::wrap(t);
  }
};
template <> struct handle_type_name<wengert::bindings::ValuesAndIndices> {
  static constexpr auto name = const_name("wengert.order.ValuesAndIndices");
};
}  // namespace pybind11::detail

namespace wengert::bindings {

using TensorClass = py::class_<TensorBody, Ref<TensorBody>>;

// The named tuple of Python that functions such as cummax return.
struct ValuesAndIndices : py::tuple {
  ValuesAndIndices(const std::pair<Tensor, Tensor>& of)
      : py::tuple(
            py::module_::import("wengert.order").attr("ValuesAndIndices")(of.first, of.second)) {}
};

// calls.cpp
std::string shown(py::handle value);  // in a few words, with its type
// "; did you mean 'mean'?", or nothing where no known name is near.
std::string did_you_mean(const std::string& given, const std::vector<std::string>& known);

// convert.cpp
DType to_dtype(py::handle given);  // a DType, its name, or a NumPy dtype
std::optional<DType> to_dtype_or_none(py::handle given);
Shape to_shape(const char* op, py::handle given,
               const char* what = "size");  // an int, or a sequence of ints
AxisMask to_axes(const char* op, py::handle given, const Tensor& x);  // None, an int, or several
std::vector<IndexPart> to_key(py::handle given);
Tensor from_python(py::handle data, std::optional<DType> dtype);  // always a copy
// A tensor; or a number, as a constant of the dtype that it takes beside `other`; or an array.
bool to_operand(py::handle given, const Tensor& other, Tensor& result);
Tensor to_operand(const char* op, py::handle given, const Tensor& other);
py::tuple to_tuple(const Dims& dims);
py::dict named_attributes(const Op& op, const Attrs& attrs);
inline DType floating_or_default(py::handle dtype) {
  return to_dtype_or_none(dtype).value_or(DType::float32);
}
template <class T> T to_value(const char* op, const char* argument, py::handle given) {
  try {
    return given.cast<T>();
  } catch (const py::cast_error&) {
    fail<DTypeError>(op, ": ", argument, " is ", shown(given), "; expected ",
                     std::is_same_v<T, bool>   ? "True or False"
                     : std::is_integral_v<T>   ? "a whole number of 64 bits"
                     : std::is_arithmetic_v<T> ? "a number"
                                               : "a list of whole numbers");
  }
}
std::vector<Tensor> to_tensors(const char* op, py::handle given);

// host.cpp
// For long loops that hold Python's lock: every few milliseconds looks for Ctrl-C, and lets other
// threads run.
void let_others_run();

// cuda.cpp
Device to_device(py::handle given);  // "cpu", "cuda", "cuda:1"; None is the CPU

// exchange.cpp
py::object to_numpy(const Tensor& x, bool writable);
Tensor from_numpy(py::handle array);
// The array in a dtype that from_numpy() takes, copied where it must be: in this machine's byte
// order, and, if `dtype` is what it will become, from any numbers or bools.
py::object in_known_dtype(const py::object& array, std::optional<DType> dtype);
// A number with all its digits, of Python or NumPy.
Number to_number(const char* op, const char* argument, py::handle h);
py::object item(const Tensor& x);
void refuse_mask(const char* op, py::handle array);  // of a masked array, which would be lost

// A class of context managers: set(value) puts a value in force and returns the former one. In C++,
// so that Ctrl-C comes before it is set or after the former one is back.
template <class Value> void add_scope(py::module_& m, const char* name, Value (*set)(Value)) {
  struct Scope {
    Value value;
    std::vector<Value> former;  // a stack, so that one object may be entered twice
  };
  py::class_<Scope>(m, name)
      .def(py::init([](Value value) { return Scope{std::move(value), {}}; }), py::arg("value"))
      .def("__enter__",
           [set](const py::object& self) {
             auto& scope = self.cast<Scope&>();
             scope.former.push_back(set(scope.value));
             return self;
           })
      .def(
          "__exit__",
          [set](Scope& scope, const py::object&, const py::object&, const py::object&) {
            if (scope.former.empty())
              fail<ValueError>("__exit__() without __enter__(); write `with`");
            [[maybe_unused]] const Value inner = set(std::move(scope.former.back()));
            scope.former.pop_back();
          },
          py::arg("kind") = py::none(), py::arg("error") = py::none(),
          py::arg("traceback") = py::none());
}

// autograd.cpp
void collect_with_python();  // asks Python's collector for cycles that it cannot see
// host.cpp
py::dict facts_of(const Op& op);  // what ops() says of each

// guards.cpp
// What an object of class _Guards finds changed, as text; null for nothing.
const char* changed_guard(py::handle guards);

// For a constructor: what `made` holds becomes what self stands for. Where there is no memory to
// register it, pybind11 by itself frees it twice, or ends the process.
template <class Holder> void construct(py::detail::value_and_holder& self, Holder made) {
  self.value_ptr() = made.get();
  try {
    self.type->init_instance(self.inst, &made);
  } catch (...) {
    self.value_ptr() = nullptr;
    throw;
  }
}

// Each file adds its part of the module.
void add_errors(py::module_& m);
void add_host(py::module_& m);
void add_dtypes(py::module_& m);
void add_tensor(py::module_& m, TensorClass& cls);
void add_create(py::module_& m);
void add_elementwise(py::module_& m, TensorClass& cls);
void add_functions(py::module_& m, TensorClass& cls);
void add_views(py::module_& m, TensorClass& cls);
void add_convolution(py::module_& m);
void add_scatter(py::module_& m, TensorClass& cls);
void add_autograd(py::module_& m, TensorClass& cls);
void add_exchange(py::module_& m, TensorClass& cls);
void add_program(py::module_& m);
void add_batching(py::module_& m);
void add_guards(py::module_& m);
void add_slots(TensorClass& cls);
void add_study(py::module_& m);
void add_custom(py::module_& m);
void add_cuda(py::module_& m, TensorClass& cls);
void add_calls(py::module_& m);

// Adds f as a function of the module and as a method; `first` is the name of its first argument.
template <class F, class... Extra>
void both(py::module_& m, TensorClass& cls, const char* name, const char* first, F f,
          const Extra&... extra) {
  m.def(name, f, py::arg(first), extra...);
  cls.def(name, f, extra...);
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

}  // namespace wengert::bindings
