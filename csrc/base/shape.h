// Shapes and strides: up to ten integers held in place, and the arithmetic on them.
//
// `numel` and `nbytes` are the only places where sizes are multiplied: they refuse negative and
// overflowing sizes, and every constructor, view and loader goes through them.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <string>

#include "base/dtype.h"

namespace wengert {

constexpr int max_dims = 10;

class Dims {
 public:
  Dims() = default;
  Dims(std::initializer_list<int64_t> values) {
    for (int64_t v : values) push_back(v);
  }
  static Dims filled(int n, int64_t value) {
    Dims d;
    for (int i = 0; i < n; ++i) d.push_back(value);
    return d;
  }

  int size() const { return size_; }
  bool empty() const { return size_ == 0; }
  int64_t& operator[](int i) { return values_[i]; }
  int64_t operator[](int i) const { return values_[i]; }
  int64_t back() const { return values_[size_ - 1]; }
  const int64_t* begin() const { return values_.data(); }
  const int64_t* end() const { return values_.data() + size_; }
  void push_back(int64_t value) {
    if (size_ == max_dims) fail<ShapeError>("a tensor has at most ", max_dims, " dimensions");
    values_[size_++] = value;
  }
  void insert(int at, int64_t value) {
    push_back(0);
    for (int i = size_ - 1; i > at; --i) values_[i] = values_[i - 1];
    values_[at] = value;
  }
  void erase(int at) {
    for (int i = at; i + 1 < size_; ++i) values_[i] = values_[i + 1];
    --size_;
    values_[size_] = 0;  // unused places stay zero, so equal Dims have equal bytes
  }
  bool operator==(const Dims& other) const {
    if (size_ != other.size_) return false;
    for (int i = 0; i < size_; ++i)
      if (values_[i] != other.values_[i]) return false;
    return true;
  }

 private:
  std::array<int64_t, max_dims> values_{};
  int64_t size_ = 0;
};

using Shape = Dims;
using Strides = Dims;  // in elements

std::ostream& operator<<(std::ostream& out, const Dims& dims);  // "(2, 3)", "(4,)", "()"

int64_t numel(const Shape& shape);
int64_t nbytes(const Shape& shape, DType dtype);
Strides contiguous_strides(const Shape& shape);
bool is_contiguous(const Shape& shape, const Strides& strides);

// The shape that both broadcast to (NumPy's rule).
Shape broadcast(const char* op, const Shape& a, const Shape& b);
// Strides of `strides` seen as `to`: 0 along repeated axes. The shapes are known to fit.
Strides broadcast_strides(const Shape& from, const Strides& strides, const Shape& to);

// An axis in [-ndim, ndim) counted from the front.
int normalize_axis(const char* op, int64_t axis, int ndim);

// A set of axes as bits.
using AxisMask = uint32_t;
inline bool has(AxisMask mask, int axis) { return mask >> axis & 1; }
// One axis, as normalize_axis. A tensor of no axes takes 0 and -1, for none.
AxisMask axis_mask(const char* op, int64_t axis, int ndim);

int64_t count(const Shape& shape, AxisMask axes);  // elements along the axes
// The shape after reducing `axes`, which are kept as ones or dropped.
Shape reduced_shape(const Shape& shape, AxisMask axes, bool keepdims);

}  // namespace wengert
