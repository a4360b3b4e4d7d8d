// Which instruction set a kernel uses.
//
// A file named `*.simd.cpp` is compiled once per instruction set, each time into its own namespace
// (WENGERT_ISA is baseline, avx2 or avx512) and offers one table of function pointers. The op's
// ordinary .cpp picks a table once, by what the processor can do. Nothing outside these files is
// compiled with -mavx*, so the binary starts on any x86-64 and on aarch64 (baseline only).
#pragma once

namespace wengert {

enum class Isa { baseline, avx2, avx512 };

// The best the processor has, lowered by the environment variable WENGERT_ISA if set.
Isa current_isa();
const char* name(Isa isa);
// Whether it multiplies pairs of bfloat16 (AVX512-BF16); false unless current_isa() is avx512.
bool has_bfloat16();

// Declares the tables of one family: `extern const Table name;` in each namespace.
#if defined(__x86_64__) && !defined(WENGERT_BASELINE)
#define WENGERT_DECLARE_KERNELS(Table, table) \
  namespace baseline {                        \
  extern const Table table;                   \
  }                                           \
  namespace avx2 {                            \
  extern const Table table;                   \
  }                                           \
  namespace avx512 {                          \
  extern const Table table;                   \
  }
#define WENGERT_PICK_KERNELS(table)                        \
  (current_isa() == Isa::avx512 ? ::wengert::avx512::table \
   : current_isa() == Isa::avx2 ? ::wengert::avx2::table   \
                                : ::wengert::baseline::table)
#else
#define WENGERT_DECLARE_KERNELS(Table, table) \
  namespace baseline {                        \
  extern const Table table;                   \
  }
#define WENGERT_PICK_KERNELS(table) ::wengert::baseline::table
#endif

}  // namespace wengert
