// Convolution on the CPU.
//
// Between many channels it is a product (dense.cpp) or, by 3x3 taps without strides, 16 smaller
// ones (winograd.cpp). With few output channels, as in depthwise convolutions, it is loops over
// rows: the images are copied with zeros around them, with stride s as s images of every s-th
// element, so that a tap of the weights reads runs of neighbours, like those of the outputs. The
// gradient of a convolution with strides is one correlation for each residue of the input's indices
// (a phase).
//
// Large images are made in bands of rows, which follow from shapes alone, as do chunks: the bits
// are the same for any number of threads.
#include <algorithm>

#include "base/pool.h"
#include "base/scratch.h"
#include "ops/conv/conv.h"
#include "ops/conv/rows.h"

namespace wengert {

namespace {

constexpr int64_t band_elements = 1 << 14;  // of an output
constexpr int64_t few_outputs = 4;          // fewer channels are made by loops over rows
constexpr int64_t rows_at_once = 4096;      // between two looks for Ctrl-C
constexpr int64_t slack = 64;               // bytes around a copy that may be read

const ConvKernels& kernels() {
  static const ConvKernels& t = WENGERT_PICK_KERNELS(conv_kernels);
  return t;
}
template <class T> constexpr int is_double = sizeof(T) == 8;
template <class T> struct Buffer {
  explicit Buffer(int64_t n)
      : memory(Shape{n + 2 * slack / int64_t{sizeof(T)}}, dtype_of<T>()),
        data(memory.data<T>() + slack / int64_t{sizeof(T)}) {}
  Tensor memory;
  T* data;
};

int64_t outputs_of(const ConvShape& s) { return s.axis[0].out * s.axis[1].out * s.axis[2].out; }
int64_t taps_of(const ConvShape& s) {
  return static_cast<int64_t>(s.axis[0].at.size() * s.axis[1].at.size() * s.axis[2].at.size());
}
int64_t inputs_of(const ConvShape& s) { return s.axis[0].in * s.axis[1].in * s.axis[2].in; }
int64_t whole_of(const ConvShape& s) { return s.axis[0].whole * s.axis[1].whole * s.axis[2].whole; }

// body(i) for i < count; each handles `elements` elements, and a chunk has several of them.
template <class Body> void for_each(int64_t count, int64_t elements, const Body& body) {
  const int64_t together = std::max<int64_t>(1, band_elements / std::max<int64_t>(1, elements));
  parallel_for(ceil_div(count, together), [&](int64_t chunk) {
    for (int64_t i = chunk * together; i < std::min(count, (chunk + 1) * together); ++i) body(i);
  });
}

// Bands of the outermost axis that is one.
struct Bands {
  Bands(const ConvShape& s, int64_t limit) : shape(s) {
    while (axis < most_axes - 1 && s.axis[axis].out == 1) ++axis;
    int64_t inner = 1;
    for (int a = axis + 1; a < most_axes; ++a) inner *= s.axis[a].out;
    const int64_t n = s.axis[axis].out;
    count = ceil_div(n, std::clamp<int64_t>(limit / inner, 1, n));
    size = ceil_div(n, count);
    count = ceil_div(n, size);
  }
  ConvShape band(int64_t b) const {
    ConvShape part = shape;
    ConvAxis& a = part.axis[axis];
    a.out = std::min(size, a.out - b * size);
    for (int64_t& at : a.at) at += b * size * a.stride;
    a.first += b * size * a.step;
    return part;
  }
  const ConvShape& shape;
  int axis = 0;
  int64_t size, count;
};

// The copy of a channel: [phases of the three axes][rows of the three axes].
class Planes {
 public:
  explicit Planes(const ConvShape& s) : shape_(s) {
    for (int a = 0; a < most_axes; ++a) {
      const ConvAxis& axis = s.axis[a];
      Side& side = side_[a];
      side.low = *std::min_element(axis.at.begin(), axis.at.end());
      side.rows = axis.out;
      for (const int64_t at : axis.at) {
        const int64_t from = at - side.low, phase = from % axis.stride;
        const auto found = std::find(side.phases.begin(), side.phases.end(), phase);
        side.taps.emplace_back(found - side.phases.begin(), from / axis.stride);
        if (found == side.phases.end()) side.phases.push_back(phase);
        side.rows = std::max(side.rows, axis.out + from / axis.stride);
      }
    }
    row_ = side_[2].rows, sheet_ = row_ * side_[1].rows, block_ = sheet_ * side_[0].rows;
    Shape all;
    for (const Side& side : side_) {
      all.push_back(side.rows);
      all.push_back(static_cast<int64_t>(side.phases.size()));
    }
    size = numel(all);  // refuses what overflows
  }

