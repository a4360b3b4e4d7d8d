// Convolutions between many channels, on the CPU.
//
// A vector's lanes are output channels, and elements of x are read where they are, one for all
// lanes: c[i, l] = sum over k of x[rows[i] + terms[k]] * b[k, l] (dense.h). So no matrix of windows
// is made. In a convolution and in the gradient of its input, rows are positions of the result,
// terms are channels and taps, and b holds the weights; in the gradient of the weights rows are
// channels and taps, terms are positions, and b holds the gradient of the result. The gradient of a
// convolution with strides has phases: rows of each residue of their indices, which see taps of
// their own.
//
// A chunk copies its part of the images, with zeros around them, packs b block by block, and turns
// c, which stays in L2. Chunks and blocks follow from shapes alone: the bits are the same for any
// number of threads.
#include <optional>
#include <utility>

#include "base/pool.h"
#include "ops/conv/pieces.h"
#include "ops/conv/rows.h"
#include "ops/matmul/matmul.h"

namespace wengert {

using namespace dense;

namespace {

constexpr int64_t most_positions = 1024;      // of a chunk,
constexpr int64_t least_positions = 384;      // ... if there are so many
constexpr int64_t summed_positions = 4096;    // of a weight's gradient, before float64
constexpr int64_t copied_channels = 16;       // at once
constexpr int64_t chunks_wanted = 16;         // of the positions
constexpr int64_t parts_wanted = 8;           // of a weight's gradient,
constexpr int64_t least_rows = 96;            // ... each of which has so many rows
constexpr int64_t sums_wanted = 1 << 18;      // elements of its sums that are added at the end
constexpr int64_t pointwise_positions = 256;  // from here on 1x1 is a plain product of matrices

// What a piece reads of the images: they themselves or, where it reads beside them, a copy with
// zeros around.
struct Field {
  Field(const ConvPhases& phases, const Pieces& pieces, const Piece& piece, int64_t line) {
    int64_t in[most_axes], rows[most_axes], inner = 1;
    for (int a = 0; a < most_axes; ++a) {
      int64_t low = INT64_MAX, high = INT64_MIN;
      for (const ConvAxis& p : phases[a]) {
        const Range r = pieces.range(a, p, piece);
        if (r.begin == r.end) continue;
        const auto [least, most] = std::minmax_element(p.at.begin(), p.at.end());
        low = std::min(low, r.begin * p.stride + *least);
        high = std::max(high, (r.end - 1) * p.stride + *most + 1);
      }
      if (low > high) low = high = 0;
      in[a] = phases[a][0].in, from[a] = low, rows[a] = high - low, inputs *= in[a];
      in_place = in_place && low >= 0 && high <= in[a];
      if (a > pieces.axis) inner *= in[a];
    }
    const auto seen_from = [&](int64_t i) {
      return std::clamp<int64_t>(i, 0, in[pieces.axis]) * inner;
    };
    seen = {seen_from(from[pieces.axis]), seen_from(from[pieces.axis] + rows[pieces.axis])};
    for (int a = 0; a < most_axes; ++a) {
      if (in_place) from[a] = 0, rows[a] = in[a];
      copies.side[a] = {in[a], rows[a], 1, from[a], 1, &phase};
    }
    step[2] = 1, step[1] = rows[2], step[0] = rows[1] * rows[2], plane = rows[0] * step[0];
    // Channels one after another in the same lines of L1 would evict each other.
    if (!in_place) plane = (ceil_div(plane, line) | 1) * line;
  }
  template <class T> void copy(const T* x, int64_t channels, T* to) const {
    static const ConvKernels& t = WENGERT_PICK_KERNELS(conv_kernels);
    for (int64_t c = 0; c < channels; ++c)
      t.copy[is_double<T>](copies, x + c * inputs, to + c * plane);
  }
  static constexpr int64_t phase = 0;
  bool in_place = true;
  Range seen;  // what it reads of a channel
  int64_t from[most_axes], step[most_axes], inputs = 1, plane;
  PlaneCopy copies;
};
template <class T> Field field_of(const ConvPhases& p, const Pieces& pieces, const Piece& piece) {
  return {p, pieces, piece, 64 / int64_t{sizeof(T)}};
}

// The copies of all pieces, for chunks that share them.
template <class T> struct Copies {
  Copies(const ConvShape& s, const ConvPhases& phases, const Pieces& pieces, const T* x)
      : groups(s.groups) {
    for (int64_t i = 0; i < pieces.across; ++i)
      if (const Field f = field_of<T>(phases, pieces, pieces[i]); !f.in_place)
        size = std::max(size, pieces.together * s.channels * f.plane);
    memory = Tensor(Shape{pieces.count * groups, size}, dtype_of<T>());
    const int64_t across = ceil_div(s.channels, copied_channels);
    if (size > 0)
      parallel_for(pieces.count * groups * across, [&](int64_t chunk) {
        const int64_t at = chunk / across, ch = chunk % across * copied_channels;
        const Piece piece = pieces[at / groups];
        const Field field = field_of<T>(phases, pieces, piece);
        if (field.in_place) return;
        for (int64_t n = 0; n < piece.images; ++n)
          field.copy(
              x + (((piece.first + n) * groups + at % groups) * s.channels + ch) * field.inputs,
              std::min(copied_channels, s.channels - ch),
              memory.data<T>() + at * size + (n * s.channels + ch) * field.plane);
      });
  }
  const T* of(int64_t piece, int64_t group) const {
    return memory.data<T>() + (piece * groups + group) * size;
  }
  int64_t groups, size = 0;
  Tensor memory;
};

// A phase of each axis: some elements of the result, which see the same taps.
using Phase = const ConvAxis* const[most_axes];

// Calls f(place, index) for its elements in a piece's band: where it sees the image, and which of
// the band it is.
template <class F>
void each_position(Phase& phase, const Pieces& pieces, const Piece& piece, const Field& field,
                   const F& f) {
  Range r[most_axes];
  int64_t first[most_axes], whole[most_axes];
  for (int a = 0; a < most_axes; ++a) {
    r[a] = pieces.range(a, *phase[a], piece);
    first[a] = phase[a]->first - (a == pieces.axis ? piece.begin : 0);
    whole[a] = a == pieces.axis ? piece.end - piece.begin : phase[a]->whole;
  }
  const auto place = [&](int a, int64_t i) { return i * phase[a]->stride * field.step[a]; };
  const auto result = [&](int a, int64_t i) { return first[a] + i * phase[a]->step; };
  for (int64_t z = r[0].begin; z < r[0].end; ++z)
    for (int64_t y = r[1].begin; y < r[1].end; ++y)
      for (int64_t x = r[2].begin; x < r[2].end; ++x)
        f(place(0, z) + place(1, y) + place(2, x),
          (result(0, z) * whole[1] + result(1, y)) * whole[2] + result(2, x));
}
// Calls f(place, number in w) for its taps.
template <class F> void each_tap(Phase& phase, const Field& field, const F& f) {
  const ConvAxis &z = *phase[0], &y = *phase[1], &x = *phase[2];
  const auto place = [&](int a, size_t i) {
    return (phase[a]->at[i] - field.from[a]) * field.step[a];
  };
  for (size_t i = 0; i < z.at.size(); ++i)
    for (size_t j = 0; j < y.at.size(); ++j)
      for (size_t k = 0; k < x.at.size(); ++k)
        f(place(0, i) + place(1, j) + place(2, k),
          (z.taps[i] * y.weights + y.taps[j]) * x.weights + x.taps[k]);
}

// What a piece reads of some channels of group g.
template <class T>
void look_ahead(const ConvShape& s, const ConvPhases& phases, const Pieces& pieces,
                const Piece& piece, int64_t g, int64_t channel, int64_t channels, const T* x,
                Ahead& ahead) {
  const Field field = field_of<T>(phases, pieces, piece);
  for (int64_t n = piece.first; n < piece.first + piece.images; ++n)
    for (int64_t c = channel; c < channel + channels; ++c)
      ahead.add(x + ((n * s.groups + g) * s.channels + c) * field.inputs + field.seen.begin,
                field.seen.end - field.seen.begin);
}

// y of piece `index` of the images and of group g, lanes `first` to `last`.
template <class T>
void make(const ConvShape& s, const ConvPhases& phases, const Pieces& pieces, int64_t index,
          int64_t g, const T* x, const Copies<T>* copies, const DenseWeights<T>& w,
          const Lanes<T>& outputs, int64_t first, int64_t last, T* y, const Then& then) {
  const Piece piece = pieces[index];
  const Field field = field_of<T>(phases, pieces, piece);
  int64_t weights = 1, phase_count = 1;
  for (const auto& axis : phases) {
    weights *= axis[0].weights;
    phase_count *= static_cast<int64_t>(axis.size());
  }
  const int64_t band = pieces.band(piece), made = piece.images * band,
                image = (field.in_place ? s.groups : 1) * s.channels * field.plane,
                together =
                    std::min(s.channels, std::max<int64_t>(1, block * phase_count / weights)),
                room = made + phase_count * dense_tile;
  const auto [copy, b, c, rows, results, terms, places, taps, at, lines] =
      arrays<T, T, T, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, const void*>(
          {copies || field.in_place ? 0 : piece.images * image, together * weights * outputs.size,
           (made + 1) * outputs.size, room, room, together * weights, weights, weights, weights,
           most_ahead});
  const T* const images = x + (piece.first * s.groups + g) * s.channels * field.inputs;
  const T* const data = field.in_place ? images : copies ? copies->of(index, g) : copy;
  if (data == copy)
    for (int64_t n = 0; n < piece.images; ++n)
      field.copy(images + n * s.groups * s.channels * field.inputs, s.channels, copy + n * image);

  struct Part {  // of a phase
    int64_t row, rows, tap, taps;
  };
  std::vector<Part> parts;
  int64_t row = 0, tap = 0;
  for (const ConvAxis& pz : phases[0])
    for (const ConvAxis& py : phases[1])
      for (const ConvAxis& px : phases[2]) {
        Phase phase = {&pz, &py, &px};
        Part p{row, 0, tap, 0};
        each_position(phase, pieces, piece, field, [&](int64_t place, int64_t result) {
          for (int64_t n = 0; n < piece.images; ++n)
            rows[row] = n * image + place, results[row++] = n * band + result;
        });
        if (row == p.row) continue;
        row = p.row + fill_tile(rows + p.row, results + p.row, row - p.row, made);
        each_tap(phase, field,
                 [&](int64_t place, int64_t number) { places[tap] = place, taps[tap++] = number; });
        p.rows = row - p.row, p.taps = tap - p.tap;
        parts.push_back(p);
      }
  std::fill(at, at + weights, -1);
  const int64_t whole = pieces.size * pieces.inner, column = piece.begin * pieces.inner;
  const auto row_of = [&](int64_t n, int64_t l) {
    return ((piece.first + n) * s.groups + g) * s.outputs + l * outputs.size;
  };

  for (int64_t l = first; l < last; ++l) {
    const int64_t lanes_here = outputs.of(l), width = round_up(lanes_here, lanes<T>());
    if (w.misses) std::fill(c, c + made * width, T(0));
    Ahead ahead{lines};  // what the end of this piece writes, and the next piece reads
    for (int64_t n = 0; n < piece.images; ++n)
      for (int64_t i = 0; i < lanes_here; ++i)
        ahead.add(y + (row_of(n, l) + i) * whole + column, band);
    if (const int64_t next = index + 1; l + 1 == last && next < pieces.count && !copies)
      look_ahead(s, phases, pieces, pieces[next], g, 0, s.channels, x, ahead);
    for (int64_t ch = 0; ch < s.channels; ch += together) {
      const int64_t n = std::min(together, s.channels - ch);
      const T* const from = w.data + g * s.outputs * s.channels * weights +
                            l * outputs.size * w.lane + ch * w.channel;
      if (w.channel == weights)  // all taps, as they lie
        turn(from, w.lane, lanes_here, n * weights, b, width);
      else
        for (int64_t i = 0; i < n; ++i) {
          for (const Part& p : parts)
            for (int64_t t = 0; t < p.taps; ++t) at[taps[p.tap + t]] = n * p.tap + i * p.taps + t;
          turn(from + i * w.channel, w.lane, lanes_here, weights, b, width, at);
        }
      for (const Part& p : parts) {
        const int64_t all = n * p.taps;
        for (int64_t i = 0; i < all; ++i)
          terms[i] = (ch + i / p.taps) * field.plane + places[p.tap + i % p.taps];
        for (int64_t k = 0; k < all; k += block)
          kernels().multiply[is_double<T>]({data, rows + p.row, results + p.row, p.rows, terms + k,
                                            std::min(block, all - k), b + (n * p.tap + k) * width,
                                            c, width / lanes<T>(), ch + k > 0, ahead.lines,
                                            std::exchange(ahead.count, 0)});
      }
      poll_interrupt();
    }
    for (int64_t n = 0; n < piece.images; ++n) {
      put(c + n * band * width, width, band, lanes_here, y + row_of(n, l) * whole + column, whole);
      then(row_of(n, l), lanes_here, column, band);
    }
  }
}

// One tap, and each element of y sees that of x at its place.
bool is_pointwise(const ConvPhases& phases) {
  for (const auto& axis : phases)
    if (const ConvAxis& p = axis[0]; axis.size() > 1 || p.weights > 1 || p.at[0] || p.stride > 1 ||
                                     p.step > 1 || p.in != p.whole || p.out != p.whole)
      return false;
  return true;
}

}  // namespace

void dense::dense_piece(const ConvShape& s, const ConvPhases& phases, const Pieces& pieces,
                        int64_t index, int64_t g, const float* x, const DenseWeights<float>& w,
                        const Lanes<float>& outputs, int64_t first, int64_t last, float* y,
                        const Then& then) {
  make<float>(s, phases, pieces, index, g, x, nullptr, w, outputs, first, last, y, then);
}

template <class T>
void dense_windows(const ConvShape& s, const ConvPhases& phases, const T* x,
                   const DenseWeights<T>& w, T* y, const Then& then) {
  if constexpr (!is_double<T>)
    if (winograd_pays(s, phases)) return winograd_windows(s, phases, x, w, y, then);
  int64_t positions = most_positions;
  Pieces pieces(phases, s.images, positions);
  const int64_t whole = pieces.size * pieces.inner;
  if (is_pointwise(phases) && whole >= pointwise_positions) {
    for (int64_t i = 0; i < s.images * s.groups; ++i) {
      gemm_kernel(dtype_of<T>())({.m = s.outputs,
                                  .n = whole,
                                  .k = s.channels,
                                  .a = w.data + i % s.groups * s.outputs * s.channels,
                                  .a_row = w.lane,
                                  .a_col = w.channel,
                                  .b = x + i * s.channels * whole,
                                  .b_row = whole,
                                  .b_col = 1,
                                  .c = y + i * s.outputs * whole,
                                  .c_row = whole});
      finish(then, i * s.outputs, s.outputs, whole);
      poll_interrupt();
    }
    return;
  }
  const Lanes<T> outputs(s.outputs);
  while (pieces.count * s.groups * outputs.count < chunks_wanted && positions > least_positions)
    pieces = Pieces(phases, s.images, positions = std::max(least_positions, positions / 2));
  const int64_t parts = pieces.count * s.groups < chunks_wanted ? outputs.count : 1;
  std::optional<Copies<T>> copies;
  if (parts > 1) copies.emplace(s, phases, pieces, x);
  parallel_for(pieces.count * s.groups * parts, [&](int64_t chunk) {
    const int64_t part = chunk % parts, i = chunk / parts;
    make(s, phases, pieces, i / s.groups, i % s.groups, x, copies ? &*copies : nullptr, w, outputs,
         part * outputs.count / parts, (part + 1) * outputs.count / parts, y, then);
  });
}

template <class T> void dense_weights(const ConvShape& s, const T* x, const T* g, T* dw) {
  ConvPhases phases;
  int64_t taps = 1;
  for (int a = 0; a < most_axes; ++a) phases[a] = {s.axis[a]}, taps *= s.axis[a].weights;
  if constexpr (!is_double<T>)
    if (winograd_pays(s, phases) && winograd_weights(s, phases, x, g, dw)) return;
  Phase phase = {&phases[0][0], &phases[1][0], &phases[2][0]};
  const Lanes<T> outputs(s.outputs);
  const Pieces pieces(phases, s.images, summed_positions);
  // A chunk makes some channels of some outputs, of all pieces or of those of its slot: slots are
  // sums that are added at the end.
  const int64_t terms_of = s.channels * taps, blocks = s.groups * outputs.count;
  const int64_t slots = std::clamp<int64_t>(sums_wanted / (blocks * outputs.size * terms_of), 1,
                                            std::min(parts_wanted, pieces.count));
  const int64_t parts = std::clamp<int64_t>(parts_wanted / (slots * blocks), 1,
                                            std::min(s.channels, ceil_div(terms_of, least_rows)));
  const int64_t together = ceil_div(s.channels, parts), across = ceil_div(s.channels, together);
  const bool adds = pieces.count > 1;
  const int64_t size = terms_of * outputs.size, whole = pieces.size * pieces.inner;
  const Tensor memory(Shape{adds ? slots : 0, blocks, size}, DType::float64);
  double* const sums = memory.data<double>();
  struct Part {
    int64_t channel, channels, group, lane, lanes, width, rows;
    int64_t sum;  // where its sums begin in a slot's
    T* dw;
  };
  const auto part_of = [&](int64_t i) {
    const int64_t of = i / across, ch = i % across * together, l = of % outputs.count;
    Part p{ch,
           std::min(together, s.channels - ch),
           of / outputs.count,
           l * outputs.size,
           outputs.of(l),
           round_up(outputs.of(l), lanes<T>()),
           0,
           0,
           nullptr};
    p.rows = p.channels * taps;
    p.sum = of * size + ch * taps * outputs.size;
    p.dw = dw + ((p.group * s.outputs + p.lane) * s.channels + ch) * taps;
    return p;
  };

  std::optional<Copies<T>> copies;
  if (outputs.count > 1) copies.emplace(s, phases, pieces, x);
  parallel_for(slots * blocks * across, [&](int64_t chunk) {
    const int64_t slot = chunk / (blocks * across);
    const Part p = part_of(chunk % (blocks * across));
    double* const sum = sums + slot * blocks * size + p.sum;
    if (adds) std::fill(sum, sum + p.rows * p.width, 0.0);
    for (int64_t i = slot * pieces.count / slots; i < (slot + 1) * pieces.count / slots; ++i) {
      const Piece piece = pieces[i];
      const Field field = field_of<T>(phases, pieces, piece);
      const bool own = !field.in_place && !copies;
      const int64_t band = pieces.band(piece), made = piece.images * band,
                    inputs = s.groups * s.channels * field.inputs,
                    image = field.in_place ? inputs : (own ? p.channels : s.channels) * field.plane;
      const auto [copy, b, c, rows, results, terms, lines] =
          arrays<T, T, T, int64_t, int64_t, int64_t, const void*>(
              {own ? piece.images * image : 0, block * p.width, (p.rows + 1) * p.width,
               p.rows + dense_tile, p.rows + dense_tile, made, most_ahead});
      const T* const images =
          x + piece.first * inputs + (p.group * s.channels + p.channel) * field.inputs;
      const T* const data = field.in_place ? images
                            : own          ? copy
                                           : copies->of(i, p.group) + p.channel * field.plane;
      int64_t row = 0, term = 0;
      for (int64_t c = 0; c < p.channels; ++c)
        each_tap(phase, field, [&](int64_t place, int64_t) {
          rows[row] = c * field.plane + place, results[row] = row, ++row;
        });
      row = fill_tile(rows, results, row, p.rows);
      for (int64_t n = 0; n < piece.images; ++n) {
        if (own) field.copy(images + n * inputs, p.channels, copy + n * image);
        each_position(phase, pieces, piece, field,
                      [&](int64_t place, int64_t) { terms[term++] = n * image + place; });
      }
      // f(g, number) for terms from k on, those of each image.
      const auto each_run = [&](int64_t k, const auto& f) {
        for (int64_t j = k, n; j < std::min(k + block, made); j += n) {
          n = std::min(std::min(k + block, made) - j, band - j % band);
          const int64_t from = ((piece.first + j / band) * s.groups + p.group) * s.outputs + p.lane;
          f(g + from * whole + piece.begin * pieces.inner + j % band, j, n);
        }
      };
      Ahead ahead{lines};
      if (own && i + 1 < pieces.count)
        look_ahead(s, phases, pieces, pieces[i + 1], p.group, p.channel, p.channels, x, ahead);
      for (int64_t k = 0; k < made; k += block) {
        each_run(k, [&](const T* from, int64_t j, int64_t n) {
          turn(from, whole, p.lanes, n, b + (j - k) * p.width, p.width);
        });
        each_run(k + block, [&](const T* from, int64_t, int64_t n) {
          for (int64_t l = 0; l < p.lanes; ++l) ahead.add(from + l * whole, n);
        });
        kernels().multiply[is_double<T>]({data, rows, results, row, terms + k,
                                          std::min(block, made - k), b, c, p.width / lanes<T>(),
                                          k > 0, ahead.lines, std::exchange(ahead.count, 0)});
        poll_interrupt();
      }
      if (adds)
        for (int64_t j = 0; j < p.rows * p.width; ++j) sum[j] += static_cast<double>(c[j]);
      else
        put(c, p.width, p.rows, p.lanes, p.dw, terms_of);
    }
  });
  if (!adds) return;
  parallel_for(blocks * across, [&](int64_t chunk) {
    const Part p = part_of(chunk);
    const auto [c] = arrays<T>({p.rows * p.width});
    for (int64_t j = 0; j < p.rows * p.width; ++j) {
      double sum = 0;
      for (int64_t slot = 0; slot < slots; ++slot) sum += sums[slot * blocks * size + p.sum + j];
      c[j] = static_cast<T>(sum);
    }
    put(c, p.width, p.rows, p.lanes, p.dw, terms_of);
  });
}

template void dense_windows(const ConvShape&, const ConvPhases&, const float*,
                            const DenseWeights<float>&, float*, const Then&);
template void dense_windows(const ConvShape&, const ConvPhases&, const double*,
                            const DenseWeights<double>&, double*, const Then&);
template void dense_weights(const ConvShape&, const float*, const float*, float*);
template void dense_weights(const ConvShape&, const double*, const double*, double*);

}  // namespace wengert
