// NVRTC, found and called, and the files of the cache.
#include "gpu/compiler.h"

#include <dlfcn.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <mutex>
#include <vector>

#include "gpu/launch.h"

namespace wengert {

namespace {

// As much of nvrtc.h as is called, so that it need not be there to build.
using NvrtcProgram = struct Opaque*;
#define EACH_FUNCTION(X)                                                         \
  X(Version, (int*, int*))                                                       \
  X(GetNumSupportedArchs, (int*))                                                \
  X(GetSupportedArchs, (int*))                                                   \
  X(CreateProgram, (NvrtcProgram*, const char*, const char*, int, const char**,  \
                    const char**)) /* source, its name, headers: texts, names */ \
  X(CompileProgram, (NvrtcProgram, int, const char**))                           \
  X(GetCUBINSize, (NvrtcProgram, size_t*))                                       \
  X(GetCUBIN, (NvrtcProgram, char*))                                             \
  X(GetPTXSize, (NvrtcProgram, size_t*))                                         \
  X(GetPTX, (NvrtcProgram, char*))                                               \
  X(GetProgramLogSize, (NvrtcProgram, size_t*))                                  \
  X(GetProgramLog, (NvrtcProgram, char*))                                        \
  X(DestroyProgram, (NvrtcProgram*))

struct Nvrtc {
  std::string problem;
  int major = 0, minor = 0;
#define MEMBER(name, parameters) int(*name) parameters = nullptr;
  EACH_FUNCTION(MEMBER)

