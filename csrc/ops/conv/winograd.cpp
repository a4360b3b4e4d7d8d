// Convolutions by 3x3 taps without strides, between many channels, of float32: Winograd's
// algorithm, which takes 16 products for 2x2 results instead of 36 (Lavin and Gray 2016, arXiv
// 1509.09308).
//
//   y = A' ((G w G') * (B' d B)) A     a tile of 4x4 inputs d, summed over channels before A
//   dw = G' ((A g A') * (B' d B)) G    a tile's gradient g of 2x2, summed over tiles before G
//
// Each of the 16 parts is summed by the product of matrices of dense.h: its rows are tiles and its
// terms channels; for dw, rows are channels and terms tiles. A result depends on what its window
// sees and on nothing else. Its error is in proportion to the window's largest terms. Where a
// result is not finite, dense.cpp makes it again.
//
// A chunk splits its part of the images, whose parts stay in L2 or L3. Chunks follow from shapes
// alone: the bits are the same for any number of threads.
#include "ops/conv/winograd.h"

#include <cstdlib>
#include <utility>

#include "base/pool.h"
#include "ops/conv/pieces.h"

namespace wengert {

using namespace dense;

namespace {

constexpr int64_t parts = 16, taps = 9;
constexpr int64_t most_positions = 512;          // of a chunk: four for each tile,
constexpr int64_t least_positions = 128;         // ... if there are so many
constexpr int64_t chunks_wanted = 8;             // of the positions
constexpr int64_t split_channels = 16;           // of the taps, at once
constexpr int64_t summed_positions = 4096;       // of a weight's gradient, before float64
constexpr int64_t sums_wanted = 1 << 19;         // elements of its sums that are added at the end
constexpr int64_t most_slots = 8;                // ... and how many sums at most
constexpr int64_t weight_rows = 6 * dense_tile;  // channels of a chunk of a weight's gradient
constexpr int64_t slack = 64;                    // elements behind a row that may be read
// With fewer tiles splitting the taps takes longer than it saves (4 images of 512 channels, 7x7);
// with fewer channels, the tiles.
constexpr int64_t least_tiles = 128, least_channels = 16;
constexpr int64_t most_weights = 1 << 20, most_row = 1 << 18;  // what the parts may take of memory

const WinogradKernels& transforms() {
  static const WinogradKernels& t = WENGERT_PICK_KERNELS(winograd_kernels);
  return t;
}

// A piece of the images in tiles.
struct Tiles {
  Tiles(const ConvPhases& phases, const Piece& piece)
      : y(phases[1][0]),
        x(phases[2][0]),
        height(piece.end - piece.begin),
        rows(ceil_div(height, 2)),
        columns(ceil_div(x.whole, 2)),
        all(piece.images * rows * columns),
        row(columns + 1),
        line(round_up(2 * row, 2 * lanes<float>())),
        sheet((rows + 1) * row + lanes<float>()),
        image(round_up(rows * row, lanes<float>())) {
    const auto seen = [](const ConvAxis& a, int64_t begin, int64_t count) {
      const int64_t low = *std::min_element(a.at.begin(), a.at.end()) + begin;
      const int64_t first = std::clamp<int64_t>(low, 0, a.in);
      return Seen{low, first, std::max(first, std::min(a.in, low + count))};
    };
    down = seen(y, piece.begin, 2 * (rows + 1)), right = seen(x, 0, 2 * row);
    // Channels one after another in the same lines of L1 would evict each other.
    constexpr int64_t line_of = 64 / sizeof(float);
    plane = (ceil_div(piece.images * image, line_of) | 1) * line_of;
  }
  int64_t room() const { return 2 * (rows + 1) * line + 4 * sheet + row + slack; }  // to split in
  // The parts of some channels: [parts][channels][plane].
  void split(const Piece& piece, const float* from, int64_t image_step, int64_t channels,
             float* room, float* to) const {
    const int64_t line_count = 2 * (rows + 1);
    float* const sheets = room + line_count * line;
    std::fill(room, sheets, 0.0f);
    for (int64_t n = 0; n < piece.images; ++n)
      for (int64_t c = 0; c < channels; ++c)
        transforms().tiles({from + n * image_step + (c * y.in + down.first) * x.in + right.first,
                            down.last - down.first, right.last - right.first, x.in,
                            room + (down.first - down.low) * line + right.first - right.low, room,
                            line_count, line, sheets, sheet, row, rows * row,
                            to + c * plane + n * image, channels * plane});
  }
  // What the piece reads of some channels.
  void look_ahead(const Piece& piece, const float* from, int64_t image_step, int64_t channels,
                  Ahead& ahead) const {
    for (int64_t n = 0; n < piece.images; ++n)
      for (int64_t c = 0; c < channels; ++c)
        ahead.add(from + n * image_step + (c * y.in + down.first) * x.in,
                  (down.last - down.first) * x.in);
  }
  // Where the tiles' parts are.
  int64_t places(const Piece& piece, int64_t* at) const {
    int64_t i = 0;
    for (int64_t n = 0; n < piece.images; ++n)
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t c = 0; c < columns; ++c) at[i++] = n * image + r * row + c;
    return i;
  }
  // Calls f(tile, position in the piece, whether there is a second row).
  template <class F> void each_row(const Piece& piece, const F& f) const {
    for (int64_t n = 0; n < piece.images; ++n)
      for (int64_t r = 0; r < rows; ++r)
        f((n * rows + r) * columns, (n * height + 2 * r) * x.whole, 2 * r + 1 < height);
  }
  struct Seen {  // of an axis: where the tiles begin, and what of them is in the image
    int64_t low, first, last;
  } down, right;
  const ConvAxis &y, &x;
  int64_t height, rows, columns, all, row, line, sheet, image, plane;
};

Pieces even_pieces(const ConvPhases& phases, int64_t images, int64_t positions) {
  Pieces p(phases, images, positions);
  p.height = round_up(p.height, 2);
  p.across = ceil_div(p.size, p.height);
  p.count = p.across * ceil_div(images, p.together);
  return p;
}

// The parts of all taps: [groups, lanes of outputs][parts][channels][lanes].
Tensor split_taps(const ConvShape& s, const ConvPhases& phases, const DenseWeights<float>& w,
                  const Lanes<float>& outputs) {
  const Tensor memory(Shape{s.groups * outputs.count, parts * s.channels * outputs.size},
                      DType::float32);
  int64_t place[taps];  // what each tap sees of a window
  const auto seen = [&](const ConvAxis& a, size_t i) {
    return a.at[i] - *std::min_element(a.at.begin(), a.at.end());
  };
  const ConvAxis &y = phases[1][0], &x = phases[2][0];
  for (size_t i = 0; i < 3; ++i)
    for (size_t j = 0; j < 3; ++j) place[y.taps[i] * 3 + x.taps[j]] = seen(y, i) * 3 + seen(x, j);
  const int64_t across = ceil_div(s.channels, split_channels);
  parallel_for(memory.shape()[0] * across, [&](int64_t chunk) {
    const int64_t i = chunk / across, l = i % outputs.count,
                  width = round_up(outputs.of(l), lanes<float>()),
                  first = chunk % across * split_channels;
    const float* const from =
        w.data + i / outputs.count * s.outputs * s.channels * taps + l * outputs.size * w.lane;
    float* const to = memory.data<float>() + i * memory.shape()[1];
    const auto [window] = arrays<float>({taps * width});
    for (int64_t c = first; c < std::min(s.channels, first + split_channels); ++c) {
      turn(from + c * w.channel, w.lane, outputs.of(l), taps, window, width, place);
      transforms().taps(window, width, to + c * width, s.channels * width);
    }
  });
  return memory;
}

}  // namespace

