// Matrix product on the CPU: c[m, n] = sum over k of a[m, k] * b[k, n], for any strides of a and b.
//
// - The microkernel keeps a tile of c, `tile_rows` rows by 2 vectors, in registers: each step of k
//   loads 2 vectors of b, and multiplies them by one broadcast element of a per row.
// - k goes in blocks. In a block, each element of c is one chain of fused multiply-adds; block sums
//   are then added in order. Blocks depend on k only: an element has the same bits whatever m, n,
//   the tile, the strides and the threads are, and a row alone equals that row in a batch.
// - Packing copies what the microkernel reads into the order in which it reads: b per block of k
//   (it stays in L2), a per panel of rows (L1). Where nothing is read often enough, it is left out.
// - Beyond `k_slab`, blocks are short and their sums are added in float64, slab by slab of k.
// - n == 1 (a matrix times a column) has a path of its own: column.h.
#include "ops/matmul/matmul.h"

#include <type_traits>
#include <utility>

#include "base/pool.h"
#include "base/scratch.h"
#include "base/simd.h"
#include "base/vocab.h"
#include "ops/matmul/column.h"
#include "ops/matmul/pack.h"
#include "ops/matmul/thin.h"

namespace wengert::WENGERT_ISA {
namespace {

// The microkernel's tile. a_width: room for its rows in a packed panel of a, in whole vectors.
// wide: its vectors if there are few rows. turned_rows: how many rows fit into the registers
// together with a square of b.
#if defined(__AVX512F__)
constexpr int tile_rows = 14, a_width = 16, wide = 8, turned_rows = 12;  // 28 of 32 registers
#elif defined(__AVX2__)
constexpr int tile_rows = 6, a_width = 8, wide = 4, turned_rows = 4;  // 12 of 16
#else
constexpr int tile_rows = 4, a_width = 4, wide = 4, turned_rows = 4;  // 8, as a product needs one
#endif

constexpr int64_t k_block = 256;       // packed b: k_block * tile_cols<T> elements = 512 KiB, in L2
constexpr int64_t k_slab = 4096;       // longer sums are in float64, from chains of ...
constexpr int64_t k_long_block = 64;   // ... this length
constexpr int64_t long_side = 512;     // Memory for them is bounded: parts of c have 512 x 512,
constexpr int64_t max_sums = 1 << 20;  // and with n == 1 a million elements
template <class T>
constexpr int64_t tile_cols = 2048 / sizeof(T);  // columns of c in one chunk, at most

constexpr int64_t narrow = 3;  // up to this many rows, b is read in place,
// ... up to this many columns, whose sums stay in L1,
template <class T> constexpr int64_t narrow_cols = 16384 / sizeof(T);
constexpr int64_t rows_together = 8;       // ... and this many of its rows at a time,
constexpr int64_t look_ahead = 16;         // ... with these after them prefetched into L2
constexpr int64_t small_work = 1 << 16;    // multiply-adds that are one chunk, of integers
constexpr int64_t finish_elements = 2048;  // at least, in each call of an epilogue, in L1
constexpr int64_t short_column = 16;       // n == 1: up to this k no kernel of its own

// Blocking, as measured with benchmarks/blocking.cpp, where they can be changed.
#if !defined(WENGERT_TUNABLE)
#define WENGERT_TUNABLE constexpr
#endif
WENGERT_TUNABLE int64_t long_b = 1 << 21,  // elements of a b that few rows take along its rows,
    far_b = 1 << 23,                       // ... or more than a few,
    turned_b = 1 << 15,                    // ... or that more than a few turn in registers
    direct_rows = 64,                      // up to this many rows, b is read in place
    direct_bytes = 4096,      // ... if its rows are at most this far apart; else up to one panel
    unpacked_cols = 128,      // up to this many columns of a chunk, a is read in place;
                              // ... or half as many, if it is transposed,
    aliased_cols = 32,        // ... or this many, if its lines evict each other from L1
    tall_elements = 1 << 18,  // an a of this size stays in L2: chunks have all its rows
    side_limit = 512,         // of chunks that are nearly square
    chunks_wanted = 16,       // chunks of a product
    row_work = 1 << 20,       // least multiply-adds of a chunk of rows,
    small_b = 1 << 14,        // ... if b has at least this many elements,
    chunk_work = 1 << 18,     // ... else, and of other chunks, this many
    shared_rows = 256,        // b is packed once if there are this many rows,
    shared_work = 1 << 26,    // ... and this many multiply-adds,
    shared_chunks = 8;        // ... for this many chunks
// At most, about: 5 to 20 ms, for which Ctrl-C waits.
template <class T> constexpr int64_t chunk_limit = lanes<T> << 25;
constexpr int64_t shared_limit = 1 << 22;  // elements of b that are packed at once

// ---- the microkernel ----

template <class T> struct Tile {
  const T* a;
  int64_t a_row, a_col;
  const T* b;
  int64_t b_row;
  T* c;
  int64_t c_row, cols, k;
  enum { store, add, go_on } mode;  // add the sums to what c holds; start the sums from it
  const T* next = nullptr;          // what b will be, fetched meanwhile
};

// Whether the processor can leave out lanes: then a tile that c's right edge cuts needs no care.
// Without masks b is copied there, or, of up to `cut_rows` rows, read by kernels of their own.
#if defined(__AVX512F__)
constexpr bool has_masks = true;
constexpr int64_t cut_rows = 0;
#elif defined(__AVX2__)
constexpr bool has_masks = false;
constexpr int64_t cut_rows = tile_rows - 1;
#else
constexpr bool has_masks = false;
constexpr int64_t cut_rows = 0;
#endif
// Columns of a packed b that all rows pass before the next: of processors without AVX-512, L2 may
// be half as large.
template <class T> constexpr int64_t packed_cols = has_masks ? tile_cols<T> : tile_cols<T> / 2;

// How a kernel reads: a in place, a packed, or both in place with a mask on b's last vector; or in
// place along the rows of b, some at a time, so that its sums always go on.
enum class Reads { in_place, packed, masked, along };

// Stores a tile that c's right edge cuts. Out of line, or the compiler keeps the sums in memory.
template <class T>
[[gnu::noinline]] void store_cut(const T* sum, int64_t width, T* c, int64_t c_row, int64_t rows,
                                 int64_t cols, bool add) {
  for (int64_t r = 0; r < rows; ++r, sum += width, c += c_row)
    for (int64_t j = 0; j < cols; j += lanes<T>) {
      const int n = static_cast<int>(min(cols - j, lanes<T>));
      Simd<T> x = Simd<T>::load(sum + j);
      if (add) x += n < lanes<T> ? load_part(c + j, n) : Simd<T>::load(c + j);
      n < lanes<T> ? x.store_n(c + j, n) : x.store(c + j);
    }
}

// c[R, cols] (+)= a[R, k] b[k, cols], where cols is at most V vectors. b has all V vectors, or,
// with masks, as many columns as c.
template <class T, int R, int V, Reads how> void multiply(const Tile<T>& t) {
  constexpr int64_t L = lanes<T>;
  constexpr bool masks = how == Reads::masked || (how == Reads::in_place && has_masks);
  constexpr bool packed_a = how == Reads::packed;
  const int64_t a_row = packed_a ? 1 : t.a_row, a_col = packed_a ? a_width : t.a_col;
  const int64_t b_row = t.b_row;
  const int last = static_cast<int>(t.cols - (V - 1) * L);  // columns in the last vector
  // A pointer for every three rows: the other two are a sum that costs nothing in an address.
  constexpr int bases = (R + 2) / 3;
  const T* a[bases];
#pragma GCC unroll 8
  for (int i = 0; i < bases; ++i) a[i] = t.a + 3 * i * a_row;
  const T *b = t.b, *next = t.next;
  T* const c = t.c;
  const int64_t c_row = t.c_row;
  Simd<T> sum[R][V];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v)
      sum[r][v] = how == Reads::along ? Simd<T>::load(c + r * c_row + v * L) : Simd<T>(T(0));
  if constexpr (R <= narrow && how == Reads::in_place)
    if (t.mode == Tile<T>::go_on)
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
        for (int v = 0; v < V; ++v) sum[r][v] = Simd<T>::load(c + r * c_row + v * L);
  if (t.k >= 64)  // c may be far away in memory; it is needed at the end
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) __builtin_prefetch(c + r * c_row + v * L, 1, 2);
  for (int64_t k = t.k; k > 0; --k, b += b_row) {
    Simd<T> bs[V];
    if (next) {
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) __builtin_prefetch(next + v * L, 0, 2);
      next += b_row;
    }
    // Rows of b are far apart, and the processor prefetches within a page only.
    if constexpr (V > 2 || how == Reads::along)
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) __builtin_prefetch(b + look_ahead * b_row + v * L, 0, 2);
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v)
      bs[v] = masks && v == V - 1 ? load_part(b + v * L, last) : Simd<T>::load(b + v * L);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const Simd<T> as(a[r / 3][r % 3 * a_row]);
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) sum[r][v] = add_product(as, bs[v], sum[r][v]);
    }
