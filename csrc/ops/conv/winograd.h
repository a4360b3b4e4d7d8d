// What winograd.simd.cpp offers: the transforms of tiles and of taps. Each has 16 parts, made of
// 4x4 inputs, 3x3 taps or 2x2 results.
#pragma once

#include <cstdint>

#include "base/isa.h"

namespace wengert {

// parts[p * plane + i] of the tiles i < n of a channel. Its rows are copied to `lines`, which have
// zeros around them, and from there every second row and column to one of four sheets. A sheet's
// row has an element more than there are tiles: the last tile of each row means nothing.
struct WinogradTiles {
  const float* x;
  int64_t rows, columns, x_step;  // what is copied
  float* to;                      // where to in `lines`
  float* lines;                   // `line_count` of `line` elements
  int64_t line_count, line;
  float* sheets;
  int64_t sheet, row, n;
  float* parts;
  int64_t plane;
};
// A row of tiles: two rows of an image. Lanes are channels. Elements beyond the image are neither
// read nor written.
struct WinogradRow {
  float* parts;  // those of tile t: parts[p * plane + t * width]
  int64_t plane;
  float *upper, *lower;  // rows of `columns` elements; `lower` is null beyond the image
  int64_t columns, width, vectors;
};
struct WinogradKernels {
  void (*tiles)(const WinogradTiles& t);
  // parts[p * plane + l] of the taps w[at * width + l].
  void (*taps)(const float* w, int64_t width, float* parts, int64_t plane);
  bool (*results)(const WinogradRow& r);    // from parts; whether all are finite
  void (*gradients)(const WinogradRow& r);  // to parts
};
WENGERT_DECLARE_KERNELS(WinogradKernels, winograd_kernels)

}  // namespace wengert
