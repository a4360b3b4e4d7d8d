// Functions that have no op of their own: they are written with others.
#include <algorithm>
#include <cmath>

#include "ops/functions.h"
#include "ops/matmul/matmul.h"

namespace wengert {

// ---- elements ----

Tensor clamp(const Tensor& x, std::optional<Number> low, std::optional<Number> high) {
  if (low && high &&
      (low->is_whole() && high->is_whole() ? low->as<int64_t>() > high->as<int64_t>()
                                           : low->as() > high->as()))
    fail<ValueError>("clamp: min ", *low, " is larger than max ", *high);
  if (is_floating(x.dtype()))
    return clamp(x, low ? low->as() : -INFINITY, high ? high->as() : INFINITY);
  // Integers have no infinity: a bound beyond them all is none.
  Tensor y = x.dtype() == DType::bool_ ? to_dtype(x, DType::int64) : x;
  const auto apply_bound = [&](const Number& at, bool is_low) {
    const int beyond = dispatch(y.dtype(), [&](auto type) {
      using T = typename decltype(type)::type;
      return at.fits<T>() ? 0 : at.as() < 0 ? -1 : 1;
    });
    const bool number = at.as() == at.as();
    if (number && beyond == (is_low ? -1 : 1)) return;
    if (beyond)
      fail<ValueError>("clamp: the bound ", at, " does not fit into ", y.dtype(),
                       "; convert the tensor with .to(\"int64\") or .float()");
    const Tensor limit = scalar_like(at, y);
    y = is_low ? binary<Maximum>(y, limit) : binary<Minimum>(y, limit);
  };
  if (low) apply_bound(*low, true);
  if (high) apply_bound(*high, false);
  return y;
}

// ---- reductions and products ----

Tensor variance(const Tensor& x, AxisMask axes, double correction, bool keepdims) {
  if (!is_floating(x.dtype()))
    fail<DTypeError>("var and std: got ", x.dtype(),
                     "; expected a floating dtype: convert with .float() first");
  const double n = static_cast<double>(count(x.shape(), axes)) - correction;
  return sum(square(x - mean(x, axes, true)), axes, keepdims) / (n > 0 ? n : 0);
}
Tensor deviation(const Tensor& x, AxisMask axes, double correction, bool keepdims) {
  const Tensor y = variance(x, axes, correction, keepdims);
  return select(y == 0.0, 0.0, sqrt(y));  // a gradient that the root does not get cannot grow there
}

Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  if (weight.dim() != 2)
    fail<ShapeError>("linear: weight has shape ", weight.shape(), "; expected (out, in)");
  const int64_t out = weight.shape()[0], in = weight.shape()[1];
  if (x.dim() == 0 || x.shape().back() != in)
    fail<ShapeError>("linear: input has shape ", x.shape(), "; its last axis must be ", in, ".");
  if (x.dtype() != weight.dtype())
    fail<DTypeError>(
        "input is ", x.dtype(), " and the weight is ", weight.dtype(),
        "; convert it with x.astype('", weight.dtype(), "')",
        is_floating(x.dtype()) ? concat(", or the module with .to('", x.dtype(), "')") : "");
  // As one matrix: a stack of matrices would have a product, and a gradient of W, for each.
  const bool stack = x.dim() != 2 && x.numel() > 0;
  const Tensor rows = stack ? reshape(x, Shape{-1, in}) : x;
  // Eager, one line with the bits of three. In a list, readers and passes look for the three.
  const bool one = !tracer && is_floating(x.dtype()) && rows.dim() == 2 && bias.defined() &&
                   bias.dtype() == x.dtype() && bias.shape() == Shape{out};
  Tensor y = one ? one_line_linear(rows, weight, bias) : matmul(rows, transpose(weight, 0, 1));
  if (!one && bias.defined()) y = y + bias;
  if (!stack) return y;
  Shape shape = x.shape();
  shape[shape.size() - 1] = out;
  return reshape(y, shape);
}

Tensor diff(const Tensor& given, int64_t n, int64_t axis_given, const Tensor& prepend,
            const Tensor& append) {
  if (n < 0) fail<ValueError>("diff: got n = ", n, "; expected 0 or more");
  const int axis = normalize_axis("diff", axis_given, given.dim());
  if (n == 0) return clone(given);
  std::vector<Tensor> parts;
  for (const Tensor* part : {&prepend, &given, &append}) {
    if (!part->defined()) continue;
    Shape one = given.shape();
    one[axis] = 1;
    parts.push_back(part->dim() == 0 ? expand(to_device(*part, given.device()), one) : *part);
  }
  Tensor x = parts.size() > 1 ? concatenate(Tensors(parts), axis) : given;
  for (int64_t rest = std::min(n, x.shape()[axis]); rest > 0; --rest) {
    const int64_t length = std::max<int64_t>(0, x.shape()[axis] - 1);
    const Tensor after = slice(x, axis, x.shape()[axis] - length, 1, length),
                 before = slice(x, axis, 0, 1, length);
    x = x.dtype() == DType::bool_ ? after != before : after - before;
  }
  return x;
}

