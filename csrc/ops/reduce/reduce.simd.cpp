// Reduction kernels. Plain loops over a fixed number of lanes, which the compiler vectorizes; the
// order of additions is fixed by the source, not by the vector width, so every instruction set
// gives the same bits.
#include "ops/reduce/reduce.h"
#include "ops/reduce/folds.h"

namespace wengert::WENGERT_ISA {
namespace {

constexpr int lanes = 16, searched = 64;  // elements at a time

template <class T> FN bool same(T a, T b) { return a == b || (a != a && b != b); }

template <class Fold, class T> struct Kernel {
  using Acc = typename Fold::Acc;
  using Out = typename Fold::Out;
  using V = Simd<std::conditional_t<std::is_floating_point_v<T>, T, float>>;
  static constexpr bool by_vectors =  // those that compilers do not make vectors of
      std::is_floating_point_v<T> && requires(V v) { Fold::better(v, v); };

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
  static void fold_run(int64_t n, void* acc, const void* data, int64_t first) {
    const T* x = static_cast<const T*>(data);
    if constexpr (requires { typename Fold::Value; }) {  // the value first, then where it is
      if (n == 0) return;
      T value = Fold::Value::start();
      Kernel<typename Fold::Value, T>::fold_run(n, &value, data, first);
      const Acc found{value, first + place_of(value, n, x)};
      *static_cast<Acc*>(acc) = Fold::merge(*static_cast<Acc*>(acc), found);
      return;
    }
    Acc lane[lanes];
    for (int j = 0; j < lanes; ++j) lane[j] = Fold::start();
    int64_t i = 0;
    if constexpr (by_vectors) {
      V acc[lanes / V::width];
      for (V& a : acc) a = V(Fold::start());
      for (; i + lanes <= n; i += lanes)
#pragma GCC unroll 8
        for (int v = 0; v < lanes / V::width; ++v)
          acc[v] = Fold::better(acc[v], V::load(x + i + v * V::width));
      for (int v = 0; v < lanes / V::width; ++v) acc[v].store(lane + v * V::width);
    }
    for (; i + lanes <= n; i += lanes)
      for (int j = 0; j < lanes; ++j) lane[j] = Fold::fold(lane[j], x[i + j], first + i + j);
    for (int j = 0; i < n; ++i, ++j) lane[j] = Fold::fold(lane[j], x[i], first + i);
    for (int width = lanes / 2; width > 0; width /= 2)
      for (int j = 0; j < width; ++j) lane[j] = Fold::merge(lane[j], lane[j + width]);
    Acc& a = *static_cast<Acc*>(acc);
    a = Fold::merge(a, lane[0]);
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
  static constexpr ReduceKernel kernel{sizeof(Acc), start, fold_run, fold_rows, merge, finish};
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