#pragma GCC unroll 8
    for (int i = 0; i < bases; ++i) a[i] += a_col;
  }
  const bool add = t.mode == Tile<T>::add;
  if (!has_masks && last < L) {
    T sums[R * V * L];
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) sum[r][v].store(sums + (r * V + v) * L);
    return store_cut(sums, V * L, c, c_row, R, t.cols, add);
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) {
      T* const to = c + r * c_row + v * L;
      const bool part = has_masks && v == V - 1;
      Simd<T> x = sum[r][v];
      if (add) x = (part ? load_part(to, last) : Simd<T>::load(to)) + x;
      part ? x.store_n(to, last) : x.store(to);
    }
}

template <class T> using Kernel = void (*)(const Tile<T>&);
template <class T> struct Kernels {
  Kernel<T> of[tile_rows];  // by rows - 1
};
template <class T, int V, Reads how, int... r>
constexpr Kernels<T> kernels(std::integer_sequence<int, r...>) {
  return {{multiply<T, r + 1, V, how>...}};
}
template <class T, Reads how, int rows>
constexpr Kernels<T> both_widths[] = {kernels<T, 1, how>(std::make_integer_sequence<int, rows>()),
                                      kernels<T, 2, how>(std::make_integer_sequence<int, rows>())};
template <class T>
constexpr const Kernels<T>* table[] = {
    both_widths<T, Reads::in_place, tile_rows>, both_widths<T, Reads::packed, tile_rows>,
    both_widths<T, Reads::masked, cut_rows>,
    both_widths<T, Reads::along, tile_rows>};  // [Reads][vectors - 1]