  template <class T> void copy(const T* x, T* to) const {
    PlaneCopy c;
    for (int a = 0; a < most_axes; ++a)
      c.side[a] = {shape_.axis[a].in,
                   side_[a].rows,
                   shape_.axis[a].stride,
                   side_[a].low,
                   static_cast<int64_t>(side_[a].phases.size()),
                   side_[a].phases.data()};
    kernels().copy[is_double<T>](c, x, to);
  }

  // Where the windows' elements lie: base + start + place in the run.
  std::vector<int64_t> bases() const {
    std::vector<int64_t> bases;
    for (int64_t c = 0; c < shape_.channels; ++c)
      for (const auto& [pz, z] : side_[0].taps)
        for (const auto& [py, y] : side_[1].taps)
          for (const auto& [px, x] : side_[2].taps) {
            const int64_t phase = (pz * static_cast<int64_t>(side_[1].phases.size()) + py) *
                                      static_cast<int64_t>(side_[2].phases.size()) +
                                  px;
            bases.push_back(c * size + phase * block_ + z * sheet_ + y * row_ + x);
          }
    return bases;
  }
  // One for each run of an image; runs without a gap are one.
  std::vector<int64_t> starts(int64_t& run) const {
    const int64_t z = shape_.axis[0].out, y = shape_.axis[1].out, x = shape_.axis[2].out;
    const bool joins = row_ == x, all = joins && sheet_ == x * y;
    run = all ? x * y * z : joins ? x * y : x;
    std::vector<int64_t> starts;
    for (int64_t i = 0; i < (all ? 1 : z); ++i)
      for (int64_t j = 0; j < (joins ? 1 : y); ++j) starts.push_back(i * sheet_ + j * row_);
    return starts;
  }
  // The same as vectors.
  std::vector<Row> rows(int64_t lanes) const {
    int64_t run = 0, at = 0;
    std::vector<Row> rows;
    for (const int64_t start : starts(run))
      for (int64_t x = 0; x < run; x += lanes) {
        const int64_t count = std::min(lanes, run - x);
        rows.push_back({start + x, at, static_cast<int>(count)});
        at += count;
      }
    return rows;
  }

  int64_t size = 1;

 private:
  struct Side {
    int64_t low, rows;
    std::vector<int64_t> phases;
    std::vector<std::pair<int64_t, int64_t>> taps;  // phase and row at which each begins
  };

