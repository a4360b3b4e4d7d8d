// Matrix product on tiles: c[m, n] = sum over k of a[m, k] * b[k, n], for any strides of a and b.
//
// - Both operands are split into slices of bfloat16 and packed as the tiles read them: panels of 32
//   rows of a or columns of b; in a panel 32 terms after the other, in these all slices. Terms
//   behind the last count as 0. `slab` terms at a time.
// - Chunks have rows of c, and pack them of a; b is packed before, once for all chunks, as many
//   slabs as stay in L2. Of few rows they have columns, and a is packed before: a thread then reads
//   little that another has written.
// - A block of c, 32 x 32, is made in tiles, slab by slab, in the order of k: an element has the
//   same bits whatever m, n, the strides and the threads are.
// - Of the slices' products, a[p] b[q] with p + q < slices are added: the others are below what
//   float32 holds (3 slices), or what was asked for.
// - Tiles take numbers below 2^-126 for 0. A row of a and a column of b know the smallest and the
//   largest number in them; where that may be felt in a sum, and where it is not finite, c is set
//   to NaN, and at the end `plain` makes all elements that are not finite.
#include "ops/matmul/amx.h"

#include "base/pool.h"
#include "base/scratch.h"
#include "ops/matmul/amx_tile.h"
#include "ops/matmul/pack.h"

