// View: all that a kernel gets to know of a tensor. Plain data; owns nothing.
#pragma once

#include "base/device.h"
#include "base/dtype.h"
#include "base/shape.h"

namespace wengert {

struct View {
  void* data;  // the first element
  Shape shape;
  Strides strides;
  DType dtype;
  Device device = Device::cpu;

  int64_t numel() const { return wengert::numel(shape); }
  template <class T> T* as() const { return static_cast<T*>(data); }
};

}  // namespace wengert
