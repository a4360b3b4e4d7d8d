// Reductions, products, layers and updates; most functions are methods too.
#include "bindings/bindings.h"
#include "ops/rows/batch_norm.h"
#include "ops/update/rows.h"

namespace wengert::bindings {

namespace {

const auto none = py::none();

// A bool and nothing else: sum(0, 1) would take the 1 for it, and not for an axis.
py::arg_v keepdims_argument() { return py::arg("keepdims").noconvert() = false; }

template <class F>
void add_reduction(py::module_& m, TensorClass& cls, const char* name, F f, const char* doc) {
  both(
      m, cls, name, "x",
      [name, f](const Tensor& x, py::handle axis, bool keepdims) {
        if (const std::string_view op = name; (op == "max" || op == "min") && as_tensor(axis.ptr()))
          throw py::type_error(concat(op,
                                      ": axis is a tensor; of two tensors, element by element: "
                                      "write wengert.",
                                      op, "imum(a, b)"));
        return f(x, to_axes(name, axis, x), keepdims);
      },
      py::arg("axis") = none, keepdims_argument(), doc);
}

// Of NumPy, whose axis may be None (x as one row) and whose dtype is that of the sums too.
template <class F>
void add_cumulative(py::module_& m, TensorClass& cls, const char* name, F f, const char* doc) {
  both(
      m, cls, name, "x",
      [f](const Tensor& x, std::optional<int64_t> axis, py::handle given) {
        const auto dtype = to_dtype_or_none(given);
        const Tensor in = dtype ? to_dtype(x, *dtype) : x;
        const Tensor y = f(axis ? in : reshape(in, Shape{-1}), axis.value_or(0));
        return dtype ? to_dtype(y, *dtype) : y;
      },
      py::arg("axis") = none, py::arg("dtype") = none, doc);
}
template <class F>
void add_extreme(py::module_& m, TensorClass& cls, const char* name, F f, const char* doc) {
  both(
      m, cls, name, "x",
      [f](const Tensor& x, int64_t axis) { return ValuesAndIndices(f(x, axis)); }, py::arg("axis"),
      doc);
}

template <size_t> using Handle = py::handle;

// `sgd_step(params, grads, momentum_buffers, options, step)`, and so on.
template <class Row, size_t... i> void add_update(py::module_& m, std::index_sequence<i...>) {
  std::string numbers, optional;
  for (const char* name : Row::options) numbers += concat(numbers.empty() ? "" : ", ", name);
  for (size_t s = Row::needed; s < Row::states.size(); ++s)
    optional += concat("\n", Row::states[s], ": one for each parameter, or empty.");
  const std::string doc =
      concat("One step of the optimizer on all parameters, in place: ", Row::formula,
             ".\noptions: float64 of shape (", Row::options.size(), ",): ", numbers,
             "; step: int64 of one element, counted up first.", optional);
  using py::arg;
  m.def(
      Row::name,
      [](py::handle params, py::handle grads, Handle<i>... states, const Tensor& options,
         const Tensor& step) {
        const auto p = to_tensors(Row::name, params), g = to_tensors(Row::name, grads);
        const std::vector<Tensor> all[] = {to_tensors(Row::name, states)...};
        update_step(update_op_at(index_of<Row>(UpdateRows{})), p, g, all, Row::needed, options,
                    step);
      },
      arg("params"), arg("grads"), arg(Row::states[i])..., arg("options"), arg("step"),
      doc.c_str());
}
template <class... Rows> void add_updates(py::module_& m, List<Rows...>) {
  (add_update<Rows>(m, std::make_index_sequence<states_of<Rows>>{}), ...);
}

void add_clipping(py::module_& m) {
  m.def(
      "clip_grad_norm_step",
      [](py::handle given, double max_norm) {
        const auto grads = to_tensors("clip_grad_norm_step", given);
        return clip_grad_norm(grads, max_norm);
      },
      py::arg("grads"), py::arg("max_norm"),
      "Scales the gradients in place so that their joint 2-norm is at most max_norm; returns the "
      "norm before, float64.");
}

}  // namespace

void add_functions(py::module_& m, TensorClass& cls) {
  add_updates(m, UpdateRows{});
  add_clipping(m);

  add_reduction(m, cls, "sum", sum,
                "Sum over the axes (all by default). Gathered in float64, whatever the dtype; of "
                "ints and bools int64. IndexError for an axis that is not there."
                "\n\nThe result has x's shape without the axes; with keepdims they stay, of size 1."
                "\n\n>>> x = wg.tensor([[1.0, 2.0], [3.0, 5.0]])\n"
                ">>> wg.sum(x, axis=0)\n"
                "tensor([4., 7.])\n"
                ">>> x.sum().item()\n"
                "11.0");
  add_reduction(m, cls, "mean", mean,
                "Mean over the axes (all by default); of ints and bools float32. Shapes as sum's; "
                "NaN of no elements."
                "\n\n>>> x = wg.tensor([[1.0, 2.0], [3.0, 5.0]])\n"
                ">>> x.mean(axis=1, keepdims=True)\n"
                "tensor([[1.5],\n"
                "        [4. ]])");
  add_reduction(m, cls, "prod", prod,
                "Product over the axes (all by default). Shapes and dtypes as sum's."
                "\n\n>>> wg.prod(wg.tensor([2.0, 3.0, 4.0])).item()\n"
                "24.0");
  add_reduction(
      m, cls, "max", amax,
      "Largest over the axes; NaN if there is one, and then all gradients are; ties share the "
      "gradient. Values alone, as in NumPy: argmax() gives their places.\n`values, indices = "
      "x.max(1)` and max(dim=1) are TypeErrors; x.max(1)[1] is the second of the values, as in "
      "NumPy. ValueError of no elements."
      "\n\n>>> x = wg.tensor([[1.0, 2.0], [3.0, 5.0]])\n"
      ">>> x.max(axis=1), x.argmax(axis=1)\n"
      "(tensor([2., 5.]), tensor([1, 1]))");
  add_reduction(
      m, cls, "min", amin,
      "Smallest over the axes; NaN if there is one, and then all gradients are; ties share the "
      "gradient. Values alone, as in NumPy: argmin() gives their places.\n`values, indices = "
      "x.min(1)` and min(dim=1) are TypeErrors; x.min(1)[1] is the second of the values, as in "
      "NumPy. ValueError of no elements."
      "\n\n>>> x = wg.tensor([[1.0, 2.0], [3.0, 5.0]])\n"
      ">>> x.min(axis=0)\n"
      "tensor([1., 2.])");
  add_reduction(m, cls, "any", any, "Is any element not zero?");
  add_reduction(m, cls, "all", all, "Is no element zero?");
  add_reduction(
      m, cls, "logsumexp", logsumexp,
      "log(sum(exp(x))) over the axes (all by default), stable; floating, shapes as sum's."
      "\n\n>>> round(wg.logsumexp(wg.tensor([1000.0, 1000.0])).item(), 3)\n"
      "1000.693");
  const auto spread = [&](const char* name, auto f, const char* doc) {
    both(
        m, cls, name, "x",
        [=](const Tensor& x, py::handle axis, bool keepdims, double correction) {
          return f(x, to_axes(name, axis, x), correction, keepdims);
        },
        py::arg("axis") = none, keepdims_argument(), py::arg("correction") = 0.0, doc);
  };
  spread("var", variance,
         "Mean squared distance from the mean, over n - correction. Shapes as sum's."
         "\n\n>>> x = wg.tensor([[1.0, 2.0], [3.0, 5.0]])\n"
         ">>> wg.var(x, axis=0)\n"
         "tensor([1.  , 2.25])");
  spread("std", deviation,
         "Square root of var(); gradient 0 where all elements are equal."
         "\n\n>>> x = wg.tensor([[1.0, 2.0], [3.0, 5.0]])\n"
         ">>> wg.std(x, axis=0)\n"
         "tensor([1. , 1.5])");
  both(m, cls, "argmax", "x", argmax, py::arg("axis") = none, keepdims_argument(),
       "Index of the first largest along an axis, or, without one, in x as one row; int64. "
       "ValueError of "
       "no elements."
       "\n\n>>> wg.argmax(wg.tensor([3.0, 7.0, 7.0])).item()\n"
       "1");
  both(m, cls, "argmin", "x", argmin, py::arg("axis") = none, keepdims_argument(),
       "Index of the first smallest along an axis, or, without one, in x as one row; int64.");
  add_cumulative(m, cls, "cumsum", cumsum,
                 "y[i] = x[0] + ... + x[i] along an axis, or, without one, in x as one row.\n\n"
                 "Gathered in float64, whatever the dtype; of ints and bools int64, unless dtype "
                 "says otherwise: x is converted to it first."
                 "\n\n>>> wg.cumsum(wg.tensor([1, 2, 3]))\n"
                 "tensor([1, 3, 6])");
  add_cumulative(m, cls, "cumprod", cumprod,
                 "y[i] = x[0] * ... * x[i] along an axis, or, without one, in x as one row; dtypes "
                 "as cumsum's. The gradient is right where x has zeros.");
  both(m, cls, "logcumsumexp", "x", logcumsumexp, py::arg("axis"),
       "log(cumsum(exp(x))) along an axis, stable; floating. Infinite x get no NaN in the "
       "gradient: -inf has 0, and of several inf each has all that follows it.");
  add_extreme(m, cls, "cummax", cummax,
              "(values, indices) along an axis: the largest of x[0] to x[i], and where the last of "
              "equal ones is, int64. From the first NaN on NaN. The gradient goes to the indices.");
  add_extreme(m, cls, "cummin", cummin,
              "(values, indices) along an axis: the smallest of x[0] to x[i], and where the last "
              "of equal ones is, int64. From the first NaN on NaN. The gradient goes to the "
              "indices.");
  const auto difference = [](py::handle given, int64_t n, int64_t axis, py::handle prepend,
                             py::handle append) {
    const Tensor* x = as_tensor(given.ptr());
    if (!x)
      fail<DTypeError>("diff: got ", shown(given),
                       "; expected a Tensor. Two lists of lines: wengert.study.diff(a, b)");
    const auto end = [&](py::handle part) {
      return part.is_none() ? Tensor() : to_operand("diff", part, *x);
    };
    return diff(*x, n, axis, end(prepend), end(append));
  };
  both(m, cls, "diff", "x", difference, py::arg("n") = 1, py::arg("axis") = -1,
       py::arg("prepend") = none, py::arg("append") = none,
       "x[i + 1] - x[i] along an axis, n times over; of bools, whether they differ. prepend and "
       "append are joined to x first: tensors of as many axes, or numbers.");
  both(m, cls, "nonzero", "x", nonzero,
       "Places of the elements that are not zero: (count, ndim), int64.");

  add_binary(m, cls, "matmul", matmul,
             "Matrix product of the last two axes, (..., n, k) @ (..., k, m) -> (..., n, m); "
             "vectors and batches as in NumPy. ShapeError where the inner sizes differ, DTypeError "
             "for bools. "
             "Dtypes are promoted as in NumPy."
             "\n\n>>> a, b = wg.ones((2, 3)), wg.ones((5, 3, 4))\n"
             ">>> wg.matmul(a, b).shape\n"
             "(5, 2, 4)\n"
             ">>> a @ wg.tensor([1.0, 2.0, 3.0])\n"
             "tensor([6., 6.])");
  both(m, cls, "softmax", "x", softmax, py::arg("axis") = -1,
       "exp(x) / sum(exp(x)) along an axis, stable; of x's shape, floating. IndexError for an axis "
       "that is not there."
       "\n\n>>> wg.softmax(wg.tensor([[0.0, 0.0], [1.0, 1.0]]), axis=1)\n"
       "tensor([[0.5, 0.5],\n"
       "        [0.5, 0.5]])");
  both(m, cls, "log_softmax", "x", log_softmax, py::arg("axis") = -1,
       "log(softmax(x)) along an axis, stable; of x's shape, floating. IndexError for an axis that "
       "is not there."
       "\n\n>>> wg.log_softmax(wg.tensor([0.0, 1000.0]))\n"
       "tensor([-1000.,     0.])");
  m.def(
      "linear",
      [](const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias) {
        return linear(x, weight, bias.value_or(Tensor()));
      },
      py::arg("x"), py::arg("weight"), py::arg("bias") = none,
      "x @ weight.T + bias, for x (..., in), weight (out, in) and bias (out,): (..., out). "
      "ShapeError "
      "where the sizes differ."
      "\n\n>>> wg.linear(wg.ones((5, 3)), wg.ones((2, 3)), wg.ones(2)).shape\n"
      "(5, 2)");
  m.def(
      "layer_norm",
      [](const Tensor& x, py::handle shape, const std::optional<Tensor>& weight,
         const std::optional<Tensor>& bias, double eps) {
        return layer_norm(x, to_shape("layer_norm", shape), weight.value_or(Tensor()),
                          bias.value_or(Tensor()), eps);
      },
      py::arg("x"), py::arg("normalized_shape"), py::arg("weight") = none, py::arg("bias") = none,
      py::arg("eps") = 1e-5,
      "(x - mean) / sqrt(var + eps) * weight + bias over x's last axes, which have "
      "normalized_shape; of x's shape. ShapeError where x has others. arXiv 1607.06450."
      "\n\n>>> y = wg.layer_norm(wg.tensor([[1.0, 3.0], [2.0, 6.0]]), (2,))\n"
      ">>> [[round(v, 3) for v in row] for row in y.tolist()]\n"
      "[[-1.0, 1.0], [-1.0, 1.0]]");
  m.def("_batch_norm", &batch_norm, py::arg("x"), py::arg("weight"), py::arg("bias"),
        py::arg("eps"), "See wengert.batch_norm: in training; and mean and variance of channels.");
  m.def(
      "_recurrent",
      [](const std::string& cell, py::handle operands, bool reverse) {
        const auto in = to_tensors(cell.c_str(), operands);
        return recurrent(cell, Tensors(in), reverse);
      },
      py::arg("cell"), py::arg("operands"), py::arg("reverse"), "See wengert.nn.LSTM.");
  m.def(
      "_attention",
      [](const Tensor& q, const Tensor& k, const Tensor& v, const std::optional<Tensor>& mask,
         bool causal, std::optional<double> scale) {
        return attention(q, k, v, mask.value_or(Tensor()), causal, scale);
      },
      py::arg("query"), py::arg("key"), py::arg("value"), py::arg("attn_mask") = none,
      py::arg("is_causal") = false, py::arg("scale") = none,
      "See wengert.scaled_dot_product_attention.");
  m.def(
      "attention_weights",
      [](const Tensor& q, const Tensor& k, const std::optional<Tensor>& mask, bool causal,
         std::optional<double> scale) {
        return attention_weights(q, k, mask.value_or(Tensor()), causal, scale);
      },
      py::arg("query"), py::arg("key"), py::arg("attn_mask") = none, py::arg("is_causal") = false,
      py::arg("scale") = none,
      "The softmax inside scaled_dot_product_attention, (..., L, S), whole and in plain lines.");
  m.def(
      "embedding",
      [](const Tensor& ids, const Tensor& weight, std::optional<int64_t> padding) {
        if (!padding) return embedding(ids, weight);
        return embedding(ids, weight, *padding < 0 ? *padding + weight.shape()[0] : *padding);
      },
      py::arg("ids"), py::arg("weight"), py::arg("padding_idx") = none,
      "weight[ids]: rows of a table (rows, features), for integer ids of any shape, 0 to rows - "
      "1.\n\n"
      "The row padding_idx gets no gradient. The result has the ids' shape and the features; "
      "IndexError for "
      "an id without a row."
      "\n\n>>> wg.embedding(wg.tensor([1, 0]), wg.tensor([[0.5], [1.5]]))\n"
      "tensor([[1.5],\n"
      "        [0.5]])");
  m.def(
      "one_hot",
      [](const Tensor& ids, int64_t classes, py::handle dtype) {
        return one_hot(ids, classes, to_dtype_or_none(dtype).value_or(DType::int64));
      },
      py::arg("ids"), py::arg("num_classes"), py::arg("dtype") = none,
      "1 at each id along a new last axis, else 0; int64 unless dtype says otherwise. IndexError "
      "for an id beyond "
      "num_classes."
      "\n\n>>> wg.one_hot(wg.tensor([0, 2]), 3)\n"
      "tensor([[1, 0, 0],\n"
      "        [0, 0, 1]])");
  m.def("_sort", sort, py::arg("x"), py::arg("axis"), py::arg("first"), py::arg("count"),
        py::arg("descending"),
        "Elements of ranks first to first + count along an axis, and their indices.");
  m.def(
      "_searchsorted",
      [](const Tensor& sorted, py::handle values, bool right) {
        return searchsorted(sorted, to_operand("searchsorted", values, sorted), right);
      },
      py::arg("sorted"), py::arg("values"), py::arg("right"), "See wengert.searchsorted.");
  m.def("cross_entropy_rows", cross_entropy_rows, py::arg("logits"), py::arg("target"),
        "-log_softmax(logits)[target] for each row; see cross_entropy.");
}

}  // namespace wengert::bindings