namespace wengert::WENGERT_ISA {
namespace {

#if !defined(WENGERT_TUNABLE)
#define WENGERT_TUNABLE constexpr
#endif
constexpr int64_t slab = 384;  // terms, times slices: 24 KiB of a panel, which stay in L1
constexpr int64_t panel = 2 * tile_side, square = tile_side * tile_side;
constexpr int64_t height = 2 * panel;  // rows that a chunk has of c, or columns; also, to pack
WENGERT_TUNABLE int64_t side = 2048,   // rows and columns that are worked on at once
    length = 1024,                     // columns that a chunk has, or rows
    few_rows = 256,                    // up to this many, chunks have columns
    packed_words = 1 << 18;  // that a chunk reads of what is shared, if that is a slab or more

typedef uint32_t Words __attribute__((vector_size(64)));
typedef float Floats __attribute__((vector_size(64)));

// ---- packing ----

// The smallest, less one, so that 0 counts as large, and the largest number of a row or column, as
// the bits of what is positive.
struct Range {
  uint32_t low, high;
};
// While it is found, of 16 rows or columns w: lanes are terms of row w, or, where the rows are
// adjacent, all rows, in low[0] and high[0]. A lane has a number's bits: 32, or, of bfloat16, 16.
template <class In> struct Ranges {
  using Bits = std::conditional_t<sizeof(In) == 2, uint16_t, uint32_t>;
  typedef Bits Lanes __attribute__((vector_size(64)));
  Lanes low[tile_side], high[tile_side];

  Ranges() {
    __builtin_memset(low, 0xff, sizeof low);
    __builtin_memset(high, 0, sizeof high);
  }
  static FN void add(Lanes& low, Lanes& high, const Words& bits) {
    const Lanes x = (Lanes)bits & Bits{static_cast<Bits>(-1) >> 1};
    const Lanes less = x - 1;
    low = less < low ? less : low;
    high = x > high ? x : high;
  }
  void give(bool adjacent, Range* range) const {
    constexpr int per_word = 4 / sizeof(Bits), shift = 32 - 8 * sizeof(Bits);
    for (int w = 0; w < tile_side; ++w) {
      const int r = adjacent ? 0 : w, first = adjacent ? w * per_word : 0,
                end = adjacent ? first + per_word : tile_side * per_word;
      Range& to = range[w];
      for (int i = first; i < end; ++i) {
        const uint32_t less = ((low[r][i] + 1u) << shift) - 1, most = uint32_t{high[r][i]} << shift;
        to.low = less < to.low ? less : to.low;
        to.high = most > to.high ? most : to.high;
      }
    }
  }
};

FN Words load(const float* from) {
  Words x;
  __builtin_memcpy(&x, from, sizeof x);
  return x;
}
FN Words load(const uint16_t* from) {
  typedef uint16_t Halves __attribute__((vector_size(32)));
  Halves x;
  __builtin_memcpy(&x, from, sizeof x);
  return __builtin_convertvector(x, Words);
}

// Slices, in the upper half of their words: each the nearest to what is left, the last the even one
// at a tie. Two leave at most 8 bits, which a third has as they are.
template <int slices> FN void split(Words x, Words (&slice)[slices]) {
#pragma GCC unroll 3
  for (int p = 0; p < slices; ++p) {
    if (p == 2)
      slice[p] = x;
    else if (p + 1 < slices)
      slice[p] = (x + 0x8000) & 0xffff0000;
    else
      slice[p] = x + 0x7fff + (x >> 16 & 1);
    x = (Words)((Floats)x - (Floats)slice[p]);
  }
}

// 16 rows (or columns: w) by 32 terms; slice p goes to `to` + p * step, as pairs of terms:
// to[w][t], or, of b, to[t][w]. A pair has terms t and t + 16, or, of bfloat16, which may lie side
// by side, 2t and 2t + 1.
template <int slices, bool adjacent, class In>
void pack_square(const In* from, int64_t w_stride, int64_t k_stride, bool of_b, Ranges<In>& ranges,
                 uint32_t* to, int64_t step) {
  uint32_t turned[slices * square];
  const bool turn = adjacent != of_b;
  uint32_t* const put = turn ? turned : to;
  const int64_t put_step = turn ? square : step;
  constexpr bool whole = sizeof(In) == 2;
  const int64_t later = whole ? k_stride : tile_side * k_stride,
                step_r = !adjacent ? w_stride
                         : whole   ? 2 * k_stride
                                   : k_stride,
                ahead = adjacent ? tile_terms * k_stride : tile_side * w_stride;
  auto low = ranges.low[0], high = ranges.high[0];
#pragma GCC unroll 4
  for (int r = 0; r < tile_side; ++r) {
    const In* const at = from + r * step_r;
    __builtin_prefetch(at + ahead, 0, 2);
    if constexpr (adjacent || !whole) __builtin_prefetch(at + later + ahead, 0, 2);
    const auto note = [&](const Words& bits) INLINE {
      Ranges<In>::add(adjacent ? low : ranges.low[r], adjacent ? high : ranges.high[r], bits);
    };
    Words pairs[slices];
    if constexpr (whole) {
      if constexpr (adjacent)
        pairs[0] = load(at) | load(at + later) << 16;
      else
        __builtin_memcpy(pairs, at, sizeof pairs);
      note(pairs[0]);
    } else {
      const Words x = load(at), y = load(at + later);
      note(x), note(y);
      Words first[slices], second[slices];
      split(x, first);
      split(y, second);
      for (int p = 0; p < slices; ++p) pairs[p] = first[p] >> 16 | (second[p] & 0xffff0000);
    }
    for (int p = 0; p < slices; ++p)
      __builtin_memcpy(put + (of_b ? slices - 1 - p : p) * put_step + r * tile_side, &pairs[p],
                       sizeof pairs[p]);
  }
  if (adjacent) ranges.low[0] = low, ranges.high[0] = high;
  if (!turn) return;
  constexpr int64_t L = lanes<float>;
  for (int p = 0; p < slices; ++p)
    for (int64_t r = 0; r < tile_side; r += L)
      for (int64_t c = 0; c < tile_side; c += L)
        transpose_square(reinterpret_cast<float*>(to + p * step + c * tile_side + r), tile_side,
                         reinterpret_cast<const float*>(turned + p * square + r * tile_side + c),
                         tile_side, L);
}

// Some panels' rows or columns (w) and all of a slab's terms.
template <int slices, bool adjacent, class In>
void pack(const In* from, int64_t w_stride, int64_t k_stride, int64_t ws, int64_t ks, bool of_b,
          int64_t step, Range* range, uint32_t* to) {
  Ranges<In> ranges[height / tile_side];
  const auto pack_at = [&](int64_t w, int64_t k) {
    const In* const at = from + w * w_stride + k * k_stride;
    uint32_t* const put =
        to + w / panel * step + (k / tile_terms * slices * 2 + w % panel / tile_side) * square;
    const int64_t width = min(tile_side, ws - w), terms = min(tile_terms, ks - k);
    Ranges<In>& seen = ranges[w / tile_side];
    if (width == tile_side && terms == tile_terms && (adjacent || k_stride == 1))
      return pack_square<slices, adjacent>(at, w_stride, k_stride, of_b, seen, put, 2 * square);
    In whole[tile_side * tile_terms] = {};
    const int64_t w_step = adjacent ? 1 : tile_terms, k_step = adjacent ? tile_side : 1;
    for (int64_t i = 0; i < width; ++i)
      for (int64_t x = 0; x < terms; ++x)
        whole[i * w_step + x * k_step] = at[i * w_stride + x * k_stride];
    pack_square<slices, adjacent>(whole, w_step, k_step, of_b, seen, put, 2 * square);
  };
  // Along the memory.
  if (adjacent)
    for (int64_t k = 0; k < ks; k += tile_terms)
      for (int64_t w = 0; w < ws; w += tile_side) pack_at(w, k);
  else
    for (int64_t w = 0; w < ws; w += tile_side)
      for (int64_t k = 0; k < ks; k += tile_terms) pack_at(w, k);
  for (int64_t w = 0; w < ws; w += tile_side) ranges[w / tile_side].give(adjacent, range + w);
}

// ---- products ----

// An operand: its rows, or of b its columns.
struct Side {
  const void* x;
  int64_t w_stride, k_stride, count;
  bool of_b;
};
// Some terms of both: a chunk's own panels, from number `first` on, and those that all share.
struct Packed {
  const uint32_t *own, *shared;
  int64_t first, squares, step;  // squares of 32 terms; words from a panel to the next
  bool wide;                     // `own` is of b
};

// The same of an operand, from w and term k on.
template <int slices, class In>
void pack(const Side& s, int64_t w, int64_t ws, int64_t k, int64_t ks, int64_t step, Range* range,
          uint32_t* to) {
  const In* const from = static_cast<const In*>(s.x) + w * s.w_stride + k * s.k_stride;
  (s.w_stride == 1 ? pack<slices, true, In> : pack<slices, false, In>)(from, s.w_stride, s.k_stride,
                                                                       ws, ks, s.of_b, step, range,
                                                                       to);
}

// The operands of 32 terms. The last slices of b are read first, and are first in memory.
template <int slices> struct Terms {
  Tiles& tiles;
  const uint32_t *a, *b;

  template <int p> FN void load_a() {
    tiles.load<4>(a + p * 2 * square, 64);
    tiles.load<5>(a + (p * 2 + 1) * square, 64);
  }
  template <int p> FN void load_b() {
    constexpr int64_t at = (slices - 1 - p) * 2 * square;
    tiles.load<6>(b + at, 64);
    tiles.load<7>(b + at + square, 64);
  }
  FN void dot() {
    tiles.dot<0, 0>();
    tiles.dot<0, 1>();
    tiles.dot<1, 0>();
    tiles.dot<1, 1>();
  }
  // All products, each with one new operand.
  FN void add() {
    load_a<0>();
    load_b<slices - 1>();
    dot();
    if constexpr (slices == 3) {
      load_b<1>();
      dot();
      load_a<1>();
      dot();
      load_b<0>();
      dot();
      load_a<2>();
      dot();
      load_a<0>();
      dot();
    }
    if constexpr (slices == 2) {
      load_b<0>();
      dot();
      load_a<1>();
      dot();
    }
  }
};

// c (+)= a b of some squares of 32 terms, for up to 32 rows and columns of c.
template <int slices>
void multiply_block(Tiles& tiles, const uint32_t* a, const uint32_t* b, int64_t squares, float* c,
                    int64_t c_row, int64_t rows, int64_t cols, bool add) {
  const bool low = rows > tile_side, right = cols > tile_side;
  tiles.zero<0>();
  tiles.zero<1>();
  tiles.zero<2>();
  tiles.zero<3>();
  // Six products of 32 terms make long sums, which lose less if each slab's begins with 0.
  constexpr bool apart = slices == 3;
  if (add && !apart) {
    tiles.load<0>(c, 4 * c_row);
    if (right) tiles.load<1>(c + tile_side, 4 * c_row);
    if (low) tiles.load<2>(c + tile_side * c_row, 4 * c_row);
    if (low && right) tiles.load<3>(c + tile_side * c_row + tile_side, 4 * c_row);
  }
  constexpr int64_t step = slices * 2 * square;
  for (int64_t s = 0; s < squares; ++s) Terms<slices>{tiles, a + s * step, b + s * step}.add();
  alignas(64) float sums[panel * panel];
  float* const to = add && apart ? sums : c;
  const int64_t row = add && apart ? panel : c_row;
  tiles.store<0>(to, 4 * row);
  if (right) tiles.store<1>(to + tile_side, 4 * row);
  if (low) tiles.store<2>(to + tile_side * row, 4 * row);
  if (low && right) tiles.store<3>(to + tile_side * row + tile_side, 4 * row);
  if (!add || !apart) return;
  if (cols == panel)
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t e = 0; e < panel; ++e) c[r * c_row + e] += sums[r * panel + e];
  else
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t e = 0; e < cols; ++e) c[r * c_row + e] += sums[r * panel + e];
}

