// Convolution and pooling on a GPU: a thread for each result, a block for each weight's gradient.
// Plain loops, each sum in one fixed order: the same bits every time. No product of tensor cores
// yet.
#include "gpu/launch.h"
#include "ops/conv/gpu.h"
#include "ops/rows/row_threads.h"

namespace wengert {

namespace {

// Whole shapes; the axes that are not used have size 1.
struct Conv {
  int64_t images, outputs, channels, groups;  // outputs and channels in a group
  int64_t in[most_axes], out[most_axes], taps[most_axes];
  int64_t stride[most_axes], before[most_axes], dilation[most_axes];

  __device__ int64_t inputs() const { return in[0] * in[1] * in[2]; }
  __device__ int64_t places() const { return out[0] * out[1] * out[2]; }
  __device__ int64_t weights() const { return taps[0] * taps[1] * taps[2]; }
};

Conv conv_of(const Shape& x, const Shape& w, const Shape& y, const ConvAttrs& a) {
  Conv c{};
  c.images = x[0], c.outputs = y[1] / a.groups, c.channels = x[1] / a.groups, c.groups = a.groups;
  for (int i = 0; i < most_axes; ++i) {
    const int d = 2 + i - (most_axes - a.axes);
    const bool used = d >= 2;
    c.in[i] = used ? x[d] : 1, c.out[i] = used ? y[d] : 1, c.taps[i] = used ? w[d] : 1;
    c.stride[i] = used ? a.stride[i] : 1, c.before[i] = used ? a.before[i] : 0;
    c.dilation[i] = used ? a.dilation[i] : 1;
  }
  return c;
}

__device__ void split(int64_t i, const int64_t (&size)[most_axes], int64_t (&at)[most_axes]) {
  at[2] = i % size[2], at[1] = i / size[2] % size[1], at[0] = i / (size[2] * size[1]);
}
// The index in x of tap t of window o; -1: padding.
__device__ int64_t place_of(const Conv& c, const int64_t (&o)[most_axes], int64_t t) {
  int64_t tap[most_axes], at[most_axes];
  split(t, c.taps, tap);
  for (int i = 0; i < most_axes; ++i) {
    at[i] = o[i] * c.stride[i] + tap[i] * c.dilation[i] - c.before[i];
    if (at[i] < 0 || at[i] >= c.in[i]) return -1;
  }
  return (at[0] * c.in[1] + at[1]) * c.in[2] + at[2];
}

template <class T>
__global__ void __launch_bounds__(block_threads)
    convolution(int64_t total, Conv c, const T* x, const T* w, T* y) {
  const int64_t places = c.places(), taps = c.weights(), inputs = c.inputs();
  for (int64_t i = first_index(); i < total; i += index_step()) {
    int64_t o[most_axes];
    split(i % places, c.out, o);
    const int64_t output = i / places % (c.groups * c.outputs), group = output / c.outputs,
                  image = i / places / (c.groups * c.outputs);
    const T* const from = x + (image * c.groups + group) * c.channels * inputs;
    const T* const weights = w + output * c.channels * taps;
    T sum = 0;
    for (int64_t t = 0; t < taps; ++t) {
      const int64_t at = place_of(c, o, t);
      if (at < 0) continue;
      for (int64_t k = 0; k < c.channels; ++k) sum += from[k * inputs + at] * weights[k * taps + t];
    }
    y[i] = sum;
  }
}

template <class T>
__global__ void __launch_bounds__(block_threads)
    convolution_input(int64_t total, Conv c, const T* g, const T* w, T* dx) {
  const int64_t places = c.places(), taps = c.weights(), inputs = c.inputs();
  for (int64_t i = first_index(); i < total; i += index_step()) {
    int64_t at[most_axes], tap[most_axes], o[most_axes];
    split(i % inputs, c.in, at);
    const int64_t channel = i / inputs % (c.groups * c.channels), group = channel / c.channels,
                  k = channel % c.channels, image = i / inputs / (c.groups * c.channels);
    T sum = 0;
    for (int64_t t = 0; t < taps; ++t) {
      split(t, c.taps, tap);
      bool seen = true;
      for (int a = 0; a < most_axes; ++a) {
        const int64_t from = at[a] + c.before[a] - tap[a] * c.dilation[a];
        o[a] = from / c.stride[a];
        seen = seen && from >= 0 && from % c.stride[a] == 0 && o[a] < c.out[a];
      }
      if (!seen) continue;
      const int64_t p = (o[0] * c.out[1] + o[1]) * c.out[2] + o[2];
      for (int64_t j = group * c.outputs; j < (group + 1) * c.outputs; ++j)
        sum +=
            g[(image * c.groups * c.outputs + j) * places + p] * w[(j * c.channels + k) * taps + t];
    }
    dx[i] = sum;
  }
}

template <class T>
__global__ void __launch_bounds__(block_threads)
    convolution_weight(Conv c, const T* x, const T* g, T* dw) {
  const int64_t places = c.places(), taps = c.weights(), inputs = c.inputs();
  const int64_t i = blockIdx.x, t = i % taps, k = i / taps % c.channels,
                output = i / taps / c.channels, group = output / c.outputs;
  const double sum = row_sum<block_threads>(c.images * places, [&](int64_t j) {
    int64_t o[most_axes];
    split(j % places, c.out, o);
    const int64_t at = place_of(c, o, t), image = j / places;
    if (at < 0) return T(0);
    return x[((image * c.groups + group) * c.channels + k) * inputs + at] *
           g[(image * c.groups * c.outputs + output) * places + j % places];
  });
  if (threadIdx.x == 0) dw[i] = static_cast<T>(sum);
}

template <class T>
__global__ void __launch_bounds__(block_threads)
    overlap_add(int64_t total, WindowAttrs a, const T* x, T* y) {
  const int64_t inputs = a.in[0] * a.in[1] * a.in[2], taps = a.size[0] * a.size[1] * a.size[2],
                places = a.out[0] * a.out[1] * a.out[2];
  for (int64_t i = first_index(); i < total; i += index_step()) {
    int64_t at[most_axes], tap[most_axes], o[most_axes];
    split(i % inputs, a.in, at);
    const T* const from = x + i / inputs * places * taps;
    T sum = 0;
    for (int64_t t = 0; t < taps; ++t) {
      split(t, a.size, tap);
      bool seen = true;
      for (int d = 0; d < most_axes; ++d) {
        const int64_t from_tap = at[d] - tap[d] * a.dilation[d];
        o[d] = from_tap / a.stride[d];
        seen = seen && from_tap >= 0 && from_tap % a.stride[d] == 0 && o[d] < a.out[d];
      }
      if (seen)
        sum = static_cast<T>(sum + from[((o[0] * a.out[1] + o[1]) * a.out[2] + o[2]) * taps + t]);
    }
    y[i] = sum;
  }
}

template <class T>
__global__ void __launch_bounds__(block_threads)
    max_pool(int64_t total, WindowAttrs a, const T* x, T* y, int64_t* places) {
  const int64_t inputs = a.in[0] * a.in[1] * a.in[2], taps = a.size[0] * a.size[1] * a.size[2],
                made = a.out[0] * a.out[1] * a.out[2];
  for (int64_t i = first_index(); i < total; i += index_step()) {
    int64_t o[most_axes], tap[most_axes], at[most_axes];
    split(i % made, a.out, o);
    const T* const from = x + i / made * inputs;
    T best = 0;
    int64_t place = -1;
    for (int64_t t = 0; t < taps; ++t) {
      split(t, a.size, tap);
      bool inside = true;
      for (int d = 0; d < most_axes; ++d) {
        at[d] = o[d] * a.stride[d] + tap[d] * a.dilation[d] - a.before[d];
        inside = inside && at[d] >= 0 && at[d] < a.in[d];
      }
      if (!inside) continue;
      const int64_t p = (at[0] * a.in[1] + at[1]) * a.in[2] + at[2];
      const T value = from[p];
      if (place < 0 || value > best || value != value) best = value, place = p;
    }
    y[i] = best, places[i] = place;
  }
}

void convolution_on_gpu(Views out, Views in, const Attrs& attrs) {
  const Conv c = conv_of(in[0].shape, in[1].shape, out[0].shape, attrs.as<ConvAttrs>());
  const int64_t n = out[0].numel();
  if (n == 0) return;
  of_floats(out[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    launch("convolution", out[0].device, grid_for(out[0].device, n), block_threads, convolution<T>,
           n, c, in[0].as<T>(), in[1].as<T>(), out[0].as<T>());
  });
}
void input_on_gpu(Views out, Views in, const Attrs& attrs) {
  const Conv c = conv_of(out[0].shape, in[1].shape, in[0].shape, attrs.as<ConvAttrs>());
  const int64_t n = out[0].numel();
  if (n == 0) return;
  of_floats(out[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    launch("convolution_input", out[0].device, grid_for(out[0].device, n), block_threads,
           convolution_input<T>, n, c, in[0].as<T>(), in[1].as<T>(), out[0].as<T>());
  });
}
void weight_on_gpu(Views out, Views in, const Attrs& attrs) {
  const Conv c = conv_of(in[0].shape, out[0].shape, in[1].shape, attrs.as<ConvAttrs>());
  const int64_t n = out[0].numel();
  if (n == 0) return;
  of_floats(out[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    launch("convolution_weight", out[0].device, grid_of("convolution_weight", n), block_threads,
           convolution_weight<T>, c, in[0].as<T>(), in[1].as<T>(), out[0].as<T>());
  });
}
void overlap_add_on_gpu(Views out, Views in, const Attrs& attrs) {
  const int64_t n = out[0].numel();
  if (n == 0) return;
  of_numbers(out[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    launch("overlap_add", out[0].device, grid_for(out[0].device, n), block_threads, overlap_add<T>,
           n, attrs.as<WindowAttrs>(), in[0].as<T>(), out[0].as<T>());
  });
}
void max_pool_on_gpu(Views out, Views in, const Attrs& attrs) {
  const int64_t n = out[0].numel();
  if (n == 0) return;
  of_numbers(out[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    launch("max_pool", out[0].device, grid_for(out[0].device, n), block_threads, max_pool<T>, n,
           attrs.as<WindowAttrs>(), in[0].as<T>(), out[0].as<T>(), out[1].as<int64_t>());
  });
}

}  // namespace

extern const ConvGpu conv_gpu{.convolution = convolution_on_gpu,
                              .input = input_on_gpu,
                              .weight = weight_on_gpu,
                              .overlap_add = overlap_add_on_gpu,
                              .max_pool = max_pool_on_gpu};

}  // namespace wengert
