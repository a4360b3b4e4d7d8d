// Convolution and pooling; python/wengert/convolution.py and pooling.py give them their public
// names.
#include "bindings/bindings.h"

namespace wengert::bindings {

namespace {

using Sizes = std::vector<int64_t>;

Dims dims(const Sizes& sizes) {
  Dims d;
  for (const int64_t n : sizes) d.push_back(n);
  return d;
}
Window window(const Sizes& stride, const Sizes& before, const Sizes& after, const Sizes& dilation) {
  return {dims(stride), dims(before), dims(after), dims(dilation)};
}
Window without_padding(const Sizes& stride, const Sizes& dilation) {
  const Sizes none(stride.size());
  return window(stride, none, none, dilation);
}

}  // namespace

void add_convolution(py::module_& m) {
  using py::arg;
  m.def(
      "_convolution",
      [](const char* by, const Tensor& x, const Tensor& w, const Sizes& stride, const Sizes& before,
         const Sizes& after, const Sizes& dilation, int64_t groups) {
        return convolution(by, x, w, window(stride, before, after, dilation), groups);
      },
      arg("by"), arg("x"), arg("weight"), arg("stride"), arg("before"), arg("after"),
      arg("dilation"), arg("groups"), "See wengert.conv2d.");
  m.def(
      "_convolution_input",
      [](const char* by, const Tensor& g, const Tensor& w, const Sizes& size, const Sizes& stride,
         const Sizes& before, const Sizes& after, const Sizes& dilation, int64_t groups) {
        return convolution_input(by, g, w, dims(size), window(stride, before, after, dilation),
                                 groups);
      },
      arg("by"), arg("g"), arg("weight"), arg("size"), arg("stride"), arg("before"), arg("after"),
      arg("dilation"), arg("groups"), "See wengert.conv_transpose2d.");
  m.def(
      "_windows",
      [](const char* by, const Tensor& x, const Sizes& size, const Sizes& stride,
         const Sizes& dilation) {
        return windows(by, x, dims(size), without_padding(stride, dilation));
      },
      arg("by"), arg("x"), arg("size"), arg("stride"), arg("dilation"),
      "Windows over the last axes, which get axes of their own behind them; a view.");
  m.def(
      "_overlap_add",
      [](const char* by, const Tensor& x, const Sizes& whole, const Sizes& stride,
         const Sizes& dilation) {
        return overlap_add(by, x, dims(whole), without_padding(stride, dilation));
      },
      arg("by"), arg("x"), arg("whole"), arg("stride"), arg("dilation"),
      "The sum of windows that _windows() made, in axes of sizes `whole`.");
  m.def(
      "_max_pool",
      [](const char* by, const Tensor& x, const Sizes& size, const Sizes& stride,
         const Sizes& before, const Sizes& after, const Sizes& dilation) {
        return max_pool(by, x, dims(size), window(stride, before, after, dilation));
      },
      arg("by"), arg("x"), arg("size"), arg("stride"), arg("before"), arg("after"), arg("dilation"),
      "The largest element of each window over the last axes, and where it is.");
}

}  // namespace wengert::bindings
