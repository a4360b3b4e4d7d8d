// The cells of recurrent layers: one time of one unit. As in ops/elementwise/rows.h, V is a CPU
// vector, or Tensor, where the gradient itself must be differentiable.
//
// x are products of the layer's input, with all biases but the one named here; p are products of
// the state before. `kept` is what the gradient needs besides the states. `back` is given d, the
// gradients of the states, and writes those of x (`made`, from number 0 on) and, but for the
// products, those of the states before.
#pragma once

#include "base/fn.h"

namespace wengert {

struct Recurrent {
  static constexpr int states = 1;
  static constexpr bool biased = false;  // whether p[gates - 1] has a bias
  // Whether a part of the gradient of state j does not go through the products.
  FN static constexpr bool carries(int) { return false; }
  // The gradients of p, as numbers of `made`.
  FN static constexpr int of_products(int j) { return j; }
};

struct RnnTanh : Recurrent {
  static constexpr int gates = 1, keeps = 1, makes = 1;
  static constexpr auto name = "rnn_tanh", vjp_name = "rnn_tanh_vjp",
                        numpy = "recurrent('rnn_tanh', {reverse}, {all})",
                        vjp_numpy = "recurrent_vjp('rnn_tanh', {reverse}, {all})",
                        operands = "x, w, h",
                        formula = "y[t] = tanh(x[t] + y[t - 1] @ transpose(w)), from y[-1] = h";
  static constexpr const char* gradient[3] = {
      "dx[t] = d * (1 - y[t] ** 2), d = g[t] + dx[t + 1] @ w", "transpose(dx) @ y[t - 1]",
      "dx[0] @ w"};
  template <class V>
  FN static void next(const V* x, const V* p, const V&, const V*, V* kept, V* state) {
    kept[0] = state[0] = tanh(x[0] + p[0]);
  }
  template <class V>
  FN static void back(const V* kept, const V*, const V*, const V* d, V* made, V*) {
    made[0] = times(d[0], 1.0 - kept[0] * kept[0]);
  }
};

struct RnnRelu : RnnTanh {
  static constexpr auto name = "rnn_relu", vjp_name = "rnn_relu_vjp",
                        numpy = "recurrent('rnn_relu', {reverse}, {all})",
                        vjp_numpy = "recurrent_vjp('rnn_relu', {reverse}, {all})",
                        formula = "y[t] = max(x[t] + y[t - 1] @ transpose(w), 0), from y[-1] = h";
  static constexpr const char* gradient[3] = {"dx[t] = d where y[t] > 0, d = g[t] + dx[t + 1] @ w",
                                              "transpose(dx) @ y[t - 1]", "dx[0] @ w"};
  template <class V>
  FN static void next(const V* x, const V* p, const V&, const V*, V* kept, V* state) {
    kept[0] = state[0] = maximum(x[0] + p[0], 0.0);
  }
  template <class V>
  FN static void back(const V* kept, const V*, const V*, const V* d, V* made, V*) {
    made[0] = select(kept[0] <= 0.0, 0.0, d[0]);
  }
};

// Hochreiter and Schmidhuber, Neural Computation 9, 1997, with the forget gate of Gers et al. 2000.
struct Lstm : Recurrent {
  static constexpr int gates = 4, keeps = 4, makes = 4, states = 2;
  FN static constexpr bool carries(int j) { return j == 1; }
  static constexpr auto name = "lstm", vjp_name = "lstm_vjp",
                        numpy = "recurrent('lstm', {reverse}, {all})",
                        vjp_numpy = "recurrent_vjp('lstm', {reverse}, {all})",
                        operands = "x, w, h, c",
                        formula =
                            "y[0] = o * tanh(c), y[1] = c = f * c[t - 1] + i * u; i, f, u, o of "
                            "x[t] + h[t - 1] @ transpose(w): sigmoids, u the tanh";
  static constexpr const char* gradient[4] = {
      ("each gate's d * its slope, d = (dc * u, dc * c[t - 1], dc * i, dh * tanh(c)), dh = g[0] + "
       "dx[t + 1] @ w, dc = g[1] + dh * o * (1 - tanh(c) ** 2) + dc[t + 1] * f[t + 1]"),
      "transpose(dx) @ h[t - 1]", "dx[0] @ w", "dc[0] * f[0]"};
  template <class V>
  FN static void next(const V* x, const V* p, const V&, const V* before, V* kept, V* state) {
    const V i = kept[0] = sigmoid(x[0] + p[0]), f = kept[1] = sigmoid(x[1] + p[1]),
            u = kept[2] = tanh(x[2] + p[2]), o = kept[3] = sigmoid(x[3] + p[3]);
    state[1] = f * before[1] + i * u;
    state[0] = o * tanh(state[1]);
  }
  template <class V>
  FN static void back(const V* kept, const V* state, const V* before, const V* d, V* made,
                      V* carry) {
    const V &i = kept[0], &f = kept[1], &u = kept[2], &o = kept[3], top = tanh(state[1]);
    const V dc = d[1] + times(d[0], o * (1.0 - top * top));
    made[0] = times(dc, u * (i * (1.0 - i)));
    made[1] = times(dc, before[1] * (f * (1.0 - f)));
    made[2] = times(dc, i * (1.0 - u * u));
    made[3] = times(d[0], top * (o * (1.0 - o)));
    carry[1] = times(dc, f);
  }
};

// Cho et al. 2014, arXiv 1406.1078, with the reset gate behind the product, as PyTorch and cuDNN.
struct Gru : Recurrent {
  static constexpr int gates = 3, keeps = 4, makes = 4;
  static constexpr bool biased = true;
  FN static constexpr bool carries(int) { return true; }
  FN static constexpr int of_products(int j) { return j < 2 ? j : 3; }
  static constexpr auto name = "gru", vjp_name = "gru_vjp",
                        numpy = "recurrent('gru', {reverse}, {all})",
                        vjp_numpy = "recurrent_vjp('gru', {reverse}, {all})",
                        operands = "x, w, h, b",
                        formula =
                            "y[t] = (1 - z) * n + z * y[t - 1], n = tanh(x[t] + r * (q + b)); r, "
                            "z = sigmoid of x[t] + y[t - 1] @ transpose(w), and q, its last part";
  static constexpr const char* gradient[4] = {
      ("dr, dz, dn: each gate's d * its slope, d = (dn * (q + b), dy * (y[t - 1] - n), dy * (1 - "
       "z)), dy = g[t] + dy[t + 1] * z[t + 1] + (dr, dz, dn * r)[t + 1] @ w"),
      "transpose(dr, dz, dn * r) @ y[t - 1]", "dy[0] * z[0] + (dr, dz, dn * r)[0] @ w",
      "sum(dn * r)"};
  template <class V>
  FN static void next(const V* x, const V* p, const V& bias, const V* before, V* kept, V* state) {
    const V r = kept[0] = sigmoid(x[0] + p[0]), z = kept[1] = sigmoid(x[1] + p[1]),
            q = kept[3] = p[2] + bias, n = kept[2] = tanh(x[2] + r * q);
    state[0] = n + z * (before[0] - n);
  }
  template <class V>
  FN static void back(const V* kept, const V*, const V* before, const V* d, V* made, V* carry) {
    const V &r = kept[0], &z = kept[1], &n = kept[2], &q = kept[3];
    made[1] = times(d[0], (before[0] - n) * (z * (1.0 - z)));
    made[2] = times(d[0], (1.0 - z) * (1.0 - n * n));
    made[0] = times(made[2], q * (r * (1.0 - r)));
    made[3] = times(made[2], r);
    carry[0] = times(d[0], z);
  }
};

template <class... C> struct CellList {};
using Cells = CellList<RnnTanh, RnnRelu, Lstm, Gru>;

}  // namespace wengert
