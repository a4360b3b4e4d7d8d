#include "tensor/copy.h"

#include <algorithm>
#include <cstring>

#include "base/pool.h"
#include "gpu/loader.h"
#include "tensor/convert.h"
#include "tensor/loop.h"

namespace wengert {

namespace {

constexpr int64_t chunk_elements = 1 << 16;
constexpr int64_t tile =
    16;  // of a transposed copy: 16 x 16 elements touch few cache lines on either side

// rows x columns, both strided, in elements.
template <class To, class From>
void copy_block(int64_t rows, int64_t columns, char* to, int64_t to_row, int64_t to_column,
                const char* from, int64_t from_row, int64_t from_column) {
  for (int64_t r = 0; r < rows; ++r) {
    To* y = reinterpret_cast<To*>(to) + r * to_row;
    const From* x = reinterpret_cast<const From*>(from) + r * from_row;
    if (std::is_same_v<To, From> && to_column == 1 && from_column == 1)
      std::memcpy(y, x, static_cast<size_t>(columns) * sizeof(To));
    else if (to_column == 1 && from_column == 1)
      for (int64_t c = 0; c < columns; ++c) y[c] = convert<To>(x[c]);
    else
      for (int64_t c = 0; c < columns; ++c) y[c * to_column] = convert<To>(x[c * from_column]);
  }
}
using CopyBlock = decltype(&copy_block<float, float>);

CopyBlock block_between(DType to, DType from) {
  return dispatch(to, [&](auto t) {
    return dispatch(from, [&](auto f) -> CopyBlock {
      return copy_block<typename decltype(t)::type, typename decltype(f)::type>;
    });
  });
}

void copy_here(const View& to_view, const View& from_view) {
  const Loop<2> loop(to_view.shape, {&to_view.strides, &from_view.strides});
  const CopyBlock block = block_between(to_view.dtype, from_view.dtype);
  const int64_t to_size = size_of(to_view.dtype), from_size = size_of(from_view.dtype);
  const auto to = [&, y = to_view.as<char>()](int64_t at) { return y + at * to_size; };
  const auto from = [&, x = from_view.as<const char>()](int64_t at) { return x + at * from_size; };
  const int64_t columns = loop.inner(), rows = loop.outer();
  const int last = loop.dims - 1;
  const int64_t to_column = loop.stride[0][last], from_column = loop.stride[1][last];

  const bool transposed = loop.dims >= 2 && from_column != 1 && loop.stride[1][last - 1] == 1;
  if (transposed) {
    const int64_t height = loop.size[last - 1], outer = rows / height;
    const int64_t strips = ceil_div(height, tile);
    const int64_t per_chunk = std::max<int64_t>(1, chunk_elements / (tile * columns));
    parallel_for(ceil_div(outer * strips, per_chunk), [&](int64_t chunk) {
      const int64_t end = std::min(outer * strips, (chunk + 1) * per_chunk);
      for (int64_t s = chunk * per_chunk; s < end; ++s) {
        const int64_t first = s / strips * height + s % strips * tile;
        const int64_t n = std::min(tile, height - s % strips * tile);
        const int64_t y = loop.offset(0, first), x = loop.offset(1, first);
        for (int64_t c = 0; c < columns; c += tile) {
          block(n, std::min(tile, columns - c), to(y + c * to_column), loop.stride[0][last - 1],
                to_column, from(x + c * from_column), loop.stride[1][last - 1], from_column);
          if (c % chunk_elements == chunk_elements - tile) poll_interrupt();
        }
      }
    });
    return;
  }

  // Long runs are split too; short ones gathered, so that a chunk has about chunk_elements.
  const int64_t pieces = ceil_div(columns, chunk_elements);
  const int64_t per_chunk = std::max<int64_t>(1, chunk_elements / columns);
  parallel_for(ceil_div(rows * pieces, per_chunk), [&](int64_t chunk) {
    const int64_t end = std::min(rows * pieces, (chunk + 1) * per_chunk);
    for (int64_t p = chunk * per_chunk; p < end; ++p) {
      const int64_t row = p / pieces, c = p % pieces * chunk_elements;
      block(1, std::min(chunk_elements, columns - c), to(loop.offset(0, row) + c * to_column), 0,
            to_column, from(loop.offset(1, row) + c * from_column), 0, from_column);
    }
  });
}

// A contiguous copy beside x, on a device, of a dtype.
Tensor beside(const View& x, Device device, DType dtype) {
  const Tensor copy({x.shape, dtype, device});
  copy_into(copy.view(), x);
  return copy;
}

// Converted and made contiguous on its device, moved, and spread out on the other.
void copy_across(const View& to, const View& from, bool may_wait) {
  if (from.dtype != to.dtype || !is_contiguous(from.shape, from.strides))
    return copy_across(to, beside(from, from.device, to.dtype).view(), true);
  if (!is_contiguous(to.shape, to.strides))
    return copy_into(to, beside(from, to.device, to.dtype).view());
  const int64_t bytes = nbytes(to.shape, to.dtype);
  const WithoutHostLock unlocked;
  if (!is_cuda(from.device))
    cuda().to_device(to.device, to.data, from.data, bytes, may_wait);
  else if (!is_cuda(to.device))
    cuda().to_host(from.device, to.data, from.data, bytes);
  else
    cuda().copy_peer(to.device, to.data, from.device, from.data, bytes);
}

}  // namespace

Tensor on_host(const Tensor& x) {
  return is_cuda(x.device()) ? beside(x.view(), Device::cpu, x.dtype()) : x;
}

void copy_rows(void* to, const void* from, const int64_t* rows, int64_t count, int64_t bytes) {
  constexpr int64_t chunk_bytes = 1 << 16, piece = 1 << 20;  // of a long row
  const int64_t pieces = ceil_div(bytes, piece),
                per_chunk = std::max<int64_t>(1, chunk_bytes / std::max<int64_t>(1, bytes));
  parallel_for(ceil_div(count * pieces, per_chunk), [&](int64_t chunk) {
    const int64_t end = std::min(count * pieces, (chunk + 1) * per_chunk);
    for (int64_t i = chunk * per_chunk; i < end; ++i) {
      const int64_t row = i / pieces, at = i % pieces * piece;
      std::memcpy(static_cast<char*>(to) + row * bytes + at,
                  static_cast<const char*>(from) + rows[row] * bytes + at,
                  static_cast<size_t>(std::min(piece, bytes - at)));
    }
  });
}

void copy_into(const View& to, const View& from, bool may_wait) {
  if (to.numel() == 0) return;
  if (to.device != from.device) return copy_across(to, from, may_wait);
  if (is_cuda(to.device)) return cuda().copy(to, from);
  copy_here(to, from);
}

}  // namespace wengert
