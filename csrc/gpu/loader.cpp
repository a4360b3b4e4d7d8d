#include "gpu/loader.h"

#include <dlfcn.h>

#include <cstdlib>
#include <mutex>

#include "base/error.h"

namespace wengert {

namespace {

struct Loaded {
  const CudaLibrary* library = nullptr;
  std::string missing;  // why there is none
};

Loaded load() {
  const char* chosen = std::getenv("WENGERT_CUDA_LIBRARY");
  std::string path = chosen ? chosen : "";
  if (!chosen) {
    Dl_info here;
    if (dladdr(reinterpret_cast<const void*>(&cuda_status), &here) && here.dli_fname)
      path = here.dli_fname;
    path = path.substr(0, path.rfind('/') + 1) + "libwengert_cuda.so";
  }
  void* handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!handle) {
    const char* said = dlerror();
    const std::string text = said ? said : "";
    if (!chosen && text.find("No such file") != std::string::npos)
      return {nullptr,
              "no CUDA library: this build of Wengert has none; build it where the CUDA toolkit is "
              "(nvcc), with -C cmake.define.WENGERT_CUDA=ON"};
    return {nullptr, "the CUDA library does not load: " + text};
  }
  const auto entry =
      reinterpret_cast<const CudaLibrary* (*)()>(dlsym(handle, "wengert_cuda_library"));
  const CudaLibrary* library = entry ? entry() : nullptr;
  if (!library || library->abi != cuda_abi)
    return {nullptr, "the CUDA library " + path + " belongs to another build of Wengert"};
  if (const char* problem = library->problem()) return {nullptr, problem};
  return {library, ""};
}

const Loaded& loaded() {
  static std::once_flag once;
  static Loaded* result = new Loaded;  // never destroyed: tensors may outlive static destructors
  std::call_once(once, [] { *result = load(); });
  return *result;
}

}  // namespace

const CudaLibrary& cuda() {
  const Loaded& l = loaded();
  if (!l.library) fail<DeviceError>("cuda: ", l.missing);
  return *l.library;
}

std::string cuda_status() {
  const Loaded& l = loaded();
  if (!l.library) return l.missing;
  std::string text = concat("ready: ", l.library->made);
  for (int i = 0; i < l.library->devices(); ++i)
    text += concat(i ? ", " : "; ", l.library->device_name(static_cast<Device>(i)));
  return text;
}

static thread_local Device current = Device::cuda;
Device current_gpu() { return current; }
void set_current_gpu(Device d) { current = d; }
bool cuda_fuses() { return loaded().library && !loaded().library->compiler_problem(); }

std::string cuda_fusion_status() {
  const CudaLibrary* library = loaded().library;
  if (!library) return loaded().missing;
  if (const char* problem = library->compiler_problem()) return concat("not fused: ", problem);
  return concat("fused by ", library->compiler_name());
}

Device to_device(const std::string& text) {
  if (text == "cpu") return Device::cpu;
  if (text == "cuda" && cuda().devices()) return current;
  for (int i = 0; i < max_gpus; ++i) {
    const auto d = static_cast<Device>(i);
    if (text != name(d)) continue;
    if (i >= cuda().devices())
      fail<DeviceError>("device: got \"", text, "\"; there are GPUs 0 to ", cuda().devices() - 1);
    return d;
  }
  fail<ValueError>("device: got \"", text, "\"; expected \"cpu\", \"cuda\" or \"cuda:1\"");
}

}  // namespace wengert