FN float value(uint32_t bits) { return __builtin_bit_cast(float, bits); }

// The smallest number that is not 0; infinity if there is none.
FN float smallest(Range x) { return x.low == ~0u ? value(0x7f800000) : value(x.low + 1); }
FN Range both(Range x, Range y) {
  return {x.low < y.low ? x.low : y.low, x.high > y.high ? x.high : y.high};
}

// Below this a sum may be wrong, as tiles have taken numbers for 0: products (each is that of up to
// six of slices), or slices of one operand. What is lost is less than 2^-25 of a larger sum.
FN float doubtful(Range row, Range col, float terms) {
  float least = 0;
  if (smallest(row) * smallest(col) < safe_product) least = terms * 0x1p-98f;
  if (smallest(row) < safe_operand) least += terms * 0x1p-100f * value(col.high);
  if (smallest(col) < safe_operand) least += terms * 0x1p-100f * value(row.high);
  return least;
}
// Whether a sum may overflow, or does from the start.
FN bool may_overflow(Range row, Range col, float terms) {
  const float x = value(row.high), y = value(col.high);
  return !(x < 0x1p110f && y < 0x1p110f && x * y * terms < 0x1p126f);
}

// Sets to NaN what `plain` must make, in up to 32 x 32 elements of c; whether there is any.
bool check_block(const Range* rows, const Range* cols, int64_t m, int64_t n, float terms, float* c,
                 int64_t c_row) {
  Range all_rows{~0u, 0}, all_cols{~0u, 0};
  for (int64_t i = 0; i < m; ++i) all_rows = both(all_rows, rows[i]);
  for (int64_t j = 0; j < n; ++j) all_cols = both(all_cols, cols[j]);
  if (!may_overflow(all_rows, all_cols, terms) && doubtful(all_rows, all_cols, terms) == 0)
    return false;
  bool found = false;
  for (int64_t i = 0; i < m; ++i, c += c_row)
    for (int64_t j = 0; j < n; ++j) {
      const uint32_t bits = __builtin_bit_cast(uint32_t, c[j]) & 0x7fffffff;
      const bool infinite = max(rows[i].high, cols[j].high) >= 0x7f800000;
      if (!infinite && bits < 0x7f800000 && value(bits) >= doubtful(rows[i], cols[j], terms))
        continue;
      c[j] = value(0x7fc00000);
      found = true;
    }
  return found;
}

