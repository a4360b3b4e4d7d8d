// The update formulas (PyTorch's), over Simd<T> and Lane<T>: w is the parameter, d its gradient;
// the others are states, overwritten like w.
#pragma once

#include "base/vocab.h"
#include "ops/update/update.h"

namespace wengert::WENGERT_ISA {

template <Real V> FN void sgd_formula(V& w, V d, V& b, bool momentum, const SgdStep& s) {
  d = fma(V(s.weight_decay), w, d);
  if (momentum) {
    b = s.first ? d : V(s.momentum) * b + V(1 - s.dampening) * d;
    d = s.nesterov ? fma(V(s.momentum), b, d) : b;
  }
  w = fma(V(-s.lr), d, w);
}

template <Real V> FN void adam_formula(V& w, V d, V& m, V& v, const AdamStep& s) {
  d = fma(V(s.weight_decay), w, d);
  m = fma(V(s.beta1), m, V(1 - s.beta1) * d);
  v = fma(V(s.beta2), v, V(1 - s.beta2) * d * d);
  const V denominator = fma(sqrt(v), V(s.bias2_rsqrt), V(s.eps));
  w = fma(V(-s.step_size), m / denominator, V(s.decay) * w);
}

template <Real V>
FN void rmsprop_formula(V& w, V d, V& v, V& b, bool momentum, const RmspropStep& s) {
  d = fma(V(s.weight_decay), w, d);
  v = fma(V(s.alpha), v, V(1 - s.alpha) * d * d);
  V change = d / (sqrt(v) + V(s.eps));
  if (momentum) b = change = fma(V(s.momentum), b, change);
  w = fma(V(-s.lr), change, w);
}

}  // namespace wengert::WENGERT_ISA