template <class T>
constexpr Kernels<T> wide_table =
    kernels<T, wide, Reads::in_place>(std::make_integer_sequence<int, narrow>());

// ---- blocks ----

// The rows and columns from (i, j) on are done.
template <class T> void finish(const Gemm& g, int64_t i, int64_t rows, int64_t j, int64_t cols) {
  if (g.epilogue.apply)
    g.epilogue.apply(g.epilogue.context, {static_cast<T*>(g.c) + i * g.c_row + j, g.c_row, rows,
                                          cols, g.row + i, g.col + j});
}

struct Part {  // rows, columns and terms of one chunk
  int64_t i, rows, j, cols, k, terms;
  bool whole;  // all terms, summed in c itself
};

// sums (+)= the sums of a block, where Sum is T, or double if T is float and the sum is long.
template <class T, class Sum>
void add_block(Sum* sums, int64_t sum_row, const T* block, int64_t block_row, int64_t rows,
               int64_t cols, bool add) {
  for (int64_t r = 0; r < rows; ++r, sums += sum_row, block += block_row)
    if (add)
      for (int64_t j = 0; j < cols; ++j) sums[j] += block[j];
    else
      for (int64_t j = 0; j < cols; ++j) sums[j] = block[j];
}

// c[R, cols] = a[R, k] b[k, cols], of whole squares of a b whose rows are adjacent, turned in
// registers.
template <class T, int R> void multiply_turned(const Tile<T>& t, int64_t b_col) {
  constexpr int64_t L = lanes<T>, ahead = 64;  // what follows in its columns, fetched meanwhile
  for (int64_t v = 0; v < t.cols; v += L) {
    const T *a = t.a, *b = t.b + v * b_col;
    Simd<T> sum[R];
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) sum[r] = Simd<T>(T(0));
    for (int64_t k = 0; k < t.k; k += L, a += L * t.a_col, b += L) {
#pragma GCC unroll 16
      for (int j = 0; j < L; ++j) __builtin_prefetch(b + j * b_col + ahead);
      Simd<T> x[L];
      load_turned(x, b, b_col);
#pragma GCC unroll 16
      for (int i = 0; i < L; ++i)
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r)
          sum[r] = add_product(Simd<T>(a[r * t.a_row + i * t.a_col]), x[i], sum[r]);
    }
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) sum[r].store(t.c + r * t.c_row + v);
  }
}
template <class T> struct TurnedKernels {
  void (*of[turned_rows])(const Tile<T>&, int64_t b_col);  // by rows - 1
};
template <class T, int... r>
constexpr TurnedKernels<T> turned_kernels(std::integer_sequence<int, r...>) {
  return {{multiply_turned<T, r + 1>...}};
}
template <class T>
constexpr TurnedKernels<T> turned_table =
    turned_kernels<T>(std::make_integer_sequence<int, turned_rows>());

// Rows in panels of even heights: no thin rest.
struct Panels {
  explicit Panels(int64_t rows)
      : count(ceil_div(rows, tile_rows)), height(rows / count), higher(rows - height * count) {}
  int64_t row(int64_t p) const { return height * p + min(p, higher); }
  int64_t count, height, higher;  // the first `higher` panels are one row taller
};

