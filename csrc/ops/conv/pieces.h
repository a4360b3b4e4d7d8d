// What dense.cpp and winograd.cpp share: pieces of the images, output channels in lanes, and a
// chunk's memory.
#pragma once

#include <algorithm>
#include <array>
#include <tuple>

#include "base/scratch.h"
#include "ops/conv/conv.h"
#include "ops/conv/dense.h"

namespace wengert::dense {

constexpr int64_t block = 128;        // terms whose sums stay in registers
constexpr int64_t most_ahead = 4096;  // lines of memory, 256 KB

inline const DenseKernels& kernels() {
  static const DenseKernels& t = WENGERT_PICK_KERNELS(dense_kernels);
  return t;
}
template <class T> constexpr int is_double = sizeof(T) == 8;
inline int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }
template <class T> int64_t lanes() { return kernels().lanes[is_double<T>]; }

// Lines of memory that are needed next.
struct Ahead {
  template <class T> void add(const T* from, int64_t n) {
    for (int64_t i = 0; i < n && count < most_ahead; i += 64 / int64_t{sizeof(T)})
      lines[count++] = from + i;
  }
  const void** lines;
  int64_t count = 0;
};

// Output channels that are made together.
template <class T> struct Lanes {
  explicit Lanes(int64_t outputs)
      : count(ceil_div(outputs, lanes<T>() * kernels().most_vectors)),
        size(ceil_div(ceil_div(outputs, lanes<T>()), count) * lanes<T>()),
        outputs(outputs) {
    count = ceil_div(outputs, size);
  }
  int64_t of(int64_t i) const { return std::min(size, outputs - i * size); }
  int64_t count, size, outputs;
};

// to[j, l] = from[l * step + j], for up to a row of vectors.
template <class T>
void turn(const T* from, int64_t step, int64_t rows, int64_t n, T* to, int64_t width,
          const int64_t* at = nullptr) {
  for (int64_t l = 0; l < rows; l += lanes<T>())
    kernels().turn[is_double<T>](
        {from + l * step, step, std::min(lanes<T>(), rows - l), n, to + l, width, lanes<T>(), at});
}
// y[l * step + i] = c[i, l] for i < n and l < rows.
template <class T>
void put(const T* c, int64_t width, int64_t n, int64_t rows, T* y, int64_t step) {
  const int64_t L = lanes<T>();
  for (int64_t l = 0; l < rows; l += L)
    for (int64_t i = 0; i < n; i += L)
      kernels().turn[is_double<T>]({c + i * width + l, width, std::min(L, n - i),
                                    std::min(L, rows - l), y + l * step + i, step,
                                    std::min(L, n - i), nullptr});
}

// Elements of an axis's phase, from `begin` to `end`.
struct Range {
  int64_t begin, end;
};
// Some images, and a band of their outermost axis that is one.
struct Piece {
  int64_t first, images, begin, end;
};
struct Pieces {
  Pieces(const ConvPhases& phases, int64_t images, int64_t positions) : images(images) {
    while (axis < most_axes - 1 && phases[axis][0].whole == 1) ++axis;
    for (int a = axis + 1; a < most_axes; ++a) inner *= phases[a][0].whole;
    size = phases[axis][0].whole;
    together = ceil_div(images, ceil_div(images, std::max<int64_t>(1, positions / (size * inner))));
    const int64_t bands = ceil_div(size, std::clamp<int64_t>(positions / inner, 1, size));
    height = ceil_div(size, bands), across = ceil_div(size, height);
    count = across * ceil_div(images, together);
  }
  Piece operator[](int64_t i) const {
    const int64_t first = i / across * together, begin = i % across * height;
    return {first, std::min(together, images - first), begin, std::min(size, begin + height)};
  }
  int64_t band(const Piece& p) const { return (p.end - p.begin) * inner; }  // positions
  // What a phase p of axis a has of the piece.
  Range range(int a, const ConvAxis& p, const Piece& piece) const {
    if (a != axis) return {0, p.out};
    const auto from = [&](int64_t i) {
      return i <= p.first ? 0 : std::min(p.out, ceil_div(i - p.first, p.step));
    };
    return {from(piece.begin), from(piece.end)};
  }
  int axis = 0;
  int64_t images, inner = 1, size, together, height, across, count;
};

// Rows filled up to whole tiles; what is too much goes to c's row `spare`.
inline int64_t fill_tile(int64_t* rows, int64_t* results, int64_t count, int64_t spare) {
  for (; count % dense_tile; ++count) rows[count] = rows[count - 1], results[count] = spare;
  return count;
}

// Arrays in the thread's own memory: asks for all of them at once.
template <class... T> std::tuple<T*...> arrays(const std::array<int64_t, sizeof...(T)>& sizes) {
  constexpr int64_t line = 64, bytes[] = {sizeof(T)...};
  int64_t starts[sizeof...(T)], all = 0;
  for (size_t i = 0; i < sizeof...(T); ++i)
    starts[i] = all, all += round_up(numel(Shape{sizes[i], bytes[i]}), line);
  char* const memory = static_cast<char*>(scratch(Scratch::chunk, static_cast<size_t>(all + line)));
  if (!memory) scratch_failed("convolution");
  int i = 0;
  const auto next = [&] { return memory + starts[i++]; };
  return std::tuple<T*...>{reinterpret_cast<T*>(next())...};
}

// y of piece `index` and group g, lanes `first` to `last`, by dense.cpp.
void dense_piece(const ConvShape& s, const ConvPhases& phases, const Pieces& pieces, int64_t index,
                 int64_t g, const float* x, const DenseWeights<float>& w,
                 const Lanes<float>& outputs, int64_t first, int64_t last, float* y,
                 const Then& then);

}  // namespace wengert::dense
