// Many examples at once: the class Batching, for python/wengert/func.py.
#include "program/batching.h"

#include <algorithm>

#include "bindings/bindings.h"

namespace wengert::bindings {

static constexpr const char* names[] = {"error", "different", "same"};  // of Batching::Random

void add_batching(py::module_& m) {
  py::class_<Batching, Ref<Batching>>(m, "_Batching", "See wengert.vmap.")
      .def(py::init([](int64_t size, const std::string& randomness) {
             const auto at = std::find(std::begin(names), std::end(names), randomness);
             const auto random = static_cast<Batching::Random>(at - std::begin(names));
             return Ref<Batching>(new Batching(size, random));
           }),
           py::arg("size"), py::arg("randomness"))
      .def_property_readonly("size", &Batching::size)
      .def_property_readonly("randomness", [](const Batching& b) { return names[b.random()]; })
      .def("begin", &Batching::begin)
      .def("end", &Batching::end)
      .def("one", &Batching::one, py::arg("all"), py::arg("argument") = true,
           "One of these examples.")
      .def("stand_for", &Batching::stand_for, py::arg("one"), py::arg("all"))
      .def("all", &Batching::all, py::arg("one"), "All examples, or None where they share it.");
  m.def(
      "_batching",
      [] {
        auto* const innermost = dynamic_cast<Batching*>(tracer);
        return innermost ? py::cast(Ref<Batching>(innermost)) : py::object(py::none());
      },
      "The innermost vmap that runs here, or None.");
}

}  // namespace wengert::bindings
