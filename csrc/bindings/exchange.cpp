// Tensors to and from others without a copy: NumPy arrays, the buffer protocol, DLPack.
//
// What leaves is read-only unless asked for; memory that others may write to is marked as exposed,
// and lines keep copies of it, since no version counter can see those writes.
#include <algorithm>
#include <limits>

#include "base/pool.h"
#include "bindings/bindings.h"
#include "bindings/dlpack_abi.h"
#include "gpu/loader.h"
#include "tensor/loop.h"

namespace wengert::bindings {

namespace {

void drop_reference(void* owner) {
  if (!Py_IsInitialized()) return;
  const PyGILState_STATE state = PyGILState_Ensure();
  Py_DECREF(static_cast<PyObject*>(owner));
  PyGILState_Release(state);
}

const char* buffer_format(DType t) {
  constexpr const char* formats[] = {"?", "B", "i", "q", nullptr, "f", "d"};
  return formats[static_cast<int>(t)];
}

void refuse_bfloat16(const char* op, const Tensor& x) {
  if (x.dtype() == DType::bfloat16)
    fail<DTypeError>(op, ": NumPy has no bfloat16; convert the tensor with .float() first");
}

void refuse_history(const char* op, const Tensor& x) {
  if (x.requires_grad())
    fail<GradientError>(
        op, ": this tensor requires a gradient, which would be lost; use detach() first");
}

void refuse_gpu(const char* op, const Tensor& x) {
  if (is_cuda(x.device()))
    fail<DeviceError>(op, ": this tensor is on ", x.device(),
                      ", whose memory the CPU does not read; use .cpu() first");
}

// An owner of the tensor's storage for as long as a consumer holds the memory.
py::object keep_alive(const Tensor& x) {
  return py::capsule(new Tensor(x.detach()), [](void* p) { delete static_cast<Tensor*>(p); });
}

// Whether all bytes of bools are 0 or 1: kernels take that for granted.
bool are_bools(View x) {
  for (int d = 0; d < x.shape.size(); ++d)
    if (x.strides[d] == 0) x.shape[d] = 1;
  const Loop<1> loop(x.shape, {&x.strides});
  const int64_t columns = loop.inner(), step = loop.stride[0][loop.dims - 1];
  int all = 0;
  serial_for(loop.outer() * columns, 1 << 20, [&](int64_t first, int64_t end) {
    for (int64_t n; first < end; first += n) {
      const int64_t row = first / columns, column = first % columns;
      const uint8_t* const at = x.as<uint8_t>() + loop.offset(0, row) + column * step;
      n = std::min(end - first, columns - column);
      for (int64_t i = 0; i < n; ++i) all |= at[i * step];
    }
  });
  return all <= 1;
}

// A tensor over memory that another library owns. What that says of it is checked first. Strides
// may be negative, so the storage begins at the lowest address.
Tensor adopt(const char* op, void* data, const Shape& shape, Strides strides, DType dtype,
             PyObject* owner, bool writable, Device device = Device::cpu) {
  const int64_t size = size_of(dtype), elements = numel(shape);
  nbytes(shape, dtype);
  if (elements == 0) strides = contiguous_strides(shape);
  const auto address = static_cast<int64_t>(reinterpret_cast<uintptr_t>(data));
  int64_t low = 0, high = elements ? size : 0, end;  // bytes from `data`
  bool far = false;
  for (int d = 0; elements && d < shape.size(); ++d) {
    int64_t reach;
    far |= __builtin_mul_overflow(shape[d] - 1, strides[d], &reach);
    far |= __builtin_mul_overflow(reach, size, &reach);
    int64_t& to = reach < 0 ? low : high;
    far |= __builtin_add_overflow(to, reach, &to);
  }
  if (far || address + low < 0 || __builtin_add_overflow(address, high, &end))
    fail<ValueError>(op, ": the array's shape ", shape, " and strides ", strides,
                     ", in elements, reach beyond all memory");
  if (elements && !data)
    fail<ValueError>(op, ": the array's memory is NULL, and its shape is ", shape);
  if (elements && address % size) fail<ValueError>(op, ": the array is not aligned; copy it first");
  if (elements && dtype == DType::bool_ && device == Device::cpu &&
      !are_bools({data, shape, strides, dtype, device}))
    fail<ValueError>(op,
                     ": the array's bools have bytes other than 0 and 1; compare them, as uint8, "
                     "with 0 first");
  Py_INCREF(owner);
  Ref<Storage> storage =
      Storage::adopt(static_cast<char*>(data) + low, high - low, drop_reference, owner);
  storage->device = device;
  storage->read_only = !writable;
  storage->exposed = true;
  Ref<TensorBody> body(new TensorBody);
  body->storage = std::move(storage);
  body->shape = shape;
  body->strides = strides;
  body->offset = -low / size;
  body->dtype = dtype;
  return Tensor(std::move(body));
}

// ---- DLPack ----

dlpack::TypeInfo type_info(DType t) {
  switch (t) {
    case DType::bool_:
      return {6, 8, 1};
    case DType::uint8:
      return {1, 8, 1};
    case DType::int32:
      return {0, 32, 1};
    case DType::int64:
      return {0, 64, 1};
    case DType::bfloat16:
      return {4, 16, 1};
    case DType::float32:
      return {2, 32, 1};
    default:
      return {2, 64, 1};
  }
}
DType from_type_info(dlpack::TypeInfo info) {
  for (int i = 0; i < dtype_count; ++i) {
    const auto t = type_info(static_cast<DType>(i));
    if (t.code == info.code && t.bits == info.bits && info.lanes == 1) return static_cast<DType>(i);
  }
  fail<DTypeError>("from_dlpack: the producer's dtype (code ", int{info.code}, ", ", int{info.bits},
                   " bits, ", info.lanes,
                   " lanes) is none of float32, float64, bfloat16, int32, int64, uint8, bool; "
                   "convert it there first");
}

constexpr int dl_cpu = 1, dl_cuda = 2;
dlpack::DeviceInfo dl_device(Device d) {
  if (is_cuda(d)) return {dl_cuda, number(d)};
  return {dl_cpu, 0};
}
Device from_dl_device(int type, int at) {
  if (type == dl_cpu) return Device::cpu;
  if (type != dl_cuda)
    fail<DeviceError>("from_dlpack: the array is on device type ", type,
                      "; expected 1, the CPU, or 2, CUDA");
  if (at < 0 || at >= cuda().devices())
    fail<DeviceError>("from_dlpack: the array is on GPU ", at, "; there are 0 to ",
                      cuda().devices() - 1);
  return static_cast<Device>(at);
}

template <class M> struct Export {
  M managed{};
  Tensor tensor;
};
template <class M> void delete_export(M* managed) {
  const bool python = Py_IsInitialized();
  const PyGILState_STATE state = python ? PyGILState_Ensure() : PyGILState_STATE{};
  delete static_cast<Export<M>*>(managed->context);
  if (python) PyGILState_Release(state);
}
template <class M> py::capsule make_capsule(const Tensor& x, const char* name, bool copied) {
  auto* e = new Export<M>;
  e->tensor = x.detach();
  e->managed.context = e;
  e->managed.deleter = delete_export<M>;
  if constexpr (std::is_same_v<M, dlpack::ManagedVersioned>) {
    e->managed.version = {1, 0};
    e->managed.flags =
        (x->storage->read_only ? dlpack::read_only : 0) | (copied ? dlpack::is_copied : 0);
  }
  TensorBody& body = *e->tensor.body();
  e->managed.array = {e->tensor.data(),
                      dl_device(x.device()),
                      body.shape.size(),
                      type_info(body.dtype),
                      &body.shape[0],
                      &body.strides[0],
                      0};
  return py::capsule(&e->managed, name, [](PyObject* capsule) {
    // A consumer renames the capsule and calls the deleter itself.
    for (const char* unused : {"dltensor", "dltensor_versioned"})
      if (PyCapsule_IsValid(capsule, unused)) {
        auto* m = static_cast<M*>(PyCapsule_GetPointer(capsule, unused));
        m->deleter(m);
      }
  });
}

py::capsule to_dlpack(const Tensor& given, py::handle stream, py::handle max_version,
                      py::handle device, py::handle copy) {
  refuse_history("__dlpack__", given);
  const Device from = given.device();
  if (!is_cuda(from) && !stream.is_none())
    throw py::buffer_error("__dlpack__: a CPU tensor takes no stream; expected stream=None");
  if (!device.is_none()) {
    const auto wanted = to_value<std::pair<int, int>>("__dlpack__", "dl_device", device);
    const dlpack::DeviceInfo here = dl_device(from);
    if (wanted.first != here.type || wanted.second != here.id)
      throw py::buffer_error(concat("__dlpack__: this tensor lives on ",
                                    is_cuda(from) ? name(from) : "the CPU", ", device (", here.type,
                                    ", ", here.id, "), and is not copied elsewhere"));
  }
  const bool versioned =
      !max_version.is_none() &&
      to_value<std::pair<int, int>>("__dlpack__", "max_version", max_version).first >= 1;
  const bool copied = !copy.is_none() && to_value<bool>("__dlpack__", "copy", copy);
  if (given->storage->read_only && !versioned && !copied)
    throw py::buffer_error(
        "__dlpack__: this memory is read-only, which DLPack before version 1 cannot say; clone() "
        "it first");
  const Tensor x = copied ? clone(given) : given;
  if (!copied) {
    x->storage->exposed = true;
    // What was saved before can no longer be trusted: the consumer may write.
    if (!x->storage->read_only) note_edit(x, "__dlpack__, whose consumer may write");
  }
  // 1 and 2 are CUDA's names for its default streams; -1 asks for no order.
  const int64_t consumer = stream.is_none() ? 1 : to_value<int64_t>("__dlpack__", "stream", stream);
  if (consumer < -1 || consumer == 0)
    fail<ValueError>("__dlpack__: got stream ", consumer,
                     "; expected -1 (no order), 1, 2, or a cudaStream_t; 0 could mean two of them");
  if (is_cuda(from) && consumer != -1) cuda().let_wait(from, static_cast<uintptr_t>(consumer));
  return versioned ? make_capsule<dlpack::ManagedVersioned>(x, "dltensor_versioned", copied)
                   : make_capsule<dlpack::Managed>(x, "dltensor", copied);
}

template <class M>
Tensor adopt_dlpack(const py::object& capsule, const char* name, const char* used) {
  auto* managed = static_cast<M*>(PyCapsule_GetPointer(capsule.ptr(), name));
  if (!managed) throw py::error_already_set();
  bool writable = true;
  if constexpr (std::is_same_v<M, dlpack::ManagedVersioned>) {
    if (managed->version.major > 1)
      fail<ValueError>("from_dlpack: the producer speaks version ", managed->version.major,
                       "; expected 1");
    writable = !(managed->flags & dlpack::read_only);
  }
  const dlpack::Array& a = managed->array;
  const Device device = from_dl_device(a.device.type, a.device.id);
  if (a.ndim < 0 || a.ndim > max_dims)
    fail<ShapeError>("from_dlpack: the array has ", a.ndim, " dimensions; 0 to ", max_dims,
                     " are possible");
  if (a.ndim > 0 && !a.shape)
    fail<ShapeError>("from_dlpack: the array has ", a.ndim, " dimensions and no shape");
  const DType dtype = from_type_info(a.dtype);
  Shape shape;
  Strides strides;
  for (int i = 0; i < a.ndim; ++i) shape.push_back(a.shape[i]);
  strides = contiguous_strides(shape);
  if (a.strides)
    for (int i = 0; i < a.ndim; ++i) strides[i] = a.strides[i];
  // From here on the memory is ours to give back, through a capsule of our own.
  PyCapsule_SetName(capsule.ptr(), used);
  const py::capsule owner(managed, "wengert", [](PyObject* c) {
    auto* m = static_cast<M*>(PyCapsule_GetPointer(c, "wengert"));
    if (m->deleter) m->deleter(m);
  });
  return adopt("from_dlpack", static_cast<char*>(a.data) + (a.data ? a.byte_offset : 0), shape,
               strides, dtype, owner.ptr(), writable, device);
}

Tensor from_dlpack(py::object producer) {
  if (py::isinstance<TensorBody>(producer)) return producer.cast<Tensor>().detach();
  if (!py::hasattr(producer, "__dlpack__"))
    fail<DTypeError>("from_dlpack: got ", Py_TYPE(producer.ptr())->tp_name,
                     ", which has no __dlpack__; expected an array or tensor");
  py::dict stream;  // the one that the producer's work must come before
  if (py::hasattr(producer, "__dlpack_device__")) {
    const auto at = to_value<std::pair<int, int>>("from_dlpack", "__dlpack_device__",
                                                  producer.attr("__dlpack_device__")());
    if (const Device d = from_dl_device(at.first, at.second); is_cuda(d))
      stream["stream"] = static_cast<int64_t>(cuda().stream(d));
  }
  py::object capsule;
  try {
    capsule = producer.attr("__dlpack__")(py::arg("max_version") = py::make_tuple(1, 0), **stream);
  } catch (py::error_already_set& e) {
    if (!e.matches(PyExc_TypeError))
      throw;  // a producer from before version 1 knows no max_version
    capsule = producer.attr("__dlpack__")(**stream);
  }
  if (PyCapsule_IsValid(capsule.ptr(), "dltensor_versioned"))
    return adopt_dlpack<dlpack::ManagedVersioned>(capsule, "dltensor_versioned",
                                                  "used_dltensor_versioned");
  if (!PyCapsule_IsValid(capsule.ptr(), "dltensor"))
    fail<DTypeError>("from_dlpack: __dlpack__() gave ", py::repr(capsule).cast<std::string>(),
                     "; expected a capsule \"dltensor\" that is not used yet");
  return adopt_dlpack<dlpack::Managed>(capsule, "dltensor", "used_dltensor");
}

py::object to_array(const Tensor& x, py::handle dtype, py::handle copy) {
  py::object array = to_numpy(x, false);
  const bool converts = !dtype.is_none() &&
                        !py::object(array.attr("dtype"))
                             .equal(py::object(py::module_::import("numpy").attr("dtype")(dtype)));
  if (!copy.is_none() && !to_value<bool>("__array__", "copy", copy) && converts)
    fail<ValueError>("__array__: ", x.dtype(),
                     " cannot be seen as another dtype without a copy; expected copy=None or True");
  if (converts) return array.attr("astype")(dtype);
  if (!copy.is_none() && to_value<bool>("__array__", "copy", copy)) return array.attr("copy")();
  return array;
}

}  // namespace

py::object to_numpy(const Tensor& x, bool writable) {
  refuse_in_trace("numpy()", x);
  refuse_history("numpy", x);
  refuse_gpu("numpy", x);
  refuse_bfloat16("numpy", x);
  if (writable) {
    if (x->storage->read_only)
      fail<ValueError>(
          "numpy: this memory is read-only (it came from a read-only array); clone() it first");
    x->storage->exposed = true;
    note_edit(x, "numpy(writable=True)");
  }
  // An object with NumPy's array interface and a reference to the storage; the array keeps it as
  // its base.
  py::dict interface;
  constexpr const char* typestr[] = {"|b1", "|u1", "<i4", "<i8", "", "<f4", "<f8"};
  py::tuple strides(static_cast<size_t>(x.dim()));
  for (int d = 0; d < x.dim(); ++d)
    strides[static_cast<size_t>(d)] = x.strides()[d] * size_of(x.dtype());
  interface["version"] = 3;
  interface["shape"] = to_tuple(x.shape());
  interface["strides"] = strides;
  interface["typestr"] = typestr[static_cast<int>(x.dtype())];
  interface["data"] = py::make_tuple(reinterpret_cast<uintptr_t>(x.data()), !writable);
  static const py::handle holder =
      py::object(py::module_::import("wengert._tensor").attr("Memory")).release();
  return py::module_::import("numpy").attr("asarray")(holder(interface, keep_alive(x)));
}

void refuse_mask(const char* op, py::handle array) {
  if (py::hasattr(array, "mask") && py::hasattr(array, "fill_value"))
    fail<DTypeError>(op, ": got a masked array, whose mask would be lost; say what stands for the ",
                     "masked elements with .filled(value)");
}

py::object in_known_dtype(const py::object& array, std::optional<DType> dtype) {
  const auto native = array.attr("dtype").attr("newbyteorder")("=");
  const auto name_of = native.attr("name").cast<std::string>();
  for (int i = 0; i < dtype_count; ++i)
    if (name_of == name(static_cast<DType>(i)))
      return array.attr("astype")(native, py::arg("copy") = false);
  const auto kind = native.attr("kind").cast<std::string>();
  if (dtype == DType::bool_ && (kind == "f" || kind == "i" || kind == "u"))
    return array.attr("astype")("bool");
  if (!dtype || (kind != "f" && kind != "i" && kind != "u"))
    return array;  // which from_numpy() refuses
  if (kind == "f" || is_floating(*dtype))
    return array.attr("astype")(kind == "f" && native.attr("itemsize").cast<int>() < 4 ? "float32"
                                                                                       : "float64");
  if (name_of == "uint64" && array.attr("size").cast<int64_t>() > 0 &&
      py::module_::import("numpy").attr("max")(array) >
          py::int_(std::numeric_limits<int64_t>::max()))
    fail<ValueError>("tensor: the largest number of the uint64 array does not fit into ", *dtype,
                     "; say dtype=\"float64\"");
  return array.attr("astype")("int64");
}

Tensor from_numpy(py::handle given) {
  // Through the array interface: it costs no dependency on NumPy's headers.
  if (!py::hasattr(given, "__array_interface__"))
    fail<DTypeError>("from_numpy: got ", Py_TYPE(given.ptr())->tp_name, "; expected a NumPy array");
  refuse_mask("from_numpy", given);
  // Of other classes NumPy makes an array of its own over the same memory, and checks what they
  // say.
  const py::module_ numpy = py::module_::import("numpy");
  const bool plain = py::isinstance(given, numpy.attr("ndarray"));
  const py::object array =
      plain ? py::reinterpret_borrow<py::object>(given) : numpy.attr("asarray")(given);
  const py::dict interface = array.attr("__array_interface__");
  const auto typestr = interface["typestr"].cast<std::string>();
  constexpr const char* known[] = {"|b1", "|u1", "<i4", "<i8", "", "<f4", "<f8"};
  int dtype = 0;
  while (dtype < dtype_count && typestr != known[dtype]) ++dtype;
  if (dtype == dtype_count)
    fail<DTypeError>("from_numpy: got an array of dtype ",
                     py::str(array.attr("dtype")).cast<std::string>(),
                     "; expected float32, float64, int32, int64, uint8 or bool, in this machine's "
                     "byte order: convert it with .astype(), or copy it with tensor(array, "
                     "dtype=\"float32\")");
  const Shape shape = to_shape("from_numpy", interface["shape"]);
  Strides strides = contiguous_strides(shape);
  if (!interface["strides"].is_none()) {
    const Dims bytes = to_shape("from_numpy", interface["strides"]);
    const int64_t size = size_of(static_cast<DType>(dtype));
    for (int d = 0; d < shape.size(); ++d) {
      if (bytes[d] % size)
        fail<ValueError>("from_numpy: the array's strides are not whole elements; copy it first");
      strides[d] = bytes[d] / size;
    }
  }
  const auto data = interface["data"].cast<std::pair<uintptr_t, bool>>();
  return adopt("from_numpy", reinterpret_cast<void*>(data.first), shape, strides,
               static_cast<DType>(dtype), array.ptr(), !data.second);
}

void add_exchange(py::module_& m, TensorClass& cls) {
  cls.def_buffer([](TensorBody& body) {
    const Tensor x{Ref<TensorBody>(&body)};
    refuse_history("buffer", x);
    refuse_gpu("buffer", x);
    refuse_bfloat16("buffer", x);
    std::vector<py::ssize_t> shape(x.shape().begin(), x.shape().end()), strides;
    for (int64_t s : x.strides()) strides.push_back(s * size_of(x.dtype()));
    return py::buffer_info(x.data(), size_of(x.dtype()), buffer_format(x.dtype()), x.dim(), shape,
                           strides, true);
  });
  cls.def("numpy", to_numpy, py::arg("writable") = false,
          "A NumPy array over the same memory; read-only unless `writable`, which counts as a "
          "change in place.");
  cls.def("__array__", to_array, py::arg("dtype") = py::none(), py::arg("copy") = py::none());
  cls.def("__dlpack__", to_dlpack, py::kw_only(), py::arg("stream") = py::none(),
          py::arg("max_version") = py::none(), py::arg("dl_device") = py::none(),
          py::arg("copy") = py::none());
  cls.def("__dlpack_device__", [](const Tensor& x) {
    const dlpack::DeviceInfo d = dl_device(x.device());
    return py::make_tuple(d.type, d.id);
  });
  m.def("from_numpy", from_numpy, py::arg("array"),
        "A tensor over the array's memory, without a copy.");
  m.def(
      "_from_private",
      [](py::handle array) {
        const Tensor x = from_numpy(array);
        x->storage->exposed = false;
        return x;
      },
      py::arg("array"), "from_numpy(), of memory that no one else writes to: saved as it is.");
  m.def(
      "_bytes",
      [](const Tensor& x) {
        if (!x.is_contiguous()) fail<ValueError>("_bytes: the tensor is not contiguous");
        const int64_t size = size_of(x.dtype());
        const Tensor bytes = x.alias(Shape{x.numel() * size}, Strides{1}, x->offset * size);
        bytes->dtype = DType::uint8;
        return bytes;
      },
      py::arg("x"), "A contiguous tensor's memory as uint8.");
  m.def(
      "_strided",
      [](const Tensor& x, py::handle shape, py::handle strides, int64_t offset) {
        return x.alias(to_shape("_strided", shape), to_shape("_strided", strides),
                       x->offset + offset);
      },
      py::arg("x"), py::arg("shape"), py::arg("strides"), py::arg("offset"),
      "A view of a tensor's memory. The caller has checked that it stays within.");
  m.def("from_dlpack", from_dlpack, py::arg("x"),
        "A tensor over the memory of any object with __dlpack__, without a copy.");
  m.def(
      "asarray",
      [](py::object data, py::handle dtype_given) {
        const std::optional<DType> dtype = to_dtype_or_none(dtype_given);
        Tensor x;
        if (py::isinstance<TensorBody>(data))
          x = data.cast<Tensor>();
        else if (py::hasattr(data, "__array_interface__") && py::hasattr(data, "astype"))
          x = from_numpy(in_known_dtype(data, dtype));
        else if (py::hasattr(data, "__array_interface__"))
          x = from_numpy(data);
        else if (py::hasattr(data, "__dlpack__"))
          x = from_dlpack(data);
        else
          return from_python(data, dtype);
        return dtype ? to_dtype(x, *dtype) : x;
      },
      py::arg("data"), py::arg("dtype") = py::none(),
      "As tensor(), but without a copy where the memory can be shared.");
}

}  // namespace wengert::bindings
