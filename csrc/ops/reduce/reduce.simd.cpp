// Reduction kernels. Loops over a fixed number of lanes, whose accumulators are merged half with
// half: the order of additions does not depend on the vector width, so every instruction set gives
// the same bits.
#include "ops/reduce/reduce.h"
#include "ops/reduce/folds.h"

namespace wengert::WENGERT_ISA {
namespace {

constexpr int searched = 64;  // elements at a time

template <class T> FN bool same(T a, T b) { return a == b || (a != a && b != b); }

template <class Fold, class T> struct Kernel {
  using Acc = typename Fold::Acc;
  using Out = typename Fold::Out;
  // Compilers make no vectors of floating ones, whose order counts.
  static constexpr bool floats = std::is_floating_point_v<T> && std::is_floating_point_v<Acc>;
  using X = Simd<std::conditional_t<floats, T, float>>;
  using A = Simd<std::conditional_t<floats, Acc, float>>;
  // An extreme waits for itself: many at a time.
  static constexpr bool extreme = floats && requires(X x) { Fold::better(x, x); };
  static constexpr int lanes = extreme ? 256 / sizeof(T) : 16;

  static void start(int64_t n, void* acc) {
    for (int64_t i = 0; i < n; ++i) static_cast<Acc*>(acc)[i] = Fold::start();
  }
  static int64_t place_of(T value, int64_t n, const T* x) {
    int64_t i = 0;
    for (int found = 0; i + searched <= n; i += searched) {
      for (int j = 0; j < searched; ++j) found |= same(x[i + j], value);
      if (found) break;
    }
    while (!same(x[i], value)) ++i;
    return i;
  }
  // Of n adjacent elements.
  static Acc run_of(int64_t n, const T* x, int64_t from) {
    if constexpr (requires { typename Fold::Value; }) {  // the value first, then where it is
      if (n == 0) return Fold::start();
      const T value = Kernel<typename Fold::Value, T>::run_of(n, x, from);
      return {value, from + place_of(value, n, x)};
    } else if constexpr (floats) {
      return run_by_vectors(n, x);
    } else {
      return run_by_lanes(n, x, from);
    }
  }
  // Inlined, the compiler would mix it with the loop around it.
  [[gnu::noinline]] static Acc run_by_lanes(int64_t n, const T* x, int64_t from) {
    Acc lane[lanes];
    for (int j = 0; j < lanes; ++j) lane[j] = Fold::start();
    int64_t i = 0;
    for (; i + lanes <= n; i += lanes)
      for (int j = 0; j < lanes; ++j) lane[j] = Fold::fold(lane[j], x[i + j], from + i + j);
    for (int j = 0; i < n; ++i, ++j) lane[j] = Fold::fold(lane[j], x[i], from + i);
    for (int width = lanes / 2; width > 0; width /= 2)
      for (int j = 0; j < width; ++j) lane[j] = Fold::merge(lane[j], lane[j + width]);
    return lane[0];
  }
  static Acc run_by_vectors(int64_t n, const T* x) {
    constexpr int units = lanes / X::width, parts = X::width / A::width;
    const auto merged = [](A a, A b) INLINE { return Fold::merge(a, b); };
    if constexpr (extreme)
      if (n <= X::width) {
        const int count = static_cast<int>(n);
        return fold(first(load<X>(x, count), count, T(Fold::start())), merged).v[0];
      }
    A acc[units][parts];
#pragma GCC unroll 16
    for (int u = 0; u < units; ++u)
      for (A& a : acc[u]) a = A(Fold::start());
    const auto take = [](A(&a)[parts], const A(&of)[parts]) INLINE {
      for (int p = 0; p < parts; ++p) a[p] = Fold::merge(a[p], Fold::lift(of[p]));
    };
    int64_t i = 0;
    for (; i + lanes <= n; i += lanes)
#pragma GCC unroll 16
      for (int u = 0; u < units; ++u) {
        const T* const at = x + i + u * X::width;
        A of[parts];
        if constexpr (parts == 1)
          of[0] = A::load(at);
        else
          for (int p = 0; p < parts; ++p) of[p] = widened(at + p * A::width);
        take(acc[u], of);
      }
#pragma GCC unroll 16
    for (int u = 0; u < units; ++u, i += X::width) {
      if (i >= n) continue;
      const int count = n - i < X::width ? static_cast<int>(n - i) : X::width;
      const X rest = first(load<X>(x + i, count), count, T(Fold::start()));
      A of[parts];
      if constexpr (parts == 1)
        of[0] = rest;
      else
        widen(rest, of);
      take(acc[u], of);
    }
#pragma GCC unroll 4
    for (int half = units / 2; half > 0; half /= 2)
#pragma GCC unroll 8
      for (int u = 0; u < half; ++u)
        for (int p = 0; p < parts; ++p) acc[u][p] = Fold::merge(acc[u][p], acc[u + half][p]);
    return fold(parts == 1 ? acc[0][0] : merged(acc[0][0], acc[0][parts - 1]), merged).v[0];
  }
  static void fold_runs(int64_t runs, int64_t n, void* acc, const void* data, int64_t stride,
                        int64_t from) {
    const T* x = static_cast<const T*>(data);
    for (int64_t r = 0; r < runs; ++r) static_cast<Acc*>(acc)[r] = run_of(n, x + r * stride, from);
  }
  // A few columns, whose accumulators stay in registers.
  template <int columns>
  static void fold_few(int64_t rows, Acc* acc, const T* x, int64_t stride, int64_t first) {
    Acc few[columns];
    for (int c = 0; c < columns; ++c) few[c] = acc[c];
    for (int64_t r = 0; r < rows; ++r, x += stride)
#pragma GCC unroll 8
      for (int c = 0; c < columns; ++c) few[c] = Fold::fold(few[c], x[c], first + r);
    for (int c = 0; c < columns; ++c) acc[c] = few[c];
  }
  static void fold_rows(int64_t rows, int64_t columns, void* acc_data, const void* data,
                        int64_t stride, int64_t first) {
    Acc* __restrict acc = static_cast<Acc*>(acc_data);
    const T* x = static_cast<const T*>(data);
    if constexpr (std::is_same_v<Fold, Sum<float>>) {
      constexpr decltype(&fold_few<1>) few[] = {fold_few<1>, fold_few<2>, fold_few<3>, fold_few<4>,
                                                fold_few<5>, fold_few<6>, fold_few<7>, fold_few<8>};
      if (columns <= 8) return few[columns - 1](rows, acc, x, stride, first);
    }
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t c = 0; c < columns; ++c)
        acc[c] = Fold::fold(acc[c], x[r * stride + c], first + r);
  }
  static void merge(int64_t n, void* acc, const void* later) {
    for (int64_t i = 0; i < n; ++i)
      static_cast<Acc*>(acc)[i] =
          Fold::merge(static_cast<Acc*>(acc)[i], static_cast<const Acc*>(later)[i]);
  }
  static void finish(int64_t n, void* y, const void* acc, double divisor) {
    for (int64_t i = 0; i < n; ++i)
      static_cast<Out*>(y)[i] = Fold::finish(static_cast<const Acc*>(acc)[i], divisor);
  }
  static constexpr ReduceKernel kernel{sizeof(Acc), start, fold_runs, fold_rows, merge, finish};
};

// Bools are bytes of 0 and 1; for any and all, bool itself is faster.
template <template <class> class Fold, class Bool = uint8_t>
constexpr std::array<ReduceKernel, dtype_count> for_all() {
  return {Kernel<Fold<Bool>, Bool>::kernel,
          Kernel<Fold<uint8_t>, uint8_t>::kernel,
          Kernel<Fold<int32_t>, int32_t>::kernel,
          Kernel<Fold<int64_t>, int64_t>::kernel,
          {},  // bfloat16 is widened before
          Kernel<Fold<float>, float>::kernel,
          Kernel<Fold<double>, double>::kernel};
}

}  // namespace

extern constexpr ReduceKernels reduce_kernels{
    {for_all<Sum>(), for_all<Prod>(), for_all<Max>(), for_all<Min>(), for_all<Any, bool>(),
     for_all<All, bool>(), for_all<ArgMax>(), for_all<ArgMin>(), for_all<SumSquares>()}};

}  // namespace wengert::WENGERT_ISA
