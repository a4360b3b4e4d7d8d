// The update formulas, vector by vector.
#include "ops/update.h"

#include "base/vocab.h"

namespace wengert::WENGERT_ISA {
namespace {

template <class T>
struct Updates {
  using V = Simd<T>;

  template <class Body>
  FN static void each(int64_t n, const Body& body) {
    int64_t i = 0;
    for (; i + V::width <= n; i += V::width) body(i, V::width);
    if (i < n) body(i, static_cast<int>(n - i));
  }
  FN static V load(const T* x, int count) { return count == V::width ? V::load(x) : V::load_n(x, count); }
  FN static void store(T* y, int count, V v) { count == V::width ? v.store(y) : v.store_n(y, count); }

  static void sgd(int64_t n, T* p, const T* g, T* buffer, const SgdStep& s) {
    each(n, [&](int64_t i, int count) __attribute__((always_inline)) {
      const V w = load(p + i, count);
      V d = fma(V(s.weight_decay), w, load(g + i, count));
      if (buffer) {
        const V b = s.first ? d : V(s.momentum) * load(buffer + i, count) + V(1 - s.dampening) * d;
        store(buffer + i, count, b);
        d = s.nesterov ? fma(V(s.momentum), b, d) : b;
      }
      store(p + i, count, fma(V(-s.lr), d, w));
    });
  }

  static void adam(int64_t n, T* p, const T* g, T* m_data, T* v_data, const AdamStep& s) {
    each(n, [&](int64_t i, int count) __attribute__((always_inline)) {
      const V w = load(p + i, count);
      const V d = fma(V(s.weight_decay), w, load(g + i, count));
      const V m = fma(V(s.beta1), load(m_data + i, count), V(1 - s.beta1) * d);
      const V v = fma(V(s.beta2), load(v_data + i, count), V(1 - s.beta2) * d * d);
      store(m_data + i, count, m);
      store(v_data + i, count, v);
      const V denominator = sqrt(v) / V(s.bias2_sqrt) + V(s.eps);
      store(p + i, count, fma(V(-s.step_size), m / denominator, V(s.decay) * w));
    });
  }

  static void rmsprop(int64_t n, T* p, const T* g, T* square, T* buffer, const RmspropStep& s) {
    each(n, [&](int64_t i, int count) __attribute__((always_inline)) {
      const V w = load(p + i, count);
      const V d = fma(V(s.weight_decay), w, load(g + i, count));
      const V v = fma(V(s.alpha), load(square + i, count), V(1 - s.alpha) * d * d);
      store(square + i, count, v);
      V change = d / (sqrt(v) + V(s.eps));
      if (buffer) {
        change = fma(V(s.momentum), load(buffer + i, count), change);
        store(buffer + i, count, change);
      }
      store(p + i, count, fma(V(-s.lr), change, w));
    });
  }

  static constexpr UpdateKernelsFor<T> kernels{sgd, adam, rmsprop};
};

}  // namespace

extern constexpr UpdateKernels update_kernels{Updates<float>::kernels, Updates<double>::kernels};

}  // namespace wengert::WENGERT_ISA
