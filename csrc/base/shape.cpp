#include "base/shape.h"

#include <ostream>

namespace wengert {

std::ostream& operator<<(std::ostream& out, const Dims& dims) {
  out << '(';
  for (int i = 0; i < dims.size(); ++i) out << (i ? ", " : "") << dims[i];
  return out << (dims.size() == 1 ? ",)" : ")");
}

int64_t numel(const Shape& shape) {
  int64_t n = 1;
  bool zero = false, overflow = false;
  for (int64_t size : shape) {
    if (size < 0) fail<ShapeError>("shape ", shape, " has a negative size");
    if (size == 0) zero = true;
    // Zero sizes are left out, so that (0, 2**62, 2**62) is refused wherever (2**62, 2**62) is.
    if (size > 0 && __builtin_mul_overflow(n, size, &n)) overflow = true;
  }
  if (overflow) fail<ShapeError>("shape ", shape, " has more than 2**63 elements");
  return zero ? 0 : n;
}

int64_t nbytes(const Shape& shape, DType dtype) {
  int64_t bytes;
  if (__builtin_mul_overflow(numel(shape), size_of(dtype), &bytes))
    fail<ShapeError>("shape ", shape, " of ", dtype, " needs more than 2**63 bytes");
  return bytes;
}

Strides contiguous_strides(const Shape& shape) {
  Strides strides = Dims::filled(shape.size(), 1);
  for (int i = shape.size() - 2; i >= 0; --i)
    strides[i] = strides[i + 1] * (shape[i + 1] > 0 ? shape[i + 1] : 1);
  return strides;
}

bool is_contiguous(const Shape& shape, const Strides& strides) {
  int64_t expected = 1;
  for (int i = shape.size() - 1; i >= 0; --i) {
    if (shape[i] != 1 && strides[i] != expected) return numel(shape) == 0;
    expected *= shape[i];
  }
  return true;
}

Shape broadcast(const char* op, const Shape& a, const Shape& b) {
  if (a == b) return a;
  const Shape& longer = a.size() >= b.size() ? a : b;
  const Shape& shorter = a.size() >= b.size() ? b : a;
  Shape result = longer;
  const int shift = longer.size() - shorter.size();
  for (int i = 0; i < shorter.size(); ++i) {
    int64_t& size = result[i + shift];
    if (size == 1)
      size = shorter[i];
    else if (shorter[i] != 1 && shorter[i] != size)
      fail<ShapeError>(op, ": shapes ", a, " and ", b,
                       " do not broadcast: counted from the right, axis -", shorter.size() - i,
                       " has sizes ", size, " and ", shorter[i],
                       "; sizes must be equal, or one of them 1");
  }
  return result;
}

Strides broadcast_strides(const Shape& from, const Strides& strides, const Shape& to) {
  Strides result = Dims::filled(to.size(), 0);
  const int shift = to.size() - from.size();
  for (int i = 0; i < from.size(); ++i)
    if (from[i] != 1 || to[i + shift] == 1) result[i + shift] = strides[i];
  return result;
}

int normalize_axis(const char* op, int64_t axis, int ndim) {
  if (axis < -ndim || axis >= ndim)
    fail<IndexError>(op, ": axis ", axis, " is out of range for a tensor of ", ndim, " dimension",
                     ndim == 1 ? "" : "s",
                     ndim ? concat("; it may be ", -ndim, " to ", ndim - 1) : "");
  return static_cast<int>(axis < 0 ? axis + ndim : axis);
}

AxisMask axis_mask(const char* op, int64_t axis, int ndim) {
  return ndim == 0 && (axis == 0 || axis == -1) ? 0 : 1u << normalize_axis(op, axis, ndim);
}

int64_t count(const Shape& shape, AxisMask axes) {
  int64_t n = 1;
  for (int d = 0; d < shape.size(); ++d)
    if (has(axes, d)) n *= shape[d];
  return n;
}

Shape reduced_shape(const Shape& shape, AxisMask axes, bool keepdims) {
  Shape result;
  for (int i = 0; i < shape.size(); ++i) {
    if (!has(axes, i))
      result.push_back(shape[i]);
    else if (keepdims)
      result.push_back(1);
  }
  return result;
}

}  // namespace wengert
