// The class Tensor: what it knows of itself, its values, edits in place, operators.
#include "bindings/bindings.h"

#include "tensor/copy.h"

namespace wengert::bindings {

namespace {

template <class T>
py::object list_of(const T* x, const Shape& shape, const Strides& strides, int axis) {
  if (axis == shape.size()) {
    let_others_run();
    if constexpr (std::is_same_v<T, bfloat16>)
      return py::cast(static_cast<float>(*x));
    else
      return py::cast(*x);
  }
  py::list list;
  for (int64_t i = 0; i < shape[axis]; ++i)
    list.append(list_of(x + i * strides[axis], shape, strides, axis + 1));
  return list;
}
// A number, or nested lists.
py::object values(const Tensor& given, const Shape& shape) {
  const Tensor x = on_host(given);
  return dispatch(x.dtype(), [&](auto type) {
    return list_of(x.data<typename decltype(type)::type>(), shape, x.strides(), 0);
  });
}

}  // namespace

py::object item(const Tensor& x) {
  refuse_in_trace("reading a tensor's value", x);
  if (x.numel() != 1)
    fail<ValueError>("item: the tensor has shape ", x.shape(), " and ", x.numel(),
                     " elements; expected exactly one: use tolist(), or index first");
  return values(x, Shape{});
}

namespace {

py::object to_list(const Tensor& x) {
  refuse_in_trace("tolist()", x);
  return values(x, x.shape());
}

py::object single(const char* method, const Tensor& x) {
  if (x.numel() != 1)
    fail<ValueError>(method, ": a tensor of shape ", x.shape(), " is not one value",
                     std::string(method) == "bool" ? "; use .any() or .all()"
                                                   : "; use tolist(), or index first");
  return item(x);
}

// PyTorch's `values, indices = x.max(1)` would bind two rows of the values, silently. The frame
// that iterates over x says whether it unpacks x into two names.
void refuse_values_and_indices(const Tensor& x) {
  const std::string_view op = x->made_by ? x->made_by->name : "";
  PyFrameObject* frame = op == "max" || op == "min" ? PyEval_GetFrame() : nullptr;
  if (!frame) return;
  static const auto unpack =
      py::module_::import("opcode").attr("opmap")["UNPACK_SEQUENCE"].cast<unsigned char>();
  const auto code =
      py::reinterpret_steal<py::object>(reinterpret_cast<PyObject*>(PyFrame_GetCode(frame)));
  const auto bytes = py::reinterpret_steal<py::object>(
      PyCode_GetCode(reinterpret_cast<PyCodeObject*>(code.ptr())));
  const auto* at = reinterpret_cast<const unsigned char*>(PyBytes_AsString(bytes.ptr())) +
                   PyFrame_GetLasti(frame);
  if (at[0] == unpack && at[1] == 2)
    throw py::type_error(concat(op, ": gives the values alone, of shape ", x.shape(),
                                ", and they are unpacked into two names as values and indices; "
                                "write x.",
                                op, "(axis), x.arg", op, "(axis), or x.", op,
                                "(axis).tolist() for two numbers"));
}

// x = op(x, other), in x's memory; a number counts as one of x's dtype.
template <class Row> void edit(const Tensor& x, py::handle given) {
  const Tensor other = to_operand(Row::name, given, x);
  const Tensor in[] = {x,
                       other.dtype() == x.dtype() || promote(x.dtype(), other.dtype()) != x.dtype()
                           ? other
                           : to_dtype(other, x.dtype())};
  if (promote(x.dtype(), other.dtype()) != x.dtype() ||
      (Row::takes == Takes::floating && !is_floating(x.dtype())))
    fail<DTypeError>(Row::name, " in place: a tensor of ", x.dtype(),
                     " cannot hold the result with ", other.dtype(), "; write x = x ",
                     formula_of(binary_op<Row>())[2], " y, or convert first");
  const bool bools = x.dtype() == DType::bool_ && in[1].dtype() == DType::bool_;
  apply_in_place(x, bools ? op_of_bools(binary_op<Row>()) : binary_op<Row>(), Tensors(in));
}

// `x += y`, in place, as add_ is.
template <class Row> py::object augmented(py::object self, py::handle given) {
  const Tensor x = self.cast<Tensor>();
  Tensor other;
  if (!to_operand(given, x, other)) return py::reinterpret_borrow<py::object>(Py_NotImplemented);
  edit<Row>(x, given);
  return self;
}

// The same of an op that is no row, or whose result may have another dtype.
template <class F> auto augmented_by(const char* name, F f) {
  return [=](py::object self, py::handle given) -> py::object {
    const Tensor x = self.cast<Tensor>();
    Tensor other;
    if (!to_operand(given, x, other)) return py::reinterpret_borrow<py::object>(Py_NotImplemented);
    // What its vjp saves must stay as it was.
    const bool recorded = grad_enabled() && (x.requires_grad() || other.requires_grad());
    if (recorded && other->storage == x->storage) other = clone(other);
    const Tensor result = f(recorded ? clone(x) : x, other);
    if (result.dtype() != x.dtype())
      fail<DTypeError>(name, " in place: a tensor of ", x.dtype(), " cannot hold the result, of ",
                       result.dtype(), "; write the result to a new tensor, or convert first");
    apply_in_place(x, copy_op, Tensors(&result, 1), {}, name);
    if (x->made_by == &copy_op) x->made_by = result->made_by;
    return self;
  };
}

template <class F> auto operation(F f) {
  return [f](const Tensor& x, py::handle given) -> py::object {
    Tensor other;
    if (!to_operand(given, x, other)) return py::reinterpret_borrow<py::object>(Py_NotImplemented);
    return py::cast(f(x, other));
  };
}
template <class F>
void add_operator(TensorClass& cls, const char* name, const char* reversed, F f) {
  cls.def(name, operation(f), py::arg("other"));
  if (reversed)
    cls.def(reversed, operation([f](const Tensor& x, const Tensor& other) { return f(other, x); }),
            py::arg("other"));
}

template <class... Rows> void add_comparisons(TensorClass& cls, List<Rows...>) {
  (add_operator(cls, concat("__", Rows::name, "__").c_str(), nullptr, test<Rows>), ...);
}

// One object a dtype: `x.dtype is wengert.float32`.
py::object dtype_object(DType t) {
  static PyObject* objects[dtype_count] = {};
  PyObject*& object = objects[static_cast<int>(t)];
  if (!object) object = py::cast(t).release().ptr();
  return py::reinterpret_borrow<py::object>(object);
}

Tensor bitwise_not(const Tensor& x) {
  if (is_floating(x.dtype()))
    fail<DTypeError>("~: does not support ", x.dtype(), "; expected bool or an integer");
  return x.dtype() == DType::bool_ ? test<Eq>(x, Tensor::scalar(0, DType::bool_))
                                   : logic<Xor>(x, Tensor::scalar(-1, x.dtype()));
}

Tensor convert(const Tensor& x, py::handle to, bool non_blocking) {
  if (PyUnicode_Check(to.ptr())) {
    const auto text = to.cast<std::string>();
    if (text == "cpu" || text.starts_with("cuda")) return to_device(x, to_device(to), non_blocking);
  }
  return to_dtype(x, to_dtype(to));
}

// Hooks are Python's, so its cycle collector must see them: a hook that captures its own tensor is
// a cycle through the tensor's body. They are shown where the Python object is the body's only
// owner.
int traverse(PyObject* self, visitproc visit, void* arg) {
  Py_VISIT(Py_TYPE(self));
  auto* instance = reinterpret_cast<py::detail::instance*>(self);
  if (!instance->simple_layout || !instance->simple_holder_constructed) return 0;
  auto* body = static_cast<TensorBody*>(instance->simple_value_holder[0]);
  if (!body || body->refs.load() != 1 || !body->hooks) return 0;
  const bool shared =
      body->hooks.use_count() > (body->line && body->line->refs.load() == 1 ? 2 : 1);
  if (shared) return 0;
  for (const auto& [id, hook] : *body->hooks) Py_VISIT(static_cast<PyObject*>(hook->object()));
  return 0;
}
int clear(PyObject* self) {
  auto* instance = reinterpret_cast<py::detail::instance*>(self);
  if (instance->simple_layout && instance->simple_holder_constructed)
    if (auto* body = static_cast<TensorBody*>(instance->simple_value_holder[0]);
        body && body->hooks) {
      Hooks gone;
      gone.swap(*body->hooks);
    }
  return 0;
}

}  // namespace

// Passed when the class is made.
py::custom_type_setup tensor_type_setup() {
  return py::custom_type_setup([](PyHeapTypeObject* heap) {
    heap->ht_type.tp_flags |= Py_TPFLAGS_HAVE_GC;
    heap->ht_type.tp_traverse = traverse;
    heap->ht_type.tp_clear = clear;
  });
}

void add_dtypes(py::module_& m) {
  py::class_<DType> cls(m, "DType", "An element type.");
  cls.def_property_readonly("name", [](DType t) { return name(t); })
      .def_property_readonly(
          "itemsize", [](DType t) { return size_of(t); }, "Bytes an element.")
      .def_property_readonly("is_floating_point", [](DType t) { return is_floating(t); })
      .def("__repr__", [](DType t) { return concat("wengert.", name(t)); })
      .def("__hash__", [](DType t) { return static_cast<int>(t); })
      .def("__reduce__", [](DType t) { return py::str(t == DType::bool_ ? "bool_" : name(t)); })
      .def("__eq__", [](DType t, py::handle other) {
        try {
          return to_dtype(other) == t;  // its name and NumPy's dtypes are equal to it too
        } catch (const DTypeError&) {
          return false;
        }
      });
  for (int i = 0; i < dtype_count; ++i) {
    const DType t = static_cast<DType>(i);
    m.attr(t == DType::bool_ ? "bool_" : name(t)) = dtype_object(t);
  }
}

void add_tensor(py::module_&, TensorClass& cls) {
  cls.def_property_readonly(
         "shape", [](const Tensor& x) { return to_tuple(x.shape()); }, "Sizes by axis, a tuple.")
      .def_property_readonly(
          "ndim", [](const Tensor& x) { return x.dim(); }, "Number of axes.")
      .def_property_readonly(
          "dtype", [](const Tensor& x) { return dtype_object(x.dtype()); }, "Type of the elements.")
      .def_property_readonly(
          "device", [](const Tensor& x) { return name(x.device()); },
          "Where the memory is: \"cpu\", \"cuda:0\".")
      .def_property_readonly(
          "itemsize", [](const Tensor& x) { return size_of(x.dtype()); }, "Bytes an element.")
      .def_property_readonly(
          "nbytes", [](const Tensor& x) { return nbytes(x.shape(), x.dtype()); },
          "Bytes of all elements.")
      .def_property_readonly(
          "size", [](const Tensor& x) { return x.numel(); }, "Number of elements.")
      .def_property_readonly(
          "version", [](const Tensor& x) { return x->storage->version; },
          "How often its memory was changed in place.")
      .def(
          "numel", [](const Tensor& x) { return x.numel(); }, "Number of elements.")
      .def(
          "stride", [](const Tensor& x) { return to_tuple(x.strides()); },
          "Elements from one place to the next, by axis.")
      .def(
          "is_contiguous", [](const Tensor& x) { return x.is_contiguous(); },
          "Do the elements follow one another in memory, the last axis fastest?")
      .def(
          "data_ptr", [](const Tensor& x) { return reinterpret_cast<uintptr_t>(x.data()); },
          "Address of the first element.")
      .def("item", item, "The one element, as a Python number.")
      .def("tolist", to_list, "The elements as nested lists of Python numbers.")
      .def("__len__",
           [](const Tensor& x) {
             if (x.dim() == 0) throw py::type_error("len: a tensor of 0 dimensions has no length");
             return x.shape()[0];
           })
      .def("__bool__", [](const Tensor& x) { return py::bool_(single("bool", x)); })
      .def("__float__", [](const Tensor& x) { return py::float_(single("float", x)); })
      .def("__int__",
           [](const Tensor& x) {
             const py::object number = py::reinterpret_steal<py::object>(
                 PyNumber_Long(single("int", x).ptr()));  // an int, of a bool too
             if (!number) throw py::error_already_set();
             return number;
           })
      .def("__index__",
           [](const Tensor& x) {
             if (!is_integer(x.dtype()) || x.numel() != 1)
               throw py::type_error(concat("index: a tensor of ", x.dtype(), " and shape ",
                                           x.shape(),
                                           " cannot be used as an integer; expected one integer"));
             return item(x);
           })
      .def(
          "__getitem__", [](const Tensor& x, py::handle key) { return get_item(x, to_key(key)); },
          py::arg("key"))
      .def(
          "__setitem__",
          [](const Tensor& x, py::handle key, py::handle value) {
            Tensor v;
            if (!to_operand(value, x, v)) v = from_python(value, std::nullopt);
            if (is_floating(v.dtype()) && !is_floating(x.dtype()))
              fail<DTypeError>("setitem: a value of ", v.dtype(), " does not fit into a tensor of ",
                               x.dtype(), "; convert it with .to(", x.dtype(), ") first");
            set_item(x, to_key(key), v);
          },
          py::arg("key"), py::arg("value"))
      .def("__iter__", [](const Tensor& x) {
        if (x.dim() == 0)
          throw py::type_error("iter: a tensor of 0 dimensions cannot be iterated over");
        refuse_values_and_indices(x);
        py::list rows;
        for (int64_t i = 0; i < x.shape()[0]; ++i) rows.append(py::cast(pick(x, 0, i)));
        return py::iter(rows);
      });

  add_operator(cls, "__add__", "__radd__", binary<Add>);
  add_operator(cls, "__sub__", "__rsub__", binary<Sub>);
  add_operator(cls, "__mul__", "__rmul__", binary<Mul>);
  add_operator(cls, "__truediv__", "__rtruediv__", binary<Div>);
  add_operator(cls, "__floordiv__", "__rfloordiv__", binary<FloorDivide>);
  add_operator(cls, "__mod__", "__rmod__", binary<Remainder>);
  add_operator(cls, "__matmul__", "__rmatmul__", matmul);
  add_operator(cls, "__and__", "__rand__", logic<And>);
  add_operator(cls, "__or__", "__ror__", logic<Or>);
  add_operator(cls, "__xor__", "__rxor__", logic<Xor>);
  add_operator(cls, "__lshift__", "__rlshift__", logic<LeftShift>);
  add_operator(cls, "__rshift__", "__rrshift__", logic<RightShift>);
  add_comparisons(cls, TestRows{});
  const auto add_power = [&cls](const char* name, auto f) {
    cls.def(
        name, [f](const Tensor& x, py::handle other, py::handle) { return operation(f)(x, other); },
        py::arg("other"), py::arg("modulo") = py::none());
  };
  add_power("__pow__", binary<Pow>);
  add_power("__rpow__", [](const Tensor& e, const Tensor& b) { return binary<Pow>(b, e); });
  cls.def("__neg__", [](const Tensor& x) { return -x; });
  cls.def("__pos__", [](const Tensor& x) { return x; });
  cls.def("__abs__", [](const Tensor& x) { return abs(x); });
  cls.def("__invert__", bitwise_not);
  cls.def("__iadd__", augmented<Add>, py::arg("other"));
  cls.def("__isub__", augmented<Sub>, py::arg("other"));
  cls.def("__imul__", augmented<Mul>, py::arg("other"));
  cls.def("__itruediv__", augmented<Div>, py::arg("other"));
  cls.def("__ifloordiv__", augmented_by("floor_divide", binary<FloorDivide>), py::arg("other"));
  cls.def("__imod__", augmented_by("remainder", binary<Remainder>), py::arg("other"));
  cls.def(
      "__ipow__",
      [](py::object self, py::handle other, py::handle) {
        return augmented_by("pow", binary<Pow>)(self, other);
      },
      py::arg("other"), py::arg("modulo") = py::none());
  cls.def("__imatmul__", augmented_by("matmul", matmul), py::arg("other"));
  cls.def("__iand__", augmented_by("bitwise_and", logic<And>), py::arg("other"));
  cls.def("__ior__", augmented_by("bitwise_or", logic<Or>), py::arg("other"));
  cls.def("__ixor__", augmented_by("bitwise_xor", logic<Xor>), py::arg("other"));
  // Tensors are compared element by element, but are told apart, in sets and as keys, by identity.
  cls.attr("__hash__") = py::module_::import("builtins").attr("object").attr("__hash__");

  const auto in_place = [&cls](const char* name, auto f, const char* doc) {
    cls.def(
        name,
        [f](py::object self, py::handle other) {
          f(self.cast<Tensor>(), other);
          return self;
        },
        py::arg("other"), doc);
  };
  in_place("add_", edit<Add>,
           "Adds `other`, which broadcasts, in place; DTypeError where the sum has another dtype.");
  in_place("sub_", edit<Sub>, "Subtracts `other`, which broadcasts, in place.");
  in_place("mul_", edit<Mul>, "Multiplies by `other`, which broadcasts, in place.");
  in_place("div_", edit<Div>,
           "Divides by `other`, which broadcasts, in place; DTypeError for integers.");
  cls.def(
      "copy_",
      [](py::object self, py::handle other) {
        const Tensor x = self.cast<Tensor>(), value = to_operand("copy_", other, x);
        const Tensor in[] = {expand(value, x.shape(), "copy_")};
        apply_in_place(x, cast_op, Tensors(in), x.dtype(), "copy_");
        if (x->made_by == &cast_op) x->made_by = &copy_op;
        return self;
      },
      py::arg("other"),
      "Overwrites the elements with those of `other`, which broadcasts and is converted.");
  cls.def(
      "fill_",
      [](py::object self, py::handle value) {
        const Tensor x = self.cast<Tensor>(), constant = to_operand("fill_", value, x);
        if (is_floating(constant.dtype()) && !is_floating(x.dtype()))
          fail<DTypeError>("fill_: a value of ", constant.dtype(),
                           " does not fit into a tensor of ", x.dtype(), "; give a whole number");
        const Tensor in[] = {expand(constant, x.shape(), "fill_")};
        apply_in_place(x, cast_op, Tensors(in), x.dtype(), "fill_");
        static const Op fill{.name = "fill", .formula = "value", .gradient = {"0"}};
        if (x->made_by == &cast_op) x->made_by = &fill;
        return self;
      },
      py::arg("value"),
      "Overwrites all elements with one value; DTypeError for a fraction in integers.");
  cls.def(
      "zero_", [](py::object self) { return self.attr("fill_")(0); },
      "Overwrites all elements with 0.");

  constexpr std::pair<const char*, DType> conversions[] = {
      {"float", DType::float32},     {"double", DType::float64}, {"int", DType::int32},
      {"bfloat16", DType::bfloat16}, {"long", DType::int64},     {"bool", DType::bool_}};
  for (const auto& [method, dtype] : conversions)
    cls.def(
        method, [to = dtype](const Tensor& x) { return to_dtype(x, to); },
        concat("to(\"", name(dtype), "\")").c_str());
  cls.def("to", convert, py::arg("dtype_or_device"), py::arg("non_blocking") = false,
          "The tensor in another dtype or on another device; itself if it is there. non_blocking: "
          "from pinned memory, does not wait until the copy is made.")
      .def(
          "astype", [](const Tensor& x, py::handle dtype) { return to_dtype(x, to_dtype(dtype)); },
          py::arg("dtype"), "The tensor in another dtype, as to(); itself if it has that.")
      .def(
          "cpu", [](const Tensor& x) { return to_device(x, Device::cpu); }, "to(\"cpu\")")
      .def(
          "cuda", [](const Tensor& x) { return to_device(x, to_device(py::str("cuda"))); },
          "to(\"cuda\"): DeviceError where there is no GPU.")
      .def(
          "clone", [](const Tensor& x) { return clone(x); },
          "A copy with memory of its own; gradients pass through.")
      .def(
          "contiguous", [](const Tensor& x) { return contiguous(x); },
          "Itself if it is contiguous, else a copy.");
}

}  // namespace wengert::bindings