// Few rows, up to `narrow`, or some more: the time goes into reading b once. If its columns are
// adjacent, it is read along its rows, a few at a time, while the block's sums wait in L1; else
// along its columns, two vectors of them at a time, which are turned.
template <bool few, class T, class Sum>
void multiply_narrow(const Gemm& g, const Part& part, int64_t block, Sum* sums, int64_t sum_row,
                     T* memory) {
  constexpr int64_t L = lanes<T>;
  const int64_t row = (few ? narrow_cols<T> : round_up(part.cols, 2 * L)) + 2 * L;
  // The last columns of b, filled up to whole vectors.
  T* const cut = memory + (few ? narrow : part.rows) * row;
  const bool turned = g.b_col != 1;
  const int64_t strip = turned ? 2 * L : part.cols;
  for (int64_t from = 0, end; from < part.cols; from = end) {
    end = min(from + strip, part.cols);
    for (int64_t k = 0; k < part.terms; k += block) {
      const int64_t ks = min(block, part.terms - k);
      for (int64_t r = 0; r < part.rows && !few; ++r)
        for (int64_t j = from; j < end; j += L) Simd<T>(T(0)).store(memory + r * row + j);
      const int64_t together = !turned ? (few ? 1 : 2) * rows_together : ks < L ? ks : ks / L * L;
      for (int64_t x = 0; x < ks; x += together) {
        Tile<T> t;
        t.a = static_cast<const T*>(g.a) + part.i * g.a_row + (part.k + k + x) * g.a_col;
        t.a_row = g.a_row, t.a_col = g.a_col, t.c_row = row, t.k = min(together, ks - x);
        t.mode = x > 0 ? Tile<T>::go_on : Tile<T>::store;
        for (int64_t j = from; j < end; j += t.cols) {
          const int64_t rest = end - j, vectors = rest >= wide * L && !turned && few ? wide
                                                  : rest > L                         ? 2
                                                                                     : 1;
          t.cols = vectors * L;
          t.b = static_cast<const T*>(g.b) + (part.k + k + x) * g.b_row + (part.j + j) * g.b_col;
          t.b_row = g.b_row;
          t.c = memory + j;
          if (turned && g.b_row == 1 && t.k % L == 0 && rest >= t.cols) {
            turned_table<T>.of[part.rows - 1](t, g.b_col);
            continue;
          }
          if (turned || rest < t.cols) {
            pack(cut, t.cols, t.b, min(rest, t.cols), g.b_col, g.b_row, t.k);
            t.b = cut, t.b_row = t.cols;
          }
          if constexpr (few) {
            (vectors == wide ? wide_table<T> : table<T>[0][vectors - 1]).of[part.rows - 1](t);
          } else {
            const Panels panels(part.rows);
            const Kernels<T>& along = table<T>[static_cast<int>(Reads::along)][vectors - 1];
            for (int64_t p = 0; p < panels.count; ++p) {
              const int64_t i = panels.row(p);
              Tile<T> panel = t;
              panel.a += i * t.a_row, panel.c += i * row;
              along.of[panels.row(p + 1) - i - 1](panel);
            }
          }
        }
      }
      add_block(sums + from, sum_row, memory + from, row, part.rows, end - from, k > 0);
    }
  }
  if (part.whole) finish<T>(g, part.i, part.rows, part.j, part.cols);
}

bool is_thin(const Gemm& g, const Part& part, int64_t vector) {
  return !g.packed && g.k <= thin_terms && g.n <= vector && part.rows >= thin_rows &&
         (g.b_col == 1 || g.b_row == 1);
}
template <class T> void multiply_thin(const Gemm& g, const Part& part) {
  constexpr int64_t L = lanes<T>, together = 512;
  T turned[thin_terms * L];
  Thin<T> t;
  t.b = static_cast<const T*>(g.b), t.b_row = g.b_row, t.cols = static_cast<int>(g.n);
  if (g.b_col != 1) {
    for (int64_t k = 0; k < g.k; k += L) {
      Simd<T> x[L];
#pragma GCC unroll 16
      for (int j = 0; j < L; ++j)
        x[j] = j < g.n ? load_part(t.b + j * g.b_col + k, min(L, g.k - k)) : Simd<T>(T(0));
      transpose(x);
#pragma GCC unroll 16
      for (int j = 0; j < L; ++j) x[j].store(turned + (k + j) * L);
    }
    t.b = turned, t.b_row = L;
  }
  t.a_row = g.a_row, t.a_col = g.a_col, t.c_row = g.c_row;
  for (int64_t i = part.i, end = i + part.rows; i < end; i += t.rows) {
    t.rows = end - i < together + thin_rows ? end - i : together;
    t.a = static_cast<const T*>(g.a) + i * g.a_row;
    t.c = static_cast<T*>(g.c) + i * g.c_row;
    thin_table<T>.of[g.k - 1](t);
    finish<T>(g, i, t.rows, 0, g.n);
    poll_interrupt();
  }
}

// Columns j to j + cols and terms k to k + ks of b, copied to `to`: tile after tile. A tile is two
// vectors wide, or one if that is enough.
template <class T> int64_t tile_width(int64_t cols) {
  return cols > lanes<T> ? 2 * lanes<T> : lanes<T>;
}
template <class T>
void pack_b(const Gemm& g, int64_t k, int64_t ks, int64_t j, int64_t cols, T* to) {
  const T* const b = static_cast<const T*>(g.b) + j * g.b_col + k * g.b_row;
  const int64_t step = g.b_col == 1 ? 16 : ks;  // as it lies
  for (int64_t x = 0; x < ks; x += step)
    for (int64_t t = 0, width; t < cols; t += width) {
      width = tile_width<T>(cols - t);
      pack(to + t * ks + x * width, width, b + t * g.b_col + x * g.b_row, min(width, cols - t),
           g.b_col, g.b_row, min(step, ks - x));
    }
}

// The panels' rows, from i on, and terms k to k + ks of a, copied to `to`: panel after panel.
template <class T>
void pack_a(const Gemm& g, const Panels& panels, int64_t i, int64_t k, int64_t ks, T* to) {
  const T* const a = static_cast<const T*>(g.a) + i * g.a_row + k * g.a_col;
  const int64_t step = g.a_row == 1 ? 16 : ks;  // as it lies
  for (int64_t x = 0; x < ks; x += step)
    for (int64_t p = 0; p < panels.count; ++p)
      pack(to + (p * ks + x) * a_width, a_width, a + panels.row(p) * g.a_row + x * g.a_col,
           panels.row(p + 1) - panels.row(p), g.a_row, g.a_col, min(step, ks - x));
}

