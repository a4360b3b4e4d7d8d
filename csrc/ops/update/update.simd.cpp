// The loops of the updates, vector by vector.
#include "ops/update/formulas.h"

namespace wengert::WENGERT_ISA {
namespace {

template <class T> struct Updates {
  using V = Simd<T>;

  // f(w, g, a, b): reads and overwrites parameter and states; those without memory are left alone.
  template <class F> FN static void each(int64_t n, T* p, const T* g, T* a, T* b, const F& f) {
    each_vector<V>(n, [&](int64_t i, int count) INLINE {
      V w = load<V>(p + i, count), first(0), second(0);
      if (a) first = load<V>(a + i, count);
      if (b) second = load<V>(b + i, count);
      f(w, load<V>(g + i, count), first, second);
      store(p + i, count, w);
      if (a) store(a + i, count, first);
      if (b) store(b + i, count, second);
    });
  }
  // Copies of the constants stay in registers: a store to p could change the caller's.
  static void sgd(int64_t n, T* p, const T* g, T* buffer, const SgdStep& step) {
    const SgdStep s = step;
    each(n, p, g, buffer, nullptr,
         [&](V& w, V d, V& b, V&) INLINE { sgd_formula(w, d, b, buffer != nullptr, s); });
  }
  static void adam(int64_t n, T* p, const T* g, T* m_data, T* v_data, const AdamStep& step) {
    const AdamStep s = step;
    each(n, p, g, m_data, v_data,
         [&](V& w, V d, V& m, V& v) INLINE { adam_formula(w, d, m, v, s); });
  }
  static void rmsprop(int64_t n, T* p, const T* g, T* square, T* buffer, const RmspropStep& step) {
    const RmspropStep s = step;
    each(n, p, g, square, buffer,
         [&](V& w, V d, V& v, V& b) INLINE { rmsprop_formula(w, d, v, b, buffer != nullptr, s); });
  }

  static constexpr UpdateKernelsFor<T> kernels{sgd, adam, rmsprop};
};

}  // namespace

extern constexpr UpdateKernels update_kernels{Updates<float>::kernels, Updates<double>::kernels};

}  // namespace wengert::WENGERT_ISA
