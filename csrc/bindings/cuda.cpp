// GPUs as Python sees them: whether there are any, their memory, waiting, events
// (python/wengert/cuda.py).
#include "gpu/loader.h"

#include "base/pool.h"
#include "bindings/bindings.h"
#include "ops/gpu.h"
#include "ops/matmul/amx.h"
#include "ops/matmul/gpu.h"
#include "tensor/copy.h"

namespace wengert::bindings {

Device to_device(py::handle given) {
  if (given.is_none()) return Device::cpu;
  if (!PyUnicode_Check(given.ptr()))
    fail<ValueError>("device: got ", shown(given), "; expected \"cpu\", \"cuda\" or \"cuda:1\"");
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

// A point in the order of a GPU's work. It belongs to the GPU on which it is first recorded.
class Event {
 public:
  explicit Event(bool timed) : timed_(timed) {}
  Event(const Event&) = delete;
  ~Event() {
    if (event_) cuda().free_event(device_, event_);
  }
  void record(int number, uintptr_t stream) {
    const Device d = gpu(number);
    if (event_ && d != device_)
      fail<DeviceError>("Event.record: this event is of ", device_, "; make another for ", d);
    const WithoutHostLock unlocked;
    if (!event_) event_ = cuda().make_event(d, timed_);
    device_ = d;
    cuda().record_event(d, stream, event_);
  }
  void wait(int number, uintptr_t stream) const {
    const Device d = gpu(number);
    if (event_) cuda().wait_for_event(d, stream, event_);
  }
  bool done(bool wait) const {  // one that was never recorded is
    const WithoutHostLock unlocked;
    return !event_ || cuda().event_done(device_, event_, wait);
  }
  double elapsed_time(const Event& end) const {
    for (const Event* e : {this, &end}) {
      if (!e->timed_) fail<ValueError>("Event.elapsed_time: made without enable_timing=True");
      if (!e->event_) fail<ValueError>("Event.elapsed_time: an event was not recorded yet");
      if (!e->done(false))
        fail<ValueError>("Event.elapsed_time: the GPU is not there yet; synchronize() first");
    }
    if (device_ != end.device_)
      fail<DeviceError>("Event.elapsed_time: the events are of ", device_, " and ", end.device_);
    return cuda().milliseconds(device_, event_, end.event_);
  }

 private:
  bool timed_;
  Device device_ = Device::cuda;
  void* event_ = nullptr;
};

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

void record_stream(const Tensor& x, py::handle stream) {
  if (!is_cuda(x.device()))
    fail<DeviceError>("record_stream: this tensor is on the CPU, whose memory has no streams");
  const auto number = to_value<int>("record_stream", "stream.device", stream.attr("device"));
  if (gpu(number) != x.device())
    fail<DeviceError>("record_stream: this tensor is on ", x.device(), ", the stream on ",
                      gpu(number), "; expected one of the tensor's GPU");
  const Ref<Storage>& storage = x->storage;
  if (storage->data && !storage->give_back)  // memory of others is theirs to look after
    cuda().use(x.device(), storage->data,
               to_value<uintptr_t>("record_stream", "stream", stream.attr("cuda_stream")));
}

constexpr const char* precisions[] = {"strict", "fp32", "fast", "bf16"};

void set_precision(const std::string& name) {
  for (int i = 0; i < 4; ++i)
    if (name == precisions[i]) return set_matmul_precision(static_cast<MatmulPrecision>(i));
  fail<ValueError>("set_matmul_precision: got \"", name,
                   "\"; expected \"strict\", \"fp32\", \"fast\" or \"bf16\"",
                   did_you_mean(name, {"strict", "fp32", "fast", "bf16"}));
}

void set_tile_use_by_name(const std::string& name) {
  constexpr const char* names[] = {"gain", "always", "twin", "never"};
  for (int i = 0; i < 4; ++i)
    if (name == names[i]) return set_tile_use(static_cast<TileUse>(i));
  fail<ValueError>("_set_tile_use: got \"", name, "\"");
}

}  // namespace

void add_cuda(py::module_& m, TensorClass& cls) {
  m.def("cuda_status", cuda_status, "Whether CUDA can be used, and if not, what is missing.");
  m.def("cuda_fusion_status", cuda_fusion_status,
        "Whether chains of a compiled step become one kernel on a GPU, and if not, why.");
  m.def(
      "_cuda_compile",
      [](const std::string& source, const std::string& architecture) {
        std::string log;
        const std::string code = cuda().compile_source(source.c_str(), architecture.c_str(), log);
        return py::make_tuple(py::bytes(code), log);
      },
      py::arg("source"), py::arg("architecture"),
      "Machine code (sm_90a) or PTX (compute_90) of a chain's kernel, and what NVRTC says of it.");
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
  m.def("_cuda_current_device", [] { return number(current_gpu()); });
  m.def("_cuda_set_device", [](int number) { set_current_gpu(gpu(number)); }, py::arg("number"));
  m.def("_cuda_stream", of_gpu<[](Device d) { return cuda().stream(d); }>(), py::arg("number"));
  m.def("_cuda_default_stream", of_gpu<[](Device d) { return cuda().default_stream(d); }>(),
        py::arg("number"));
  m.def("_cuda_make_stream", of_gpu<[](Device d) { return cuda().make_stream(d); }>(),
        py::arg("number"));
  m.def(
      "_cuda_set_stream",
      [](int number, uintptr_t stream) { cuda().set_stream(gpu(number), stream); },
      py::arg("number"), py::arg("stream"));
  m.def(
      "_cuda_stream_done",
      [](int number, uintptr_t stream, bool wait) {
        const Device d = gpu(number);
        const WithoutHostLock unlocked;
        return cuda().stream_done(d, stream, wait);
      },
      py::arg("number"), py::arg("stream"), py::arg("wait"));
  py::class_<Event>(m, "_CudaEvent")
      .def(
          "__init__",
          [](py::detail::value_and_holder& self, bool timed) {
            construct(self, std::make_unique<Event>(timed));
          },
          py::detail::is_new_style_constructor(), py::arg("timed"))
      .def("record", &Event::record, py::arg("number"), py::arg("stream"))
      .def("wait", &Event::wait, py::arg("number"), py::arg("stream"))
      .def("done", &Event::done, py::arg("wait"))
      .def("elapsed_time", &Event::elapsed_time, py::arg("end"));
  m.def("_cuda_empty_cache", of_gpu<[](Device d) { cuda().empty_cache(d); }>(), py::arg("number"));
  m.def("_cuda_matmul_units", of_gpu<[](Device d) { return gpu_kernels().matmul->units(d); }>(),
        py::arg("number"));
  m.def("_set_matmul_precision", set_precision, py::arg("precision"));
  m.def("_get_matmul_precision", [] { return precisions[static_cast<int>(matmul_precision())]; });
  m.def("_tile_status", tile_status,
        "Whether the CPU's matrix tiles can be used, and if not, why; asks the system for them.");
  m.def("_set_tile_use", set_tile_use_by_name, py::arg("use"),
        "For tests: tiles where something is \"gain\"ed, \"always\", their \"twin\" in plain C++, "
        "\"never\".");
  cls.def("record_stream", record_stream, py::arg("stream"),
          "Says that a stream works with this tensor's memory that is not the one for which it was "
          "made: once freed, it is not used again before that stream has done what it then has.");
  cls.def("pin_memory", pin_memory,
          "A copy in page-locked memory of the CPU, from which .to(\"cuda\", non_blocking=True) "
          "does not wait.");
}

}  // namespace wengert::bindings
