// Scan kernels. A run of sums or products is scanned in vectors of a fixed number of lanes, so
// every instruction set gives the same bits; other folds go element by element, or column by
// column.
#pragma GCC diagnostic ignored "-Wpsabi"  // wide vectors, passed to inlined functions only

#include "ops/scan/scan.h"

#include "ops/scan/folds.h"

namespace wengert::WENGERT_ISA {
namespace {

// A run of adjacent elements, by vectors; returns how many elements that were.
template <class Fold, class T> struct Run {
  using Acc = typename Fold::Acc;
  using Out = typename Fold::Out;
  static constexpr int lanes = 8;
  typedef Acc V __attribute__((vector_size(lanes * sizeof(Acc))));
  typedef T In __attribute__((vector_size(lanes * sizeof(T))));

  template <bool back> FN static V turned(V v) {
    if constexpr (back) return __builtin_shufflevector(v, v, 7, 6, 5, 4, 3, 2, 1, 0);
    return v;
  }
  template <bool back> static int64_t run(const ScanRows& s, Acc& acc) {
    const int64_t n = s.rows / lanes * lanes, step = back ? -lanes : lanes,
                  low = back ? 1 - lanes : 0;
    const T* x = static_cast<const T*>(s.x[0]) + low;
    const V none = Fold::start() - V{};
    const auto next = [&]() INLINE {
      In v;
      __builtin_memcpy(&v, x, sizeof v);
      x += step;
      return turned<back>(__builtin_convertvector(v, V));
    };
    if (!s.y) {
      V all = none;
      for (int64_t i = 0; i < n; i += lanes) all = Fold::merge(all, next());
      for (int i = 0; i < lanes; ++i) acc = Fold::merge(acc, all[i]);
      return n;
    }
    Out* y = static_cast<Out*>(s.y) + low;
    V before = acc - V{};
    for (int64_t i = 0; i < n; i += lanes, y += step) {
      V p = next();
      p = Fold::merge(V(__builtin_shufflevector(none, p, 0, 8, 9, 10, 11, 12, 13, 14)), p);
      p = Fold::merge(V(__builtin_shufflevector(none, p, 0, 1, 8, 9, 10, 11, 12, 13)), p);
      p = Fold::merge(V(__builtin_shufflevector(none, p, 0, 1, 2, 3, 8, 9, 10, 11)), p);
      p = Fold::merge(before, p);
      before = __builtin_shufflevector(p, p, 7, 7, 7, 7, 7, 7, 7, 7);
      const auto out = __builtin_convertvector(turned<back>(p), In);
      __builtin_memcpy(y, &out, sizeof out);
    }
    acc = before[0];
    return n;
  }
};

template <class Fold, class T> struct Kernel {
  using Acc = typename Fold::Acc;
  using Out = typename Fold::Out;
  static void start(int64_t n, void* acc) {
    for (int64_t i = 0; i < n; ++i) static_cast<Acc*>(acc)[i] = Fold::start();
  }
  static void merge(int64_t n, void* acc, const void* earlier) {
    for (int64_t i = 0; i < n; ++i)
      static_cast<Acc*>(acc)[i] =
          Fold::merge(static_cast<const Acc*>(earlier)[i], static_cast<Acc*>(acc)[i]);
  }

  // Element i of the row number r.
  template <bool write> FN static Acc element(Acc acc, const ScanRows& s, int64_t i, int64_t r) {
    const T* x = static_cast<const T*>(s.x[0]);
    if constexpr (std::is_same_v<Fold, Affine<T>>)
      acc = Fold::fold(acc, x[i], static_cast<const T*>(s.x[1])[i]);
    else
      acc = Fold::fold(acc, x[i], s.first + r);
    if constexpr (write) {
      static_cast<Out*>(s.y)[i] = Fold::finish(acc, 1);
      if constexpr (requires { acc.at; }) s.at[i] = acc.at;
    }
    return acc;
  }
  template <bool write> static void rows(const ScanRows& s, Acc* __restrict acc) {
    const ScanRows plain = s;  // so that the compiler knows that no store changes it
    if (plain.columns == 1) {
      Acc one = *acc;
      for (int64_t r = 0; r < plain.rows; ++r) one = element<write>(one, plain, r * plain.step, r);
      *acc = one;
      return;
    }
    for (int64_t r = 0; r < plain.rows; ++r)
#pragma GCC ivdep
      for (int64_t c = 0; c < plain.columns; ++c)
        acc[c] = element<write>(acc[c], plain, r * plain.step + c, r);
  }

  static void scan(const ScanRows& given, void* acc_data) {
    Acc* acc = static_cast<Acc*>(acc_data);
    ScanRows s = given;
    if constexpr (std::is_arithmetic_v<Acc>)
      if (s.columns == 1 && (s.step == 1 || s.step == -1)) {
        using Vectors = Run<Fold, T>;
        const int64_t done = s.step > 0 ? Vectors::template run<false>(s, *acc)
                                        : Vectors::template run<true>(s, *acc);
        s.rows -= done;
        s.x[0] = static_cast<const T*>(s.x[0]) + done * s.step;
        if (s.y) s.y = static_cast<Out*>(s.y) + done * s.step;
      }
    s.y ? rows<true>(s, acc) : rows<false>(s, acc);
  }
  static constexpr ScanKernel kernel{sizeof(Acc), start, scan, merge};
};

template <template <class> class Fold> constexpr std::array<ScanKernel, dtype_count> of_numbers() {
  return {{{},
           {},
           {},
           Kernel<Fold<int64_t>, int64_t>::kernel,  // as which other integers come
           {},                                      // bfloat16 is widened before
           Kernel<Fold<float>, float>::kernel,
           Kernel<Fold<double>, double>::kernel}};
}
template <template <class> class Fold> constexpr std::array<ScanKernel, dtype_count> of_reals() {
  return {{{},
           {},
           {},
           {},
           {},
           Kernel<Fold<float>, float>::kernel,
           Kernel<Fold<double>, double>::kernel}};
}
template <template <class> class Fold> constexpr std::array<ScanKernel, dtype_count> of_all() {
  return {{Kernel<Fold<uint8_t>, uint8_t>::kernel,  // a bool is 0 or 1 in a byte
           Kernel<Fold<uint8_t>, uint8_t>::kernel,
           Kernel<Fold<int32_t>, int32_t>::kernel,
           Kernel<Fold<int64_t>, int64_t>::kernel,
           {},
           Kernel<Fold<float>, float>::kernel,
           Kernel<Fold<double>, double>::kernel}};
}

}  // namespace

extern constexpr ScanKernels scan_kernels{{of_numbers<Sum>(), of_numbers<Prod>(),
                                           of_all<LatestMax>(), of_all<LatestMin>(),
                                           of_reals<LogSumExp>(), of_reals<Affine>()}};

}  // namespace wengert::WENGERT_ISA
