// What can be done with tensors, as C++ functions: each writes one line, or, where the comment says
// so, a few. The bindings call these, and so do the vjps; the formulas of ops/elementwise/rows.h
// find their words here when V is Tensor.
#pragma once

#include <optional>
#include <variant>

#include "graph/record.h"
#include "ops/elementwise/rows.h"
#include "ops/index/fold.h"

namespace wengert {

// ---- elementwise.cpp ----
Tensor to_dtype(const Tensor& x, DType dtype);

// A vjp is one fused line where it need not be differentiable itself; else its formula, in lines.
inline bool may_fuse(const Tensor& g, const Tensor& kept) {
  return !grad_enabled() || !(g.requires_grad() || kept.requires_grad());
}
constexpr auto fused_only =
    "it is only used where no second gradient is asked for; else its formula is written out in "
    "lines";

// The op of a row of ops/elementwise/rows.h.
const Op& unary_op_at(int row);
const Op& binary_op_at(int row);
const Op& test_op_at(int row);
const Op& logic_op_at(int row);
template <class Row> const Op& unary_op() { return unary_op_at(index_of<Row>(UnaryRows{})); }
template <class Row> const Op& binary_op() { return binary_op_at(index_of<Row>(BinaryRows{})); }
template <class Row> const Op& test_op() { return test_op_at(index_of<Row>(TestRows{})); }
template <class Row> const Op& logic_op() { return logic_op_at(index_of<Row>(LogicRows{})); }

// Converts integers where the row takes floating dtypes only; floor and the like leave them alone.
Tensor clone(const Tensor& x);  // a copy, always
template <class Row> Tensor unary(const Tensor& x, Params params = {}) {
  if constexpr (requires { Row::of_whole_numbers; })
    if (!is_floating(x.dtype())) return clone(x);
  const bool convert = Row::takes == Takes::floating && !is_floating(x.dtype());
  return apply(unary_op<Row>(), convert ? to_dtype(x, DType::float32) : x, params);
}
// Converts both to their common dtype.
std::pair<Tensor, Tensor> promote_both(const Tensor& a, const Tensor& b, DType at_least);
Tensor binary(const Op& op, const Tensor& a, const Tensor& b, bool floating);
const Op& op_of_bools(const Op& op);  // the sum and product of bools are or and and
bool any_element(const Tensor& x);    // is not zero; looks at values
template <class Row> Tensor binary(const Tensor& a, const Tensor& b) {
  if constexpr (requires { Row::refusal; })
    if (!is_floating(promote(a.dtype(), b.dtype())) && any_element(Row::refuses(b)))
      fail<ValueError>(Row::name, ": ", Row::refusal);
  return binary(binary_op<Row>(), a, b, Row::takes == Takes::floating);
}
template <class Row> Tensor test(const Tensor& a, const Tensor& b) {
  return binary(test_op<Row>(), a, b, false);
}
template <class Row> Tensor logic(const Tensor& a, const Tensor& b) {
  return binary(logic_op<Row>(), a, b, false);
}
Tensor where(const Tensor& condition, const Tensor& a, const Tensor& b);
// x, in its memory, is value where the mask is true.
void set_where(const Tensor& x, const Tensor& mask, const Tensor& value, const char* by);

// A constant beside x, of x's dtype (float32 beside an integer, if the constant has a fraction).
Tensor scalar_like(Number value, const Tensor& x);

// Words of the formulas.
inline Tensor operator-(const Tensor& x) { return unary<Neg>(x); }
#define WENGERT_OPERATOR(SIGN, FUNCTION)                                                   \
  inline Tensor operator SIGN(const Tensor& a, const Tensor& b) { return FUNCTION(a, b); } \
  inline Tensor operator SIGN(const Tensor& a, double b) {                                 \
    return FUNCTION(a, scalar_like(b, a));                                                 \
  }                                                                                        \
  inline Tensor operator SIGN(double a, const Tensor& b) { return FUNCTION(scalar_like(a, b), b); }
WENGERT_OPERATOR(+, binary<Add>)
WENGERT_OPERATOR(-, binary<Sub>)
WENGERT_OPERATOR(*, binary<Mul>)
WENGERT_OPERATOR(/, binary<Div>)
WENGERT_OPERATOR(==, test<Eq>)
WENGERT_OPERATOR(!=, test<Ne>)
WENGERT_OPERATOR(<, test<Lt>)
WENGERT_OPERATOR(<=, test<Le>)
WENGERT_OPERATOR(>, test<Gt>)
WENGERT_OPERATOR(>=, test<Ge>)
#undef WENGERT_OPERATOR
inline Tensor select(const Tensor& mask, const Tensor& a, const Tensor& b) {
  return where(mask, a, b);
}
inline Tensor select(const Tensor& mask, double a, const Tensor& b) {
  return where(mask, scalar_like(a, b), b);
}
inline Tensor select(const Tensor& mask, const Tensor& a, double b) {
  return where(mask, a, scalar_like(b, a));
}
inline Tensor times(const Tensor& a, const Tensor& b) { return binary<Times>(a, b); }
inline Tensor over(const Tensor& a, const Tensor& b) { return binary<Over>(a, b); }
inline Tensor flat(const Tensor& g, const Tensor& x) {
  return grad_enabled() && x.requires_grad() ? binary<Flat>(g, x) : g;
}
inline Tensor abs(const Tensor& x) { return unary<Abs>(x); }
inline Tensor sign(const Tensor& x) { return unary<Sign>(x); }
inline Tensor exp(const Tensor& x) { return unary<Exp>(x); }
inline Tensor log(const Tensor& x) { return unary<Log>(x); }
inline Tensor sin(const Tensor& x) { return unary<Sin>(x); }
inline Tensor cos(const Tensor& x) { return unary<Cos>(x); }
inline Tensor sinh(const Tensor& x) { return unary<Sinh>(x); }
inline Tensor cosh(const Tensor& x) { return unary<Cosh>(x); }
inline Tensor trunc(const Tensor& x) { return unary<Trunc>(x); }
inline Tensor tanh(const Tensor& x) { return unary<Tanh>(x); }
inline Tensor erf(const Tensor& x) { return unary<Erf>(x); }
inline Tensor polygamma(const Tensor& x, double n) { return unary<Polygamma>(x, {n, 0}); }
inline Tensor sigmoid(const Tensor& x) { return unary<Sigmoid>(x); }
inline Tensor square(const Tensor& x) { return unary<Square>(x); }
inline Tensor sqrt(const Tensor& x) { return unary<Sqrt>(x); }
inline Tensor pow(const Tensor& a, const Tensor& b) { return binary<Pow>(a, b); }
inline Tensor hypot(const Tensor& a, const Tensor& b) { return binary<Hypot>(a, b); }
inline Tensor hypot(const Tensor& a, double b) { return hypot(a, scalar_like(b, a)); }
inline Tensor copysign(const Tensor& a, const Tensor& b) { return binary<Copysign>(a, b); }
inline Tensor floor_divide(const Tensor& a, const Tensor& b) { return binary<FloorDivide>(a, b); }
inline Tensor maximum(const Tensor& a, double b) { return binary<Maximum>(a, scalar_like(b, a)); }
inline Tensor minimum(const Tensor& a, double b) { return binary<Minimum>(a, scalar_like(b, a)); }
inline Tensor clamp(const Tensor& x, double low, double high) {
  return unary<Clamp>(x, {low, high});
}

// ---- view.cpp: the result shares x's memory, unless said otherwise ----
Tensor reshape(const Tensor& x,
               Shape shape);  // one size may be -1; copies where the strides leave no other way
Tensor another_view(const Tensor& x);  // of the same shape
Tensor permute(const Tensor& x, const Dims& axes);
Tensor transpose(const Tensor& x, int64_t a, int64_t b);
// -1 keeps a size; `op` is named in messages.
Tensor expand(const Tensor& x, const Shape& shape, const char* op = "expand");
// Elements start, start + step, ... (length of them) along an axis; step may be negative.
Tensor slice(const Tensor& x, int axis, int64_t start, int64_t step, int64_t length);
// x[..., i, i + offset, ...] of two axes, as the last axis.
Tensor diagonal(const Tensor& x, int64_t offset, int64_t axis1, int64_t axis2);
Tensor squeeze(const Tensor& x, AxisMask axes);
Tensor unsqueeze(const Tensor& x, int64_t axis);
Tensor contiguous(const Tensor& x);  // x itself where it is contiguous
Tensor concatenate(Tensors parts, int64_t axis);
// x itself where it is there. non_blocking: see copy_into.
Tensor to_device(const Tensor& x, Device device, bool non_blocking = false);

// ---- reduce.cpp ----
AxisMask all_axes(const Tensor& x);
Tensor sum(const Tensor& x, AxisMask axes, bool keepdims);
Tensor sum_to(const Tensor& x, const Shape& shape);  // undoes a broadcast
Tensor mean(const Tensor& x, AxisMask axes, bool keepdims);
Tensor prod(const Tensor& x, AxisMask axes, bool keepdims);
Tensor amax(const Tensor& x, AxisMask axes, bool keepdims);
Tensor amin(const Tensor& x, AxisMask axes, bool keepdims);
Tensor any(const Tensor& x, AxisMask axes, bool keepdims);
Tensor all(const Tensor& x, AxisMask axes, bool keepdims);
Tensor argmax(const Tensor& x, std::optional<int64_t> axis, bool keepdims);
Tensor argmin(const Tensor& x, std::optional<int64_t> axis, bool keepdims);
// Of floating x, gathered in float64, as which it is given.
Tensor sum_squares(const Tensor& x);

// ---- scan.cpp: each element of the result is of all elements of x up to it along the axis ----
Tensor cumsum(const Tensor& x, int64_t axis);
Tensor cumprod(const Tensor& x, int64_t axis);
Tensor logcumsumexp(const Tensor& x, int64_t axis);
// With the index of the last of the largest (smallest).
std::pair<Tensor, Tensor> cummax(const Tensor& x, int64_t axis);
std::pair<Tensor, Tensor> cummin(const Tensor& x, int64_t axis);

// ---- recurrent.cpp: a layer over time; the cells are those of ops/recurrent/cells.h ----
Tensor recurrent(const std::string& cell, Tensors operands, bool reverse);

// ---- matmul.cpp ----
Tensor matmul(const Tensor& a, const Tensor& b);

// ---- softmax.cpp ----
Tensor softmax(const Tensor& x, int64_t axis);
Tensor log_softmax(const Tensor& x, int64_t axis);
Tensor logsumexp(const Tensor& x, AxisMask axes, bool keepdims);
// Of logits (n, classes) against class indices (n,): one loss a row.
Tensor cross_entropy_rows(const Tensor& logits, const Tensor& target);

// ---- norm.cpp ----
// Over x's last axes, which have the shape `normalized`; weight and bias may be undefined.
Tensor layer_norm(const Tensor& x, const Shape& normalized, const Tensor& weight,
                  const Tensor& bias, double eps);

// ---- attention.cpp ----
// q (..., L, D), k (..., S, D), v (..., S, E) to (..., L, E); the mask, which may be undefined,
// broadcasts to (..., L, S). Without a scale: 1 / sqrt(D).
Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& mask, bool causal,
                 std::optional<double> scale);
