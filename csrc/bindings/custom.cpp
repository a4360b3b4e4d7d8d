// Ops of the program's own (ops/custom/custom.h), whose functions are Python's; see
// python/wengert/_custom.py.
#include "ops/custom/custom.h"

#include <algorithm>

#include "bindings/bindings.h"
#include "engine/cycles.h"
#include "graph/packed.h"
#include "ops/custom/host.h"
#include "ops/custom/native.h"

namespace wengert::bindings {

namespace {

struct PythonCall : CustomCall {
  explicit PythonCall(py::object b) : backward(std::move(b)) {}
  ~PythonCall() override {
    const py::gil_scoped_acquire lock;
    backward = {};
  }
  void vjp(const Line& line, const Tensor& g, Gradients& dx) const override {
    const py::gil_scoped_acquire lock;
    const py::object call = backward;  // while it runs, a collector may clear it
    py::list saved;
    py::object result = py::none();
    std::vector<Tensor> whole{g};
    for (const Saved& s : line.saved) {
      whole.push_back(line.unchanged(s));
      if (s.what == save_output)
        result = py::cast(line.result());
      else
        saved.append(py::cast(s.value));
    }
    const KeptWhole kept(concat(line.op->name, ": its gradient"), Tensors(whole));
    const py::object given = call(g, saved, result);
    for (size_t i = 0; i < dx.size(); ++i)
      if (const py::object d = given[py::int_(i)]; !d.is_none() && line.needs(static_cast<int>(i)))
        dx[i] = d.cast<Tensor>();
  }
  void* object() const override { return backward.ptr(); }
  void clear() override { backward = py::none(); }
  py::object backward;
};

// A tensor that looks at memory of a step.
Tensor over(const View& x) {
  int64_t reach = 1;
  for (int d = 0; d < x.shape.size(); ++d) reach += (x.shape[d] - 1) * x.strides[d];
  Ref<TensorBody> body(new TensorBody);
  body->storage = Storage::adopt(x.data, reach * size_of(x.dtype), [](void*) {}, nullptr);
  body->storage->device = x.device;
  body->shape = x.shape;
  body->strides = x.strides;
  body->dtype = x.dtype;
  return Tensor(std::move(body));
}

struct PythonHostCall : HostCall {
  explicit PythonHostCall(py::object f) : function(std::move(f)) {}
  ~PythonHostCall() override {
    const py::gil_scoped_acquire lock;
    function = {};
  }
  void run(Views operands) const override {
    const py::gil_scoped_acquire lock;
    py::tuple given(operands.size());
    for (size_t i = 0; i < operands.size(); ++i) given[i] = py::cast(over(operands[i]));
    function(*given);
  }
  py::object function;
};

// The pair (pack, unpack) of this thread, which co-owns it.
constinit thread_local PyObject* saved_hooks = nullptr;

struct Unpack : Hook {
  Unpack(py::object function, py::object packed)
      : both(py::make_tuple(std::move(function), std::move(packed))) {}
  ~Unpack() override {
    const py::gil_scoped_acquire lock;
    both.release().dec_ref();
  }
  Tensor call(const Tensor&) override {
    const py::object found = both[0](both[1]);
    if (!py::isinstance<TensorBody>(found))
      throw py::type_error(
          concat("saved_tensors_hooks: unpack returned ", shown(found), "; expected a tensor"));
    return found.cast<Tensor>();
  }
  void* object() const override { return both.ptr(); }
  py::tuple both;
};

std::unique_ptr<Hook> pack(const Tensor& value) {
  const auto hooks = py::reinterpret_borrow<py::tuple>(saved_hooks);
  struct Off {  // what pack() itself saves is saved as it is
    Pack* former = std::exchange(pack_saved, nullptr);
    ~Off() { pack_saved = former; }
  } off;
  const KeptWhole whole("saved_tensors_hooks: pack", Tensors(&value, 1));
  return std::make_unique<Unpack>(hooks[1], hooks[0](py::cast(value)));
}

py::object set_saved_hooks(py::object hooks) {
  PyObject* const now = hooks && !hooks.is_none() ? hooks.release().ptr() : nullptr;
  pack_saved = now ? pack : nullptr;
  return py::reinterpret_steal<py::object>(std::exchange(saved_hooks, now));
}

std::vector<const Op*>& own_ops() {
  static auto* const ops = new std::vector<const Op*>;
  return *ops;
}

}  // namespace

void add_custom(py::module_& m) {
  m.def(
      "_own_op",
      [](const std::string& name, const std::string& operands, const std::string& formula,
         const std::vector<std::string>& gradients) {
        std::vector<const Op*>& ops = own_ops();
        const Op* op = &custom_op(name, operands, formula, gradients);
        const auto at = std::find(ops.begin(), ops.end(), op);
        return at == ops.end() ? (ops.push_back(op), ops.size() - 1) : size_t(at - ops.begin());
      },
      py::arg("name"), py::arg("operands"), py::arg("formula"), py::arg("gradients"),
      "The number of an op of the program's own.");
  m.def(
      "_native_op",
      [](const py::capsule& given) {
        if (!given.name() || std::string_view(given.name()) != "wengert.op")
          fail<ValueError>("custom_op: got a capsule named '", given.name() ? given.name() : "",
                           "'; expected 'wengert.op', of a wengert_op (see <wengert/op.h>)");
        NativeOp& op = native_op(*given.get_pointer<wengert_op>());
        return py::cpp_function(
            [&op, given](const py::args& args) {
              return call_native(op, Tensors(to_tensors(op.op.name, args)));
            },
            py::name(op.op.name), py::doc(op.op.formula));
      },
      py::arg("capsule"), "The function of an op that another extension module defines.");
  m.def(
      "_call_host",
      [](const std::string& name, const std::string& formula, py::object function,
         py::handle operands, int edited, bool begins, bool waits,
         const std::vector<std::pair<std::string, int64_t>>& named) {
        const std::vector<Tensor> given = to_tensors(name.c_str(), operands);
        const Ref<HostCall> call(new PythonHostCall(std::move(function)));
        call->begins = begins;
        call->waits = waits;
        call->named = named;
        call_host(host_op(name, formula), Tensors(given), edited, call);
      },
      py::arg("name"), py::arg("formula"), py::arg("function"), py::arg("operands"),
      py::arg("edited"), py::arg("begins") = false, py::arg("waits") = false,
      py::arg("named") = std::vector<std::pair<std::string, int64_t>>(),
      "Calls function(*operands), now and at each replay, as a line that overwrites the first "
      "`edited` operands. The tensors that it is given are its own until it returns.");
  m.def(
      "_with_draws",
      [](const py::function& run) {
        const Draws draws;
        py::object result = run();
        return py::make_tuple(result, draws.states);
      },
      py::arg("run"),
      "run(), and of each random state that it drew from (state, a copy of what it was before).");
  add_scope(m, "_SavedHooks", set_saved_hooks);
  m.def("_next_line", next_line, "The number that the next line gets.");
  m.def(
      "_sources",
      [](py::handle outputs, uint64_t since) {
        return sources(Tensors(to_tensors("checkpoint", outputs)), since);
      },
      py::arg("outputs"), py::arg("since"),
      "What gradients pass to from the lines of the outputs from number `since` on.");
  m.def(
      "_gradients_since",
      [](py::handle outputs, py::handle inputs, py::handle cotangents, uint64_t since,
         bool create_graph) {
        return gradients_since(Tensors(to_tensors("checkpoint", outputs)),
                               Tensors(to_tensors("checkpoint", inputs)),
                               Tensors(to_tensors("checkpoint", cotangents)), since, create_graph);
      },
      py::arg("outputs"), py::arg("sources"), py::arg("cotangents"), py::arg("since"),
      py::arg("create_graph"));
  m.def(
      "_call_own",
      [](size_t op, py::handle inputs, const py::function& make, const py::object& backward,
         double flops, double bytes) {
        const std::vector<Tensor> given = to_tensors("custom_op", inputs);
        auto* const python = new PythonCall(backward);
        const Ref<CustomCall> call(python);
        call->cost = {flops, bytes};
        const std::vector<Tensor> outputs = call_custom(*own_ops()[op], Tensors(given), call, [&] {
          const py::tuple made = make();
          return Made{made[0].cast<std::vector<Tensor>>(), made[1].cast<std::vector<Tensor>>(),
                      made[2].cast<bool>(), made[3].cast<bool>()};
        });
        for (const Tensor& y : outputs)
          if (y->line) note_cycle(y->line.get());
        collect_with_python();
        return outputs;
      },
      py::arg("op"), py::arg("inputs"), py::arg("make"), py::arg("backward"), py::arg("flops"),
      py::arg("bytes"),
      "Calls make(), which gives (outputs, saved, differentiable, saves_output), and records its "
      "first output as op(inputs), with backward(g, saved, output) to write the gradients.");
}

}  // namespace wengert::bindings