bool winograd_pays(const ConvShape& s, const ConvPhases& phases) {
  const ConvAxis& z = phases[0][0];
  if (phases[0].size() > 1 || z.weights > 1 || z.in > 1 || z.whole > 1 || z.at[0]) return false;
  for (int a = 1; a < most_axes; ++a) {
    const ConvAxis& p = phases[a][0];
    if (phases[a].size() > 1 || p.weights != 3 || p.at.size() != 3 || p.stride > 1 || p.step > 1 ||
        p.out != p.whole || p.out < 4 || std::abs(p.at[1] - p.at[0]) != 1)
      return false;
  }
  const int64_t columns = ceil_div(phases[2][0].out, 2);
  return std::min(s.channels, s.outputs) >= least_channels &&
         s.images * ceil_div(phases[1][0].out, 2) * columns >= least_tiles &&
         s.channels * s.outputs <= most_weights && s.channels * columns <= most_row;
}

void winograd_windows(const ConvShape& s, const ConvPhases& phases, const float* x,
                      const DenseWeights<float>& w, float* y, const Then& then) {
  const Lanes<float> outputs(s.outputs);
  int64_t positions = most_positions;
  Pieces pieces = even_pieces(phases, s.images, positions);
  while (pieces.count * s.groups < chunks_wanted && positions > least_positions)
    pieces = even_pieces(phases, s.images, positions /= 2);

  const Tensor memory = split_taps(s, phases, w, outputs);

  parallel_for(pieces.count * s.groups, [&](int64_t chunk) {
    const int64_t i = chunk / s.groups, g = chunk % s.groups;
    const Piece piece = pieces[i];
    const Tiles t(phases, piece);
    const int64_t band = pieces.band(piece), inputs = t.y.in * t.x.in,
                  whole = pieces.size * pieces.inner, column = piece.begin * pieces.inner;
    const auto [room, split, products, c, rows, results, terms, lines] =
        arrays<float, float, float, float, int64_t, int64_t, int64_t, const void*>(
            {t.room(), parts * s.channels * t.plane + slack, parts * (t.all + 1) * outputs.size,
             piece.images * band * outputs.size, t.all + dense_tile, t.all + dense_tile, s.channels,
             most_ahead});
    const auto images_of = [&](const Piece& p) {
      return x + (p.first * s.groups + g) * s.channels * inputs;
    };
    t.split(piece, images_of(piece), s.groups * s.channels * inputs, s.channels, room, split);
    int64_t row = t.places(piece, rows);
    for (int64_t j = 0; j < row; ++j) results[j] = j;
    row = fill_tile(rows, results, row, t.all);
    for (int64_t ch = 0; ch < s.channels; ++ch) terms[ch] = ch * t.plane;
    poll_interrupt();
    std::vector<int64_t> again;
    for (int64_t l = 0; l < outputs.count; ++l) {
      const int64_t lanes_here = outputs.of(l), width = round_up(lanes_here, lanes<float>()),
                    plane = (t.all + 1) * width;
      const float* const b = memory.data<float>() + (g * outputs.count + l) * memory.shape()[1];
      const auto row_of = [&](int64_t n) {
        return ((piece.first + n) * s.groups + g) * s.outputs + l * outputs.size;
      };
      Ahead ahead{lines};
      for (int64_t n = 0; n < piece.images; ++n)
        for (int64_t j = 0; j < lanes_here; ++j)
          ahead.add(y + (row_of(n) + j) * whole + column, band);
      if (l + 1 == outputs.count && i + 1 < pieces.count)
        Tiles(phases, pieces[i + 1])
            .look_ahead(pieces[i + 1], images_of(pieces[i + 1]), s.groups * s.channels * inputs,
                        s.channels, ahead);
      for (int64_t p = 0; p < parts; ++p) {
        ahead.add(b + (p + 1) * s.channels * width, s.channels * width);
        for (int64_t k = 0; k < s.channels; k += block)
          kernels().multiply[0]({split + p * s.channels * t.plane, rows, results, row, terms + k,
                                 std::min(block, s.channels - k), b + (p * s.channels + k) * width,
                                 products + p * plane, width / lanes<float>(), k > 0, ahead.lines,
                                 std::exchange(ahead.count, 0)});
      }
      bool finite = true;
      t.each_row(piece, [&](int64_t tile, int64_t position, bool two) {
        float* const upper = c + position * width;
        finite &= transforms().results({products + tile * width, plane, upper,
                                        two ? upper + t.x.whole * width : nullptr, t.x.whole, width,
                                        width / lanes<float>()});
      });
      if (!finite) {
        again.push_back(l);
        continue;
      }
      for (int64_t n = 0; n < piece.images; ++n) {
        put(c + n * band * width, width, band, lanes_here, y + row_of(n) * whole + column, whole);
        then(row_of(n), lanes_here, column, band);
      }
      poll_interrupt();
    }
    for (const int64_t l : again)
      dense_piece(s, phases, pieces, i, g, x, w, outputs, l, l + 1, y, then);
  });
}