// The softmax inside, (..., L, S), in plain lines.
Tensor attention_weights(const Tensor& q, const Tensor& k, const Tensor& mask, bool causal,
                         std::optional<double> scale);

// ---- create.cpp ----
Tensor full(const Shape& shape, Number value, DType dtype, Device device = Device::cpu);
Tensor full_like(const Tensor& x, Number value);
Tensor arange(Number start, Number step, int64_t count, DType dtype, Device device = Device::cpu);

// ---- index.cpp ----
// x[key] and x[key] = value, by NumPy's rules, for a key of these parts.
struct Everything {};  // ...
struct NewAxis {};     // None
struct Range {         // start:stop:step
  std::optional<int64_t> start, stop;
  int64_t step = 1;
};
using IndexPart = std::variant<int64_t, Range, NewAxis, Everything, Tensor>;
Tensor get_item(const Tensor& x, const std::vector<IndexPart>& key);
void set_item(const Tensor& x, const std::vector<IndexPart>& key, const Tensor& value);
// Rows of x, its first `lead` axes taken as one, by their numbers (int64, any shape).
Tensor take_rows(const Tensor& x, const Tensor& rows, int lead);
// A copy of x with `value` written at (or, with `add`, added to) those rows, in order.
Tensor put_rows(const Tensor& x, const Tensor& value, const Tensor& rows, int lead, bool add);
Tensor nonzero(const Tensor& mask);  // (count, ndim) int64

