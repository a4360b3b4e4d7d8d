// The arithmetic of tensor_cores.cu as plain functions: how a number becomes slices, which slices
// are multiplied, in which order tiles are made, where elements are in shared memory, and which
// elements a thread holds. They run on the CPU too: tests/gpu/tiles.cpp.
#pragma once

#include <cstdint>

#include "base/dtype.h"

namespace wengert {

// ---- slices ----

FN bool is_finite(float x) { return (__builtin_bit_cast(uint32_t, x) & 0x7f800000) != 0x7f800000; }

// x as a sum of bfloat16: each is the nearest to what those before it leave. Three hold every bit
// of |x| >= 2^-110; below, what is lost is at most 2^-134. A finite number stays finite: where the
// nearest is infinity, the largest finite one is taken. Infinities and NaN have zeros behind them.
template <int slices> FN void split(float x, bfloat16 (&slice)[slices]) {
  const bool finite = is_finite(x);
  for (int p = 0; p < slices; ++p) {
    slice[p] = bfloat16(finite || p == 0 ? x : 0.0f);
    if (finite && !is_finite(slice[p]))
      slice[p].bits = static_cast<uint16_t>(__builtin_bit_cast(uint32_t, x) >> 16);
    x -= slice[p];
  }
}

// Of the products of slices those with a + b < slices, the smallest first: what a tensor core cuts
// off is in proportion to the sum so far.
template <int slices, int order = slices - 1, int a = 0, class F>
FN constexpr void each_pair(const F& f) {
  f(a, order - a);
  if constexpr (a < order)
    each_pair<slices, order, a + 1>(f);
  else if constexpr (order > 0)
    each_pair<slices, order - 1>(f);
}

// ---- the order of the tiles ----

// Of all tiles of all matrices, and slabs of k: number `work`. Eight rows of tiles are made column
// by column, so that what runs at a time reads few rows and few columns, which stay in L2.
struct Tiles {
  int rows, columns, slabs, matrices;

  struct Place {
    int row, column, slab, matrix;
  };
  constexpr int64_t count() const { return int64_t{rows} * columns * slabs * matrices; }
  constexpr Place place(int64_t work) const {
    constexpr int high = 8;
    const int64_t tiles = int64_t{rows} * columns, t = work % tiles, layer = work / tiles;
    const int first = static_cast<int>(t / (int64_t{high} * columns)) * high;
    const int height = rows - first < high ? rows - first : high;
    const int rest = static_cast<int>(t - int64_t{first} * columns);
    return {first + rest % height, rest / height, static_cast<int>(layer % slabs),
            static_cast<int>(layer / slabs)};
  }
};

// ---- shared memory ----

// Where byte `offset` of a tile lies whose rows have 64 or 128 bytes: the 16-byte pieces of a row
// change places with the row, so that the same piece of eight rows is in all banks. TMA does so
// by itself, and wgmma expects it. Tiles begin at multiples of eight rows.
constexpr uint32_t swizzled(uint32_t offset, uint32_t row_bytes) {
  return offset ^ (offset >> 3 & (row_bytes - 16));
}

// What wgmma is told of an operand, from PTX's "matrix descriptor": its address, 16 bytes the unit
// (bits 0 to 13); bits 16 to 29 are not used by swizzled rows of k; 1024 bytes from eight rows to
// the next eight (32 to 45); swizzled by 128 bytes (62 and 63). 16 elements of k further are 32
// bytes.
constexpr uint64_t descriptor(uint32_t address) {
  return (address >> 4 & 0x3fff) | uint64_t{1} << 16 | uint64_t{1024 >> 4} << 32 |
         uint64_t{1} << 62;
}

// ---- fragments: 16 x 8 of a result, in the registers of a warp; mma and wgmma agree ----

constexpr int fragment_row(int lane, int i) { return lane / 4 + i / 2 * 8; }
constexpr int fragment_column(int lane, int i) { return lane % 4 * 2 + i % 2; }

}  // namespace wengert
