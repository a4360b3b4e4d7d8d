// Gradients: requires_grad, backward, grad, hooks, grad mode.
#include "bindings/bindings.h"
#include "engine/cycles.h"

namespace wengert::bindings {

namespace {

struct PythonHook : Hook {
  explicit PythonHook(py::function f) : function(std::move(f)) {}
  ~PythonHook() override {
    py::gil_scoped_acquire lock;
    function = {};
  }
  Tensor call(const Tensor& gradient) override {
    const py::object result = function(gradient);
    if (result.is_none()) return Tensor();
    if (!py::isinstance<TensorBody>(result))
      fail<DTypeError>("hook: returned ", Py_TYPE(result.ptr())->tp_name,
                       "; expected a tensor or None");
    return result.cast<Tensor>();
  }
  void* object() const override { return function.ptr(); }
  py::object function;
};

// Returned by register_hook.
struct HookHandle {
  std::weak_ptr<Hooks> hooks;
  int64_t id;
  void remove() const {
    if (const auto h = hooks.lock())
      std::erase_if(*h, [&](const auto& entry) { return entry.first == id; });
  }
};

struct PythonObjects : Objects {
  int64_t owners(void* object) const override { return Py_REFCNT(static_cast<PyObject*>(object)); }
  void each_owned(void* object, const std::function<void(void*)>& owned,
                  const std::function<void(const Tensor&)>& tensor) const override {
    auto* self = static_cast<PyObject*>(object);
    Tensor
        share;  // a tensor of two owners does not show its hooks, which are counted as its body's
    if (const Tensor* x = as_tensor(self)) tensor(share = *x);
    if (!PyObject_IS_GC(self) || is_namespace(self)) return;
    const auto visit = [](PyObject* o, void* to) {
      if (!PyType_Check(o) && !PyModule_Check(o))
        (*static_cast<const std::function<void(void*)>*>(to))(o);
      return 0;
    };
    Py_TYPE(self)->tp_traverse(self, visit, const_cast<std::function<void(void*)>*>(&owned));
  }
  // A module's names belong to no cycle of ours, and lead to all else.
  static bool is_namespace(PyObject* o) {
    static PyObject* const key = PyUnicode_InternFromString("__builtins__");
    return PyDict_CheckExact(o) && PyDict_Contains(o, key) == 1;
  }
};

void set_requires_grad(const Tensor& x, bool wanted) {
  if (!x.is_leaf()) {
    if (wanted) return;
    fail<GradientError>("requires_grad: this tensor was made by '", x->made_by->name,
                        "' and is no leaf, so it cannot stop requiring a gradient; use detach()");
  }
  if (wanted && !is_floating(x.dtype()))
    fail<DTypeError>("requires_grad: a tensor of ", x.dtype(),
                     " cannot require a gradient; expected float32 or float64");
  x->leaf_requires_grad = wanted;
}

std::vector<Tensor> cotangents_of(const char* op, py::handle given) {
  if (given.is_none()) return {};
  std::vector<Tensor> result;
  if (!PyTuple_Check(given.ptr()) && !PyList_Check(given.ptr()))
    return {to_operand(op, given, Tensor())};
  for (py::object item : py::reinterpret_borrow<py::sequence>(given))
    result.push_back(item.is_none() ? Tensor() : to_operand(op, item, Tensor()));
  return result;
}

py::object grad(py::handle outputs_given, py::handle inputs_given, py::handle cotangents,
                py::handle retain_graph, bool create_graph, bool allow_unused) {
  const std::vector<Tensor> outputs = to_tensors("grad", outputs_given),
                            inputs = to_tensors("grad", inputs_given);
  if (inputs.empty()) fail<ValueError>("grad: got no inputs; expected at least one tensor");
  const std::vector<Tensor> given = cotangents_of("grad", cotangents);
  if (!given.empty() && given.size() != outputs.size())
    fail<ValueError>("grad: got ", given.size(), " grad_outputs for ", outputs.size(),
                     " outputs; expected one each");
  const bool retain =
      retain_graph.is_none() ? create_graph : to_value<bool>("grad", "retain_graph", retain_graph);
  const std::vector<Tensor> result =
      gradients(Tensors(outputs), Tensors(inputs), Tensors(given), retain, create_graph);
  py::tuple tuple(result.size());
  for (size_t i = 0; i < result.size(); ++i) {
    if (!result[i].defined() && !allow_unused)
      fail<GradientError>(
          "grad: input ", i, " of shape ", inputs[i].shape(),
          " was not used to compute the outputs; say allow_unused=True to get None for it");
    tuple[i] = py::cast(result[i]);
  }
  if (py::isinstance<TensorBody>(inputs_given)) return tuple[0];
  return tuple;
}

}  // namespace

// Python's collector asks for cycles that it cannot see, once there may be any.
void collect_with_python() {
  static bool asked = false;
  if (asked || !has_cycles()) return;
  asked = true;
  // Before Python's own collection, which takes what our cycles held, and after it, when what its
  // cycles held is free.
  const auto collect = [](const py::str&, const py::dict& info) {
    constexpr int all = 2;  // generations: not at each small collection
    if (info["generation"].cast<int>() == all && has_cycles()) collect_cycles(PythonObjects());
  };
  py::module_::import("gc").attr("callbacks").attr("append")(py::cpp_function(collect));
}

namespace {
void backward_of_several(Tensors outputs, py::handle cotangents, py::handle retain_graph,
                         bool create_graph, py::handle inputs_given) {
  const std::vector<Tensor> given = cotangents_of("backward", cotangents);
  if (given.size() > outputs.size())
    fail<ValueError>("backward: got ", given.size(), " gradients for ", outputs.size(),
                     " outputs; expected one each");
  const bool retain =
      !retain_graph.is_none() && to_value<bool>("backward", "retain_graph", retain_graph);
  std::vector<Tensor> inputs;
  if (!inputs_given.is_none()) {
    inputs = to_tensors("backward", inputs_given);
    if (inputs.empty())
      fail<ValueError>("backward: inputs is empty; leave it out to reach all leaves");
  }
  backward(outputs, Tensors(given), retain, create_graph, Tensors(inputs));
  collect_with_python();
}
}  // namespace

void add_autograd(py::module_& m, TensorClass& cls) {
  py::class_<HookHandle>(m, "HookHandle", "What register_hook() returns.")
      .def("remove", &HookHandle::remove, "Takes the hook away.");

  cls.def_property(
         "requires_grad", [](const Tensor& x) { return x.requires_grad(); }, set_requires_grad,
         "Whether a gradient passes to it: asked for at a leaf, else inherited. May be set at a "
         "leaf.")
      .def(
          "requires_grad_",
          [](py::object self, bool requires_grad) {
            set_requires_grad(self.cast<Tensor>(), requires_grad);
            return self;
          },
          py::arg("requires_grad") = true,
          "Sets requires_grad, and returns the tensor; DTypeError unless it is floating.")
      .def_property_readonly(
          "is_leaf", [](const Tensor& x) { return x.is_leaf(); },
          "Whether it has no history: backward() gathers gradients there.")
      .def_property_readonly(
          "made_by",
          [](const Tensor& x) {
            return x->made_by ? py::object(py::str(x->made_by->name)) : py::object(py::none());
          },
          "Name of the op that made it; None for what came from outside.")
      .def_property(
          "grad",
          [](const Tensor& x) {
            if (tracer) tracer->reads_grad(x);
            return x->grad;
          },
          [](const Tensor& x, py::handle given) {
            if (tracer) tracer->sets_grad(x);
            if (given.is_none()) {
              x->grad = Tensor();
              return;
            }
            if (!py::isinstance<TensorBody>(given))
              throw py::type_error(
                  concat("grad: got ", shown(given), "; expected a tensor or None"));
            const Tensor g = given.cast<Tensor>();
            if (!(g.shape() == x.shape()) || g.dtype() != x.dtype())
              fail<ShapeError>("grad: got shape ", g.shape(), " and dtype ", g.dtype(),
                               " for a tensor of shape ", x.shape(), " and dtype ", x.dtype(),
                               "; they must be equal");
            note_cycle(x.body());
            collect_with_python();
            x->grad = g;
          },
          "The gradient that backward() gathered here, or None.")
      .def(
          "detach", [](const Tensor& x) { return x.detach(); },
          "The same memory without history: no gradient passes.")
      .def(
          "retain_grad",
          [](const Tensor& x) {
            if (!x.requires_grad())
              fail<GradientError>("retain_grad: this tensor does not require a gradient");
            check_history("retain_grad", x);
            if (x.is_leaf() || x->retains_grad) return;
            x->retains_grad = true;
            x->line->retains_grad = x.body();
          },
          "Asks backward() to keep the gradient of this tensor, which is no leaf, in `grad`.")
      .def(
          "register_hook",
          [](const Tensor& x, py::function hook) {
            if (!x.requires_grad())
              fail<GradientError>(
                  "register_hook: this tensor does not require a gradient, so no hook would ever "
                  "be called");
            check_history("register_hook", x);
            std::shared_ptr<Hooks>& hooks = x->line ? x->line->hooks : x->hooks;
            if (!hooks) hooks = std::make_shared<Hooks>();
            x->line ? note_cycle(x->line.get()) : note_cycle(x.body());
            collect_with_python();
            x->hooks = hooks;
            static int64_t next_id = 0;
            hooks->emplace_back(++next_id, std::make_unique<PythonHook>(std::move(hook)));
            return HookHandle{hooks, next_id};
          },
          py::arg("hook"),
          "Calls hook(gradient) when this tensor's gradient is complete; a tensor it returns takes "
          "the gradient's place.")
      .def(
          "backward",
          [](const Tensor& y, py::handle gradient, py::handle retain_graph, bool create_graph,
             py::handle inputs) {
            backward_of_several(Tensors(&y, 1), gradient, retain_graph, create_graph, inputs);
          },
          py::arg("gradient") = py::none(), py::arg("retain_graph") = py::none(),
          py::arg("create_graph") = false, py::arg("inputs") = py::none(),
          "Adds d(self)/d(leaf) to the `grad` of every leaf that requires one.\n\n"
          "gradient: the cotangent, of self's shape; may be left out where self has one element.\n"
          "retain_graph: keep what the lines saved, to walk them again.\n"
          "create_graph: record the backward lines too, for gradients of gradients.\n"
          "inputs: a tensor or a list of them, whose `grad` alone is added to.\n"
          "Raises GradientError where there is no history, or it was freed, or a saved value was "
          "changed in place; ShapeError for a cotangent of another shape."
          "\n\n>>> w = wg.tensor([1.0, 2.0], requires_grad=True)\n"
          ">>> (w * w).sum().backward()\n"
          ">>> w.grad\n"
          "tensor([2., 4.])");

  m.def(
      "backward",
      [](py::handle outputs_given, py::handle cotangents, py::handle retain_graph,
         bool create_graph, py::handle inputs) {
        const std::vector<Tensor> outputs = to_tensors("backward", outputs_given);
        backward_of_several(Tensors(outputs), cotangents, retain_graph, create_graph, inputs);
      },
      py::arg("outputs"), py::arg("gradients") = py::none(), py::arg("retain_graph") = py::none(),
      py::arg("create_graph") = false, py::arg("inputs") = py::none(),
      "Tensor.backward() for several outputs in one walk; errors as there."
      "\n\n>>> w = wg.tensor(2.0, requires_grad=True)\n"
      ">>> wg.backward([w * 3, w * w])\n"
      ">>> w.grad.item()\n"
      "7.0");
  m.def("grad", grad, py::arg("outputs"), py::arg("inputs"), py::arg("grad_outputs") = py::none(),
        py::arg("retain_graph") = py::none(), py::arg("create_graph") = false,
        py::arg("allow_unused") = false,
        "Gradients of the outputs, weighted by grad_outputs and summed, with respect to the "
        "inputs; leaves' `grad` stays\n"
        "as it is. As torch.autograd.grad. Returns one tensor for one input, else a tuple.\n\n"
        "retain_graph is create_graph unless given. An input that was not used is an error, or "
        "None with allow_unused: GradientError. A gradient has its input's shape and dtype."
        "\n\n>>> x = wg.tensor(3.0, requires_grad=True)\n"
        ">>> dx = wg.grad(x**3, x, create_graph=True)\n"
        ">>> dx.item(), wg.grad(dx, x).item()\n"
        "(27.0, 18.0)");
  m.def(
      "_grads",
      [](py::handle leaves) {
        std::vector<Tensor> found = to_tensors("grad", leaves);
        for (Tensor& x : found) {
          if (tracer) tracer->reads_grad(x);
          x = Tensor(x->grad);
        }
        return found;
      },
      py::arg("leaves"), "The `grad` of each, which may be None.");
  m.def(
      "_drop_grads",
      [](py::handle leaves) {
        for (const Tensor& x : to_tensors("zero_grad", leaves)) {
          if (tracer) tracer->sets_grad(x);
          x->grad = Tensor();
        }
      },
      py::arg("leaves"), "Sets the `grad` of each to None.");
  m.def("is_grad_enabled", grad_enabled, "Whether operations are recorded in this thread.");
  add_scope(m, "_GradScope", set_grad_enabled);
  m.def("set_grad_enabled", set_grad_enabled, py::arg("enabled"),
        "Turns recording on or off in this thread; returns what it was.");
  m.def("set_nan_watch", set_nan_watch, py::arg("on"),
        "While on, the first op whose result has a NaN or an infinity raises a ValueError that "
        "names it and its place.");
}

}  // namespace wengert::bindings
