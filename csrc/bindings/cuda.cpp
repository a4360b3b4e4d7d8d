// GPUs as Python sees them: whether there are any, their memory, waiting (python/wengert/cuda.py).
#include "base/cuda.h"

#include "base/pool.h"
#include "bindings/bindings.h"
#include "tensor/copy.h"

namespace wengert::bindings {

Device to_device(py::handle given) {
  if (given.is_none()) return Device::cpu;
  if (!PyUnicode_Check(given.ptr()))
    fail<ValueError>("device: got ", py::repr(given).cast<std::string>(),
                     "; expected \"cpu\", \"cuda\" or \"cuda:1\"");
  return wengert::to_device(given.cast<std::string>());
}

namespace {

Device gpu(int number) {
  if (number < 0 || number >= cuda().devices())
    fail<DeviceError>("cuda: got GPU ", number, "; there are 0 to ", cuda().devices() - 1);
  return static_cast<Device>(number);
}

template <auto f> auto of_gpu() {
  return [](int number) {
    const Device d = gpu(number);
    const WithoutHostLock unlocked;
    return f(d);
  };
}

Tensor pin_memory(const Tensor& x) {
  if (is_cuda(x.device()))
    fail<DeviceError>("pin_memory: this tensor is on ", x.device(), "; only the CPU's are pinned");
  Ref<TensorBody> body(new TensorBody);
  body->storage = Storage::make_pinned(x.shape(), x.dtype());
  body->shape = x.shape();
  body->strides = contiguous_strides(x.shape());
  body->dtype = x.dtype();
  const Tensor pinned(std::move(body));
  copy_into(pinned.view(), x.view());
  return pinned;
}

}  // namespace

void add_cuda(py::module_& m, TensorClass& cls) {
  m.def("cuda_status", cuda_status, "Whether CUDA can be used, and if not, what is missing.");
  m.def("_cuda_device_count", [] { return cuda().devices(); });
  m.def("_cuda_device_name", of_gpu<[](Device d) { return std::string(cuda().device_name(d)); }>(),
        py::arg("number"));
  m.def("_cuda_synchronize", of_gpu<[](Device d) { cuda().synchronize(d); }>(), py::arg("number"));
  m.def("_cuda_memory_allocated", of_gpu<[](Device d) { return cuda().memory(d).allocated; }>(),
        py::arg("number"));
  m.def("_cuda_memory_peak", of_gpu<[](Device d) { return cuda().memory(d).peak; }>(),
        py::arg("number"));
  m.def("_cuda_memory_cached", of_gpu<[](Device d) { return cuda().memory(d).cached; }>(),
        py::arg("number"));
  m.def("_cuda_reset_memory_peak", of_gpu<[](Device d) { cuda().reset_peak(d); }>(),
        py::arg("number"));
  m.def("_cuda_empty_cache", of_gpu<[](Device d) { cuda().empty_cache(d); }>(), py::arg("number"));
  cls.def("pin_memory", pin_memory,
          "A copy in page-locked memory of the CPU, from which .to(\"cuda\", non_blocking=True) "
          "does not wait.");
}

}  // namespace wengert::bindings
