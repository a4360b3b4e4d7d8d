// The optimizers: one row each, with PyTorch's formulas.
//
//   operands the names in `formula` of parameter, states, step count, gradient and options
//   options  the optimizer's numbers, in the order in which a float64 tensor holds them; flags are
//            0 or 1
//   states   tensors of each parameter's shape; those from `needed` on may be missing, the last
//            ones first
//
// An object of a row holds the constants of one step: `of` works them out in float64, from the
// options and the step count. `update` is the formula, over Simd<T> or Lane<T>: w is the parameter,
// d its gradient, the other three its states, overwritten like w; `states` is how many there are.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>

#include "base/fn.h"
#include "base/isa.h"
#include "ops/elementwise/rows.h"

namespace wengert {

// How weight decay and `maximize` change a gradient, or, decoupled, how the decay changes w.
struct Descent {
  double sign, weight_decay, decay;

  static Descent of(double maximize, double weight_decay, double decoupled = 0, double lr = 0) {
    const bool apart = decoupled != 0;
    return {maximize != 0 ? -1.0 : 1.0, apart ? 0 : weight_decay,
            apart ? 1 - lr * weight_decay : 1};
  }
  template <class V> FN V operator()(V& w, V d) const {
    d = fma(V(weight_decay), w, V(sign) * d);
    w = V(decay) * w;
    return d;
  }
};

struct Sgd {
  static constexpr auto name = "sgd_step";
  static constexpr auto operands = "p, b, t, g, options";
  static constexpr auto formula =
      "lr, momentum, dampening, weight_decay = options; g = g + weight_decay * p; "
      "b = momentum * b + (1 - dampening) * g; p = p - lr * b";
  static constexpr std::array options{"lr",           "momentum", "dampening",
                                      "weight_decay", "nesterov", "maximize"};
  static constexpr std::array states{"momentum_buffers"};
  static constexpr int needed = 0;

  Descent descent;
  double lr, momentum, dampening;
  bool nesterov, first;  // the first step fills the momentum buffer with the gradient

  static Sgd of(const double* o, int64_t t) {
    return {Descent::of(o[5], o[3]), o[0], o[1], o[2], o[4] != 0, t == 1};
  }
  template <class V> FN void update(V& w, V d, V& b, V&, V&, int states) const {
    d = descent(w, d);
    if (states) {
      b = first ? d : V(momentum) * b + V(1 - dampening) * d;
      d = nesterov ? fma(V(momentum), b, d) : b;
    }
    w = fma(V(-lr), d, w);
  }
};

// Kingma and Ba 2014, arXiv 1412.6980; decoupled (AdamW): Loshchilov and Hutter 2017, 1711.05101;
// the third state (amsgrad): Reddi, Kale and Kumar 2018.
struct Adam {
  static constexpr auto name = "adam_step";
  static constexpr auto operands = "p, m, v, t, g, options";
  static constexpr auto formula =
      "lr, b1, b2, eps, weight_decay = options; m = b1 * m + (1 - b1) * g; v = b2 * v + (1 - b2) * "
      "g^2; p = p - lr * m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps)";
  static constexpr std::array options{"lr",           "beta1",     "beta2",   "eps",
                                      "weight_decay", "decoupled", "maximize"};
  static constexpr std::array states{"exp_avgs", "exp_avg_sqs", "max_exp_avg_sqs"};
  static constexpr int needed = 2;

  Descent descent;
  double step_size, bias2_rsqrt;  // lr / (1 - beta1^t), 1 / sqrt(1 - beta2^t)
  double beta1, beta2, eps;

  static Adam of(const double* o, int64_t steps) {
    const auto t = static_cast<double>(steps);
    return {.descent = Descent::of(o[6], o[4], o[5], o[0]),
            .step_size = o[0] / (1 - std::pow(o[1], t)),
            .bias2_rsqrt = 1 / std::sqrt(1 - std::pow(o[2], t)),
            .beta1 = o[1],
            .beta2 = o[2],
            .eps = o[3]};
  }
  template <class V> FN void update(V& w, V d, V& m, V& v, V& top, int states) const {
    d = descent(w, d);
    m = fma(V(beta1), m, V(1 - beta1) * d);
    v = fma(V(beta2), v, V(1 - beta2) * d * d);
    V used = v;
    if (states > 2) used = top = maximum(top, v);
    const V denominator = fma(sqrt(used), V(bias2_rsqrt), V(eps));
    w = fma(V(-step_size), m / denominator, w);
  }
};

// Tieleman and Hinton 2012, lecture 6.5; the third state is the average gradient of `centered`.
struct Rmsprop {
  static constexpr auto name = "rmsprop_step";
  static constexpr auto operands = "p, v, b, t, g, options";
  static constexpr auto formula =
      "lr, alpha, eps, weight_decay, momentum = options; v = alpha * v + (1 - alpha) * g^2; b = "
      "momentum * b + g / (sqrt(v) + eps); p = p - lr * b";
  static constexpr std::array options{"lr", "alpha", "eps", "weight_decay", "momentum", "maximize"};
  static constexpr std::array states{"square_avgs", "momentum_buffers", "grad_avgs"};
  static constexpr int needed = 1;