// ---- views, and tensors made of parts ----

Tensor view(const Tensor& x, const Shape& shape) {
  const Tensor y = reshape(x, shape);
  if (y->storage.get() != x->storage.get() && x.numel() > 0)
    fail<ShapeError>("view: shape ", x.shape(), " with strides ", x.strides(),
                     " cannot be seen as ", y.shape(),
                     " without a copy; write reshape(), which copies");
  return y;
}

Tensor flatten(const Tensor& x, int64_t first, int64_t last) {
  if (x.dim() == 0) return reshape(x, Shape{1});
  const int from = normalize_axis("flatten", first, x.dim()),
            to = normalize_axis("flatten", last, x.dim());
  if (from > to)
    fail<ValueError>("flatten: start_axis ", first, " comes after end_axis ", last, " in shape ",
                     x.shape());
  Shape shape;
  for (int d = 0; d < x.dim(); ++d)
    if (d <= from || d > to)
      shape.push_back(x.shape()[d]);
    else
      shape[from] *= x.shape()[d];
  return reshape(x, shape);
}

Tensor squeeze(const Tensor& x) {
  AxisMask ones = 0;
  for (int d = 0; d < x.dim(); ++d)
    if (x.shape()[d] == 1) ones |= 1u << d;
  return squeeze(x, ones);
}

Tensor pick(const Tensor& x, int64_t axis_given, int64_t index) {
  const int axis = normalize_axis("index", axis_given, x.dim());
  const int64_t size = x.shape()[axis];
  if (index < -size || index >= size)
    fail<IndexError>("index ", index, " is out of range for axis ", axis, " of size ", size,
                     " (shape ", x.shape(), ")");
  return squeeze(slice(x, axis, index < 0 ? index + size : index, 1, 1), 1u << axis);
}

Tensor stack(Tensors given, int64_t axis) {
  std::vector<Tensor> parts;
  if (given.empty()) fail<ValueError>("stack: got no tensors; expected at least one");
  for (const Tensor& x : given) {
    if (!parts.empty() &&
        !(x.shape() ==
          reduced_shape(parts[0].shape(), 1u << normalize_axis("stack", axis, x.dim() + 1), false)))
      fail<ShapeError>("stack: tensor ", parts.size(), " has shape ", x.shape(),
                       ", tensor 0 another; they must be equal");
    parts.push_back(unsqueeze(x, axis));
  }
  return concatenate(Tensors(parts), axis);
}

std::vector<Tensor> split(const Tensor& x, int64_t size, int64_t axis) {
  if (size < 1) fail<ValueError>("split: got split_size = ", size, "; expected 1 or more");
  const int64_t length = x.shape()[normalize_axis("split", axis, x.dim())];
  std::vector<int64_t> sizes;
  for (int64_t at = 0; at < length; at += size) sizes.push_back(std::min(size, length - at));
  if (length == 0) sizes.push_back(0);
  return split(x, sizes, axis);
}
std::vector<Tensor> split(const Tensor& x, std::span<const int64_t> sizes, int64_t axis_given) {
  const int axis = normalize_axis("split", axis_given, x.dim());
  const int64_t length = x.shape()[axis];
  int64_t total = 0;
  std::string given;
  for (int64_t size : sizes) {
    total = size < 0 || total < 0 ? -1 : total + size;
    given += concat(given.empty() ? "" : ", ", size);
  }
  if (total != length)
    fail<ShapeError>("split: the sizes must be 0 or more and add up to ", length, ", axis ", axis,
                     " of shape ", x.shape(), "; got [", given, "]");
  std::vector<Tensor> result;
  int64_t at = 0;
  for (int64_t size : sizes) {
    result.push_back(slice(x, axis, at, 1, size));
    at += size;
  }
  return result;
}

// ---- creation ----

// Any bytes are a number, but only 0 and 1 are a bool.
Tensor empty(const Shape& shape, DType dtype, Device device) {
  return dtype == DType::bool_ ? full(shape, 0, dtype, device) : Tensor(Meta{shape, dtype, device});
}

