// Compiled steps: the class Program, which python/wengert/compiling.py traces and replays.
#include "program/program.h"

#include <algorithm>
#include <map>

#include "bindings/bindings.h"
#include "program/passes.h"

namespace wengert::bindings {

namespace {

py::object name_of(const StepList& list, int v) { return py::str(list.value(v).name); }

py::list listing(const StepList& list, const std::vector<StepList::Line>& lines) {
  py::list result;
  for (const StepList::Line& l : lines) {
    py::dict d;
    py::list inputs, outputs;
    for (int x : l.inputs) inputs.append(name_of(list, x));
    for (int y : l.outputs) outputs.append(name_of(list, y));
    d["op"] = l.op->name;
    d["formula"] = formula_of(*l.op);
    d["inputs"] = inputs;
    d["outputs"] = outputs;
    d["attributes"] = named_attributes(*l.op, l.attrs);
    d["place"] = l.origin ? py::object(py::str(describe(l.origin))) : py::object(py::none());
    d["flops"] = l.cost.flops;
    d["bytes"] = l.cost.bytes;
    d["edit"] = l.edit;
    for (const char* key : {"output", "dtype", "shape"}) d[key] = py::none();
    if (!l.outputs.empty()) {
      const StepList::Value& y = list.value(l.outputs[0]);
      d["output"] = y.name;
      d["dtype"] = name(y.dtype);
      d["shape"] = to_tuple(y.shape);
    }
    d["body"] = listing(list, l.body);
    result.append(d);
  }
  return result;
}

}  // namespace

void add_program(py::module_& m) {
  m.def(
      "_pass_names",
      [] {
        std::vector<std::string> names;
        const auto add = [&](std::span<const Pass> passes) {
          for (const Pass& pass : passes)
            if (std::find(names.begin(), names.end(), pass.name) == names.end())
              names.emplace_back(pass.name);
        };
        add(simplifying_passes);
        add(fusing_passes);
        return names;
      },
      "The names of the passes over a compiled step's list.");

  m.def("_is_tracing", [] { return tracer != nullptr; }, "Whether a step is being traced here.");

  m.def("_watches_nan", watches_nan, "Whether set_nan_watch is on.");

  py::class_<Program, Ref<Program>>(m, "_Program", "A traced step; see wengert.compile.")
      .def(
          "__init__",
          [](py::detail::value_and_holder& self, py::handle arguments) {
            std::vector<Tensor> own;
            for (const Tensor& x : to_tensors("compile", arguments))
              own.push_back(Tensor::promise({x.shape(), x.dtype(), x.device()}));
            construct(self, Ref<Program>(new Program(std::move(own))));
          },
          py::detail::is_new_style_constructor(), py::arg("arguments"), "For arguments like these.")
      .def_property_readonly(
          "arguments", [](const Program& p) { return py::cast(p.arguments()); },
          "Its own, to trace the step with.")
      .def("begin", &Program::begin)
      .def("end", &Program::end)
      .def(
          "abandon",
          [](Program& p, py::handle arguments) {
            const auto given = to_tensors("compile", arguments);
            p.abandon(Tensors(given));
          },
          py::arg("arguments"), "For a step that raised: leaves get their gradients back.")
      .def(
          "finish",
          [](Program& p, py::handle outputs) { p.finish(to_tensors("compile", outputs)); },
          py::arg("outputs"))
      .def(
          "settle",
          [](Program& p, py::handle arguments) {
            const auto given = to_tensors("compile", arguments);
            p.settle(Tensors(given));
          },
          py::arg("arguments"),
          "What the step made and something outside holds gets its values, unless they depend on "
          "what the step changes outside.")
      .def("escaped", &Program::escaped,
           "A tensor made by the step that is held outside it, as text; or an empty string.")
      .def(
          "improve",
          [](Program& p, const std::vector<std::string>& passes, bool memory, bool packing,
             bool graph,
             bool persistent) { p.improve(passes, {memory, packing, graph, persistent}); },
          py::arg("passes"), py::arg("memory") = false, py::arg("packing") = false,
          py::arg("graph") = false, py::arg("persistent") = false,
          "Runs the passes of these names, and makes the list ready to run.")
      .def("share_memory", &Program::share_memory, py::arg("other"),
           "Between two programs of one step, of which only one runs at a time from now on.")
      .def("fits", &Program::fits)
      .def("repeats", &Program::repeats)
      .def(
          "try_run",
          [](Program& p, const py::tuple& arguments, py::handle guards,
             bool with_gradients) -> py::object {
            if (tracer || with_gradients != grad_enabled() || watches_nan()) return py::none();
            SmallVector<Tensor, 4> given;
            for (py::handle x : arguments) {
              const Tensor* t = as_tensor(x.ptr());
              if (!t || t->requires_grad()) return py::none();
              given.emplace_back(*t);
            }
            const Tensors all(given.begin(), given.end());
            if (!p.takes(all) || !p.fits() || changed_guard(guards)) return py::none();
            return py::cast(p.run(all));
          },
          py::arg("arguments"), py::arg("guards"), py::arg("with_gradients"),
          "run(), or None where these arguments are not tensors like those of the trace, what it "
          "read has changed, or another step is being traced.")
      .def(
          "run",
          [](Program& p, py::handle arguments) {
            const auto given = to_tensors("compile", arguments);
            return py::cast(p.run(Tensors(given)));
          },
          py::arg("arguments"))
      .def(
          "run_many",
          [](Program& p, int64_t steps, py::handle arguments) {
            const auto given = to_tensors("compile", arguments);
            return py::cast(p.run_many(steps, Tensors(given)));
          },
          py::arg("steps"), py::arg("arguments"))
      .def(
          "lines",
          [](const Program& p, bool improved) {
            const StepList& list = improved ? p.improved() : p.traced();
            return listing(list, list.lines);
          },
          py::arg("improved"))
      .def_property_readonly("on_gpu", &Program::on_gpu)
      .def_property_readonly("replay", &Program::how_replayed,
                             "On a GPU: how it is replayed. Else an empty string.")
      .def_property_readonly(
          "memory",
          [](const Program& p) {
            const Plan::Bytes& b = p.plan().bytes();
            return std::map<std::string, int64_t>{
                {"arena", b.arena}, {"kept", b.kept + b.packed}, {"all", b.all}};
          },
          "Bytes of the arena, of what is kept beside it, and of all lines' results.");
}

}  // namespace wengert::bindings
