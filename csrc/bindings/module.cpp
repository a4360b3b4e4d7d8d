// The Python module wengert._core.
#include "bindings/bindings.h"

namespace wengert::bindings {

py::custom_type_setup tensor_type_setup();

}  // namespace wengert::bindings

PYBIND11_MODULE(_core, m) {
  using namespace wengert::bindings;
  m.doc() = "The compiled core of Wengert. Use the package wengert, which re-exports it.";
  m.attr("__version__") = WENGERT_VERSION;
  add_errors(m);
  add_host(m);
  add_dtypes(m);
  TensorClass cls(
      m, "Tensor", py::buffer_protocol(), tensor_type_setup(),
      "An n-dimensional array that remembers how it was made, where a gradient may be asked for.");
  tensor_type = reinterpret_cast<PyTypeObject*>(cls.ptr());
  add_create(m);
  add_elementwise(m, cls);
  add_functions(m, cls);
  add_views(m, cls);
  add_scatter(m, cls);
  add_convolution(m);
  add_tensor(m, cls);
  add_autograd(m, cls);
  add_exchange(m, cls);
  add_guards(m);
  add_program(m);
  add_batching(m);
  add_study(m);
  add_custom(m);
  add_cuda(m, cls);
  add_calls(m);
  add_slots(cls);
}
