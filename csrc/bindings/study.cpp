// Study: the lines of a traced step with all that is known of them, and replicas to run them on;
// see python/wengert/study/.
#include "program/study.h"

#include "bindings/bindings.h"
#include "ops/custom/custom.h"
#include "ops/custom/host.h"
#include "ops/custom/native.h"

namespace wengert::bindings {

namespace {

py::object place_of(Origin origin) {
  return origin ? py::object(py::str(describe(origin))) : py::object(py::none());
}

py::list lines(const Study& s) {
  py::list all;
  for (size_t i = 0; i < s.traced().lines.size(); ++i) {
    const StepList::Line& l = s.traced().lines[i];
    const Study::Note& note = s.notes()[i];
    py::dict d;
    d["op"] = l.op->name;
    const bool own = custom_call(*l.op, l.attrs) || host_call(*l.op, l.attrs) ||
                     dynamic_cast<NativeOp*>(l.attrs.box());
    d["own"] = own ? py::object(facts_of(*l.op)) : py::object(py::none());
    d["inputs"] = l.inputs;
    d["outputs"] = note.outputs;
    d["edited"] = note.edited;
    d["attributes"] = named_attributes(*l.op, l.attrs);
    d["place"] = place_of(l.origin);
    d["flops"] = l.cost.flops;
    d["bytes"] = l.cost.bytes;
    d["recorded"] = note.recorded;
    d["answer"] = note.answer;
    d["layer"] = note.layer;
    d["saved"] = note.saved;
    all.append(d);
  }
  return all;
}

py::list values(const Study& s) {
  py::list all;
  std::unordered_map<const Storage*, int> memories;
  for (int n = 0; n < s.size(); ++n) {
    const Tensor& x = s.kept(n);
    const int memory =
        memories.emplace(x->storage.get(), static_cast<int>(memories.size())).first->second;
    py::dict d;
    d["name"] = s.traced().value(n).name;
    d["shape"] = to_tuple(x.shape());
    d["dtype"] = name(x.dtype());
    d["memory"] = memory;  // values of one memory look at the same storage
    d["outside"] = s.before(x->storage.get()) != nullptr;
    d["leaf"] = x->leaf_requires_grad;
    all.append(d);
  }
  return all;
}

py::list answers(const Study& s) {
  py::list all;
  for (const Study::Answer& a : s.written()) {
    py::list gave;
    for (const Study::Contribution& c : a.gave)
      gave.append(py::make_tuple(c.input, c.to, c.to_line, c.value));
    all.append(py::make_tuple(a.line, a.gradient, a.first, a.last, gave));
  }
  return all;
}

}  // namespace

void add_study(py::module_& m) {
  py::class_<Study, Ref<Study>>(m, "_Study", "A step traced for study; see wengert.trace.")
      .def(
          "__init__",
          [](py::detail::value_and_holder& self, py::handle arguments, size_t most_lines) {
            construct(self, Ref<Study>(new Study(to_tensors("trace", arguments), most_lines)));
          },
          py::detail::is_new_style_constructor(), py::arg("arguments"), py::arg("most_lines"))
      .def("begin", &Study::begin)
      .def("end", &Study::end)
      .def(
          "close", [](Study& s, py::handle outputs) { s.close(to_tensors("trace", outputs)); },
          py::arg("outputs"))
      .def("set_layer", &Study::set_layer, py::arg("layer"))
      .def("__len__", [](const Study& s) { return s.traced().lines.size(); })
      .def("lines", lines)
      .def("values", values)
      .def("answers", answers,
           "(line, gradient, first, last, [(input, to, to_line, value)]) for each vjp.")
      .def("roots",
           [](const Study& s) {
             py::list all;
             for (const Study::Root& r : s.roots())
               all.append(py::make_tuple(r.value, r.gradient, r.at, r.answer));
             return all;
           })
      .def("leaf_gradients",
           [](const Study& s) {
             py::list all;
             for (const Study::Gradient& g : s.leaf_gradients())
               all.append(py::make_tuple(g.leaf, g.before, g.after));
             return all;
           })
      .def("looks",
           [](const Study& s) {
             py::list all;
             for (const Study::Look& l : s.looks())
               all.append(py::make_tuple(place_of(l.origin), l.what, l.at));
             return all;
           })
      .def("results", [](const Study& s) { return s.results(); })
      .def("value_of", &Study::value_of, py::arg("tensor"),
           "The number of the value that lies where this tensor does; -1 where there is none.")
      .def_property_readonly("bytes", [](const Study& s) { return s.traced().bytes_made(); });

  py::class_<Replica, Ref<Replica>>(m, "_Replica", "A study's memory, to run its lines on.")
      .def(
          "__init__",
          [](py::detail::value_and_holder& self, const Ref<Study>& study, bool wide) {
            construct(self, Ref<Replica>(new Replica(study, wide)));
          },
          py::detail::is_new_style_constructor(), py::arg("study"), py::arg("wide"))
      .def("reset", &Replica::reset)
      .def("run", &Replica::run, py::arg("line"))
      .def("run_all", &Replica::run_all)
      .def("value", &Replica::value, py::arg("number"))
      .def(
          "evaluate",
          [](const Replica& r, int line, py::handle inputs) {
            const std::vector<Tensor> given = to_tensors("study", inputs);
            return py::cast(r.evaluate(line, Tensors(given)));
          },
          py::arg("line"), py::arg("inputs"))
      .def("plant", &Replica::plant, py::arg("line"), py::arg("op"), py::arg("inputs"));
  m.def(
      "_copy_like", [](const Tensor& x, py::handle dtype) { return copy_like(x, to_dtype(dtype)); },
      py::arg("x"), py::arg("dtype"));
}

}  // namespace wengert::bindings