  const ConvShape& shape_;
  Side side_[most_axes];
  int64_t row_, sheet_, block_;
};

// Copies a channel's outputs, which are dense, to their places in the result's channel.
template <class T> void put(const ConvShape& s, const T* from, T* to) {
  const ConvAxis &z = s.axis[0], &y = s.axis[1], &x = s.axis[2];
  for (int64_t i = 0; i < z.out; ++i)
    for (int64_t j = 0; j < y.out; ++j, from += x.out) {
      T* const row =
          to + ((z.first + i * z.step) * y.whole + y.first + j * y.step) * x.whole + x.first;
      kernels().spread[is_double<T>](from, x.out, row, x.step);
    }
}
bool is_plain(const ConvShape& s) {  // a band of whole rows, one after another
  for (const ConvAxis& a : s.axis)
    if (a.step != 1) return false;
  int outer = 0;
  while (outer < most_axes - 1 && s.axis[outer].whole == 1) ++outer;
  for (int a = outer + 1; a < most_axes; ++a)
    if (s.axis[a].out != s.axis[a].whole) return false;
  return true;
}
int64_t first_of(const ConvShape& s) {
  return (s.axis[0].first * s.axis[1].whole + s.axis[1].first) * s.axis[2].whole + s.axis[2].first;
}

// Calls f(some rows) for all, and looks for Ctrl-C between.
template <class F> void in_parts(const FewChannels& all, const F& f) {
  FewChannels part = all;
  for (int64_t r = 0; r < all.row_count; r += rows_at_once) {
    if (r) poll_interrupt();
    part.rows = all.rows + r, part.row_count = std::min(rows_at_once, all.row_count - r);
    f(part);
  }
}

// Some bands of some channels, the copy in the thread's own memory.
template <class T, class Use>
void each_few(const ConvShape& s, const Bands& bands, const T* x, int64_t more, const Use& use) {
  std::vector<ConvShape> shapes;
  std::vector<Planes> planes;
  std::vector<std::vector<int64_t>> bases;
  std::vector<std::vector<Row>> rows;
  // All bands but the last one are alike, up to where they lie.
  shapes.reserve(static_cast<size_t>(bands.count));
  for (int64_t b = 0; b < bands.count; ++b) {
    shapes.push_back(bands.band(b));
    planes.emplace_back(shapes.back());
    const bool alike = b > 0 && b + 1 < bands.count;
    bases.push_back(alike ? bases[0] : planes.back().bases());
    rows.push_back(alike ? std::vector<Row>() : planes.back().rows(kernels().lanes[is_double<T>]));
  }
  bool ok = true;
  const int64_t most = numel(Shape{s.channels, planes[0].size, int64_t{sizeof(T)}}) / sizeof(T);
  const int64_t work = std::max(most, s.channels * outputs_of(shapes[0]));
  for_each(s.images * s.groups * bands.count, work, [&](int64_t i) {
    T* const copy = static_cast<T*>(
        scratch(Scratch::chunk, sizeof(T) * static_cast<size_t>(most + more) + slack));
    if (!copy) return __atomic_store_n(&ok, false, __ATOMIC_RELAXED);
    const int64_t at = i / bands.count;
    const auto b = static_cast<size_t>(i % bands.count);
    for (int64_t c = 0; c < s.channels; ++c)
      planes[b].copy(x + (at * s.channels + c) * inputs_of(s), copy + c * planes[b].size);
    const std::vector<Row>& list = rows[b].empty() ? rows[0] : rows[b];
    use(FewChannels{copy, bases[b].data(), static_cast<int64_t>(bases[b].size()), list.data(),
                    static_cast<int64_t>(list.size())},
        at, static_cast<int64_t>(b), shapes[b], copy + most);
  });
  if (!ok) scratch_failed("convolution");
}

template <class T> void correlate_few(const ConvShape& s, const T* x, const T* w, T* y) {
  const Bands bands(s, band_elements);
  const int64_t terms = s.channels * taps_of(s);
  each_few(s, bands, x, outputs_of(bands.band(0)),
           [&](const FewChannels& f, int64_t at, int64_t, const ConvShape& band, T* made) {
             const bool plain = is_plain(band);
             for (int64_t o = 0; o < s.outputs; ++o) {
               const T* const weights = w + (at % s.groups * s.outputs + o) * terms;
               T* const to = y + (at * s.outputs + o) * whole_of(s);
               in_parts(f, [&](const FewChannels& part) {
                 kernels().few[is_double<T>](part, weights, plain ? to + first_of(band) : made);
               });
               if (!plain) put(band, made, to);
             }
           });
}

// y = w * x; w is [groups, outputs, channels, taps].
template <class T>
void correlate(const ConvShape& s, const T* x, const T* w, T* y, const Then& then) {
  if (s.images * s.groups * s.outputs * outputs_of(s) == 0) return;
  if (s.outputs < few_outputs) {
    correlate_few(s, x, w, y);
    return finish(then, 0, s.images * s.groups * s.outputs, whole_of(s));
  }
  const ConvPhases phases = {{s.axis[0]}, {s.axis[1]}, {s.axis[2]}};
  dense_windows<T>(s, phases, x, {w, s.channels * taps_of(s), taps_of(s)}, y, then);
}

// dw = sum of g and windows of x; [groups, outputs, channels, taps].
template <class T> void correlate_weights(const ConvShape& s, const T* x, const T* g, T* dw) {
  const int64_t terms = s.channels * taps_of(s), all = s.groups * s.outputs * terms;
  const bool few = s.outputs < few_outputs;
  const int64_t whole = outputs_of(s);
  if (few && s.images > 0 && whole > 0) {
    const Bands bands(s, band_elements);
    const Tensor memory(Shape{s.images * bands.count, all}, DType::float64);
    double* const sums = memory.data<double>();
    each_few(s, bands, x, 0,
             [&](const FewChannels& f, int64_t at, int64_t b, const ConvShape& band, T*) {
               const int64_t n = at / s.groups, group = at % s.groups;
               double* const to = sums + (n * bands.count + b) * all + group * s.outputs * terms;
               std::fill(to, to + s.outputs * terms, 0.0);
               double part[64];
               for (int64_t o = 0; o < s.outputs; ++o)
                 for (int64_t k = 0; k < terms; k += 64) {
                   FewChannels some = f;
                   some.bases += k, some.terms = std::min<int64_t>(64, terms - k);
                   in_parts(some, [&](const FewChannels& rows) {
                     kernels().few_weights[is_double<T>](
                         rows, g + (at * s.outputs + o) * whole + first_of(band), part);
                     for (int64_t i = 0; i < rows.terms; ++i) to[o * terms + k + i] += part[i];
                   });
                 }
             });
    for (int64_t i = 0; i < all; ++i) {
      double sum = 0;
      for (int64_t n = 0; n < s.images * bands.count; ++n) sum += sums[n * all + i];
      dw[i] = static_cast<T>(sum);
    }
    return;
  }
  if (s.images * whole == 0) return std::fill(dw, dw + all, T(0));
  dense_weights<T>(s, x, g, dw);
}

ConvShape shape_of(const Shape& x, const Shape& w, const Shape& y, const ConvAttrs& a) {
  ConvShape s{x[0], a.groups, x[1] / a.groups, y[1] / a.groups, {}};
  for (int i = 0; i < most_axes; ++i) {
    ConvAxis& axis = s.axis[i];
    const int d = 2 + i - (most_axes - a.axes);
    const bool used = d >= 2;
    axis.in = used ? x[d] : 1;
    axis.out = axis.whole = used ? y[d] : 1;
    axis.stride = used ? a.stride[i] : 1;
    axis.weights = used ? w[d] : 1;
    for (int64_t t = 0; t < axis.weights; ++t) {
      axis.at.push_back(used ? t * a.dilation[i] - a.before[i] : 0);
      axis.taps.push_back(t);
    }
  }
  return s;
}

// The inputs at places i of one residue: i + before = a * stride + residue. The taps that meet it
// have t * dilation = q * stride + residue, and see the output a - q.
ConvAxis phase_of(const ConvAxis& forward, int64_t dilation, int64_t before, int64_t residue) {
  const int64_t stride = forward.stride;
  ConvAxis axis{forward.out, 0, 1, {}, {}};
  axis.whole = forward.in, axis.weights = forward.weights, axis.step = stride;
  const int64_t a = residue < before ? ceil_div(before - residue, stride) : 0;
  axis.first = a * stride + residue - before;
  if (axis.first < forward.in) axis.out = ceil_div(forward.in - axis.first, stride);
  for (int64_t t = 0; t < forward.weights; ++t)
    if (t * dilation % stride == residue) {
      axis.at.push_back(a - t * dilation / stride);
      axis.taps.push_back(t);
    }
  return axis;
}

template <class T>
void back(const ConvShape& forward, const ConvAttrs& attrs, const T* g, const T* w, T* dx,
          const Then& then) {
  const int64_t channels = forward.images * forward.groups * forward.channels,
                inputs = inputs_of(forward), total = channels * inputs;
  if (total == 0) return;
  const auto zero = [&] {
    std::fill(dx, dx + total, T(0));
    finish(then, 0, channels, inputs);
  };
  if (forward.outputs * outputs_of(forward) == 0) return zero();
  ConvPhases phases;
  bool misses = false;
  for (int i = 0; i < most_axes; ++i) {
    const bool used = i >= most_axes - attrs.axes;
    const int64_t dilation = used ? attrs.dilation[i] : 1, before = used ? attrs.before[i] : 0;
    std::vector<int64_t> residues;
    for (int64_t t = 0; t < forward.axis[i].weights; ++t) {
      const int64_t r = t * dilation % forward.axis[i].stride;
      if (std::find(residues.begin(), residues.end(), r) != residues.end()) continue;
      residues.push_back(r);
      ConvAxis axis = phase_of(forward.axis[i], dilation, before, r);
      if (axis.out > 0) phases[i].push_back(std::move(axis));
    }
    misses = misses || static_cast<int64_t>(residues.size()) < forward.axis[i].stride;
    if (phases[i].empty()) return zero();
  }
  const ConvAxis* f = forward.axis;
  ConvShape s{forward.images, forward.groups, forward.outputs, forward.channels, {}};
  if (s.outputs >= few_outputs) {
    const int64_t taps = f[0].weights * f[1].weights * f[2].weights;
    return dense_windows<T>(s, phases, g, {w, taps, s.outputs * taps, misses}, dx, then);
  }
  if (misses) std::fill(dx, dx + total, T(0));
  const Buffer<T> turned(forward.groups * forward.outputs * forward.channels * f[0].weights *
                         f[1].weights * f[2].weights);
  for (const ConvAxis& z : phases[0])
    for (const ConvAxis& y : phases[1])
      for (const ConvAxis& x : phases[2]) {
        s.axis[0] = z, s.axis[1] = y, s.axis[2] = x;
        const int64_t taps = taps_of(s), weights = f[0].weights * f[1].weights * f[2].weights;
        std::vector<int64_t> from;
        for (const int64_t i : z.taps)
          for (const int64_t j : y.taps)
            for (const int64_t k : x.taps)
              from.push_back((i * f[1].weights + j) * f[2].weights + k);
        for_each(s.groups * s.outputs, s.channels * taps, [&](int64_t i) {
          const int64_t group = i / s.outputs, c = i % s.outputs;
          T* to = turned.data + i * s.channels * taps;
          for (int64_t o = 0; o < s.channels; ++o) {
            const T* const row = w + ((group * s.channels + o) * s.outputs + c) * weights;
            for (const int64_t t : from) *to++ = row[t];
          }
        });
        correlate<T>(s, g, turned.data, dx, {});
      }
  finish(then, 0, channels, inputs);
}

}  // namespace

void finish(const Then& then, int64_t row, int64_t rows, int64_t columns) {
  if (!then.apply) return;
  const int64_t together = std::max<int64_t>(1, band_elements / columns);
  parallel_for(ceil_div(rows, together), [&](int64_t chunk) {
    const int64_t first = chunk * together;
    then(row + first, std::min(together, rows - first), 0, columns);
  });
}

void convolve(const View& y, const View& x, const View& w, const ConvAttrs& attrs,
              const Then& then) {
  if (is_depthwise(x.shape, w.shape, attrs)) return depthwise(y, x, w, attrs, then);
  const ConvShape s = shape_of(x.shape, w.shape, y.shape, attrs);
  of_floats(y.dtype, [&](auto zero) {
    using T = decltype(zero);
    if (s.channels * taps_of(s) > 0) return correlate<T>(s, x.as<T>(), w.as<T>(), y.as<T>(), then);
    std::fill(y.as<T>(), y.as<T>() + y.numel(), T(0));
    if (y.numel()) finish(then, 0, y.shape[0] * y.shape[1], whole_of(s));
  });
}
void convolve_back(const View& dx, const View& g, const View& w, const ConvAttrs& attrs,
                   const Then& then) {
  if (is_depthwise(dx.shape, w.shape, attrs)) return depthwise_back(dx, g, w, attrs, then);
  const ConvShape s = shape_of(dx.shape, w.shape, g.shape, attrs);
  of_floats(dx.dtype, [&](auto zero) {
    using T = decltype(zero);
    back<T>(s, attrs, g.as<T>(), w.as<T>(), dx.as<T>(), then);
  });
}
void convolve_weights(const View& dw, const View& x, const View& g, const ConvAttrs& attrs) {
  if (is_depthwise(x.shape, dw.shape, attrs)) return depthwise_weights(dw, x, g, attrs);
  const ConvShape s = shape_of(x.shape, dw.shape, g.shape, attrs);
  of_floats(dw.dtype, [&](auto zero) {
    using T = decltype(zero);
    if (dw.numel()) correlate_weights<T>(s, x.as<T>(), g.as<T>(), dw.as<T>());
  });
}

}  // namespace wengert
