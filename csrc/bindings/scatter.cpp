// Elements by index or mask, under PyTorch's names: taken, overwritten, folded into, in place too.
#include "bindings/bindings.h"

namespace wengert::bindings {

namespace {

using py::arg;

Fold to_fold(const char* op, std::string_view reduce) {
  constexpr std::pair<std::string_view, Fold> folds[] = {
      {"sum", Fold::add},   {"add", Fold::add},   {"prod", Fold::prod}, {"multiply", Fold::prod},
      {"mean", Fold::mean}, {"amax", Fold::amax}, {"amin", Fold::amin}};
  for (const auto& [name, fold] : folds)
    if (name == reduce) return fold;
  fail<ValueError>(op, ": reduce is '", reduce,
                   "'; expected 'sum', 'prod', 'mean', 'amax' or 'amin'");
}

// f(x, arguments..., how) as a function and a method, and as a method in place.
template <class... Given, class F, class... Extra>
void both_and_in_place(py::module_& m, TensorClass& cls, const char* name, F f, const char* doc,
                       const Extra&... extra) {
  both(
      m, cls, name, "x",
      [=](const Tensor& x, Given... given) { return f(x, given..., ScatterHow{name}); }, extra...,
      doc);
  const char* own = (new std::string(concat(name, "_")))->c_str();  // for as long as the method
  cls.def(
      own,
      [=](py::object self, Given... given) {
        ScatterHow how{own};
        how.in_place = true;
        f(self.cast<Tensor>(), given..., how);
        return self;
      },
      extra..., concat(name, "(), in place.").c_str());
}

}  // namespace

void add_scatter(py::module_& m, TensorClass& cls) {
  using Maybe = std::optional<std::string>;
  const auto folding = [](ScatterHow how, Fold fold, bool include_self = true) {
    how.fold = fold;
    how.include_self = include_self;
    return how;
  };
  const auto none = py::none();

  both(
      m, cls, "gather", "x",
      [](const Tensor& x, int64_t axis, const Tensor& index) { return gather(x, axis, index); },
      arg("axis"), arg("index"),
      "y[i, j] = x[index[i, j], j] for axis 0, and so on: one element of x for each of the "
      "index, which has as many axes, none longer than x's but `axis`. IndexError for an index out "
      "of range; -1 is the last.");
  both(
      m, cls, "take_along_axis", "x",
      [](const Tensor& x, const Tensor& index, std::optional<int64_t> axis) {
        return take_along_axis(x, index, axis, "take_along_axis");
      },
      arg("index"), arg("axis") = -1,
      "gather() of x and an index that broadcast to each other but along `axis`; None: of both "
      "flattened. NumPy's.");
  both(
      m, cls, "take_along_dim", "x",
      [](const Tensor& x, const Tensor& index, std::optional<int64_t> axis) {
        return take_along_axis(x, index, axis, "take_along_dim");
      },
      arg("index"), arg("axis") = none, "take_along_axis(), with PyTorch's default axis.");
  both(m, cls, "take", "x", take, arg("index"),
       "x's elements, counted as if it were flattened; of the index's shape.");
  both(m, cls, "index_select", "x", index_select, arg("axis"), arg("index"),
       "Slices of x along an axis, by an index of one axis; as x[index] for axis 0.");

  both(m, cls, "masked_select", "x", masked_select, arg("mask"),
       "x[mask], one axis, of an x and a bool mask that broadcast.");

  both_and_in_place<int64_t, const Tensor&, py::handle, const Maybe&>(
      m, cls, "scatter",
      [=](const Tensor& x, int64_t axis, const Tensor& index, py::handle src, const Maybe& reduce,
          const ScatterHow& how) {
        return scatter(x, axis, index, to_operand(how.by, src, x),
                       folding(how, reduce ? to_fold(how.by, *reduce) : Fold::set));
      },
      "x with y[index[i, j], j] = src[i, j] for axis 0, and so on: the reverse of gather(). src: "
      "of x's dtype and at least the index's shape, or a number. Of values for one place the last "
      "stays; reduce 'add' or 'multiply' takes in all.",
      arg("axis"), arg("index"), arg("src"), py::kw_only(), arg("reduce") = none);
  both_and_in_place<int64_t, const Tensor&, py::handle>(
      m, cls, "scatter_add",
      [=](const Tensor& x, int64_t axis, const Tensor& index, py::handle src,
          const ScatterHow& how) {
        return scatter(x, axis, index, to_operand(how.by, src, x), folding(how, Fold::add));
      },
      "x with y[index[i, j], j] += src[i, j] for axis 0, and so on, in order: the same bits for "
      "any number of threads.",
      arg("axis"), arg("index"), arg("src"));
  both_and_in_place<int64_t, const Tensor&, py::handle, const std::string&, bool>(
      m, cls, "scatter_reduce",
      [=](const Tensor& x, int64_t axis, const Tensor& index, py::handle src,
          const std::string& reduce, bool include_self, const ScatterHow& how) {
        return scatter(x, axis, index, to_operand(how.by, src, x),
                       folding(how, to_fold(how.by, reduce), include_self));
      },
      "As scatter_add(), by 'sum', 'prod', 'mean', 'amax' or 'amin' of x's element and its values; "
      "include_self=False: of the values alone, where there are any. Ties share the gradient.",
      arg("axis"), arg("index"), arg("src"), arg("reduce"), py::kw_only(),
      arg("include_self") = true);

  both_and_in_place<int64_t, const Tensor&, const Tensor&, py::handle>(
      m, cls, "index_add",
      [=](const Tensor& x, int64_t axis, const Tensor& index, const Tensor& source,
          py::handle alpha, const ScatterHow& how) {
        const Tensor factor = to_operand(how.by, alpha, x);
        const bool one = py::isinstance<py::int_>(alpha) && alpha.cast<int64_t>() == 1;
        return index_scatter(x, axis, index, one ? source : source * factor,
                             folding(how, Fold::add));
      },
      "x with y[index[i]] += alpha * source[i] for axis 0, and so on; source has x's shape, with "
      "the index's size along the axis.",
      arg("axis"), arg("index"), arg("source"), py::kw_only(), arg("alpha") = 1);
  both_and_in_place<int64_t, const Tensor&, const Tensor&>(
      m, cls, "index_copy",
      [](const Tensor& x, int64_t axis, const Tensor& index, const Tensor& source,
         const ScatterHow& how) { return index_scatter(x, axis, index, source, how); },
      "x with y[index[i]] = source[i] for axis 0, and so on; of equal indices the last stays.",
      arg("axis"), arg("index"), arg("source"));
  both_and_in_place<int64_t, const Tensor&, py::handle>(
      m, cls, "index_fill",
      [](const Tensor& x, int64_t axis, const Tensor& index, py::handle value,
         const ScatterHow& how) {
        const Tensor filling = to_operand(how.by, value, x);
        if (filling.dim() > 0)
          fail<ShapeError>(how.by, ": value has shape ", filling.shape(), "; expected one number");
        return index_scatter(x, axis, index, filling, how);
      },
      "x with y[index[i]] = value for axis 0, and so on; one number.", arg("axis"), arg("index"),
      arg("value"));
  both_and_in_place<int64_t, const Tensor&, const Tensor&, const std::string&, bool>(
      m, cls, "index_reduce",
      [=](const Tensor& x, int64_t axis, const Tensor& index, const Tensor& source,
          const std::string& reduce, bool include_self, const ScatterHow& how) {
        return index_scatter(x, axis, index, source,
                             folding(how, to_fold(how.by, reduce), include_self));
      },
      "As index_add(), by a fold of scatter_reduce().", arg("axis"), arg("index"), arg("source"),
      arg("reduce"), py::kw_only(), arg("include_self") = true);
  both_and_in_place<const Tensor&, const Tensor&, bool>(
      m, cls, "put",
      [=](const Tensor& x, const Tensor& index, const Tensor& source, bool accumulate,
          const ScatterHow& how) {
        return put(x, index, source, folding(how, accumulate ? Fold::add : Fold::set));
      },
      "x with source's elements at places of the flattened x, or added there; as many as the "
      "index's.",
      arg("index"), arg("source"), arg("accumulate") = false);
  both_and_in_place<const Tensor&, py::handle>(
      m, cls, "masked_fill",
      [](const Tensor& x, const Tensor& mask, py::handle value, const ScatterHow& how) {
        return masked_fill(x, mask, to_operand(how.by, value, x), how);
      },
      "x with one number where the mask, which is bool and broadcasts, is true.", arg("mask"),
      arg("value"));
  both_and_in_place<const Tensor&, const Tensor&>(
      m, cls, "masked_scatter", masked_scatter,
      "x with source's elements, in order, where the mask is true. It counts them, so a compiled "
      "step cannot hold it.",
      arg("mask"), arg("source"));
}

}  // namespace wengert::bindings