// Few rows times a long b, whose columns are adjacent: memory is fastest along its rows, so chunks
// have a block of k each, and few have less than whole rows. Block sums are added in order. More
// rows than a few gain where b comes from beyond the caches.
bool is_long_b(const Gemm& g) {
  return g.b_col == 1 && !g.packed && g.k > 2 * k_block && g.k <= k_slab &&
         g.n * g.k >= (g.m <= narrow ? long_b : far_b) && g.m <= 2 * tile_rows;
}

// sums[rows, cols] = the part's product. False if there is no memory to work in.
template <class T, class Sum>
bool multiply_part(const Gemm& g, const Part& part, int64_t block, Sum* sums, int64_t sum_row) {
  constexpr int64_t L = lanes<T>, cols_max = tile_cols<T> + 2 * L;
  const bool few_rows = !g.packed && part.cols > 2 * L &&
                        (part.rows <= narrow || is_long_b(g) ||
                         (g.b_row == 1 && part.rows <= turned_rows && g.n * g.k >= turned_b)) &&
                        part.cols <= narrow * narrow_cols<T> / max(part.rows, narrow);
  const int64_t b_step = g.b_row * static_cast<int64_t>(sizeof(T));
  const bool in_place =
      g.b_col == 1 && part.rows <= (b_step < direct_bytes ? direct_rows : tile_rows);
  const bool packs_b = !g.packed && !in_place;
  const int64_t a_step = (g.a_col == 1 ? g.a_row : g.a_col) * static_cast<int64_t>(sizeof(T));
  const bool aliased = a_step % 4096 == 0;  // all its lines have the same places in L1
  const int64_t unpacked = aliased        ? aliased_cols
                           : g.a_col == 1 ? unpacked_cols
                                          : unpacked_cols / 2;
  const bool packs_a = (packs_b || g.packed) && part.cols > unpacked;
  T *packed_b = nullptr, *packed_a = nullptr;
  if (packs_a || packs_b || few_rows || !has_masks) {
    const int64_t rows_max = packs_a ? ceil_div(part.rows, tile_rows) * a_width : narrow;
    packed_b =
        static_cast<T*>(scratch(Scratch::chunk, sizeof(T) * k_block * (cols_max + rows_max)));
    if (!packed_b) return false;
    packed_a = packed_b + k_block * cols_max;
  }
  if (few_rows) {
    (part.rows <= narrow ? multiply_narrow<true, T, Sum>
                         : multiply_narrow<false, T, Sum>)(g, part, block, sums, sum_row, packed_b);
    return true;
  }
  const T* const a = static_cast<const T*>(g.a) + part.i * g.a_row + part.k * g.a_col;
  const T* const b = static_cast<const T*>(g.b) + part.j * g.b_col + part.k * g.b_row;
  T tile_sums[std::is_same_v<T, Sum> ? 1 : tile_rows * 2 * L];
  const Panels panels(part.rows);
  const auto ready_b = [&](int64_t k, int64_t j) INLINE {  // as pack_operand() wrote it
    return static_cast<const T*>(g.packed) + k * round_up(g.n, 2 * L) +
           j * min(block, part.terms - k);
  };
  for (int64_t k = 0; k < part.terms; k += block) {
    const int64_t ks = min(block, part.terms - k);
    const T* const a_block = a + k * g.a_col;
    if (packs_a) pack_a(g, panels, part.i, part.k + k, ks, packed_a);
    for (int64_t from = 0, end; from < part.cols; from = end) {
      end = min(part.cols, from + (g.packed ? packed_cols<T> : tile_cols<T>));
      // The last tile of a b in place needs care if the right edge cuts it.
      const int64_t last = end - (end - from - 1) % (2 * L) - 1;  // the last tile's first column
      const bool edge = !has_masks && !packs_b && !g.packed && (end - last) % L != 0,
                 copied = edge && part.rows > cut_rows;
      if (packs_b)
        pack_b(g, part.k + k, ks, part.j + from, end - from, packed_b);
      else if (copied)
        pack_b(g, part.k + k, ks, part.j + last, end - last, packed_b);
      for (int64_t p = 0, finished = 0; p < panels.count; ++p) {
        if (p % 16 == 15) poll_interrupt();  // memory that is new is slow
        const int64_t i = panels.row(p), rows = panels.row(p + 1) - i;
        Tile<T> t;
        t.a = packs_a ? packed_a + p * ks * a_width : a_block + i * g.a_row;
        t.a_row = g.a_row, t.a_col = g.a_col, t.k = ks;
        for (int64_t j = from; j < end; j += 2 * L) {
          const int64_t width = tile_width<T>(end - j);
          t.cols = min(width, end - j), t.b_row = width;
          if (g.packed) {
            t.b = ready_b(k, part.j + j);
            // It comes from afar: the first panel of rows fetches what the next one begins with.
            const bool more = j + width < part.cols, deeper = k + ks < part.terms;
            if (p > 0 || (!more && !deeper && part.j + part.cols >= g.n))
              t.next = nullptr;
            else
              t.next = more     ? ready_b(k, part.j + j + width)
                       : deeper ? ready_b(k + ks, part.j)
                                : ready_b(0, part.j + part.cols);
          } else if (packs_b || (copied && j == last)) {
            t.b = packed_b + (packs_b ? (j - from) * ks : 0);
          } else {
            t.b = b + k * g.b_row + j, t.b_row = g.b_row;
          }
          const Reads how = packs_a                        ? Reads::packed
                            : edge && !copied && j == last ? Reads::masked
                                                           : Reads::in_place;
          const Kernel<T> kernel = table<T>[static_cast<int>(how)][width / L - 1].of[rows - 1];
          Sum* const to = sums + i * sum_row + j;
          if constexpr (std::is_same_v<T, Sum>) {
            t.c = to, t.c_row = sum_row, t.mode = k > 0 ? Tile<T>::add : Tile<T>::store;
            kernel(t);
          } else {
            t.c = tile_sums, t.c_row = width, t.mode = Tile<T>::store;
            kernel(t);
            add_block(to, sum_row, tile_sums, width, rows, t.cols, k > 0);
          }
        }
        if (!part.whole || k + ks < part.terms) continue;
        if ((i + rows - finished) * (end - from) < finish_elements && p + 1 < panels.count)
          continue;
        finish<T>(g, part.i + finished, i + rows - finished, part.j + from, end - from);
        finished = i + rows;
      }
    }
  }
  return true;
}