  bool find(void* library) {
#define FIND(name, parameters) \
  name = reinterpret_cast<decltype(name)>(dlsym(library, "nvrtc" #name));
    EACH_FUNCTION(FIND)
#define FOUND(name, parameters) &&name
    return true EACH_FUNCTION(FOUND);
  }
};

std::string folder_of(const void* symbol) {
  Dl_info at;
  const std::string file = dladdr(symbol, &at) && at.dli_fname ? at.dli_fname : "";
  return file.substr(0, file.rfind('/') + 1);
}

// WENGERT_NVRTC, or PyPI's package beside ours, or where the loader looks, or the toolkit's place.
void* open_nvrtc() {
  if (const char* chosen = std::getenv("WENGERT_NVRTC"))
    return *chosen ? dlopen(chosen, RTLD_NOW) : nullptr;
#if defined(__CUDACC__)
  const std::string package = folder_of(reinterpret_cast<const void*>(&compiler_problem));
  for (const std::string& folder : {concat(package, "../nvidia/cu", __CUDACC_VER_MAJOR__, "/lib/"),
                                    std::string(), std::string("/usr/local/cuda/lib64/")})
    if (void* library =
            dlopen(concat(folder, "libnvrtc.so.", __CUDACC_VER_MAJOR__).c_str(), RTLD_NOW))
      return library;
#endif
  return nullptr;
}

Nvrtc* load() {
  auto* n = new Nvrtc;  // never destroyed, nor is the library closed
#if defined(__CUDACC__) && CUDART_VERSION < 12080
  n->problem = "this build's CUDA has no way to load code at run time; build with 13.0";
  return n;
#endif
  void* library = open_nvrtc();
  if (!library) {
    n->problem = "no NVRTC: pip install \"wengert[cuda]\"";
    return n;
  }
  if (!n->find(library) || n->Version(&n->major, &n->minor)) {
    n->problem = "the library found as NVRTC is none";
    return n;
  }
  // NVRTC looks for this one by name alone, and finds it where it is loaded already.
  const std::string builtins = concat(folder_of(reinterpret_cast<const void*>(n->Version)),
                                      "libnvrtc-builtins.so.", n->major, ".", n->minor);
  dlopen(builtins.c_str(), RTLD_NOW | RTLD_GLOBAL);
#if defined(__CUDACC__)
  // Another version's exp may round another way, and a fused step must be bit-identical to eager.
  if (n->major != __CUDACC_VER_MAJOR__ || n->minor != __CUDACC_VER_MINOR__)
    n->problem =
        concat("NVRTC ", n->major, ".", n->minor, " is not of this build, which is of CUDA ",
               __CUDACC_VER_MAJOR__, ".", __CUDACC_VER_MINOR__,
               ": results could differ in their last bits; pip install \"wengert[cuda]\"");
#endif
  return n;
}
const Nvrtc& nvrtc() {
  static const Nvrtc* n = load();
  return *n;
}

constexpr const char* options[] = {"-std=c++20", "-fmad=false", "--ptxas-options=-v"};

// FNV-1a in 128 bits, as hexadecimal text: names and checksums of the cache's files.
std::string hash_of(std::string_view text) {
  auto h = static_cast<unsigned __int128>(0x6c62272e07bb0142) << 64 | 0x62b821756295c58d;
  const auto prime = static_cast<unsigned __int128>(1) << 88 | 0x13b;
  for (const char c : text) h = (h ^ static_cast<unsigned char>(c)) * prime;
  char hex[33];
  std::snprintf(hex, sizeof hex, "%016lx%016lx", static_cast<unsigned long>(h >> 64),
                static_cast<unsigned long>(h));
  return hex;
}

// ---- the cache on disk; empty where there is none ----

std::string cache_folder() {
  const char* chosen = std::getenv("WENGERT_CACHE_DIR");
  const char* home = std::getenv("HOME");
  const std::string folder = chosen && *chosen ? chosen
                             : home && *home   ? concat(home, "/.cache/wengert")
                                               : "";
  for (size_t i = folder.find('/', 1); !folder.empty(); i = folder.find('/', i + 1)) {
    mkdir(folder.substr(0, i).c_str(), 0700);
    if (i == std::string::npos) break;
  }
  return folder;
}

std::string read_cached(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string all(std::istreambuf_iterator<char>(file), {});
  if (all.size() <= 32) return {};
  const std::string code = all.substr(0, all.size() - 32);
  return hash_of(code) == all.substr(code.size()) ? code : std::string();
}

void write_cached(const std::string& path, const std::string& code) {
  std::string fresh = path + ".XXXXXX";
  const int file = mkstemp(fresh.data());
  if (file < 0) return;
  const std::string all = code + hash_of(code);
  const bool written = write(file, all.data(), all.size()) == static_cast<ssize_t>(all.size());
  close(file);
  if (!written || std::rename(fresh.c_str(), path.c_str())) std::remove(fresh.c_str());
}

// The GPU's own machine code, or, where NVRTC is older than the GPU, code that the driver compiles.
std::string architecture_of(Device d) {
  const int own = compute_capability(d);
  int count = 0;
  nvrtc().GetNumSupportedArchs(&count);
  std::vector<int> known(static_cast<size_t>(count) + 1);
  nvrtc().GetSupportedArchs(known.data());
  known.pop_back();
  for (const int k : known)
    if (k == own) return concat("sm_", own);
  return concat("compute_", known.empty() ? own : known.back());
}

}  // namespace

const char* compiler_problem() {
  return nvrtc().problem.empty() ? nullptr : nvrtc().problem.c_str();
}
std::string compiler_name() { return concat("NVRTC ", nvrtc().major, ".", nvrtc().minor); }

std::string compile_source(const char* source, const char* architecture, std::string& log) {
  const Nvrtc& n = nvrtc();
  if (!n.problem.empty()) fail<DeviceError>("cuda: ", n.problem);
  std::vector<const char*> names, texts;
  for (int i = 0; i < header_count; ++i) {
    names.push_back(headers[i].name);
    texts.push_back(headers[i].text);
  }
  NvrtcProgram program;
  if (n.CreateProgram(&program, source, "chain.cu", header_count, texts.data(), names.data()))
    fail<DeviceError>("compile: NVRTC does not start");
  const std::string target = concat("-arch=", architecture);
  std::vector<const char*> all(std::begin(options), std::end(options));
  all.push_back(target.c_str());
  const int refused = n.CompileProgram(program, static_cast<int>(all.size()), all.data());
  size_t bytes = 0;
  std::string said, code;
  if (!n.GetProgramLogSize(program, &bytes) && bytes > 1) {
    said.resize(bytes);
    n.GetProgramLog(program, said.data());
    said.resize(said.find('\0'));
  }
  log += said;
  const bool machine = std::string_view(architecture).starts_with("sm_");
  if (!refused && !(machine ? n.GetCUBINSize : n.GetPTXSize)(program, &bytes)) {
    code.resize(bytes);
    (machine ? n.GetCUBIN : n.GetPTX)(program, code.data());
  }
  n.DestroyProgram(&program);
  if (code.empty())
    fail<DeviceError>("compile: NVRTC refuses the kernel of a chain (", refused, "): ", said,
                      "\nPlease report it. Without the pass \"chains\" the step runs");
  return code;
}

const void* chain_kernel(Device d, const char* source) {
  static std::mutex mutex;
  static auto* kernels = new std::map<std::string, const void*>;  // kept: launches may be under way
  const std::lock_guard lock(mutex);
  const std::string target = architecture_of(d);
  std::string all = concat(target, compiler_name(), source);
  for (const char* option : options) all += option;
  for (int i = 0; i < header_count; ++i) all += headers[i].text;
  const std::string key = hash_of(all);
  const void*& kernel = (*kernels)[key];
  if (kernel) return kernel;
  const std::string folder = cache_folder(), path = concat(folder, "/", key, ".chain");
  std::string code = folder.empty() ? std::string() : read_cached(path), log;
  if (code.empty()) {
    code = compile_source(source, target.c_str(), log);
    if (!folder.empty()) write_cached(path, code);
  }
#if !defined(__CUDACC__) || CUDART_VERSION >= 12080
  stream_of(d);
  cudaLibrary_t library;
  cudaKernel_t found;
  cudaError_t error =
      cudaLibraryLoadData(&library, code.c_str(), nullptr, nullptr, 0, nullptr, nullptr, 0);
  if (error == cudaSuccess) error = cudaLibraryGetKernel(&found, library, "wengert_chain");
  if (error != cudaSuccess) {
    cudaGetLastError();
    fail<DeviceError>("compile: the kernel of a chain does not load: ", cudaGetErrorString(error));
  }
  kernel = found;
#endif
  return kernel;
}

void launch_chain(Device d, const void* kernel, const ChainArguments& given, int64_t threads) {
  ChainArguments arguments = given;
  for (int k = 0; k < ChainArguments::max_operands; ++k)
    if (given.given >> k & 1)
      if (const void* slot = slot_for(&given.at[k], sizeof given.at[k])) {  // in a recorded step
        arguments.at[k] = reinterpret_cast<uintptr_t>(slot);
        arguments.given &= ~(1u << k);
      }
  if (left_out("a fused chain")) return;
  const cudaStream_t stream = stream_of(d);
  const dim3 grid = grid_for(d, threads);
#if defined(__CUDACC__)
  void* all[] = {&arguments};
  cudaLaunchKernel(kernel, grid, dim3{block_threads}, all, 0, stream);
#else
  emulation::submit(stream, [=] {
    emulation::run(grid, block_threads, reinterpret_cast<void (*)(const void*)>(kernel),
                   &arguments);
  });
#endif
  check(cudaGetLastError(), "a fused chain", d);
}

}  // namespace wengert