// ---- scatter.cpp: `by` is the function's name in messages ----
// y[i, j, ...] = x[i, index[i, j, ...], ...], the index along the axis.
Tensor gather(const Tensor& x, int64_t axis, const Tensor& index, const char* by = "gather");
// x with value[i, j, ...] folded into its element [i, index[i, j, ...], ...], in order along the
// axis. A value of no axes is for all.
Tensor scatter(const Tensor& x, int64_t axis, const Tensor& index, const Tensor& value,
               const ScatterHow& how);
// The same for an index of one axis, each of whose elements names a slice of x across the axis.
Tensor index_scatter(const Tensor& x, int64_t axis, const Tensor& index, const Tensor& value,
                     const ScatterHow& how);

// Of PyTorch's names; in place they give x.
Tensor masked_fill(const Tensor& x, const Tensor& mask, const Tensor& value, const ScatterHow& how);
Tensor masked_scatter(const Tensor& x, const Tensor& mask, const Tensor& source,
                      const ScatterHow& how);
Tensor masked_select(const Tensor& x, const Tensor& mask);
Tensor take(const Tensor& x, const Tensor& index);  // x as one row
Tensor put(const Tensor& x, const Tensor& index, const Tensor& source, const ScatterHow& how);
Tensor index_select(const Tensor& x, int64_t axis, const Tensor& index);
// gather() of a broadcast x and index; without an axis, of both as one row.
Tensor take_along_axis(const Tensor& x, const Tensor& index, std::optional<int64_t> axis,
                       const char* op);

