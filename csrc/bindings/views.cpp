// Views, and tensors made of parts of others.
#include "bindings/bindings.h"

namespace wengert::bindings {

namespace {

// Sizes as one tuple or as arguments: reshape((2, 3)), reshape(2, 3).
Shape sizes(const char* op, const py::args& args) {
  return to_shape(op, args.size() == 1 && PySequence_Check(py::object(args[0]).ptr())
                          ? py::object(args[0])
                          : py::object(args));
}

// A view is another tensor than x, even of the same shape: hooks and flags set on it are its own.
Tensor fresh(const Tensor& y, const Tensor& x) {
  return y.body() == x.body() ? another_view(x) : y;
}

}  // namespace

void add_views(py::module_& m, TensorClass& cls) {
  both(
      m, cls, "split", "x",
      [](const Tensor& x, py::handle size, int64_t axis) {
        return PyIndex_Check(size.ptr())
                   ? split(x, to_value<int64_t>("split", "split_size", size), axis)
                   : split(x, to_value<std::vector<int64_t>>("split", "split_size", size), axis);
      },
      py::arg("split_size"), py::arg("axis") = 0,
      "Views of x, end to end along an axis: of split_size elements each (the last may have "
      "fewer), "
      "or of the given sizes.");
  // A method with sizes as arguments, and, where they have a name, a function with a tuple of them.
  const auto with_sizes = [&](const char* name, const char* argument, auto f, const char* doc) {
    cls.def(
        name,
        [=](const Tensor& x, const py::args& given) { return fresh(f(x, sizes(name, given)), x); },
        doc);
    if (argument)
      m.def(
          name,
          [=](const Tensor& x, py::handle given) { return fresh(f(x, to_shape(name, given)), x); },
          py::arg("x"), py::arg(argument), doc);
  };
  const auto broadcast = [](const Tensor& x, const Shape& shape) { return expand(x, shape); };
  const char* expanded =
      "A view in which axes of size 1 are repeated, and new ones come first. ShapeError where the "
      "shape does not broadcast.";
  with_sizes("reshape", "shape", reshape,
             "The elements in another shape of as many; one size may be -1. A view where the "
             "strides allow it, else a copy. ShapeError where the numbers differ.");
  with_sizes("view", nullptr, view,
             "As reshape(), and never a copy: ShapeError where the strides do not allow it.");
  with_sizes("permute", "axes", permute, "The axes in another order, each named once. A view.");
  with_sizes("expand", nullptr, broadcast, expanded);
  both(
      m, cls, "broadcast_to", "x",
      [](const Tensor& x, py::handle shape) {
        return fresh(expand(x, to_shape("broadcast_to", shape)), x);
      },
      py::arg("shape"), expanded);
  cls.def_property_readonly(
         "T",
         [](const Tensor& x) {
           if (x.dim() != 2)
             fail<ShapeError>("T: a tensor of shape ", x.shape(), " has ", x.dim(),
                              " axes; expected 2: use mT or permute()");
           return transpose(x, 0, 1);
         },
         "The two axes of a matrix exchanged; a view. ShapeError unless there are two.")
      .def_property_readonly(
          "mT", [](const Tensor& x) { return transpose(x, -2, -1); },
          "The last two axes exchanged.");
  for (const char* name : {"transpose", "swapaxes"})
    both(m, cls, name, "x", transpose, py::arg("a"), py::arg("b"),
         "Axes a and b exchanged; a view. IndexError for an axis that is not there.");
  both(m, cls, "diagonal", "x", diagonal, py::arg("offset") = 0, py::arg("axis1") = 0,
       py::arg("axis2") = 1,
       "Elements i, i + offset of two axes, as the last axis; a view. IndexError for a missing "
       "axis.");
  both(
      m, cls, "squeeze", "x",
      [](const Tensor& x, py::handle axis) {
        return fresh(axis.is_none() ? squeeze(x) : squeeze(x, to_axes("squeeze", axis, x)), x);
      },
      py::arg("axis") = py::none(),
      "Without the named axes, or all, of size one; a view. ShapeError for an axis of another "
      "size.");
  both(m, cls, "unsqueeze", "x", unsqueeze, py::arg("axis"),
       "With a new axis of size one in front of `axis`; a view.");
  both(
      m, cls, "flatten", "x",
      [](const Tensor& x, int64_t first, int64_t last) {
        return fresh(flatten(x, first, last), x);
      },
      py::arg("start_axis") = 0, py::arg("end_axis") = -1, "The axes from start to end as one.");
  const auto joined = [&m](const char* name, auto join, const char* doc) {
    m.def(
        name,
        [=](py::handle tensors, int64_t axis) {
          const auto parts = to_tensors(name, tensors);
          return join(Tensors(parts), axis);
        },
        py::arg("tensors"), py::arg("axis") = 0, doc);
  };
  joined("concatenate", concatenate,
         "Tensors end to end along an axis; the other sizes, and the dtypes' kind, must be equal. "
         "ShapeError where they are not."
         "\n\n>>> wg.concatenate([wg.ones((2, 1)), wg.zeros((2, 1))], axis=1)\n"
         "tensor([[1., 0.],\n"
         "        [1., 0.]])");
  joined("stack", stack,
         "Tensors of one shape along a new axis. ShapeError where the shapes differ."
         "\n\n>>> wg.stack([wg.ones(3), wg.zeros(3)]).shape\n"
         "(2, 3)");
}

}  // namespace wengert::bindings