// How c is cut into chunks.
struct Grid {
  int64_t rows, cols, down, across;
};
bool shares_b(const Gemm& g) {
  // With few registers panels are low: packing rows of a again costs less than reading b from L3.
  const int64_t least = !has_masks && g.a_col == 1 ? 4 * shared_work : shared_work;
  return g.m >= shared_rows && g.m * g.n * g.k >= least && g.k <= k_slab;
}
template <class T> Grid grid(const Gemm& g) {
  const int64_t m = g.m, n = g.n, k = min(g.k, k_slab);
  if (g.epilogue.whole_rows) {
    const int64_t down = ceil_div(m, tile_rows), rows = ceil_div(m, down);
    return {rows, n, ceil_div(m, rows), 1};
  }
  constexpr int64_t panel = 2 * lanes<T>;
  if (shares_b(g)) {  // chunks are wide, so that a is packed seldom
    const int64_t least = ceil_div(m, shared_rows),
                  across = min(ceil_div(shared_chunks, least), max(1, n / tile_cols<T>)),
                  down = max(least, ceil_div(shared_chunks, across)), rows = ceil_div(m, down),
                  most = max(1, chunk_limit<T> / (rows * k * panel)) * panel,
                  cols = min(most, round_up(ceil_div(n, across), panel));
    return {rows, cols, down, ceil_div(n, cols)};
  }
  const double work = 1.0 * m * n * k;
  int64_t rows = m, cols = min(n, tile_cols<T>);
  const int64_t least = m > narrow ? chunk_work : chunk_work / 4;  // which is 256 KiB of b
  int64_t wanted = work > 1.0 * chunks_wanted * chunk_limit<T>
                       ? static_cast<int64_t>(work / chunk_limit<T>)
                       : min(chunks_wanted, static_cast<int64_t>(work / least));
  if (wanted == 1 && m > narrow && n >= 2 * panel) wanted = 2;
  if (wanted > 1) {
    // b is packed by each chunk, and read by each of its panels of rows; a is read for each panel
    // of columns. So chunks are tall and narrow while a's part stays in L2, or nearly square.
    int64_t side = 8 * tile_rows;
    while (side < side_limit && side * side * wanted < m * n) side += tile_rows;
    rows = m * k <= tall_elements ? m : min(m, side);
    cols = n * ceil_div(m, rows) / wanted;
    cols = min(tile_cols<T>, max(cols, rows > narrow ? panel : tile_cols<T> / 4));
    cols = round_up(ceil_div(n, ceil_div(n, min(n, cols))), panel);
    // Unless b is small, rows are cut only if much is left of each part, as the parts then share
    // all of b: what a thread has written to its columns of b (weights that it updated) is in its
    // core's cache.
    const int64_t across = ceil_div(n, cols), parts = ceil_div(wanted, across),
                  least = n * k < small_b ? chunk_work : row_work,
                  worth = static_cast<int64_t>(work / static_cast<double>(least * across)),
                  down = max(ceil_div(m, rows), min(parts, worth));
    rows = min(rows, max(ceil_div(m, down), 4 * tile_rows));
    rows = ceil_div(m, ceil_div(m, rows));
  }
  return {rows, cols, ceil_div(m, rows), ceil_div(n, cols)};
}

Part part_of(const Gemm& g, const Grid& grid, int64_t chunk) {
  const int64_t i = chunk / grid.across * grid.rows, j = chunk % grid.across * grid.cols;
  return {i, min(grid.rows, g.m - i), j, min(grid.cols, g.n - j), 0, g.k, true};
}

// Blocks of k: as equal as may be, in whole squares of pack().
int64_t block_of(int64_t k) { return round_up(ceil_div(k, ceil_div(k, k_block)), 16); }

