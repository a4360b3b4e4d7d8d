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
}  // namespace

// One object a tensor, as long as it lives: the tensor's body knows it. pybind11 would look for it
// in a table of all objects.
PyObject* wrap(Tensor x) {
  if (!x.defined()) Py_RETURN_NONE;
  auto* known = static_cast<PyObject*>(x->object);
  if (known) return Py_NewRef(known);
  PyObject* self = new_object();
  if (!self) throw py::error_already_set();
  auto* instance = reinterpret_cast<py::detail::instance*>(self);
  instance->simple_layout = true;
  instance->simple_value_holder[0] = x.body();
  x->object = self;
  new (&instance->simple_value_holder[1]) Tensor(std::move(x));
  instance->owned = instance->simple_holder_constructed = true;
  return self;
}

namespace {

destructor pybind_dealloc = nullptr;

void dealloc(PyObject* self) {
  auto* instance = reinterpret_cast<py::detail::instance*>(self);
  const bool ours = instance->simple_layout && instance->simple_holder_constructed;
  if (ours) static_cast<TensorBody*>(instance->simple_value_holder[0])->object = nullptr;
  // Registered: made by Tensor(...).
  if (!ours || instance->simple_instance_registered || instance->has_patients)
    return pybind_dealloc(self);
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
// pybind11 made for it remains for whoever asks for it by name.
void add_slots(TensorClass&) {
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
