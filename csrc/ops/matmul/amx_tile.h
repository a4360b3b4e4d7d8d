// Part of amx.simd.cpp: the tile instructions, and the same in plain C++ where there are none.
//
// Eight tiles of up to 16 rows of 64 bytes: 0 to 3 hold 2 x 2 blocks of c, 4 and 5 rows of a, 6 and
// 7 columns of b. A row of a has 32 terms; a row of b has 2 terms of 16 columns, side by side.
#pragma once

#include <cstdint>

#include "base/fn.h"

namespace wengert::WENGERT_ISA {
namespace {

constexpr int tile_side = 16, tile_terms = 32;

// What the processor reads to learn the sizes of tiles.
struct alignas(64) TileSizes {
  // Of a block of c, of 1 to 32 rows and columns. Tiles that it does not need have one element.
  TileSizes(int64_t rows, int64_t cols) {
    const int64_t m[2] = {cut(rows), cut(rows - tile_side)},
                  n[2] = {cut(cols), cut(cols - tile_side)};
    for (int i = 0; i < 2; ++i) {
      for (int j = 0; j < 2; ++j) set(2 * i + j, m[i], n[j]);
      set(4 + i, m[i], tile_side);
      set(6 + i, tile_side, n[i]);
    }
  }
  static int64_t cut(int64_t size) { return size < 1 ? 1 : size < tile_side ? size : tile_side; }
  void set(int tile, int64_t height, int64_t width) {
    row_count[tile] = static_cast<uint8_t>(height);
    row_bytes[tile] = static_cast<uint16_t>(4 * width);
  }
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t row_count[16] = {};
};

#if defined(__AVX512F__)

// One at a time per thread. Once released, the thread's tiles are as if it had never used any:
// they cost nothing when the system switches to other threads.
class Tiles {
 public:
  FN void release() { asm volatile("tilerelease" ::: "memory"); }
  FN void configure(const TileSizes& sizes) {
    asm volatile("ldtilecfg %0" ::"m"(sizes) : "memory");
  }
#define WENGERT_EACH_TILE(f)  \
  if constexpr (t == 0) f(0); \
  if constexpr (t == 1) f(1); \
  if constexpr (t == 2) f(2); \
  if constexpr (t == 3) f(3); \
  if constexpr (t == 4) f(4); \
  if constexpr (t == 5) f(5); \
  if constexpr (t == 6) f(6); \
  if constexpr (t == 7) f(7);
  template <int t> FN void zero() {
#define WENGERT_ZERO(t) asm volatile("tilezero %tmm" #t)
    WENGERT_EACH_TILE(WENGERT_ZERO)
  }
  template <int t> FN void load(const void* from, int64_t step) {
#define WENGERT_LOAD(t) \
  asm volatile("tileloadd (%0,%1,1), %%tmm" #t ::"r"(from), "r"(step) : "memory")
    WENGERT_EACH_TILE(WENGERT_LOAD)
  }
  template <int t> FN void store(void* to, int64_t step) {
#define WENGERT_STORE(t) \
  asm volatile("tilestored %%tmm" #t ", (%0,%1,1)" ::"r"(to), "r"(step) : "memory")
    WENGERT_EACH_TILE(WENGERT_STORE)
  }
  // c[i][j] += a[i] b[j]
  template <int i, int j> FN void dot() {
    if constexpr (i == 0 && j == 0) asm volatile("tdpbf16ps %tmm6, %tmm4, %tmm0");
    if constexpr (i == 0 && j == 1) asm volatile("tdpbf16ps %tmm7, %tmm4, %tmm1");
    if constexpr (i == 1 && j == 0) asm volatile("tdpbf16ps %tmm6, %tmm5, %tmm2");
    if constexpr (i == 1 && j == 1) asm volatile("tdpbf16ps %tmm7, %tmm5, %tmm3");
  }
#undef WENGERT_EACH_TILE
#undef WENGERT_ZERO
#undef WENGERT_LOAD
#undef WENGERT_STORE
};

#else

class Tiles {
 public:
  void release() {}
  void configure(const TileSizes& sizes) {
    sizes_ = sizes;
    for (auto& tile : tiles_) __builtin_memset(tile, 0, sizeof tile);
  }
  template <int t> void zero() { __builtin_memset(tiles_[t], 0, sizeof tiles_[t]); }
  template <int t> void load(const void* from, int64_t step) {
    zero<t>();
    for (int r = 0; r < sizes_.row_count[t]; ++r)
      __builtin_memcpy(tiles_[t][r], static_cast<const char*>(from) + r * step,
                       sizes_.row_bytes[t]);
  }
  template <int t> void store(void* to, int64_t step) {
    for (int r = 0; r < sizes_.row_count[t]; ++r)
      __builtin_memcpy(static_cast<char*>(to) + r * step, tiles_[t][r], sizes_.row_bytes[t]);
  }
  // Even terms and odd ones are summed apart, each by multiply-adds that round once, to nearest
  // even; then their sum is added. Numbers smaller than 2^-126 count as 0, and none is made.
  template <int i, int j> void dot() {
    constexpr int c = 2 * i + j, a = 4 + i, b = 6 + j;
    for (int r = 0; r < sizes_.row_count[c]; ++r)
      for (int x = 0; x < sizes_.row_bytes[c] / 4; ++x) {
        float sum[2] = {};
        for (int k = 0; k < sizes_.row_count[b]; ++k)
          for (int odd = 0; odd < 2; ++odd) {
            const auto term = [&](uint32_t pair) {
              return flushed(number(odd ? pair & 0xffff0000 : pair << 16));
            };
            sum[odd] =
                flushed(__builtin_fmaf(term(tiles_[a][r][k]), term(tiles_[b][k][x]), sum[odd]));
          }
        const float all = flushed(flushed(number(tiles_[c][r][x])) + flushed(sum[0] + sum[1]));
        tiles_[c][r][x] = __builtin_bit_cast(uint32_t, all);
      }
  }

 private:
  static float number(uint32_t bits) { return __builtin_bit_cast(float, bits); }
  static float flushed(float x) {
    const auto bits = __builtin_bit_cast(uint32_t, x);
    return (bits & 0x7f800000) == 0 ? number(bits & 0x80000000) : x;
  }

  TileSizes sizes_{1, 1};
  uint32_t tiles_[8][tile_side][tile_side];
};

#endif

}  // namespace
}  // namespace wengert::WENGERT_ISA
