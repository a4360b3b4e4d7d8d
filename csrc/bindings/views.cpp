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
  const char* reshaped =
      "The elements in another shape of as many; one size may be -1. A view where the strides "
      "allow it, else a copy. ShapeError where the numbers differ.";
  const char* permuted = "The axes in another order, each named once. A view.";
  const char* expanded =
      "A view in which axes of size 1 are repeated, and new ones come first. ShapeError where the "
      "shape does not broadcast.";
  cls.def(
         "reshape",
         [](const Tensor& x, const py::args& shape) {
           return fresh(reshape(x, sizes("reshape", shape)), x);
         },
         reshaped)
      .def(
          "view",
          [](const Tensor& x, const py::args& shape) {
            return fresh(view(x, sizes("view", shape)), x);
          },
          "As reshape(), and never a copy: ShapeError where the strides do not allow it.")
      .def(
          "permute",
          [](const Tensor& x, const py::args& axes) { return permute(x, sizes("permute", axes)); },
          permuted)
      .def(
          "expand",
          [](const Tensor& x, const py::args& shape) {
            return fresh(expand(x, sizes("expand", shape)), x);
          },
          expanded)
      .def_property_readonly(
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
  m.def(
      "reshape",
      [](const Tensor& x, py::handle shape) {
        return fresh(reshape(x, to_shape("reshape", shape)), x);
      },
      py::arg("x"), py::arg("shape"), reshaped);
  m.def(
      "permute",
      [](const Tensor& x, py::handle axes) { return permute(x, to_shape("permute", axes)); },
      py::arg("x"), py::arg("axes"), permuted);
  both(
      m, cls, "broadcast_to", "x",
      [](const Tensor& x, py::handle shape) {
        return fresh(expand(x, to_shape("broadcast_to", shape)), x);
      },
      py::arg("shape"), expanded);
  both(m, cls, "transpose", "x", transpose, py::arg("a"), py::arg("b"),
       "Axes a and b exchanged; a view. IndexError for an axis that is not there.");
  both(m, cls, "swapaxes", "x", transpose, py::arg("a"), py::arg("b"),
       "Axes a and b exchanged; a view. IndexError for an axis that is not there.");
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
  m.def(
      "concatenate",
      [](py::handle tensors, int64_t axis) {
        const auto parts = to_tensors("concatenate", tensors);
        return concatenate(Tensors(parts), axis);
      },
      py::arg("tensors"), py::arg("axis") = 0,
      "Tensors end to end along an axis; the other sizes, and the dtypes' kind, must be equal. "
      "ShapeError where they are not.");
  m.def(
      "stack",
      [](py::handle tensors, int64_t axis) {
        const auto parts = to_tensors("stack", tensors);
        return stack(Tensors(parts), axis);
      },
      py::arg("tensors"), py::arg("axis") = 0,
      "Tensors of one shape along a new axis. ShapeError where the shapes differ.");
}

}  // namespace wengert::bindings
