#include "bindings/fast.h"

#include <iterator>
#include <optional>

namespace wengert::bindings {

PyTypeObject* tensor_type = nullptr;

namespace {
// Objects whose tensors are gone, kept for the next ones: most live for a moment only.
PyObject* spare[64];
int spares = 0;

PyObject* new_object() {
  if (spares == 0) return tensor_type->tp_alloc(tensor_type, 0);
  PyObject* self = PyObject_Init(spare[--spares], tensor_type);
  PyObject_GC_Track(self);
  return self;
}

// self, which stands for nothing yet, stands for x.
void hold(PyObject* self, Tensor x) {
  auto* instance = reinterpret_cast<py::detail::instance*>(self);
  instance->simple_layout = true;
  instance->simple_value_holder[0] = x.body();
  x->object = self;
  new (&instance->simple_value_holder[1]) Tensor(std::move(x));
  instance->owned = instance->simple_holder_constructed = true;
}

}  // namespace

// One object a tensor, as long as it lives: the tensor's body knows it. pybind11 would look for it
// in a table of all objects. One whose last reference is gone is dying: what runs meanwhile, such
// as a finalizer of its attributes, gets another.
PyObject* wrap(Tensor x) {
  if (!x.defined()) Py_RETURN_NONE;
  auto* known = static_cast<PyObject*>(x->object);
  if (known && Py_REFCNT(known) > 0) return Py_NewRef(known);
  PyObject* self = new_object();
  if (!self) throw py::error_already_set();
  hold(self, std::move(x));
  return self;
}

namespace {

destructor pybind_dealloc = nullptr;

void dealloc(PyObject* self) {
  auto* instance = reinterpret_cast<py::detail::instance*>(self);
  const bool ours = instance->simple_layout && instance->simple_holder_constructed;
  if (ours)
    if (auto* body = static_cast<TensorBody*>(instance->simple_value_holder[0]);
        body->object == self)
      body->object = nullptr;
  if (!ours || instance->has_patients) return pybind_dealloc(self);
  PyTypeObject* type = Py_TYPE(self);
  PyObject_GC_UnTrack(self);
  if (instance->weakrefs) PyObject_ClearWeakRefs(self);
  {
    std::optional<py::error_scope> keep;  // hooks that go may run Python
    if (PyErr_Occurred()) keep.emplace();
    reinterpret_cast<Ref<TensorBody>&>(instance->simple_value_holder[1]).~Ref();
  }
  if (type == tensor_type && spares < static_cast<int>(std::size(spare)))
    spare[spares++] = self;
  else
    type->tp_free(self);
  Py_DECREF(type);
}

// Tensor(data, requires_grad). Not pybind11's constructor, which takes the tensor away from an
// object that has one, before it reads the arguments.
PyObject* init(PyObject* self, PyObject* args, PyObject* named) {
  return guarded([&]() -> PyObject* {
    static const char* const names[] = {"data", "requires_grad", nullptr};
    PyObject *data = nullptr, *requires_grad = Py_False;
    if (!PyArg_ParseTupleAndKeywords(args, named, "O|O!:Tensor", const_cast<char**>(names), &data,
                                     &PyBool_Type, &requires_grad))
      return nullptr;
    const Tensor* x = as_tensor(data);
    if (!x)
      throw py::type_error(
          concat("Tensor: data is ",
                 py::module_::import("wengert._calls")
                     .attr("describe")(py::handle(data))
                     .cast<std::string>(),
                 "; expected a tensor: make one of values with wengert.tensor(data)"));
    if (!reinterpret_cast<py::detail::instance*>(self)->simple_layout)
      throw py::type_error(
          "Tensor.__init__: a class cannot derive from Tensor and from another "
          "class of the core");
    if (as_tensor(self))
      throw py::type_error(
          "Tensor.__init__: this object stands for a tensor already; make another, or change its "
          "values with copy_()");
    Tensor leaf = x->detach();
    leaf->leaf_requires_grad = requires_grad == Py_True;
    hold(self, std::move(leaf));
    Py_RETURN_NONE;
  });
}

// f of two operands, one of which is a tensor.
template <Tensor (*f)(const Tensor&, const Tensor&)> PyObject* operation(PyObject* a, PyObject* b) {
  return guarded([&]() -> PyObject* {
    const Tensor *x = as_tensor(a), *y = as_tensor(b);
    if (x && y) return wrap(f(*x, *y));
    Tensor other;
    if (x && to_operand(b, *x, other)) return wrap(f(*x, other));
    if (y && to_operand(a, *y, other)) return wrap(f(other, *y));
    Py_RETURN_NOTIMPLEMENTED;
  });
}

}  // namespace

// Called when the class is complete: `a + b` runs a slot, while the attribute `__add__` that
// pybind11 made for it remains for callers that ask for it by name.
void add_slots(TensorClass& cls) {
  static PyMethodDef as_init{
      "__init__", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(&init)),
      METH_VARARGS | METH_KEYWORDS,
      "__init__(self: wengert._core.Tensor, data: wengert._core.Tensor, requires_grad: bool = "
      "False) -> None\n\nA leaf that shares the memory of `data`. To make tensors from values use "
      "wengert.tensor().\n"};
  cls.attr("__init__") =
      py::reinterpret_steal<py::object>(PyDescr_NewMethod(tensor_type, &as_init));
  PyNumberMethods& number = *tensor_type->tp_as_number;
  number.nb_add = operation<binary<Add>>;
  number.nb_subtract = operation<binary<Sub>>;
  number.nb_multiply = operation<binary<Mul>>;
  number.nb_true_divide = operation<binary<Div>>;
  number.nb_matrix_multiply = operation<matmul>;
  number.nb_negative = [](PyObject* self) {
    return guarded([&] {
      const Tensor* x = as_tensor(self);
      return wrap(-(x ? *x : py::handle(self).cast<Tensor>()));
    });
  };
  pybind_dealloc = tensor_type->tp_dealloc;
  tensor_type->tp_dealloc = dealloc;
  PyType_Modified(tensor_type);
}

}  // namespace wengert::bindings