// As multiply_part() packs b, block by block of k, but for all columns.
template <class T> void pack_operand(const Gemm& g, void* to) {
  const int64_t block = block_of(g.k), row = round_up(g.n, 2 * lanes<T>),
                across = ceil_div(g.n, tile_cols<T>);
  parallel_for(across * ceil_div(g.k, block), [&](int64_t chunk) {
    const int64_t k = chunk / across * block, j = chunk % across * tile_cols<T>,
                  ks = min(block, g.k - k);
    pack_b(g, k, ks, j, min(tile_cols<T>, g.n - j), static_cast<T*>(to) + k * row + j * ks);
  });
}

template <class T> void multiply_short(const Gemm& g) {
  const int64_t block = block_of(g.k);
  const Grid cut = grid<T>(g);
  bool ok = true;
  parallel_for(cut.down * cut.across, [&](int64_t chunk) {
    const Part part = part_of(g, cut, chunk);
    if (is_thin(g, part, lanes<T>)) return multiply_thin<T>(g, part);
    T* const c = static_cast<T*>(g.c) + part.i * g.c_row + part.j;
    if (!multiply_part<T>(g, part, block, c, g.c_row))
      __atomic_store_n(&ok, false, __ATOMIC_RELAXED);
  });
  if (!ok) scratch_failed("matmul");
}

// m rows from i on, and n columns from j on, of the product.
template <class T> Gemm slice(const Gemm& g, int64_t i, int64_t m, int64_t j, int64_t n) {
  Gemm part = g;
  part.m = m, part.n = n;
  part.a = static_cast<const T*>(g.a) + i * g.a_row;
  part.b = static_cast<const T*>(g.b) + j * g.b_col;
  part.c = static_cast<T*>(g.c) + i * g.c_row + j;
  part.row = g.row + i, part.col = g.col + j;
  return part;
}

// As many columns of b as may be at a time are packed, for all chunks.
template <class T> void multiply_sharing(const Gemm& g) {
  constexpr int64_t panel = 2 * lanes<T>;
  const int64_t cols = min(round_up(g.n, panel), shared_limit / g.k / panel * panel);
  void* const memory = scratch(Scratch::call, sizeof(T) * g.k * cols);
  if (!memory) return multiply_short<T>(g);
  for (int64_t j = 0; j < g.n; j += cols) {
    Gemm part = slice<T>(g, 0, g.m, j, min(cols, g.n - j));
    pack_operand<T>(part, memory);
    part.packed = memory;
    multiply_short<T>(part);
  }
}

template <class T> bool multiply_by_rows(const Gemm& g) {
  const int64_t block = block_of(g.k), blocks = ceil_div(g.k, block), size = g.m * g.n,
                most = min(narrow * narrow_cols<T> / max(g.m, narrow),
                           max(tile_cols<T>, g.n * blocks / chunks_wanted)),
                cols = round_up(ceil_div(g.n, ceil_div(g.n, most)), 2 * lanes<T>),
                across = ceil_div(g.n, cols);
  auto* const sums = static_cast<T*>(scratch(Scratch::call, sizeof(T) * size * blocks));
  if (!sums) return false;
  bool ok = true;
  parallel_for(blocks * across, [&](int64_t chunk) {
    const int64_t k = chunk / across * block, j = chunk % across * cols;
    const Part part{0, g.m, j, min(cols, g.n - j), k, min(block, g.k - k), false};
    if (!multiply_part<T>(g, part, block, sums + chunk / across * size + j, g.n))
      __atomic_store_n(&ok, false, __ATOMIC_RELAXED);
  });
  if (!ok) return false;
  parallel_for(ceil_div(g.n, tile_cols<T>), [&](int64_t chunk) {
    const int64_t j = chunk * tile_cols<T>, cols = min(tile_cols<T>, g.n - j);
    for (int64_t b = 0; b < blocks; ++b)
      add_block(static_cast<T*>(g.c) + j, g.c_row, sums + b * size + j, g.n, g.m, cols, b > 0);
    finish<T>(g, 0, g.m, j, cols);
  });
  return true;
}

// Slabs of k have a sum each, `together` at a time; they are added in order.
template <class T> void multiply_long(const Gemm& g) {
  const int64_t size = g.m * g.n, slabs = ceil_div(g.k, k_slab);
  const Grid cut = grid<T>(g);
  const int64_t tiles = cut.down * cut.across,
                together = min(slabs, ceil_div(chunks_wanted, tiles));
  auto* const total = static_cast<double*>(scratch(Scratch::call, 8 * size * (1 + together)));
  if (!total) scratch_failed("matmul");
  for (int64_t x = 0; x < size; ++x) total[x] = 0;
  bool ok = true;
  for (int64_t first = 0; first < slabs; first += together) {
    const int64_t count = min(together, slabs - first);
    parallel_for(count * tiles, [&](int64_t chunk) {
      Part part = part_of(g, cut, chunk % tiles);
      part.k = (first + chunk / tiles) * k_slab;
      part.terms = min(k_slab, g.k - part.k);
      part.whole = false;
      double* const sums = total + (1 + chunk / tiles) * size + part.i * g.n + part.j;
      if (!multiply_part<T>(g, part, k_long_block, sums, g.n))
        __atomic_store_n(&ok, false, __ATOMIC_RELAXED);
    });
    if (!ok) scratch_failed("matmul");
    for (int64_t s = 1; s <= count; ++s)
      for (int64_t x = 0; x < size; ++x) total[x] += total[s * size + x];
  }
  for (int64_t i = 0; i < g.m; ++i)
    for (int64_t j = 0; j < g.n; ++j)
      static_cast<T*>(g.c)[i * g.c_row + j] = static_cast<T>(total[i * g.n + j]);
  finish<T>(g, 0, g.m, 0, g.n);
}

