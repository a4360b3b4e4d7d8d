// A stand-in for NVRTC, for test_fusion.py: the same functions, but g++ compiles the kernels, for
// the emulated GPU. Sources are left in $BY_GCC, numbered, to be counted and compiled by others;
// what they include, which takes ten times as long to compile as they do, is compiled once, to
// $BY_GCC_HEADERS.
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

namespace fs = std::filesystem;

struct Program {
  fs::path folder;
  std::string code, log;
};

namespace {
std::string read(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(file), {});
}
}  // namespace

extern "C" {

int nvrtcVersion(int* major, int* minor) { return *major = 13, *minor = 0; }
int nvrtcGetNumSupportedArchs(int* count) { return *count = 1, 0; }
int nvrtcGetSupportedArchs(int* list) { return *list = 0; }
int nvrtcCreateProgram(Program** program, const char* source, const char*, int count,
                       const char* const* texts, const char* const* names) {
  auto* p = *program = new Program;
  std::string folder = (fs::temp_directory_path() / "nvrtc_by_gcc.XXXXXX").string();
  if (!mkdtemp(folder.data())) return 1;
  p->folder = folder;
  for (int i = 0; i < count; ++i) {
    const std::string name = names[i];
    if (name.find('/') == std::string::npos) continue;  // g++ has a standard library
    fs::create_directories((p->folder / name).parent_path());
    std::ofstream(p->folder / name) << texts[i];
  }
  std::ofstream(p->folder / "chain.cpp") << source;
  // A name of its own among processes: the file is made, or there is one already.
  for (int i = 0;; ++i)
    if (std::FILE* file = std::fopen(
            (fs::path(std::getenv("BY_GCC")) / (std::to_string(i) + ".cu")).c_str(), "wx")) {
      std::fputs(source, file);
      return std::fclose(file);
    }
}
int nvrtcCompileProgram(Program* p, int, const char* const*) {
  const std::string at = p->folder.string(), header = at + "/ops/elementwise/chain_kernel.h",
                    made = std::getenv("BY_GCC_HEADERS");
  const auto compile = [&](const std::string& what) {
    return std::system(
        ("g++ -std=c++20 -O1 -fwrapv -ffp-contract=off -fno-math-errno -fPIC -Wall -Wextra "
         "-Wno-unknown-pragmas -I" +
         at + " -I" + std::getenv("BY_GCC_CSRC") + " -I" + std::getenv("BY_GCC_TESTS") + " " +
         what + " 2> " + at + "/log")
            .c_str());
  };
  if (!fs::exists(made)) {
    // Without the first, warnings of the headers would be no errors; the second warns of "#pragma
    // once in main file".
    const std::string mine = made + "." + p->folder.filename().string();
    if (compile("-fsyntax-only -Werror " + at + "/chain.cpp") ||
        compile("-w -x c++-header " + header + " -o " + mine)) {
      p->log = read(p->folder / "log");
      return 6;
    }
    fs::rename(mine, made);
  }
  fs::create_symlink(made, header + ".gch");
  const int failed = compile("-shared -Werror " + at + "/chain.cpp -o " + at + "/chain.so");
  p->log = read(p->folder / "log");
  p->code = read(p->folder / "chain.so");
  return failed ? 6 : 0;
}
int nvrtcGetCUBINSize(Program* p, size_t* size) { return *size = p->code.size(), 0; }
int nvrtcGetCUBIN(Program* p, char* to) { return p->code.copy(to, p->code.size()), 0; }
int nvrtcGetPTXSize(Program*, size_t* size) { return *size = 0, 0; }
int nvrtcGetPTX(Program*, char*) { return 0; }
int nvrtcGetProgramLogSize(Program* p, size_t* size) { return *size = p->log.size() + 1, 0; }
int nvrtcGetProgramLog(Program* p, char* to) {
  to[p->log.copy(to, p->log.size())] = 0;
  return 0;
}
int nvrtcDestroyProgram(Program** p) {
  fs::remove_all((*p)->folder);
  delete *p;
  return 0;
}
}
