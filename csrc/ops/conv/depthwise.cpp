// Depthwise convolution on the CPU, without copies: each channel by itself, in bands of rows that
// follow from shapes alone.
#include <algorithm>

#include "base/pool.h"
#include "ops/conv/conv.h"
#include "ops/conv/rows.h"

namespace wengert {

namespace {

constexpr int64_t band_elements = 1 << 14;    // of a chunk
constexpr int64_t summed_elements = 1 << 12;  // of a gradient that one kernel sums

struct Channels {
  Channels(const Shape& x, const Shape& w, const Shape& y, const ConvAttrs& a)
      : images(x[0]), channels(x[1]), taps(w[2] * w[3]), inputs(x[2] * x[3]), outputs(y[2] * y[3]) {
    for (int i = 0; i < 2; ++i)
      d.in[i] = x[2 + i], d.out[i] = y[2 + i], d.before[i] = a.before[1 + i];
    rows = std::max<int64_t>(4, band_elements / std::max<int64_t>(1, x[3]) / 4 * 4);
  }
  int64_t bands(int64_t all) const { return ceil_div(all, rows); }
  // use(band, i, channel) for bands of `all` rows of some channels, of `count` images, or of parts
  // of the images.
  template <class Use> void each_band(int64_t count, int64_t all, const Use& use) const {
    if (count * all == 0) return;
    const int64_t work = std::max(inputs, outputs) * ceil_div(images, count);
    const int64_t together = std::max<int64_t>(1, band_elements / std::max<int64_t>(1, work));
    // A chunk has some channels of an image, or a band of one.
    const int64_t across = ceil_div(channels, together), down = bands(all);
    parallel_for(count * across * down, [&](int64_t chunk) {
      Depthwise band = d;
      band.first = chunk % down * rows, band.last = std::min(all, band.first + rows);
      const int64_t i = chunk / down / across, first = chunk / down % across * together;
      band.channels = std::min(together, channels - first);
      use(band, i, first);
    });
  }
  // Of a band of channels from number `at` on, counting images.
  static void finish(const Then& then, int64_t at, const Depthwise& band, int64_t width) {
    for (int64_t c = 0; c < band.channels; ++c)
      then(at + c, 1, band.first * width, (band.last - band.first) * width);
  }
  int64_t images, channels, taps, inputs, outputs;
  Depthwise d{};
  int64_t rows;  // of a band
};

template <class T> const DepthwiseKernels& kernels(int64_t taps) {
  static const ConvKernels& t = WENGERT_PICK_KERNELS(conv_kernels);
  return t.depthwise[sizeof(T) == 8][taps == 25];
}

}  // namespace

bool is_depthwise(const Shape& x, const Shape& w, const ConvAttrs& a) {
  return a.axes == 2 && a.groups == x[1] && w[0] == a.groups && w[1] == 1 && w[2] == w[3] &&
         (w[2] == 3 || w[2] == 5) && a.dilation[1] == 1 && a.dilation[2] == 1 &&
         a.stride[1] == a.stride[2] && a.stride[1] <= 2;
}

void depthwise(const View& y, const View& x, const View& w, const ConvAttrs& attrs,
               const Then& then) {
  const Channels c(x.shape, w.shape, y.shape, attrs);
  of_floats(y.dtype, [&](auto zero) {
    using T = decltype(zero);
    c.each_band(c.images, c.d.out[0], [&](const Depthwise& band, int64_t image, int64_t channel) {
      const int64_t at = image * c.channels + channel;
      kernels<T>(c.taps).forward[attrs.stride[1] - 1](band, x.as<T>() + at * c.inputs,
                                                      w.as<T>() + channel * c.taps,
                                                      y.as<T>() + at * c.outputs);
      c.finish(then, at, band, y.shape[3]);
    });
  });
}

void depthwise_back(const View& dx, const View& g, const View& w, const ConvAttrs& attrs,
                    const Then& then) {
  const Channels c(dx.shape, w.shape, g.shape, attrs);
  of_floats(dx.dtype, [&](auto zero) {
    using T = decltype(zero);
    c.each_band(c.images, c.d.in[0], [&](Depthwise band, int64_t image, int64_t channel) {
      const int64_t at = image * c.channels + channel;
      const T *const from = g.as<T>() + at * c.outputs, *const taps = w.as<T>() + channel * c.taps;
      T* const to = dx.as<T>() + at * c.inputs;
      if (attrs.stride[1] == 2) {
        for (int64_t i = 0; i < band.channels; ++i)
          kernels<T>(c.taps).back(band, from + i * c.outputs, taps + i * c.taps, to + i * c.inputs);
      } else {
        band.turned = true;
        for (int i = 0; i < 2; ++i) {
          std::swap(band.in[i], band.out[i]);
          band.before[i] = w.shape[2] - 1 - band.before[i];
        }
        kernels<T>(c.taps).forward[0](band, from, taps, to);
      }
      c.finish(then, at, band, dx.shape[3]);
    });
  });
}

void depthwise_weights(const View& dw, const View& x, const View& g, const ConvAttrs& attrs) {
  const Channels c(x.shape, dw.shape, g.shape, attrs);
  of_floats(dw.dtype, [&](auto zero) {
    using T = decltype(zero);
    // Sums of a band, or of some small images.
    const int64_t together =
        std::clamp<int64_t>(summed_elements / c.outputs, 1, std::max<int64_t>(1, c.images));
    const int64_t parts = ceil_div(c.images, together), bands = c.bands(c.d.out[0]);
    const int64_t all = c.channels * c.taps;
    const Tensor memory(Shape{parts * bands, all}, DType::float64);
    double* const sums = memory.data<double>();
    c.each_band(parts, c.d.out[0], [&](Depthwise band, int64_t part, int64_t first) {
      const int64_t image = part * together;
      band.images = std::min(together, c.images - image);
      band.x_step = c.channels * c.inputs, band.g_step = c.channels * c.outputs;
      for (int64_t channel = first; channel < first + band.channels; ++channel) {
        const int64_t at = image * c.channels + channel;
        kernels<T>(c.taps).weights[attrs.stride[1] - 1](
            band, x.as<T>() + at * c.inputs, g.as<T>() + at * c.outputs,
            sums + (part * bands + band.first / c.rows) * all + channel * c.taps);
      }
    });
    for (int64_t i = 0; i < all; ++i) {
      double sum = 0;
      for (int64_t n = 0; n < parts * bands; ++n) sum += sums[n * all + i];
      dw.as<T>()[i] = static_cast<T>(sum);
    }
  });
}

}  // namespace wengert
