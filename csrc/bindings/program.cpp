// Compiled steps: the class Program, which python/wengert/compiling.py traces and replays.
#include "program/program.h"

#include "bindings/bindings.h"

namespace wengert::bindings {

namespace {

py::list listing(const Program& p) {
  py::list lines;
  for (const Program::ListedLine& l : p.lines()) {
    py::dict d;
    py::list inputs;
    for (int i : l.inputs) inputs.append(p.values()[static_cast<size_t>(i)].name);
    AttrText attributes;
    if (l.op->describe) l.op->describe(l.attrs, attributes);
    py::dict named;
    for (const auto& [key, text] : attributes) named[key] = text;
    d["op"] = l.op->name;
    d["formula"] = l.op->formula;
    d["inputs"] = inputs;
    d["attributes"] = named;
    d["place"] = l.place ? py::object(py::str(describe(l.place))) : py::object(py::none());
    d["flops"] = l.cost.flops;
    d["bytes"] = l.cost.bytes;
    d["edit"] = l.edit;
    if (l.output >= 0) {
      const Program::Value& v = p.values()[static_cast<size_t>(l.output)];
      d["output"] = v.name;
      d["dtype"] = name(v.dtype);
      d["shape"] = to_tuple(v.shape);
    } else {
      d["output"] = py::none();
      d["dtype"] = py::none();
      d["shape"] = py::none();
    }
    lines.append(d);
  }
  return lines;
}

}  // namespace

void add_program(py::module_& m) {
  py::class_<Program, Ref<Program>>(m, "_Program", "A traced step; see wengert.compile.")
      .def(py::init([](py::handle arguments) {
             return Ref<Program>(new Program(to_tensors("compile", arguments)));
           }),
           py::arg("arguments"))
      .def("begin", &Program::begin)
      .def("end", &Program::end)
      .def(
          "finish",
          [](Program& p, py::handle outputs) { p.finish(to_tensors("compile", outputs)); },
          py::arg("outputs"))
      .def("fits", &Program::fits)
      .def("repeats", &Program::repeats)
      .def(
          "try_run",
          [](Program& p, const py::tuple& arguments) -> py::object {
            SmallVector<Tensor, 4> given;
            for (py::handle x : arguments) {
              if (!py::isinstance<TensorBody>(x)) return py::none();
              given.emplace_back(x.cast<Tensor>());
            }
            const Tensors all(given.begin(), given.size());
            if (!p.takes(all) || !p.fits()) return py::none();
            return py::cast(p.run(all));
          },
          py::arg("arguments"),
          "run(), or None where these arguments are not tensors like those of the trace.")
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
      .def("lines", listing)
      .def_property_readonly("bytes", &Program::bytes);
}

}  // namespace wengert::bindings