  Descent descent;
  double lr, alpha, eps, momentum;

  static Rmsprop of(const double* o, int64_t) {
    return {Descent::of(o[5], o[3]), o[0], o[1], o[2], o[4]};
  }
  template <class V> FN void update(V& w, V d, V& v, V& b, V& average, int states) const {
    d = descent(w, d);
    v = fma(V(alpha), v, V(1 - alpha) * d * d);
    V spread = v;
    if (states > 2) {
      average = fma(V(alpha), average, V(1 - alpha) * d);
      spread = maximum(v - average * average, 0.0);  // a variance, whatever it rounds to
    }
    V change = d / (sqrt(spread) + V(eps));
    if (states > 1) b = change = fma(V(momentum), b, change);
    w = fma(V(-lr), change, w);
  }
};

// Duchi, Hazan and Singer 2011, JMLR 12.
struct Adagrad {
  static constexpr auto name = "adagrad_step";
  static constexpr auto operands = "p, s, t, g, options";
  static constexpr auto formula =
      "lr, lr_decay, weight_decay, eps = options; g = g + weight_decay * p; s = s + g^2; "
      "p = p - lr / (1 + (t - 1) * lr_decay) * g / (sqrt(s) + eps)";
  static constexpr std::array options{"lr", "lr_decay", "weight_decay", "eps", "maximize"};
  static constexpr std::array states{"sums"};
  static constexpr int needed = 1;

  Descent descent;
  double step_size, eps;

  static Adagrad of(const double* o, int64_t t) {
    return {Descent::of(o[4], o[2]), o[0] / (1 + static_cast<double>(t - 1) * o[1]), o[3]};
  }
  template <class V> FN void update(V& w, V d, V& sum, V&, V&, int) const {
    d = descent(w, d);
    sum = fma(d, d, sum);
    w = fma(V(-step_size), d / (sqrt(sum) + V(eps)), w);
  }
};

// Zeiler 2012, arXiv 1212.5701, algorithm 1.
struct Adadelta {
  static constexpr auto name = "adadelta_step";
  static constexpr auto operands = "p, v, u, t, g, options";
  static constexpr auto formula =
      "lr, rho, eps, weight_decay = options; g = g + weight_decay * p; v = rho * v + (1 - rho) * "
      "g^2; d = sqrt(u + eps) / sqrt(v + eps) * g; u = rho * u + (1 - rho) * d^2; p = p - lr * d";
  static constexpr std::array options{"lr", "rho", "eps", "weight_decay", "maximize"};
  static constexpr std::array states{"square_avgs", "acc_deltas"};
  static constexpr int needed = 2;

  Descent descent;
  double lr, rho, eps;

  static Adadelta of(const double* o, int64_t) {
    return {Descent::of(o[4], o[3]), o[0], o[1], o[2]};
  }
  template <class V> FN void update(V& w, V d, V& v, V& u, V&, int) const {
    d = descent(w, d);
    v = fma(V(rho), v, V(1 - rho) * d * d);
    d = sqrt(u + V(eps)) / sqrt(v + V(eps)) * d;
    u = fma(V(rho), u, V(1 - rho) * d * d);
    w = fma(V(-lr), d, w);
  }
};

// Kingma and Ba 2014, arXiv 1412.6980, algorithm 2.
struct Adamax {
  static constexpr auto name = "adamax_step";
  static constexpr auto operands = "p, m, u, t, g, options";
  static constexpr auto formula =
      "lr, b1, b2, eps, weight_decay = options; g = g + weight_decay * p; m = b1 * m + (1 - b1) * "
      "g; u = max(b2 * u, |g| + eps); p = p - lr / (1 - b1^t) * m / u";
  static constexpr std::array options{"lr", "beta1", "beta2", "eps", "weight_decay", "maximize"};
  static constexpr std::array states{"exp_avgs", "exp_infs"};
  static constexpr int needed = 2;

  Descent descent;
  double step_size, beta1, beta2, eps;

