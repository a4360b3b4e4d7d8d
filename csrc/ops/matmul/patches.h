// Part of gemm.simd.cpp: packing a b that is Patches. Runs are copied vector by vector; a store may
// go beyond its run, since what follows is stored later, but not beyond the tile.
#pragma once

#include "ops/matmul/matmul.h"
#include "ops/matmul/pack.h"

namespace wengert::WENGERT_ISA {
namespace {

constexpr int64_t patch_columns = 64;  // at once, at most

// Rows r to r + rows and columns j to j + columns, to `to`, whose rows are `width` apart.
template <class T>
void copy_patches(const Patches& p, int64_t r, int64_t rows, int64_t j, int64_t columns, T* to,
                  int64_t width) {
  constexpr int64_t L = lanes<T>;
  struct Piece {
    int64_t from, at;
  } piece[patch_columns];
  int count = 0;
  int64_t run = j / p.run, x = j - run * p.run;
  for (int64_t at = 0; at < columns; ++run, x = 0) {
    const int64_t length = min(p.run - x, columns - at), from = p.starts[run] + x;
    for (int64_t i = 0; i < length; i += L) piece[count++] = {from + i, at + i};
    at += length;
  }
  const T* const data = static_cast<const T*>(p.data);
  for (int64_t row = 0; row < rows; ++row, to += width) {
    const T* const from = data + p.rows[r + row];
    if (row + 1 < rows)
      for (int i = 0; i < count; ++i) Simd<T>::load(from + piece[i].from).store(to + piece[i].at);
    else
      for (int i = 0; i < count; ++i)
        Simd<T>::load(from + piece[i].from)
            .store_n(to + piece[i].at, static_cast<int>(min(L, width - piece[i].at)));
  }
}

// Terms k to k + ks of up to two vectors of columns.
template <class T>
void pack_patches(const Patches& p, int64_t k, int64_t ks, int64_t j, int64_t columns,
                  int64_t width, T* to) {
  if (!p.transposed) return copy_patches(p, k, ks, j, columns, to, width);
  constexpr int64_t L = lanes<T>, step = patch_columns + L;  // not a power of two
  T rows[2 * L * step];
  for (int64_t x = 0; x < ks; x += patch_columns) {
    const int64_t n = min(patch_columns, ks - x);
    copy_patches(p, j, columns, k + x, n, rows, step);
    pack(to + x * width, width, rows, columns, step, 1, n);
  }
}

}  // namespace
}  // namespace wengert::WENGERT_ISA