// What a chunk makes of part of a product: rows i to i1, and columns j to j1.
struct Block {
  int64_t i, i1, j, j1;
};

// c (+)= the product of a chunk's panels and one slab's terms.
template <int slices>
void multiply_panels(const Packed& x, const Block& at, float* c, int64_t c_row, bool add) {
  Tiles tiles;
  int64_t rows = 0, cols = 0;  // of the blocks that the tiles are configured for
  const auto one = [&](int64_t i, int64_t j) INLINE {
    const int64_t m = min(panel, at.i1 - i), n = min(panel, at.j1 - j);
    if (m != rows || n != cols) tiles.configure(TileSizes(rows = m, cols = n));
    const uint32_t *const own = x.own + ((x.wide ? j : i) / panel - x.first) * x.step,
                          *const shared = x.shared + (x.wide ? i : j) / panel * x.step;
    multiply_block<slices>(tiles, x.wide ? shared : own, x.wide ? own : shared, x.squares,
                           c + i * c_row + j, c_row, m, n, add);
  };
  if (x.wide)
    for (int64_t j = at.j; j < at.j1; j += panel)
      for (int64_t i = at.i; i < at.i1; i += panel) one(i, j);
  else
    for (int64_t i = at.i; i < at.i1; i += panel)
      for (int64_t j = at.j; j < at.j1; j += panel) one(i, j);
  tiles.release();
}