Tensor full(const Shape& shape, const Tensor& value, DType dtype, Device device) {
  if (value.numel() != 1)
    fail<ShapeError>("full: got a value of shape ", value.shape(), "; expected one number");
  return clone(expand(to_device(to_dtype(reshape(value, Shape{}), dtype), device), shape));
}

Tensor range(Number start, Number stop, Number step, std::optional<DType> dtype, Device device) {
  const auto from = start.as(), to = stop.as(), by = step.as();
  if (by == 0 || !std::isfinite(from) || !std::isfinite(to) || !std::isfinite(by))
    fail<ValueError>("arange: got start ", start, ", stop ", stop, ", step ", step,
                     "; expected finite numbers and a step other than 0");
  const bool whole = start.is_whole() && stop.is_whole() && step.is_whole();
  double count = std::ceil((to - from) / by);
  if (whole) {  // differences of 64 bits keep their digits
    const auto way = [by](int64_t a, int64_t b) {
      return static_cast<uint64_t>(by < 0 ? a : b) - static_cast<uint64_t>(by < 0 ? b : a);
    };
    const auto a = start.as<int64_t>(), b = stop.as<int64_t>();
    const uint64_t size = way(0, step.as<int64_t>());
    const uint64_t n = (by < 0 ? a > b : a < b) ? (way(a, b) - 1) / size + 1 : 0;
    count = static_cast<double>(n);
    if (count <= 0x1p52)
      return arange(start, step, static_cast<int64_t>(n), dtype.value_or(DType::int64), device);
  }
  if (count > 0x1p52) fail<ValueError>("arange: ", count, " elements are too many");
  return arange(start, step, count > 0 ? static_cast<int64_t>(count) : 0,
                dtype.value_or(DType::float32), device);
}

Tensor linspace(double start, double stop, int64_t count, DType dtype, Device device) {
  if (count < 0) fail<ValueError>("linspace: got num = ", count, "; expected 0 or more");
  Tensor x = arange(start, count > 1 ? (stop - start) / static_cast<double>(count - 1) : 0, count,
                    DType::float64);
  if (count > 1) {  // the last one exactly
    const Tensor parts[] = {slice(x, 0, 0, 1, count - 1), full({1}, stop, DType::float64)};
    x = concatenate(Tensors(parts), 0);
  }
  return to_device(to_dtype(x, dtype), device);
}

Tensor eye(int64_t n, int64_t m, DType dtype, Device device) {
  const Tensor rows = arange(0, 1, n, DType::int64), columns = arange(0, 1, m, DType::int64);
  return to_device(to_dtype(unsqueeze(rows, 1) == columns, dtype), device);
}

// ---- gradients ----

Tensor clip_grad_norm(Tensors grads, double max_norm) {
  const GradMode off(false);
  if (!(max_norm >= 0))
    fail<ValueError>("clip_grad_norm_step: got max_norm = ", max_norm, "; expected 0 or more");
  for (const Tensor& g : grads)
    if (!is_floating(g.dtype()))
      fail<DTypeError>("clip_grad_norm_step: got a gradient of ", g.dtype(),
                       "; expected float32 or float64");
  // Squares of float32 fit into float64. Those of float64 do where the largest is 1.
  Tensor scale, total = full(Shape{}, 0, DType::float64);
  const auto wide = [](const Tensor& g) { return g.dtype() == DType::float64; };
  if (std::any_of(grads.begin(), grads.end(), wide)) {
    scale = total;
    for (const Tensor& g : grads)
      if (g.numel() > 0) scale = binary<Maximum>(scale, amax(abs(g), all_axes(g), false));
    scale = select(logic<And>(scale > 0.0, scale < INFINITY), scale, 1.0);
  }
  for (const Tensor& g : grads) total = total + sum_squares(scale.defined() ? g / scale : g);
  Tensor norm = sqrt(total);
  if (scale.defined()) norm = norm * scale;
  const Tensor factor = clamp(max_norm / (norm + 1e-6), 0, 1);
  // A factor that float32 cannot hold is two; the second one is nearly always 1.
  const Tensor first = maximum(factor, 0x1p-100), second = factor / first;
  for (const Tensor& g : grads) {
    if (g.dtype() == DType::bfloat16) {
      const Tensor in[] = {to_dtype(g, DType::float64) * factor};
      apply_in_place(g, cast_op, Tensors(in), g.dtype(), "clip_grad_norm_step");
      continue;
    }
    const bool narrow = g.dtype() == DType::float32;
    for (const Tensor& by : {narrow ? first : factor, second}) {
      const Tensor in[] = {g, to_dtype(by, g.dtype())};
      apply_in_place(g, binary_op<Mul>(), Tensors(in));
      if (!narrow) break;
    }
  }
  return norm;
}

}  // namespace wengert
