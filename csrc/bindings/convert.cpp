// From Python's values to the core's: dtypes, shapes, axes, indices, numbers, nested lists.
#include <algorithm>
#include <limits>

#include "bindings/bindings.h"
#include "tensor/copy.h"

namespace wengert::bindings {

namespace {

std::string type_name(py::handle h) { return Py_TYPE(h.ptr())->tp_name; }

// An int, or what can be used as one (NumPy's integers, a tensor of one integer), but no bool.
bool to_integer(py::handle h, int64_t& result) {
  if (PyBool_Check(h.ptr()) || !PyIndex_Check(h.ptr())) return false;
  // NumPy's arrays claim to be integers, whatever their shape.
  if (!PyLong_Check(h.ptr()) && py::hasattr(h, "ndim") && h.attr("ndim").cast<int>() > 0)
    return false;
  const Py_ssize_t value = PyNumber_AsSsize_t(h.ptr(), PyExc_IndexError);
  if (value == -1 && PyErr_Occurred()) throw py::error_already_set();
  result = value;
  return true;
}

bool is_array(py::handle h) {
  return py::hasattr(h, "__array__") || py::hasattr(h, "__array_interface__");
}

// NumPy's float64 is a Python float too; alone it keeps its digits.
bool is_float64(py::handle h) {
  return py::hasattr(h, "dtype") &&
         py::str(py::module_::import("numpy").attr("asarray")(h).attr("dtype"))
             .equal(py::str("float64"));
}

// A Python number.
std::optional<Number> as_number(py::handle h) {
  if (PyBool_Check(h.ptr())) return Number(h.ptr() == Py_True);
  if (PyFloat_Check(h.ptr())) return Number(PyFloat_AS_DOUBLE(h.ptr()));
  if (!PyLong_Check(h.ptr())) return std::nullopt;
  int overflow = 0;
  const long long whole = PyLong_AsLongLongAndOverflow(h.ptr(), &overflow);
  if (!overflow) return Number(whole);
  const double value = PyLong_AsDouble(h.ptr());
  if (PyErr_Occurred()) throw py::error_already_set();
  return Number(value);
}
// The dtype of a Python number by itself.
DType own_dtype(py::handle h) {
  if (PyBool_Check(h.ptr())) return DType::bool_;
  if (PyLong_Check(h.ptr())) return DType::int64;
  return PyFloat_CheckExact(h.ptr()) || !is_float64(h) ? DType::float32 : DType::float64;
}
// A number as a 0-d tensor.
Tensor constant_of(py::handle h, const Number& x, DType dtype) {
  if (!dispatch(dtype, [&](auto type) { return x.fits<typename decltype(type)::type>(); }))
    fail<ValueError>("the ", PyLong_Check(h.ptr()) ? "integer " : "number ", shown(h),
                     " does not fit into ", dtype,
                     dtype == DType::int64 ? "" : "; convert the tensor with .to(\"int64\")");
  return Tensor::scalar(x, dtype);
}
// A Python number as a 0-d tensor: `beside` is the dtype it stands beside, if any.
bool to_constant(py::handle h, std::optional<DType> beside, Tensor& result) {
  const std::optional<Number> x = as_number(h);
  if (!x) return false;
  DType dtype = beside ? *beside : own_dtype(h);
  if (beside && PyFloat_Check(h.ptr())) dtype = to_floating(*beside);
  if (dtype == DType::bool_ && !PyBool_Check(h.ptr())) dtype = DType::int64;
  result = constant_of(h, *x, dtype);
  return true;
}

// True if a list holds a float64 scalar of NumPy or of Wengert: Python's numbers have no dtype.
bool holds_float64(py::handle list) {
  for (py::handle item : py::reinterpret_borrow<py::sequence>(list)) {
    PyObject* const x = item.ptr();
    if (PyFloat_CheckExact(x) || PyLong_CheckExact(x) || PyBool_Check(x)) continue;
    if (PyList_Check(x) || PyTuple_Check(x) ? holds_float64(item) : is_float64(item)) return true;
  }
  return false;
}

// Nested lists of plain numbers of Python are read here: NumPy would hold the interpreter's lock,
// and be deaf to Ctrl-C, for all of them. The lists may change under the reader's eyes, as other
// threads run.
class NumberLists {
 public:
  // Whether `data` is that, of one shape.
  bool take(PyObject* data) { return measure(data) && look(data, 0); }
  // Whether they fit into it, if it is a dtype of integers.
  bool fit(DType dtype) const {
    return dispatch(dtype, [this](auto type) {
      using T = typename decltype(type)::type;
      if constexpr (std::is_integral_v<T> && !std::is_same_v<T, bool>)
        return dtype_ == DType::float64 || (std::numeric_limits<T>::lowest() <= least_ &&
                                            most_ <= std::numeric_limits<T>::max());
      else
        return true;
    });
  }
  // The numbers, as the narrowest of bool, int64 and float64 that holds them all.
  Tensor read(PyObject* data) const {
    const Tensor x(shape_, dtype_);
    dispatch(dtype_, [&](auto type) {
      using T = typename decltype(type)::type;
      if constexpr (std::is_same_v<T, bool> || sizeof(T) == 8) {
        T* to = x.data<T>();
        fill(data, 0, to);
      }
    });
    return x;
  }

