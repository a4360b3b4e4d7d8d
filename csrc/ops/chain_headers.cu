// The headers with the formulas, as text inside the CUDA library: what NVRTC compiles at run time
// is what nvcc compiled at build time. It has no standard library, so the few words of it that they
// use stand here.
#include "cuda/compiler.h"

#include "base/fn.h"
#include "base/simd.h"
#include "base/tile.h"
#include "base/vocab.h"
#include "ops/chain_kernel.h"
#include "ops/elementwise_formulas.h"
#include "ops/elementwise_rows.h"
#include "tensor/convert.h"

// The assembler reads the files (-Wa,-I); the lines above tell the build system of them.
#define TEXT_OF(name, path)                                                           \
  extern "C" const char wengert_text_##name[];                                         \
  asm(".pushsection .rodata\n.local wengert_text_" #name "\nwengert_text_" #name ":\n" \
      ".incbin \"" path "\"\n.byte 0\n.popsection")
TEXT_OF(fn, "base/fn.h");
TEXT_OF(simd, "base/simd.h");
TEXT_OF(tile, "base/tile.h");
TEXT_OF(vocab, "base/vocab.h");
TEXT_OF(chain, "ops/chain_kernel.h");
TEXT_OF(formulas, "ops/elementwise_formulas.h");
TEXT_OF(rows, "ops/elementwise_rows.h");
TEXT_OF(convert, "tensor/convert.h");

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
    {"base/fn.h", wengert_text_fn},
    {"base/simd.h", wengert_text_simd},
    {"base/tile.h", wengert_text_tile},
    {"base/vocab.h", wengert_text_vocab},
    {"ops/chain_kernel.h", wengert_text_chain},
    {"ops/elementwise_formulas.h", wengert_text_formulas},
    {"ops/elementwise_rows.h", wengert_text_rows},
    {"tensor/convert.h", wengert_text_convert},
    {"cstdint", standard},
    {"limits", "#include <cstdint>\n"},
    {"type_traits", "#include <cstdint>\n"},
    {"math.h", ""},
};
const int header_count = sizeof headers / sizeof *headers;

}  // namespace wengert