  static Adamax of(const double* o, int64_t t) {
    const double bias = 1 - std::pow(o[1], static_cast<double>(t));
    return {Descent::of(o[5], o[4]), o[0] / bias, o[1], o[2], o[3]};
  }
  template <class V> FN void update(V& w, V d, V& m, V& u, V&, int) const {
    d = descent(w, d);
    m = fma(V(beta1), m, V(1 - beta1) * d);
    u = maximum(V(beta2) * u, abs(d) + V(eps));
    w = fma(V(-step_size), m / u, w);
  }
};

// Dozat 2016, "Incorporating Nesterov momentum into Adam"; the last option is the product of the
// momenta of all steps, this one's included.
struct Nadam {
  static constexpr auto name = "nadam_step";
  static constexpr auto operands = "p, m, v, t, g, options";
  static constexpr auto formula =
      "lr, b1, b2, eps, weight_decay, momentum_decay = options; mu_t = b1 * (1 - 0.96^(t * "
      "momentum_decay) / 2); m = b1 * m + (1 - b1) * g; v = b2 * v + (1 - b2) * g^2; p = p - lr * "
      "((1 - mu_t) * g / (1 - mu_1 * ... * mu_t) + mu_(t+1) * m / (1 - mu_1 * ... * mu_(t+1))) / "
      "(sqrt(v / (1 - b2^t)) + eps)";
  static constexpr std::array options{"lr",        "beta1",        "beta2",
                                      "eps",       "weight_decay", "momentum_decay",
                                      "decoupled", "maximize",     "mu_product"};
  static constexpr std::array states{"exp_avgs", "exp_avg_sqs"};
  static constexpr int needed = 2;

  Descent descent;
  double of_gradient, of_average, bias2_rsqrt, beta1, beta2, eps;

  static Nadam of(const double* o, int64_t steps) {
    const auto t = static_cast<double>(steps);
    const auto momentum = [&](double at) { return o[1] * (1 - 0.5 * std::pow(0.96, at * o[5])); };
    const double now = momentum(t), next = momentum(t + 1), product = o[8];
    return {Descent::of(o[7], o[4], o[6], o[0]),
            o[0] * (1 - now) / (1 - product),
            o[0] * next / (1 - product * next),
            1 / std::sqrt(1 - std::pow(o[2], t)),
            o[1],
            o[2],
            o[3]};
  }
  template <class V> FN void update(V& w, V d, V& m, V& v, V&, int) const {
    d = descent(w, d);
    m = fma(V(beta1), m, V(1 - beta1) * d);
    v = fma(V(beta2), v, V(1 - beta2) * d * d);
    const V step = fma(V(of_gradient), d, V(of_average) * m);
    w = w - step / fma(sqrt(v), V(bias2_rsqrt), V(eps));
  }
};

// Liu and others 2019, arXiv 1908.03265, algorithm 2: Adam once the variance of its denominator
// can be known, before that momentum alone.
struct Radam {
  static constexpr auto name = "radam_step";
  static constexpr auto operands = "p, m, v, t, g, options";
  static constexpr auto formula =
      "lr, b1, b2, eps, weight_decay = options; m = b1 * m + (1 - b1) * g; v = b2 * v + (1 - b2) * "
      "g^2; l = 2 / (1 - b2) - 1; n = l - 2 * t * b2^t / (1 - b2^t); r = sqrt((n - 4) * (n - 2) * "
      "l / ((l - 4) * (l - 2) * n)) * sqrt(1 - b2^t) / (sqrt(v) + eps) if n > 5 else 1; p = p - "
      "lr * m / (1 - b1^t) * r";
  static constexpr std::array options{"lr",           "beta1",     "beta2",   "eps",
                                      "weight_decay", "decoupled", "maximize"};
  static constexpr std::array states{"exp_avgs", "exp_avg_sqs"};
  static constexpr int needed = 2;

  Descent descent;
  double step_size, beta1, beta2, eps;
  bool rectified;

  static Radam of(const double* o, int64_t steps) {
    const auto t = static_cast<double>(steps);
    const double power = std::pow(o[2], t), most = 2 / (1 - o[2]) - 1;
    const double n = most - 2 * t * power / (1 - power), lr = o[0] / (1 - std::pow(o[1], t));
    const double rectify = std::sqrt((n - 4) * (n - 2) * most / ((most - 4) * (most - 2) * n));
    return {Descent::of(o[6], o[4], o[5], o[0]),
            n > 5 ? lr * rectify * std::sqrt(1 - power) : lr,
            o[1],
            o[2],
            o[3],
            n > 5};
  }
  template <class V> FN void update(V& w, V d, V& m, V& v, V&, int) const {
    d = descent(w, d);
    m = fma(V(beta1), m, V(1 - beta1) * d);
    v = fma(V(beta2), v, V(1 - beta2) * d * d);
    w = fma(V(-step_size), rectified ? m / (sqrt(v) + V(eps)) : m, w);
  }
};

// Riedmiller and Braun 1993, "A direct adaptive method for faster backpropagation learning: the
// RPROP algorithm".
struct Rprop {
  static constexpr auto name = "rprop_step";
  static constexpr auto operands = "p, before, s, t, g, options";
  static constexpr auto formula =
      "less, more, least, most = options; s = clamp(s * (more if g * before > 0 else less if g * "
      "before < 0 else 1), least, most); g = 0 if g * before < 0 else g; p = p - sign(g) * s; "
      "before = g";
  static constexpr std::array options{"eta_minus", "eta_plus", "step_size_min", "step_size_max",
                                      "maximize"};
  static constexpr std::array states{"prevs", "step_sizes"};
  static constexpr int needed = 2;