// ---- entries ----

// True if c is done, as there is nothing to multiply.
template <class T> bool nothing_to_add(const Gemm& g) {
  if (g.m == 0 || g.n == 0) return true;
  if (g.k > 0) return false;
  const int64_t rows = max(1, small_work / g.n);
  parallel_for(ceil_div(g.m, rows), [&](int64_t chunk) {
    for (int64_t i = chunk * rows; i < min(g.m, (chunk + 1) * rows); ++i)
      for (int64_t j = 0; j < g.n; ++j) static_cast<T*>(g.c)[i * g.c_row + j] = 0;
  });
  finish<T>(g, 0, g.m, 0, g.n);
  return true;
}

template <class T> void multiply_floats(const Gemm& g) {
  if (nothing_to_add<T>(g)) return;
  const bool column = g.n == 1;
  if (is_long_b(g) && multiply_by_rows<T>(g)) return;
  if (g.k <= (column ? short_column : k_slab))
    return shares_b(g) && !g.packed ? multiply_sharing<T>(g) : multiply_short<T>(g);
  const int64_t rows = column ? max_sums / ceil_div(g.k, dot_slab) + 1 : long_side;
  for (int64_t i = 0; i < g.m; i += rows)
    for (int64_t j = 0; j < g.n; j += long_side) {
      const Gemm part = slice<T>(g, i, min(rows, g.m - i), j, min(long_side, g.n - j));
      if (column) {
        multiply_column<T>(part);
        finish<T>(part, 0, part.m, 0, 1);
      } else {
        multiply_long<T>(part);
      }
    }
}

// Integers wrap around, as unsigned ones do. Plain loops: nothing hot multiplies integer matrices.
template <class U> void multiply_integers(const Gemm& g) {
  if (nothing_to_add<U>(g)) return;
  const int64_t cols = min(g.n, 1024), across = ceil_div(g.n, cols);
  const int64_t rows = min(g.m, max(1, small_work / min(cols * g.k, small_work))),
                down = ceil_div(g.m, rows);
  parallel_for(down * across, [&](int64_t chunk) {
    const int64_t j = chunk % across * cols, count = min(cols, g.n - j),
                  from = chunk / across * rows;
    for (int64_t i = from; i < min(from + rows, g.m); ++i) {
      U* const c = static_cast<U*>(g.c) + i * g.c_row + j;
      for (int64_t x = 0; x < count; ++x) c[x] = 0;
      for (int64_t k = 0; k < g.k; ++k) {
        const U a = static_cast<const U*>(g.a)[i * g.a_row + k * g.a_col];
        const U* const b = static_cast<const U*>(g.b) + k * g.b_row + j * g.b_col;
        if (g.b_col == 1)
          for (int64_t x = 0; x < count; ++x) c[x] += a * b[x];
        else
          for (int64_t x = 0; x < count; ++x) c[x] += a * b[x * g.b_col];
        if (k % 4096 == 4095) poll_interrupt();
      }
      finish<U>(g, i, 1, j, count);
    }
  });
}

[[maybe_unused]] void round(const Epilogue::Block& block, bfloat16* to, int64_t width) {
  const auto* from = static_cast<const float*>(block.c);
  to += block.row * width + block.col;
  for (int64_t r = 0; r < block.rows; ++r, to += width, from += block.c_row)
    for (int64_t c = 0; c < block.cols; ++c) to[c] = bfloat16(from[c]);
}
[[maybe_unused]] uint32_t smallest(const uint16_t* x, int64_t n) {
  constexpr int64_t L = sizeof(Simd<float>) / 2;
  typedef uint16_t Lanes __attribute__((vector_size(2 * L)));
  Lanes least = Lanes{} + 0x7f7f;  // less one, so that 0 counts as large
  const auto see = [&](const uint16_t* from) INLINE {
    Lanes bits;
    __builtin_memcpy(&bits, from, sizeof bits);
    const Lanes less = (bits & 0x7fff) - 1;
    least = less < least ? less : least;
  };
  int64_t at = 0;
  for (; at + L <= n; at += L) see(x + at);
  uint16_t rest[L] = {};
  for (int64_t i = at; i < n; ++i) rest[i - at] = x[i];
  see(rest);
  uint16_t all = 0x7f7f;
  for (int64_t i = 0; i < L; ++i) all = least[i] < all ? least[i] : all;
  return all + 1u;
}

}  // namespace

#if defined(__AVX512BF16__)
extern void (*const multiply_pairs)(const Gemm&) = multiply_floats<float>;
#else
const MatmulKernels matmul_kernels = {multiply_floats<float>,
                                      multiply_floats<double>,
                                      multiply_integers<uint32_t>,
                                      multiply_integers<uint64_t>,
                                      pack_operand<float>,
                                      pack_operand<double>,
                                      round,
                                      smallest};
#endif

}  // namespace wengert::WENGERT_ISA