 private:
  static bool is_list(PyObject* o) { return PyList_CheckExact(o) || PyTuple_CheckExact(o); }

  bool measure(PyObject* data) {
    for (; is_list(data); data = PySequence_Fast_GET_ITEM(data, 0)) {
      if (shape_.size() == max_dims) return false;
      shape_.push_back(PySequence_Fast_GET_SIZE(data));
      if (shape_.back() == 0) return false;
    }
    return !shape_.empty();
  }
  // f(item) for the items of a list at this depth; false if there are not as many, or f says so.
  template <class F> bool each(PyObject* list, int axis, const F& f) const {
    if (!is_list(list)) return false;
    for (int64_t i = 0; i < shape_[axis]; ++i) {
      let_others_run();
      if (PySequence_Fast_GET_SIZE(list) != shape_[axis]) return false;
      PyObject* const item = PySequence_Fast_GET_ITEM(list, i);
      if (axis + 1 == shape_.size()) {
        if (!f(item)) return false;
      } else {
        const py::object inner = py::reinterpret_borrow<py::object>(item);
        if (!each(inner.ptr(), axis + 1, f)) return false;
      }
    }
    return true;
  }
  bool look(PyObject* data, int axis) {
    return each(data, axis, [this](PyObject* o) {
      DType kind = DType::bool_;
      int overflow = 0;
      if (PyFloat_CheckExact(o))
        kind = DType::float64;
      else if (PyLong_CheckExact(o))
        kind = DType::int64, note(PyLong_AsLongLongAndOverflow(o, &overflow));
      else if (!PyBool_Check(o))
        return false;
      dtype_ = std::max(dtype_, kind);
      return overflow == 0;
    });
  }
  template <class T> void fill(PyObject* data, int axis, T*& to) const {
    const bool same = each(data, axis, [&](PyObject* o) {
      int overflow = 0;
      if (PyFloat_CheckExact(o) && std::is_same_v<T, double>)
        *to++ = static_cast<T>(PyFloat_AS_DOUBLE(o));
      else if (PyBool_Check(o))
        *to++ = static_cast<T>(o == Py_True);
      else if (PyLong_CheckExact(o) && !std::is_same_v<T, bool>)
        *to++ = static_cast<T>(PyLong_AsLongLongAndOverflow(o, &overflow));
      else
        return false;
      return overflow == 0;
    });
    if (!same) fail<ValueError>("tensor: the list changed while it was read");
  }

  void note(int64_t x) {
    least_ = std::min(least_, x);
    most_ = std::max(most_, x);
  }