// ---- conv.cpp, windows.cpp: over the last axes, one to three; `by` as in scatter ----
struct Window {
  Dims stride, before, after, dilation;  // of each axis; before and after: elements of padding
};
// ShapeError or ValueError unless a kernel of that size fits.
void check_window(const char* by, const Dims& whole, const Dims& size, const Window& window);
int64_t window_count(int64_t whole, int64_t size, const Window& window, int axis);
// x (n, c, ...) and w (outputs, c / groups, taps ...), as deep learning means it.
Tensor convolution(const char* by, const Tensor& x, const Tensor& w, const Window& window,
                   int64_t groups);
// Its gradient for x, whose last axes have `size`; a transposed convolution.
Tensor convolution_input(const char* by, const Tensor& g, const Tensor& w, const Dims& size,
                         const Window& window, int64_t groups);
// (..., windows, elements of a window); a view. Neither this nor overlap_add knows padding.
Tensor windows(const char* by, const Tensor& x, const Dims& size, const Window& window);
// Its transpose: all windows added up, into axes of sizes `whole`.
Tensor overlap_add(const char* by, const Tensor& x, const Dims& whole, const Window& window);
// The largest element of each window, and where it is, counted over all last axes.
std::pair<Tensor, Tensor> max_pool(const char* by, const Tensor& x, const Dims& size,
                                   const Window& window);

