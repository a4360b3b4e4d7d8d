// The headers with the formulas, as text inside the CUDA library: what NVRTC compiles at run time
// is what nvcc compiled at build time. It has no standard library, so the few words of it that they
// use stand here.
#include "gpu/compiler.h"
#include "ops/elementwise/chain_kernel.h"  // and, through it, all of them: so the build system knows

#define EACH_HEADER(X)                       \
  X(fn, "base/fn.h")                         \
  X(simd, "base/simd.h")                     \
  X(special, "base/special.h")               \
  X(tile, "base/tile.h")                     \
  X(vocab, "base/vocab.h")                   \
  X(chain, "ops/elementwise/chain_kernel.h") \
  X(formulas, "ops/elementwise/formulas.h")  \
  X(rows, "ops/elementwise/rows.h")          \
  X(convert, "tensor/convert.h")

// The assembler reads the files: it is told where (-Wa,-I).
#define TEXT_OF(name, path)                                                      \
  extern "C" const char wengert_text_##name[];                                   \
  asm(".pushsection .rodata\n.local wengert_text_" #name "\nwengert_text_" #name \
      ":\n"                                                                      \
      ".incbin \"" path "\"\n.byte 0\n.popsection");
EACH_HEADER(TEXT_OF)

namespace wengert {

namespace {

constexpr const char* standard = R"(#pragma once
using int8_t = signed char;
using uint8_t = unsigned char;
using int32_t = int;
using uint32_t = unsigned;
using int64_t = long;
using uint64_t = unsigned long;
using uintptr_t = unsigned long;
namespace std {
template <class A, class B> constexpr bool is_same_v = false;
template <class A> constexpr bool is_same_v<A, A> = true;
template <class T, class... All> constexpr bool is_any_of = (is_same_v<T, All> || ...);
template <class T> constexpr bool is_floating_point_v = is_any_of<T, float, double>;
template <class T>
constexpr bool is_integral_v = is_any_of<T, bool, char, signed char, unsigned char, short,
    unsigned short, int, unsigned, long, unsigned long, long long, unsigned long long>;
template <class T> constexpr bool is_arithmetic_v = is_integral_v<T> || is_floating_point_v<T>;
template <class T> struct type_identity { using type = T; };
template <class T> using type_identity_t = typename type_identity<T>::type;
template <bool yes, class A, class B> struct conditional { using type = A; };
template <class A, class B> struct conditional<false, A, B> { using type = B; };
template <bool yes, class A, class B> using conditional_t = typename conditional<yes, A, B>::type;
template <class T> struct numeric_limits {
  static constexpr bool is_signed = T(-1) < T(0);
  static constexpr int bits = 8 * sizeof(T) - is_signed;
  static __device__ constexpr T max() { return T((T(1) << (bits - 1)) - 1) * 2 + 1; }
  static __device__ constexpr T min() { return is_signed ? T(-max() - 1) : T(0); }
};
}  // namespace std
)";

}  // namespace

const Header headers[] = {
#define ENTRY(name, path) {path, wengert_text_##name},
    EACH_HEADER(ENTRY){"cstdint", standard},
    {"limits", "#include <cstdint>\n"},
    {"type_traits", "#include <cstdint>\n"},
    {"math.h", ""},
};
const int header_count = sizeof headers / sizeof *headers;

}  // namespace wengert
