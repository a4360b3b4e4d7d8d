// The tile functions of every elementwise row, compiled once per instruction set.
//
// Floating dtypes go through Simd<T>, the others through Lane<T> in plain loops.
#include "ops/elementwise/elementwise.h"
#include "base/vocab.h"

namespace wengert::WENGERT_ISA {

namespace {

template <class T>
using ValueType = std::conditional_t<std::is_floating_point_v<T>, Simd<T>, Lane<T>>;

// y = f(i) at every whole vector; returns where the rest begins.
template <class V, class F>
FN int64_t whole_vectors(int64_t n, typename V::Scalar* y, uint32_t scalars, const F& f) {
  int64_t i = 0;
  if constexpr (requires { V::stream_end(); })
    if (scalars == stream) {  // past the caches
      for (; i + V::width <= n; i += V::width) f(i).stream(y + i);
      V::stream_end();
      return i;
    }
  for (; i + V::width <= n; i += V::width) f(i).store(y + i);
  return i;
}
// The rest of a run from i on, in any layout.
template <class V, class F>
FN void rest_of(int64_t i, int64_t n, typename V::Scalar* y, const F& f) {
  for (; i < n; i += V::width) {
    const int count = static_cast<int>(n - i < V::width ? n - i : V::width);
    store(y + i, count, f(i, count));
  }
}

// y = f(x). Each copy of f takes time to compile and room, so only layouts that are common have a
// loop.
template <class V, class F>
FN void tile_of_one(int64_t n, void* y_data, const void* const* x_data, uint32_t scalars,
                    const F& f) {
  using T = typename V::Scalar;
  T* y = static_cast<T*>(y_data);
  const T* x = static_cast<const T*>(x_data[0]);
  const bool one = scalars & 1;
  int64_t i = 0;
  if (!one)
    i = whole_vectors<V>(n, y, scalars, [&](int64_t at) INLINE { return f(V::load(x + at)); });
  rest_of<V>(i, n, y,
             [&](int64_t at, int count) INLINE { return f(one ? V(*x) : load<V>(x + at, count)); });
}

// y = f(a, b); of gradients, b is seldom repeated.
template <class V, bool repeats_b, class F>
FN void tile_of_two(int64_t n, void* y_data, const void* const* x, uint32_t scalars, const F& f) {
  using T = typename V::Scalar;
  T* y = static_cast<T*>(y_data);
  const T *a = static_cast<const T*>(x[0]), *b = static_cast<const T*>(x[1]);
  const bool one_a = scalars & 1, one_b = scalars & 2;
  int64_t i = 0;
  if (!one_a && !one_b)
    i = whole_vectors<V>(n, y, scalars,
                         [&](int64_t at) INLINE { return f(V::load(a + at), V::load(b + at)); });
  else if (!one_b)
    for (const V v(*a); i + V::width <= n; i += V::width) f(v, V::load(b + i)).store(y + i);
  else if (repeats_b && !one_a)
    for (const V v(*b); i + V::width <= n; i += V::width) f(V::load(a + i), v).store(y + i);
  rest_of<V>(i, n, y, [&](int64_t at, int count) INLINE {
    return f(one_a ? V(*a) : load<V>(a + at, count), one_b ? V(*b) : load<V>(b + at, count));
  });
}

template <class Row, class T> struct UnaryTile {
  using V = ValueType<T>;
  static void run(int64_t n, void* y, const void* const* x, uint32_t scalars, const Params& p) {
    tile_of_one<V>(n, y, x, scalars, [&](V v) INLINE {
      if constexpr (requires { Row::value(v, p); })
        return Row::value(v, p);
      else
        return Row::value(v);
    });
  }
};

template <class Row, class T> struct UnaryVjpTile {
  using V = ValueType<T>;
  static void run(int64_t n, void* y, const void* const* x, uint32_t scalars, const Params& p) {
    tile_of_two<V, false>(n, y, x, scalars, [&](V g, V kept) INLINE {
      if constexpr (requires { Row::vjp(g, kept, p); })
        return Row::vjp(g, kept, p);
      else
        return Row::vjp(g, kept);
    });
  }
};

template <class Row, class T> struct BinaryTile {
  using V = ValueType<T>;
  static void run(int64_t n, void* y, const void* const* x, uint32_t scalars, const Params&) {
    tile_of_two<V, true>(n, y, x, scalars, [](V a, V b) INLINE { return Row::value(a, b); });
  }
};

// Plain loops, which the compiler vectorizes.
template <class Row, class T, class Out> struct PlainTile {
  static void run(int64_t n, void* y_data, const void* const* x_data, uint32_t scalars,
                  const Params&) {
    Out* y = static_cast<Out*>(y_data);
    const T* a = static_cast<const T*>(x_data[0]);
    const T* b = static_cast<const T*>(x_data[1]);
    if (scalars == 0 || scalars == stream) {
      for (int64_t i = 0; i < n; ++i) y[i] = Row::value(a[i], b[i]);
    } else if (scalars == 2) {
      const T v = *b;
      for (int64_t i = 0; i < n; ++i) y[i] = Row::value(a[i], v);
    } else {
      const T v = *a;
      const int64_t step = scalars == 1;
      for (int64_t i = 0; i < n; ++i) y[i] = Row::value(v, b[i * step]);
    }
  }
};

template <class T> struct WhereTile {
  static void run(int64_t n, void* y_data, const void* const* x_data, uint32_t scalars,
                  const Params&) {
    T* y = static_cast<T*>(y_data);
    const auto* c = static_cast<const uint8_t*>(x_data[0]);
    const T* a = static_cast<const T*>(x_data[1]);
    const T* b = static_cast<const T*>(x_data[2]);
    // Both are read, and c as bytes: what the compiler makes vectors of.
    const auto choose = [&](const auto& a_at, const auto& b_at) INLINE {
#pragma GCC ivdep
      for (int64_t i = 0; i < n; ++i) {
        const T p = a_at(i), q = b_at(i);
        y[i] = c[i] != 0 ? p : q;
      }
    };
    const auto each = [](const T* x) INLINE { return [x](int64_t i) INLINE { return x[i]; }; };
    const auto one = [](const T* x) INLINE { return [v = *x](int64_t) INLINE { return v; }; };
    switch (scalars & 7) {
      case 0:
        return choose(each(a), each(b));
      case 2:
        return choose(one(a), each(b));
      case 4:
        return choose(each(a), one(b));
      case 6:
        return choose(one(a), one(b));
    }
    const T* from = *c ? a : b;
    const int64_t step = !(scalars & (*c ? 2 : 4));
    for (int64_t i = 0; i < n; ++i) y[i] = from[i * step];
  }
};

template <class Out, class T> struct Convert {
  static void run(int64_t n, void* y, const void* const* x, uint32_t, const Params&) {
    for (int64_t i = 0; i < n; ++i)
      static_cast<Out*>(y)[i] = static_cast<Out>(static_cast<const T*>(x[0])[i]);
  }
};

constexpr auto at(DType t) { return static_cast<size_t>(t); }

template <template <class, class> class Tile, class Row> constexpr ByDType numbers_or_floating() {
  ByDType by{};
  by[at(DType::float32)] = Tile<Row, float>::run;
  by[at(DType::float64)] = Tile<Row, double>::run;
  if constexpr (Row::takes == Takes::numbers) {
    by[at(DType::uint8)] = Tile<Row, uint8_t>::run;
    by[at(DType::int32)] = Tile<Row, int32_t>::run;
    by[at(DType::int64)] = Tile<Row, int64_t>::run;
  }
  return by;
}
template <class Row> constexpr ByDType floating_vjp() {
  ByDType by{};
  by[at(DType::float32)] = UnaryVjpTile<Row, float>::run;
  by[at(DType::float64)] = UnaryVjpTile<Row, double>::run;
  return by;
}
template <class Row> constexpr ByDType tests() {
  return {PlainTile<Row, uint8_t, bool>::run,  // bools are bytes
          PlainTile<Row, uint8_t, bool>::run, PlainTile<Row, int32_t, bool>::run,
          PlainTile<Row, int64_t, bool>::run, nullptr,
          PlainTile<Row, float, bool>::run,   PlainTile<Row, double, bool>::run};
}
template <class Row> constexpr ByDType logic() {
  TileFn of_bools = nullptr;
  if constexpr (!requires { Row::of_integers; }) of_bools = PlainTile<Row, bool, bool>::run;
  return {of_bools,
          PlainTile<Row, uint8_t, uint8_t>::run,
          PlainTile<Row, int32_t, int32_t>::run,
          PlainTile<Row, int64_t, int64_t>::run,
          nullptr,
          nullptr,
          nullptr};
}

template <class... Rows> constexpr std::array<ByDType, sizeof...(Rows)> unary_table(List<Rows...>) {
  return {numbers_or_floating<UnaryTile, Rows>()...};
}
template <class... Rows> constexpr std::array<ByDType, sizeof...(Rows)> vjp_table(List<Rows...>) {
  return {floating_vjp<Rows>()...};
}
template <class... Rows>
constexpr std::array<ByDType, sizeof...(Rows)> binary_table(List<Rows...>) {
  return {numbers_or_floating<BinaryTile, Rows>()...};
}
template <class... Rows> constexpr std::array<ByDType, sizeof...(Rows)> test_table(List<Rows...>) {
  return {tests<Rows>()...};
}
template <class... Rows> constexpr std::array<ByDType, sizeof...(Rows)> logic_table(List<Rows...>) {
  return {logic<Rows>()...};
}

}  // namespace

extern constexpr ElementwiseKernels elementwise_kernels{
    unary_table(UnaryRows{}),
    vjp_table(UnaryRows{}),
    binary_table(BinaryRows{}),
    test_table(TestRows{}),
    logic_table(LogicRows{}),
    {WhereTile<uint8_t>::run, WhereTile<uint8_t>::run, WhereTile<int32_t>::run,
     WhereTile<int64_t>::run, nullptr, WhereTile<float>::run, WhereTile<double>::run},
    Convert<float, bfloat16>::run,
    Convert<bfloat16, float>::run};

}  // namespace wengert::WENGERT_ISA
