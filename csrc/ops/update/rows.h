// The optimizers: one row each, with PyTorch's formulas.
//
//   operands the names in `formula` of parameter, states, step count, gradient and options
//   options  the optimizer's numbers, in the order in which a float64 tensor holds them
//   flag     a variant of the formula, fixed in the line; null: none
//   states   tensors of each parameter's shape; those from `needed` on serve momentum alone, and
//   are
//            missing without it
//
// An object of a row holds the constants of one step: `of` works them out in float64, from the
// options and the step count. `update` is the formula, over Simd<T> or Lane<T>: w is the parameter,
// d its gradient; a and b are the states, overwritten like w.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>

#include "base/fn.h"
#include "base/isa.h"
#include "ops/elementwise/rows.h"

namespace wengert {

struct Sgd {
  static constexpr auto name = "sgd_step", flag = "nesterov";
  static constexpr auto operands = "p, b, t, g, options";
  static constexpr auto formula =
      "lr, momentum, dampening, weight_decay = options; g = g + weight_decay * p; "
      "b = momentum * b + (1 - dampening) * g; p = p - lr * b";
  static constexpr std::array options{"lr", "momentum", "dampening", "weight_decay"};
  static constexpr std::array states{"momentum_buffers"};
  static constexpr int needed = 0;

  double lr, momentum, dampening, weight_decay;
  bool nesterov, first;  // the first step fills the momentum buffer with the gradient

  static Sgd of(const double* o, bool nesterov, int64_t t) {
    return {o[0], o[1], o[2], o[3], nesterov, t == 1};
  }
  template <class V> FN void update(V& w, V d, V& b, V&, bool has_momentum) const {
    d = fma(V(weight_decay), w, d);
    if (has_momentum) {
      b = first ? d : V(momentum) * b + V(1 - dampening) * d;
      d = nesterov ? fma(V(momentum), b, d) : b;
    }
    w = fma(V(-lr), d, w);
  }
};

// Kingma and Ba 2014, arXiv 1412.6980; decoupled (AdamW): Loshchilov and Hutter 2017, 1711.05101.
struct Adam {
  static constexpr auto name = "adam_step", flag = "decoupled";
  static constexpr auto operands = "p, m, v, t, g, options";
  static constexpr auto formula =
      "lr, b1, b2, eps, weight_decay = options; m = b1 * m + (1 - b1) * g; v = b2 * v + (1 - b2) * "
      "g^2; p = p - lr * m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps)";
  static constexpr std::array options{"lr", "beta1", "beta2", "eps", "weight_decay"};
  static constexpr std::array states{"exp_avgs", "exp_avg_sqs"};
  static constexpr int needed = 2;

  double step_size, bias2_rsqrt;                  // lr / (1 - beta1^t), 1 / sqrt(1 - beta2^t)
  double beta1, beta2, eps, weight_decay, decay;  // decay: 1 - lr * weight_decay (AdamW)

  static Adam of(const double* o, bool decoupled, int64_t steps) {
    const auto t = static_cast<double>(steps);
    const double lr = o[0], beta1 = o[1], beta2 = o[2], weight_decay = o[4];
    return {.step_size = lr / (1 - std::pow(beta1, t)),
            .bias2_rsqrt = 1 / std::sqrt(1 - std::pow(beta2, t)),
            .beta1 = beta1,
            .beta2 = beta2,
            .eps = o[3],
            .weight_decay = decoupled ? 0 : weight_decay,
            .decay = decoupled ? 1 - lr * weight_decay : 1};
  }
  template <class V> FN void update(V& w, V d, V& m, V& v, bool) const {
    d = fma(V(weight_decay), w, d);
    m = fma(V(beta1), m, V(1 - beta1) * d);
    v = fma(V(beta2), v, V(1 - beta2) * d * d);
    const V denominator = fma(sqrt(v), V(bias2_rsqrt), V(eps));
    w = fma(V(-step_size), m / denominator, V(decay) * w);
  }
};

// Tieleman and Hinton 2012, lecture 6.5.
struct Rmsprop {
  static constexpr auto name = "rmsprop_step";
  static constexpr const char* flag = nullptr;
  static constexpr auto operands = "p, v, b, t, g, options";
  static constexpr auto formula =
      "lr, alpha, eps, weight_decay, momentum = options; v = alpha * v + (1 - alpha) * g^2; b = "
      "momentum * b + g / (sqrt(v) + eps); p = p - lr * b";
  static constexpr std::array options{"lr", "alpha", "eps", "weight_decay", "momentum"};
  static constexpr std::array states{"square_avgs", "momentum_buffers"};
  static constexpr int needed = 1;

  double lr, alpha, eps, weight_decay, momentum;

  static Rmsprop of(const double* o, bool, int64_t) { return {o[0], o[1], o[2], o[3], o[4]}; }
  template <class V> FN void update(V& w, V d, V& v, V& b, bool has_momentum) const {
    d = fma(V(weight_decay), w, d);
    v = fma(V(alpha), v, V(1 - alpha) * d * d);
    V change = d / (sqrt(v) + V(eps));
    if (has_momentum) b = change = fma(V(momentum), b, change);
    w = fma(V(-lr), change, w);
  }
};

using UpdateRows = List<Sgd, Adam, Rmsprop>;

// ---- over all rows ----

constexpr int max_states = 2;
template <class Row> constexpr int states_of = static_cast<int>(Row::states.size());

// A struct with a base Of<Row> for each row.
template <template <class> class Of, class Rows> struct PerRow;
template <template <class> class Of, class... Rows>
struct PerRow<Of, List<Rows...>> : Of<Rows>... {};

// Element j of a parameter whose gradient there is g. States without memory are left alone.
template <class V, class Row, class T>
FN void update_element(const Row& s, T* p, T* const (&state)[max_states], int64_t j, T g) {
  T *const first = state[0], *const second = states_of<Row> > 1 ? state[1] : nullptr;
  V w(p[j]), a(first ? first[j] : T(0)), b(second ? second[j] : T(0));
  s.update(w, V(g), a, b, state[states_of<Row> - 1] != nullptr);
  p[j] = w.v;
  if (first) first[j] = a.v;
  if (second) second[j] = b.v;
}

// A parameter that is updated in the matmul that makes its gradient, on a GPU: with the constants
// of the row of this number.
template <class Row> using Itself = Row;
using UpdateConstants = PerRow<Itself, UpdateRows>;
struct UpdateInMatmul {
  float* p = nullptr;  // null: none
  float* state[max_states] = {};
  int row = 0;
  const UpdateConstants* at = nullptr;  // null: `constants`, until the launch
  UpdateConstants constants = {};
};

template <class Row> struct UpdateKernelsOf {
  template <class T>
  using Kernel = void (*)(int64_t n, T* p, const T* g, T* const* state, const Row& s);
  Kernel<float> f32;
  Kernel<double> f64;
};
struct UpdateKernels : PerRow<UpdateKernelsOf, UpdateRows> {};
WENGERT_DECLARE_KERNELS(UpdateKernels, update_kernels)

}  // namespace wengert
