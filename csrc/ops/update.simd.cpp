// The update formulas, vector by vector.
#include "ops/update.h"

#include "base/vocab.h"

namespace wengert::WENGERT_ISA {
namespace {

template <class T> struct Updates {
  using V = Simd<T>;

  static void sgd(int64_t n, T* p, const T* g, T* buffer, const SgdStep& s) {
    each_vector<V>(n, [&](int64_t i, int count) INLINE {
      const V w = load<V>(p + i, count);
      V d = fma(V(s.weight_decay), w, load<V>(g + i, count));
      if (buffer) {
        const V b =
            s.first ? d : V(s.momentum) * load<V>(buffer + i, count) + V(1 - s.dampening) * d;
        store(buffer + i, count, b);
        d = s.nesterov ? fma(V(s.momentum), b, d) : b;
      }
      store(p + i, count, fma(V(-s.lr), d, w));
    });
  }

  static void adam(int64_t n, T* p, const T* g, T* m_data, T* v_data, const AdamStep& s) {
    each_vector<V>(n, [&](int64_t i, int count) INLINE {
      const V w = load<V>(p + i, count);
      const V d = fma(V(s.weight_decay), w, load<V>(g + i, count));
      const V m = fma(V(s.beta1), load<V>(m_data + i, count), V(1 - s.beta1) * d);
      const V v = fma(V(s.beta2), load<V>(v_data + i, count), V(1 - s.beta2) * d * d);
      store(m_data + i, count, m);
      store(v_data + i, count, v);
      const V denominator = sqrt(v) / V(s.bias2_sqrt) + V(s.eps);
      store(p + i, count, fma(V(-s.step_size), m / denominator, V(s.decay) * w));
    });
  }

  static void rmsprop(int64_t n, T* p, const T* g, T* square, T* buffer, const RmspropStep& s) {
    each_vector<V>(n, [&](int64_t i, int count) INLINE {
      const V w = load<V>(p + i, count);
      const V d = fma(V(s.weight_decay), w, load<V>(g + i, count));
      const V v = fma(V(s.alpha), load<V>(square + i, count), V(1 - s.alpha) * d * d);
      store(square + i, count, v);
      V change = d / (sqrt(v) + V(s.eps));
      if (buffer) {
        change = fma(V(s.momentum), load<V>(buffer + i, count), change);
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