// m rows from i on, and n columns from j on, of the product.
template <class In> Gemm slice_of(const Gemm& g, int64_t i, int64_t m, int64_t j, int64_t n) {
  Gemm part = g;
  part.m = m, part.n = n;
  part.a = static_cast<const In*>(g.a) + i * g.a_row;
  part.b = static_cast<const In*>(g.b) + j * g.b_col;
  part.c = static_cast<float*>(g.c) + i * g.c_row + j;
  part.row = g.row + i, part.col = g.col + j;
  part.packed = nullptr;
  return part;
}

void finish(const Gemm& g, const Block& at) {
  if (g.epilogue.apply)
    g.epilogue.apply(g.epilogue.context, {static_cast<float*>(g.c) + at.i * g.c_row + at.j, g.c_row,
                                          at.i1 - at.i, at.j1 - at.j, g.row + at.i, g.col + at.j});
}

// Whether some of a block, whose first row and column have these ranges, must be made again.
bool check(const Gemm& g, const Block& at, const Range* rows, const Range* cols) {
  bool again = false;
  for (int64_t i = at.i; i < at.i1; i += panel)
    for (int64_t j = at.j; j < at.j1; j += panel)
      again |= check_block(rows + (i - at.i), cols + (j - at.j), min(panel, at.i1 - i),
                           min(panel, at.j1 - j), static_cast<float>(g.k),
                           static_cast<float*>(g.c) + i * g.c_row + j, g.c_row);
  return again;
}
// Makes those elements again that are not finite, and finishes the block.
template <class In> void repair(const Gemm& g, GemmKernel plain, const Block& at) {
  constexpr int64_t height = 64, width = 128;
  float again[height * width];
  for (int64_t i = at.i; i < at.i1; i += height)
    for (int64_t j = at.j; j < at.j1; j += width) {
      const int64_t m = min(height, at.i1 - i), n = min(width, at.j1 - j);
      Gemm part = slice_of<In>(g, i, m, j, n);
      part.c = again, part.c_row = n, part.epilogue = {};
      plain(part);
      float* const c = static_cast<float*>(g.c) + i * g.c_row + j;
      for (int64_t r = 0; r < m; ++r)
        for (int64_t e = 0; e < n; ++e)
          if (!(__builtin_fabsf(c[r * g.c_row + e]) <= 0x1.fffffep127f))
            c[r * g.c_row + e] = again[r * n + e];
      poll_interrupt();
    }
  finish(g, at);
}

