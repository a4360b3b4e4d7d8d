#include "base/isa.h"

#include <cstdlib>
#include <cstring>
#include <initializer_list>

namespace wengert {

static Isa detect() {
  Isa best = Isa::baseline;
#if defined(__x86_64__) && !defined(WENGERT_BASELINE)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) best = Isa::avx2;
  if (best == Isa::avx2 && __builtin_cpu_supports("avx512f") &&
      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl"))
    best = Isa::avx512;
#endif
  if (const char* wanted = std::getenv("WENGERT_ISA"))
    for (Isa isa : {Isa::baseline, Isa::avx2, Isa::avx512})
      if (isa < best && std::strcmp(wanted, name(isa)) == 0) return isa;
  return best;
}

Isa current_isa() {
  static const Isa isa = detect();
  return isa;
}

// A Xeon of 2023 (model 207) multiplies pairs at half the rate of float32, so Intel's processors do
// without, unless WENGERT_ISA=avx512bf16 asks for it.
bool has_bfloat16() {
#if defined(__x86_64__) && !defined(WENGERT_BASELINE)
  static const bool has = [] {
    if (current_isa() != Isa::avx512 || !__builtin_cpu_supports("avx512bf16")) return false;
    if (const char* wanted = std::getenv("WENGERT_ISA"))
      return std::strcmp(wanted, "avx512bf16") == 0;
    return !__builtin_cpu_is("intel");
  }();
  return has;
#else
  return false;
#endif
}

const char* name(Isa isa) {
  switch (isa) {
    case Isa::avx512:
      return "avx512";
    case Isa::avx2:
      return "avx2";
    default:
      return "baseline";
  }
}

}  // namespace wengert
