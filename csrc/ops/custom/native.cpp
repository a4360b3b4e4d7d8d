#include "ops/custom/native.h"

#include <algorithm>
#include <map>
#include <mutex>

#include "base/pool.h"

namespace wengert {

namespace {

static_assert(max_dims <= WENGERT_MAX_AXES);
static_assert(int(DType::bool_) == wengert_bool && int(DType::float32) == wengert_float32 &&
              int(DType::float64) == wengert_float64);

constexpr wengert_tools tools{[](int64_t chunks, void (*body)(const void*, int64_t),
                                 const void* context) { parallel_for(chunks, body, context); }};

const NativeOp& native(const Attrs& attrs) { return *static_cast<NativeOp*>(attrs.box()); }

wengert_array array(void* data, const Shape& shape, DType dtype) {
  wengert_array a{data, numel(shape), static_cast<int32_t>(dtype), shape.size(), {}};
  std::copy(shape.begin(), shape.end(), a.shape);
  return a;
}
void check(const wengert_op& given, const char* error) {
  if (error) fail<ValueError>(given.name, ": ", error);
}

void infer(Tensors in, const Attrs& attrs, SmallVector<Meta, 2>& out) {
  const wengert_op& given = native(attrs).given;
  if (!given.infer) {
    for (const Tensor& x : in)
      if (!(x.shape() == in[0].shape()) || x.dtype() != in[0].dtype() || !is_floating(x.dtype()))
        fail<ShapeError>(given.name, ": got ", x.dtype(), x.shape(), " with ", in[0].dtype(),
                         in[0].shape(), "; expected floating tensors of one shape and dtype");
    out.emplace_back(in[0].shape(), in[0].dtype(), in[0].device());
    return;
  }
  SmallVector<wengert_array, 4> arrays;
  for (const Tensor& x : in) arrays.emplace_back(array(nullptr, x.shape(), x.dtype()));
  wengert_array y{nullptr, 0, -1, -1, {}};
  check(given, given.infer(arrays.begin(), &y));
  const auto dtype = static_cast<DType>(y.dtype);
  if (y.dtype < 0 || y.dtype >= dtype_count || dtype == DType::bfloat16 || y.ndim < 0 ||
      y.ndim > max_dims)
    fail<ValueError>(given.name, ": its infer gave dtype ", y.dtype, " and ", y.ndim,
                     " axes; set dtype to one of <wengert/op.h>, and at most ", max_dims, " axes");
  Shape shape;
  for (int i = 0; i < y.ndim; ++i) shape.push_back(y.shape[i]);
  nbytes(shape, dtype);  // refuses sizes that are negative or overflow
  out.emplace_back(shape, dtype, in[0].device());
}

void run(Views out, Views in, const Attrs& attrs) {
  const wengert_op& given = native(attrs).given;
  SmallVector<wengert_array, 4> arrays;
  for (const View& x : in) arrays.emplace_back(array(x.data, x.shape, x.dtype));
  wengert_array y = array(out[0].data, out[0].shape, out[0].dtype);
  if (y.size > 0) check(given, given.value(arrays.begin(), &y, &tools));
}

Saves saves(uint32_t, const Attrs& attrs) {
  const wengert_op& given = native(attrs).given;
  const Saves inputs = (1u << given.inputs) - 1;
  return inputs | (given.gradient_of_y ? save_output : 0);
}

void vjp(const Line& line, const Tensor& g, Gradients& dx) {
  const wengert_op& given = native(line.attrs).given;
  std::vector<Tensor> of{g};
  for (int i = 0; i < given.inputs; ++i) of.push_back(line.input(i));
  if (given.gradient_of_y) of.push_back(line.result());
  for (int i = 0; i < given.inputs; ++i) {
    if (!line.needs(i)) continue;
    if (!given.gradient[i])
      fail<GradientError>(given.name, ": it has no gradient for input ", i,
                          "; detach() that input, or give the op one");
    const Tensor d = call_native(native_op(*given.gradient[i]), Tensors(of));
    if (!(d.shape() == line.inputs[i].shape) || !is_floating(d.dtype()))
      fail<ShapeError>(given.name, ": the gradient of input ", i, " is ", d.dtype(), d.shape(),
                       "; expected ", line.inputs[i].dtype, line.inputs[i].shape);
    dx[i] = d;
  }
}

Cost cost(Tensors in, const Tensor& out, const Attrs& attrs) {
  Cost c = default_cost(in, out);
  if (const double each = native(attrs).given.flops_per_element; each > 0)
    c.flops = each * static_cast<double>(out.numel());
  return c;
}

void check_definition(const wengert_op& given) {
  if (given.version != WENGERT_OP_VERSION)
    fail<ValueError>("custom_op: the extension's <wengert/op.h> has version ", given.version,
                     ", and this library's ", WENGERT_OP_VERSION, "; build the extension again");
  if (!given.name || !given.value)
    fail<ValueError>("custom_op: a wengert_op without name or value; set both");
  if (given.inputs < 1 || given.inputs > WENGERT_MAX_INPUTS)
    fail<ValueError>(given.name, ": inputs is ", given.inputs, "; expected 1 to ",
                     WENGERT_MAX_INPUTS);
  for (int i = 0; i < given.inputs; ++i)
    if (const wengert_op* d = given.gradient[i])
      if (const int n = given.inputs + 1 + (given.gradient_of_y != 0); d->inputs != n)
        fail<ValueError>(given.name, ": the gradient of input ", i, " takes ", d->inputs,
                         " inputs; expected ", n, ": g, the inputs",
                         given.gradient_of_y ? " and y" : "");
}

}  // namespace

NativeOp& native_op(const wengert_op& given) {
  static std::mutex mutex;
  static auto* const known = new std::map<const wengert_op*, NativeOp*>;
  check_definition(given);
  const std::lock_guard lock(mutex);
  NativeOp*& own = (*known)[&given];
  if (own) return *own;
  own = new NativeOp;
  own->refs = 1;  // never freed
  own->given = given;
  own->name = given.name;
  for (const Op* op : all_ops())
    if (own->name == op->name) own->name += '_';  // its lines are not taken for the library's
  own->operands = given.operands ? given.operands : "x";
  own->op = {.name = own->name.c_str(),
             .operands = own->operands.c_str(),
             .formula = given.formula ? given.formula : "",
             .infer = infer,
             .run = run,
             .vjp = vjp,
             .saves = saves,
             .cost = cost};
  for (int i = 0; i < given.inputs && i < int(std::size(own->op.gradient)); ++i)
    if (const wengert_op* d = given.gradient[i])
      own->op.gradient[i] = (own->gradients[i] = d->formula ? d->formula : d->name).c_str();
    else
      own->op.gradient[i] = "none";
  return *own;
}

Tensor call_native(NativeOp& own, Tensors inputs) {
  if (static_cast<size_t>(own.given.inputs) != inputs.size())
    fail<ValueError>(own.op.name, ": got ", inputs.size(), " tensors; expected ", own.given.inputs);
  std::vector<Tensor> whole;
  for (const Tensor& x : inputs) whole.push_back(contiguous(x));
  return apply(own.op, Tensors(whole), Attrs(Ref<Attrs::Box>(&own)));
}

}  // namespace wengert