// ---- order.cpp ----
// Elements of ranks first to first + count along an axis, and their indices. Stable; NaN is the
// largest.
std::pair<Tensor, Tensor> sort(const Tensor& x, int64_t axis, int64_t first, int64_t count,
                               bool descending);
// Where values belong in a sorted sequence: before elements equal to them, or (right) behind them.
// int64. A sequence of several axes has a row for each row of the values.
Tensor searchsorted(const Tensor& sorted, const Tensor& values, bool right);

// ---- embedding.cpp ----
// Rows of a table (rows, n) by their numbers; the row `padding` gets no gradient (-1: all do).
Tensor embedding(const Tensor& ids, const Tensor& table, int64_t padding = -1);
Tensor one_hot(const Tensor& ids, int64_t classes, DType dtype);

// ---- random.cpp: `state` is an int64 tensor (seed, counter), advanced in place ----
// The state stays on the CPU; the numbers are the same on any device.
Tensor random_uniform(const Tensor& state, const Shape& shape, DType dtype,
                      Device device = Device::cpu);  // [0, 1)
Tensor random_normal(const Tensor& state, const Shape& shape, DType dtype,
                     Device device = Device::cpu);
Tensor random_integers(const Tensor& state, const Shape& shape, int64_t low, int64_t high,
                       Device device = Device::cpu);  // [low, high)
Tensor random_permutation(const Tensor& state, int64_t n);

// ---- update.cpp: optimizers (ops/update/rows.h), in place on all parameters at once ----
// `options` is a float64 tensor on the CPU, which holds the row's numbers, so that a compiled step
// sees them change. `step`, 0-d int64, counts up. States from number `needed` on may be empty
// lists.
const Op& update_op_at(int row);
void update_step(const Op& op, Tensors params, Tensors grads,
                 std::span<const std::vector<Tensor>> states, int needed, const Tensor& options,
                 const Tensor& step);

// ---- composed.cpp: written with ops, most of them in several lines ----
Tensor clamp(const Tensor& x, std::optional<Number> low, std::optional<Number> high);
Tensor variance(const Tensor& x, AxisMask axes, double correction, bool keepdims);
// Its root, whose gradient is 0 where all elements are equal.
Tensor deviation(const Tensor& x, AxisMask axes, double correction, bool keepdims);
// x @ transpose(weight) + bias, for x (..., in), weight (out, in), bias (out,) or undefined; a
// stack of matrices is taken as one.
Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias);
// x[i + 1] - x[i] along an axis, n times, after others (which may be undefined) are joined to x.
Tensor diff(const Tensor& x, int64_t n, int64_t axis, const Tensor& prepend, const Tensor& append);
Tensor view(const Tensor& x, const Shape& shape);  // reshape, or an error where that copies
Tensor flatten(const Tensor& x, int64_t first, int64_t last);
Tensor squeeze(const Tensor& x);                            // all axes of size one
Tensor pick(const Tensor& x, int64_t axis, int64_t index);  // x[index], the axis gone
Tensor stack(Tensors parts, int64_t axis);
std::vector<Tensor> split(const Tensor& x, int64_t size, int64_t axis);
std::vector<Tensor> split(const Tensor& x, std::span<const int64_t> sizes, int64_t axis);
Tensor empty(const Shape& shape, DType dtype, Device device = Device::cpu);
Tensor full(const Shape& shape, const Tensor& value, DType dtype, Device device = Device::cpu);
// start, start + step, ... before stop; without a dtype int64 of whole numbers, else float32.
Tensor range(Number start, Number stop, Number step, std::optional<DType> dtype,
             Device device = Device::cpu);
Tensor linspace(double start, double stop, int64_t count, DType dtype, Device device = Device::cpu);
Tensor eye(int64_t n, int64_t m, DType dtype, Device device = Device::cpu);
// In place; returns the norm before, float64.
Tensor clip_grad_norm(Tensors grads, double max_norm);

// ---- every op, for listings and for the test that each has a row ----
std::vector<const Op*> all_ops();

}  // namespace wengert