template <int slices, class In> bool multiply_slices(const Gemm& g, GemmKernel plain) {
  const auto even = [](int64_t n, int64_t most)
                        INLINE { return round_up(ceil_div(n, ceil_div(n, most)), panel); };
  const bool wide = g.m <= few_rows && g.m <= g.n / 2;
  const int64_t ms = even(g.m, side), ns = even(g.n, side), mine = wide ? ns : ms,
                others = wide ? ms : ns, most = slab / slices / tile_terms * tile_terms,
                ks = round_up(ceil_div(g.k, ceil_div(g.k, most)), tile_terms),
                step = ks / 2 * slices * panel, words = others / panel * step,  // of all panels
      slabs = min(ceil_div(g.k, ks), max(1, packed_words / (min(others, length) / panel * step))),
                chunks_most = ceil_div(mine, height) * ceil_div(others, length),
                ranges = chunks_most * height;
  auto* const memory = static_cast<uint32_t*>(
      scratch(Scratch::outer, 4 * slabs * words + 8 * (ranges + others) + chunks_most));
  if (!memory) return false;
  auto* const own_ranges = reinterpret_cast<Range*>(memory + slabs * words);
  Range* const shared_ranges = own_ranges + ranges;
  auto* const again = reinterpret_cast<uint8_t*>(shared_ranges + others);

  for (int64_t j = 0; j < g.n; j += ns)
    for (int64_t i = 0; i < g.m; i += ms) {
      const Gemm part = slice_of<In>(g, i, min(ms, g.m - i), j, min(ns, g.n - j));
      auto* const c = static_cast<float*>(part.c);
      const Side a{part.a, g.a_row, g.a_col, part.m, false},
          b{part.b, g.b_col, g.b_row, part.n, true};
      const Side &own = wide ? b : a, &shared = wide ? a : b;
      const int64_t along = ceil_div(own.count, height),
                    chunks = along * ceil_div(shared.count, length);
      const auto block_of = [&](int64_t chunk) INLINE {
        const int64_t w = chunk % along * height, w1 = min(own.count, w + height),
                      s = chunk / along * length, s1 = min(shared.count, s + length);
        return wide ? Block{s, s1, w, w1} : Block{w, w1, s, s1};
      };
      for (int64_t x = 0; x < ranges + others; ++x) own_ranges[x] = {~0u, 0};
      for (int64_t k = 0; k < g.k; k += slabs * ks) {
        const bool last = k + slabs * ks >= g.k;
        // f(terms from here on, how many, the shared panels) for each slab.
        const auto each_slab = [&](const auto& f) INLINE {
          for (int64_t s = 0; s < slabs && k + s * ks < g.k; ++s)
            f(k + s * ks, min(ks, g.k - k - s * ks), memory + s * words);
        };
        parallel_for(ceil_div(shared.count, height), [&](int64_t chunk) {
          const int64_t w = chunk * height;
          each_slab([&](int64_t from, int64_t terms, uint32_t* to) INLINE {
            pack<slices, In>(shared, w, min(height, shared.count - w), from, terms, step,
                             shared_ranges + w, to + w / panel * step);
          });
        });
        parallel_for(chunks, [&](int64_t chunk) {
          const Block at = block_of(chunk);
          const int64_t w = chunk % along * height;
          Range* const range = own_ranges + chunk * height;
          each_slab([&](int64_t from, int64_t terms, const uint32_t* panels) INLINE {
            alignas(64) uint32_t packed[height * slab / 2];
            pack<slices, In>(own, w, min(height, own.count - w), from, terms, step, range, packed);
            multiply_panels<slices>(
                {packed, panels, w / panel, ceil_div(terms, tile_terms), step, wide}, at, c,
                g.c_row, from > 0);
          });
          if (!last) return;
          again[chunk] = check(part, at, wide ? shared_ranges + at.i : range,
                               wide ? range : shared_ranges + at.j);
          if (!again[chunk]) finish(part, at);
        });
      }
      for (int64_t chunk = 0; chunk < chunks; ++chunk)
        if (again[chunk]) repair<In>(part, plain, block_of(chunk));
    }
  return true;
}

bool check_bfloat16(const Gemm& g) {
  const int64_t ms = round_up(g.m, height), ns = round_up(g.n, height);
  auto* const rows = static_cast<Range*>(scratch(Scratch::outer, 8 * (ms + ns)));
  if (!rows) return false;
  Range* const cols = rows + ms;
  for (int64_t x = 0; x < ms + ns; ++x) rows[x] = {~0u, 0};
  const auto find = [&](const Side& s, Range* range) {  // as packing does
    parallel_for(ceil_div(s.count, height), [&](int64_t chunk) {
      alignas(64) uint32_t packed[height * slab / 2];
      const int64_t w = chunk * height;
      for (int64_t k = 0; k < g.k; k += slab)
        pack<1, uint16_t>(s, w, min(height, s.count - w), k, min(slab, g.k - k), panel * slab / 2,
                          range + w, packed);
    });
  };
  find({g.a, g.a_row, g.a_col, g.m, false}, rows);
  find({g.b, g.b_col, g.b_row, g.n, true}, cols);
  bool good = true;
  parallel_for(ms / height, [&](int64_t chunk) {
    const int64_t i = chunk * height;
    if (check(g, {i, min(g.m, i + height), 0, g.n}, rows + i, cols))
      __atomic_store_n(&good, false, __ATOMIC_RELAXED);
  });
  return good;
}

bool multiply_tiles(const TileGemm& t) {
  if (t.bfloat16) return multiply_slices<1, uint16_t>(t.g, t.plain);
  return t.slices == 3   ? multiply_slices<3, float>(t.g, t.plain)
         : t.slices == 2 ? multiply_slices<2, float>(t.g, t.plain)
                         : multiply_slices<1, float>(t.g, t.plain);
}

}  // namespace

const TileKernels tile_kernels = {multiply_tiles, check_bfloat16};

}  // namespace wengert::WENGERT_ISA