  Shape shape_;
  DType dtype_ = DType::bool_;
  int64_t least_ = 0, most_ = 0;
};

}  // namespace

DType to_dtype(py::handle given) {
  if (py::isinstance<DType>(given)) return given.cast<DType>();
  std::string text;
  if (PyUnicode_Check(given.ptr())) {
    text = given.cast<std::string>();
  } else if (given.ptr() == reinterpret_cast<PyObject*>(&PyFloat_Type)) {
    return DType::float64;
  } else if (given.ptr() == reinterpret_cast<PyObject*>(&PyLong_Type)) {
    return DType::int64;
  } else if (given.ptr() == reinterpret_cast<PyObject*>(&PyBool_Type)) {
    return DType::bool_;
  } else if (py::hasattr(given, "name") && PyUnicode_Check(py::object(given.attr("name")).ptr())) {
    text = given.attr("name").cast<std::string>();  // np.dtype("float32")
  } else if (py::hasattr(given, "__name__")) {
    text = given.attr("__name__").cast<std::string>();  // np.float32
  }
  for (int i = 0; i < dtype_count; ++i)
    if (text == name(static_cast<DType>(i)) || (i == 0 && text == "bool_"))
      return static_cast<DType>(i);
  fail<DTypeError>(
      "dtype: got ", shown(given),
      "; expected float32, float64, bfloat16, int32, int64, uint8 or bool",
      did_you_mean(text, {"float32", "float64", "bfloat16", "int32", "int64", "uint8", "bool"}));
}
std::optional<DType> to_dtype_or_none(py::handle given) {
  if (given.is_none()) return std::nullopt;
  return to_dtype(given);
}

Shape to_shape(const char* op, py::handle given, const char* what) {
  const auto size_of = [op](py::handle h, int64_t& size) {
    if (PyLong_Check(h.ptr()) && _PyLong_NumBits(h.ptr()) > 63)
      fail<ShapeError>(op, ": the size ", shown(h), " does not fit into 64 bits");
    return to_integer(h, size);
  };
  Shape shape;
  int64_t size;
  if (size_of(given, size)) {
    shape.push_back(size);
    return shape;
  }
  if (!PySequence_Check(given.ptr()) || PyUnicode_Check(given.ptr()))
    fail<DTypeError>(op, ": ", what, " is ", shown(given),
                     "; expected an int or a sequence of ints");
  const auto items = py::reinterpret_borrow<py::sequence>(given);
  if (items.size() > max_dims)
    fail<ShapeError>(op, ": ", what, " has ", items.size(), " items, ", shown(given),
                     "; a tensor has at most ", max_dims, " axes: join some of them");
  for (py::object item : items) {
    if (!size_of(item, size))
      fail<DTypeError>(op, ": got ", shown(item), " in ", what, "; expected an int");
    shape.push_back(size);
  }
  return shape;
}

AxisMask to_axes(const char* op, py::handle given, const Tensor& x) {
  if (given.is_none()) return all_axes(x);
  AxisMask mask = 0;
  const Shape axes = to_shape(op, given, "axis");
  for (int64_t axis : axes) {
    const AxisMask one = axis_mask(op, axis, x.dim());  // none where x has no axes
    if (mask & one || (x.dim() == 0 && axes.size() > 1))
      fail<ValueError>(op, ": axis ", x.dim() ? axis : axes.back(), " is named twice");
    mask |= one;
  }
  return mask;
}

std::vector<IndexPart> to_key(py::handle given) {
  std::vector<IndexPart> key;
  const auto bound = [](PyObject* o) -> std::optional<int64_t> {
    if (o == Py_None) return std::nullopt;
    // Bounds beyond 64 bits are clipped, as in NumPy.
    const Py_ssize_t value = PyNumber_AsSsize_t(o, nullptr);
    if (value == -1 && PyErr_Occurred()) throw py::error_already_set();
    return value;
  };
  const auto add = [&](py::handle part) {
    int64_t i;
    Tensor t;
    if (part.is_none()) {
      key.emplace_back(NewAxis{});
    } else if (part.ptr() == Py_Ellipsis) {
      key.emplace_back(Everything{});
    } else if (PySlice_Check(part.ptr())) {
      const auto* s = reinterpret_cast<PySliceObject*>(part.ptr());
      key.emplace_back(Range{bound(s->start), bound(s->stop), bound(s->step).value_or(1)});
    } else if (py::isinstance<TensorBody>(part)) {
      key.emplace_back(part.cast<Tensor>());
    } else if (to_integer(part, i)) {
      key.emplace_back(i);
    } else if (PyBool_Check(part.ptr()) || PyList_Check(part.ptr()) || PyTuple_Check(part.ptr()) ||
               is_array(part)) {
      t = from_python(part, std::nullopt);
      if (t.numel() == 0 && is_floating(t.dtype()))
        t = wengert::to_dtype(t, DType::int64);  // x[[]]
      key.emplace_back(t);
    } else {
      fail<IndexError>(
          "index: got ", shown(part),
          "; expected an int, a slice, None, ..., or a tensor, array or list of ints or bools");
    }
  };
  if (PyTuple_Check(given.ptr()))
    for (py::handle part : py::reinterpret_borrow<py::tuple>(given)) add(part);
  else
    add(given);
  return key;
}

Tensor from_python(py::handle data, std::optional<DType> dtype) {
  if (py::isinstance<TensorBody>(data)) {
    const Tensor x = data.cast<Tensor>().detach();
    return clone(dtype ? wengert::to_dtype(x, *dtype) : x);
  }
  // A step that is traced makes a line of it, so that it knows where the value is from.
  const auto made = [](const Tensor& x) { return tracer ? clone(x) : x; };
  if (const std::optional<Number> x = as_number(data))
    return made(dtype == DType::bool_
                    ? wengert::to_dtype(constant_of(data, *x, own_dtype(data)), *dtype)
                    : constant_of(data, *x, dtype.value_or(own_dtype(data))));
  if (NumberLists lists; lists.take(data.ptr()) && lists.fit(dtype.value_or(DType::int64))) {
    const Tensor x = lists.read(data.ptr());
    // Numbers written in Python have no dtype of their own.
    const DType own = x.dtype() == DType::float64 ? DType::float32 : x.dtype();
    return made(wengert::to_dtype(x, dtype.value_or(own)));
  }
  // Other lists, and arrays: NumPy knows how to read them.
  const py::object numpy = py::module_::import("numpy");
  py::object array;
  try {
    if (PyList_Check(data.ptr()) || PyTuple_Check(data.ptr())) {
      py::list items;  // of lists that hold tensors, the tensors' values
      for (py::object item : py::reinterpret_borrow<py::sequence>(data))
        items.append(py::isinstance<TensorBody>(item)
                         ? to_numpy(item.cast<Tensor>().detach(), false)
                         : py::reinterpret_borrow<py::object>(item));
      array = numpy.attr("asarray")(items);
      const auto kind = array.attr("dtype").attr("kind").cast<std::string>();
      if (dtype && is_integer(*dtype) && (kind == "i" || kind == "u"))
        array = numpy.attr("asarray")(items, name(*dtype));  // refuses what does not fit
    } else {
      refuse_mask("tensor", data);
      array = numpy.attr("asarray")(data);
    }
  } catch (py::error_already_set& e) {
    if (!e.matches(PyExc_ValueError) && !e.matches(PyExc_OverflowError)) throw;
    fail<ValueError>("tensor: the nested lists do not make an array: ",
                     py::str(e.value()).cast<std::string>());
  }
  const auto kind = array.attr("dtype").attr("kind").cast<std::string>();
  if (kind != "f" && kind != "i" && kind != "u" && kind != "b")
    fail<DTypeError>("tensor: got ", type_name(data), " with values of dtype ",
                     py::str(array.attr("dtype")).cast<std::string>(),
                     "; expected real numbers or bools");
  if (!is_array(data) && !dtype &&
      array.attr("dtype").attr("name").cast<std::string>() == "float64" && !holds_float64(data))
    dtype = DType::float32;  // numbers written in Python have no dtype of their own
  const Tensor x = from_numpy(in_known_dtype(array, dtype));
  return clone(dtype ? wengert::to_dtype(x, *dtype) : x);
}

Number to_number(const char* op, const char* argument, py::handle h) {
  if (const std::optional<Number> x = as_number(h)) {
    if (PyLong_Check(h.ptr()) && !x->is_whole())
      fail<ValueError>(op, ": ", argument, " is ", shown(h), ", which does not fit into 64 bits");
    return *x;
  }
  int64_t whole;
  if (to_integer(h, whole)) return Number(whole);
  return Number(to_value<double>(op, argument, py::reinterpret_borrow<py::object>(h)));
}

bool to_operand(py::handle given, const Tensor& other, Tensor& result) {
  if (const Tensor* x = as_tensor(given.ptr())) {
    result = *x;
    return true;
  }
  const std::optional<DType> beside = other.defined() ? std::optional(other.dtype()) : std::nullopt;
  if (to_constant(given, beside, result)) return true;
  if (!is_array(given)) return false;
  result = from_python(given, std::nullopt);
  return true;
}
Tensor to_operand(const char* op, py::handle given, const Tensor& other) {
  Tensor result;
  if (!to_operand(given, other, result))
    fail<DTypeError>(op, ": got ", shown(given), "; expected a tensor, a number or an array");
  return result;
}

py::tuple to_tuple(const Dims& dims) {
  py::tuple t(static_cast<size_t>(dims.size()));
  for (int i = 0; i < dims.size(); ++i) t[static_cast<size_t>(i)] = dims[i];
  return t;
}
py::dict named_attributes(const Op& op, const Attrs& attrs) {
  py::dict named;
  for (const auto& [key, attribute] : attributes_of(op, attrs))
    std::visit(
        [&, name = key](const auto& value) {
          if constexpr (std::is_same_v<decltype(value), const Dims&>)
            named[name] = to_tuple(value);
          else if constexpr (!std::is_same_v<decltype(value), const Number&>)
            named[name] = value;
          else if (value.is_whole())
            named[name] = value.template as<int64_t>();
          else
            named[name] = value.as();
        },
        attribute);
  return named;
}

std::vector<Tensor> to_tensors(const char* op, py::handle given) {
  std::vector<Tensor> result;
  if (const Tensor* x = as_tensor(given.ptr())) return {*x};
  if (!PySequence_Check(given.ptr()) || PyUnicode_Check(given.ptr()))
    fail<DTypeError>(op, ": got ", shown(given), "; expected a tensor or a sequence of tensors");
  for (py::object item : py::reinterpret_borrow<py::sequence>(given)) {
    const Tensor* x = as_tensor(item.ptr());
    if (!x)
      fail<DTypeError>(op, ": item ", result.size(), " is ", shown(item), "; expected a tensor");
    result.push_back(*x);
  }
  return result;
}

}  // namespace wengert::bindings