  double less, more, least, most, sign_of_gradient;

  static Rprop of(const double* o, int64_t) {
    return {o[0], o[1], o[2], o[3], o[4] != 0 ? -1.0 : 1.0};
  }
  template <class V> FN void update(V& w, V d, V& before, V& size, V&, int) const {
    d = V(sign_of_gradient) * d;
    const V same = d * before;
    size = size * select(same > V(0), V(more), select(same < V(0), V(less), V(1)));
    size = minimum(maximum(size, V(least)), V(most));
    d = select(same < V(0), V(0), d);
    w = w - sign(d) * size;
    before = d;
  }
};

// Polyak and Juditsky 1992, "Acceleration of stochastic approximation by averaging"; the last two
// options are of this step.
struct Asgd {
  static constexpr auto name = "asgd_step";
  static constexpr auto operands = "p, a, t, g, options";
  static constexpr auto formula =
      "lambd, weight_decay, eta, mu = options; g = g + weight_decay * p; p = (1 - lambd * eta) * p "
      "- eta * g; a = a + mu * (p - a)";
  static constexpr std::array options{"lambd", "weight_decay", "maximize", "eta", "mu"};
  static constexpr std::array states{"axs"};
  static constexpr int needed = 1;

  Descent descent;
  double keep, eta, mu;

  static Asgd of(const double* o, int64_t) {
    return {Descent::of(o[2], o[1]), 1 - o[0] * o[3], o[3], o[4]};
  }
  template <class V> FN void update(V& w, V d, V& average, V&, V&, int) const {
    d = descent(w, d);
    w = fma(V(-eta), d, V(keep) * w);
    average = mu == 1 ? w : fma(V(mu), w - average, average);
  }
};

// Chen and others 2023, arXiv 2302.06675, algorithm 2.
struct Lion {
  static constexpr auto name = "lion_step";
  static constexpr auto operands = "p, m, t, g, options";
  static constexpr auto formula =
      "lr, b1, b2, weight_decay = options; p = p - lr * (sign(b1 * m + (1 - b1) * g) + "
      "weight_decay * p); m = b2 * m + (1 - b2) * g";
  static constexpr std::array options{"lr", "beta1", "beta2", "weight_decay", "maximize"};
  static constexpr std::array states{"exp_avgs"};
  static constexpr int needed = 1;

  Descent descent;
  double lr, beta1, beta2;

  static Lion of(const double* o, int64_t) {
    return {Descent::of(o[4], o[3], 1, o[0]), o[0], o[1], o[2]};
  }
  template <class V> FN void update(V& w, V d, V& m, V&, V&, int) const {
    d = descent(w, d);
    w = fma(V(-lr), sign(fma(V(beta1), m, V(1 - beta1) * d)), w);
    m = fma(V(beta2), m, V(1 - beta2) * d);
  }
};

using UpdateRows =
    List<Sgd, Adam, Rmsprop, Adagrad, Adadelta, Adamax, Nadam, Radam, Rprop, Asgd, Lion>;
using InnerUpdateRows = List<Sgd, Adam, Rmsprop>;  // those that GPU kernels of more can apply

// ---- over all rows ----

constexpr int max_states = 3;
template <class Row> constexpr int states_of = static_cast<int>(Row::states.size());

// A struct with a base Of<Row> for each row.
template <template <class> class Of, class Rows> struct PerRow;
template <template <class> class Of, class... Rows>
struct PerRow<Of, List<Rows...>> : Of<Rows>... {};

// Element j of a parameter whose gradient there is g. States without memory are left alone.
template <class V, class Row, class T>
FN void update_element(const Row& s, T* p, T* const (&state)[max_states], int64_t j, T g) {
  V w(p[j]), states[max_states] = {0, 0, 0};
  int n = 0;
  for (; n < states_of<Row> && state[n]; ++n) states[n] = V(state[n][j]);
  s.update(w, V(g), states[0], states[1], states[2], n);
  p[j] = w.v;
  for (int i = 0; i < n; ++i) state[i][j] = states[i].v;
}

// A parameter that is updated in the matmul that makes its gradient, on a GPU: with the constants
// of the row of this number.
template <class Row> using Itself = Row;
using UpdateConstants = PerRow<Itself, InnerUpdateRows>;
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