bool winograd_weights(const ConvShape& s, const ConvPhases& phases, const float* x, const float* g,
                      float* dw) {
  const Lanes<float> outputs(s.outputs);
  const Pieces pieces = even_pieces(phases, s.images, most_positions);
  const int64_t together = std::min(round_up(s.channels, dense_tile), weight_rows),
                across = ceil_div(s.channels, together), blocks = s.groups * across,
                size = outputs.count * parts * together * outputs.size;
  const int64_t slots =
      std::clamp<int64_t>(sums_wanted / (blocks * size), 1, std::min(most_slots, pieces.count));
  const Tensor memory(Shape{slots * blocks, size}, DType::float64);
  const int64_t whole = pieces.size * pieces.inner;
  parallel_for(slots * blocks, [&](int64_t chunk) {
    const int64_t slot = chunk / blocks, group = chunk % blocks / across,
                  channel = chunk % across * together,
                  channels = std::min(together, s.channels - channel);
    double* const sums = memory.data<double>() + chunk * size;
    std::fill(sums, sums + size, 0.0);
    const int64_t lane_sums = parts * (channels + 1) * outputs.size;
    const Tiles most(phases, pieces[0]);
    const auto [sums_of, room, split, turned, gradients, rows, results, terms, lines] =
        arrays<float, float, float, float, float, int64_t, int64_t, int64_t, const void*>(
            {outputs.count * lane_sums, most.room(), parts * channels * most.plane + slack,
             pieces[0].images * pieces.band(pieces[0]) * outputs.size,
             parts * most.all * outputs.size, channels + dense_tile, channels + dense_tile,
             most.all, most_ahead});
    int64_t summed = 0;
    const int64_t last = (slot + 1) * pieces.count / slots;
    for (int64_t i = slot * pieces.count / slots; i < last; ++i) {
      const Piece piece = pieces[i];
      const Tiles t(phases, piece);
      const int64_t band = pieces.band(piece), inputs = t.y.in * t.x.in;
      const auto images_of = [&](const Piece& p) {
        return x + ((p.first * s.groups + group) * s.channels + channel) * inputs;
      };
      const auto gradients_of = [&](const Piece& p, int64_t n, int64_t l) {
        return g + (((p.first + n) * s.groups + group) * s.outputs + l * outputs.size) * whole +
               p.begin * pieces.inner;
      };
      t.split(piece, images_of(piece), s.groups * s.channels * inputs, channels, room, split);
      t.places(piece, terms);
      for (int64_t c = 0; c < channels; ++c) rows[c] = c * t.plane, results[c] = c;
      const int64_t row = fill_tile(rows, results, channels, channels);
      for (int64_t l = 0; l < outputs.count; ++l) {
        const int64_t lanes_here = outputs.of(l), width = round_up(lanes_here, lanes<float>());
        for (int64_t n = 0; n < piece.images; ++n)
          turn(gradients_of(piece, n, l), whole, lanes_here, band, turned + n * band * width,
               width);
        t.each_row(piece, [&](int64_t tile, int64_t position, bool two) {
          float* const upper = turned + position * width;
          transforms().gradients({gradients + tile * width, t.all * width, upper,
                                  two ? upper + t.x.whole * width : nullptr, t.x.whole, width,
                                  width / lanes<float>()});
        });
        Ahead ahead{lines};
        if (l + 1 == outputs.count && i + 1 < last)
          Tiles(phases, pieces[i + 1])
              .look_ahead(pieces[i + 1], images_of(pieces[i + 1]), s.groups * s.channels * inputs,
                          channels, ahead);
        const Piece next = pieces[l + 1 < outputs.count ? i : std::min(i + 1, last - 1)];
        for (int64_t n = 0; n < next.images; ++n)
          for (int64_t j = 0; j < outputs.of((l + 1) % outputs.count); ++j)
            ahead.add(gradients_of(next, n, (l + 1) % outputs.count) + j * whole,
                      pieces.band(next));
        for (int64_t p = 0; p < parts; ++p)
          for (int64_t k = 0; k < t.all; k += block)
            kernels().multiply[0]({split + p * channels * t.plane, rows, results, row, terms + k,
                                   std::min(block, t.all - k), gradients + (p * t.all + k) * width,
                                   sums_of + l * lane_sums + p * (channels + 1) * width,
                                   width / lanes<float>(), k > 0 || summed > 0, ahead.lines,
                                   std::exchange(ahead.count, 0)});
        poll_interrupt();
      }
      summed += piece.images * band;
      if (summed < summed_positions && i + 1 < last) continue;
      summed = 0;
      for (int64_t l = 0; l < outputs.count; ++l) {
        const int64_t width = round_up(outputs.of(l), lanes<float>());
        for (int64_t p = 0; p < parts; ++p) {
          const float* const from = sums_of + l * lane_sums + p * (channels + 1) * width;
          double* const to = sums + (l * parts + p) * together * outputs.size;
          for (int64_t j = 0; j < channels * width; ++j) to[j] += static_cast<double>(from[j]);
        }
      }
    }
  });
  bool finite = true;
  parallel_for(blocks * outputs.count, [&](int64_t chunk) {
    const int64_t of = chunk / outputs.count, l = chunk % outputs.count, group = of / across,
                  channel = of % across * together, lane_size = parts * together * outputs.size,
                  channels = std::min(together, s.channels - channel),
                  width = round_up(outputs.of(l), lanes<float>());
    const auto [c] = arrays<float>({channels * taps * width});
    double zero = 0;
    for (int64_t ch = 0; ch < channels; ++ch)
      for (int64_t j = 0; j < width; ++j) {
        double part[4][4] = {}, half[3][4];
        for (int64_t slot = 0; slot < slots; ++slot)
          for (int64_t p = 0; p < parts; ++p)
            part[p / 4][p % 4] +=
                memory.data<double>()[(slot * blocks + of) * size + l * lane_size +
                                      p * together * outputs.size + ch * width + j];
        const auto join = [](double a, double b, double c, double d, double& u, double& v,
                             double& w) {
          u = a + 0.5 * (b + c), v = 0.5 * (b - c), w = 0.5 * (b + c) + d;
        };
        for (int q = 0; q < 4; ++q)
          join(part[0][q], part[1][q], part[2][q], part[3][q], half[0][q], half[1][q], half[2][q]);
        for (int r = 0; r < 3; ++r) {
          double tap[3];
          join(half[r][0], half[r][1], half[r][2], half[r][3], tap[0], tap[1], tap[2]);
          for (int k = 0; k < 3; ++k) {
            c[(ch * taps + 3 * r + k) * width + j] = static_cast<float>(tap[k]);
            if (j < outputs.of(l)) zero += 0 * tap[k];
          }
        }
      }
    if (zero != 0) __atomic_store_n(&finite, false, __ATOMIC_RELAXED);
    put(c, width, channels * taps, outputs.of(l),
        dw + ((group * s.outputs + l * outputs.size) * s.channels + channel) * taps,
        s.channels * taps);
  });
  return finite;
}

}  // namespace wengert
