#include "program/batching.h"

#include <algorithm>

#include "ops/functions.h"

namespace wengert {

// ---- rules (graph/batch.h) ----

Tensor Batch::whole(size_t i, bool dense) const {
  Tensor x = all[i];
  if (!has(i)) {
    Shape shape = x.shape();
    shape.insert(0, size);
    x = expand(x, shape);
  }
  return dense ? contiguous(x) : x;
}
Tensor Batch::aligned(size_t i, int dim) const {
  if (!has(i) || one[i].dim() >= dim) return all[i];
  Shape shape = all[i].shape();
  while (shape.size() <= dim) shape.insert(1, 1);
  return reshape(all[i], shape);
}
Tensor Batch::numbered(size_t rows, int64_t count) const {
  const Tensor x = whole(rows);
  Shape first = Dims::filled(x.dim(), 1);
  first[0] = size;
  return x + reshape(arange(0, count, size, DType::int64, x.device()), first);
}

Tensor batch_whole(const Batch& b, const Attrs& attrs, bool dense, Tensor* auxiliary) {
  SmallVector<Tensor, 8> in;
  for (size_t i = 0; i < b.all.size(); ++i) in.emplace_back(b.whole(i, dense));
  return apply(b.op, Tensors(in.begin(), in.size()), attrs, auxiliary);
}

Tensor batch_spread(const Batch& b, Tensor* auxiliary) {
  int dim = 0;
  for (const Tensor& x : b.one) dim = std::max(dim, x.dim());
  SmallVector<Tensor, 8> in;
  for (size_t i = 0; i < b.all.size(); ++i) in.emplace_back(b.aligned(i, dim));
  return apply(b.op, Tensors(in.begin(), in.size()), b.attrs, auxiliary);
}

Tensor batch_rows(const Batch& b, size_t rows, Tensor* auxiliary) {
  SmallVector<Tensor, 8> in;
  for (size_t i = 0; i < b.all.size(); ++i) {
    if (i >= rows && b.has(i)) return batch_each(b, auxiliary);
    in.emplace_back(i < rows ? b.whole(i) : b.all[i]);
  }
  return apply(b.op, Tensors(in.begin(), in.size()), b.attrs, auxiliary);
}

Tensor batch_folded(const Batch& b, size_t with_samples, Tensor* auxiliary) {
  const int64_t samples = b.one[0].shape()[0];
  SmallVector<Tensor, 8> in;
  for (size_t i = 0; i < b.all.size(); ++i) {
    if (i >= with_samples && !b.has(i)) {
      in.emplace_back(b.all[i]);
      continue;
    }
    const Tensor x = b.whole(i);
    Shape shape = x.shape();
    if (i >= with_samples || shape[1] != samples)
      return batch_each(b, auxiliary);  // one for all samples
    shape.erase(0);
    shape[0] *= b.size;
    in.emplace_back(reshape(x, shape));
  }
  const auto unfolded = [&](const Tensor& y) {
    Shape shape = y.shape();
    shape[0] = samples;
    shape.insert(0, b.size);
    return reshape(y, shape);
  };
  const Tensor y = apply(b.op, Tensors(in.begin(), in.size()), b.attrs, auxiliary);
  if (auxiliary) *auxiliary = unfolded(*auxiliary);
  return unfolded(y);
}

Tensor batch_each(const Batch& b, Tensor* auxiliary) {
  std::vector<Tensor> ys, auxiliaries;
  for (int64_t n = 0; n < b.size; ++n) {
    SmallVector<Tensor, 8> in;
    for (size_t i = 0; i < b.all.size(); ++i)
      in.emplace_back(b.has(i) ? contiguous(pick(b.all[i], 0, n)) : b.all[i]);
    ys.push_back(apply(b.op, Tensors(in.begin(), in.size()), b.attrs,
                       auxiliary ? &auxiliaries.emplace_back() : nullptr));
  }
  if (auxiliary) *auxiliary = stack(Tensors(auxiliaries), 0);
  return stack(Tensors(ys), 0);
}

// ---- listening ----

namespace {

std::atomic<uint32_t> last_level{0};

class Around {  // lines are those of the tracer around
 public:
  explicit Around(Tracer* outer) : inner_(std::exchange(tracer, outer)) {}
  ~Around() { tracer = inner_; }
  Around(const Around&) = delete;

 private:
  Tracer* inner_;
};

}  // namespace

Batching::Batching(int64_t size, Random random)
    : size_(size), random_(random), level_(++last_level) {}

void Batching::stand_for(const Tensor& one, const Tensor& all) const {
  one->all = all;
  one->level = level_;
  if (one->line)  // which may have saved it
    for (const Saved& s : one->line->saved)
      if (s.what == save_output) {
        s.value->all = all;
        s.value->level = level_;
      }
}
Tensor Batching::one(const Tensor& all, bool argument) {
  Shape shape = all.shape();
  shape.erase(0);
  const Tensor y = Tensor::promise({shape, all.dtype(), all.device()});
  y->strides = all.strides();
  y->strides.erase(0);
  y->leaf_requires_grad = all.requires_grad();
  stand_for(y, all);
  if (argument) arguments_.insert(y->storage.get());
  return y;
}
Tensor Batching::all(const Tensor& one) const { return differs(one) ? one->all : Tensor(); }

bool Batching::differ(Tensors some) const {
  return std::any_of(some.begin(), some.end(), [&](const Tensor& x) { return differs(x); });
}
bool Batching::runs(const Op& op, Tensors operands) const {
  return !differ(operands) && !draws(op) && (!outer_ || outer_->runs(op, operands));
}

void Batching::about_to_run(Tensors operands) {
  if (outer_ && !differ(operands)) outer_->about_to_run(operands);
}

void Batching::before_edit(const Tensor& x, const Op& op, Tensors operands) {
  if (op.edits > 0) {
    if (random_ == error)
      fail<ValueError>("vmap: the function draws random numbers ('", op.name, "' at ",
                       describe(here()),
                       "): say randomness=\"different\" for numbers of its own for each example, "
                       "or \"same\" for one draw that all share");
  } else if (arguments_.count(x->storage.get())) {
    fail<ValueError>("vmap: the function changes one of its arguments in place ('", op.name,
                     "' at ", describe(here()), "); let it change a clone()");
  } else if (!differs(x)) {
    if (!made_.count(x->storage.get()))
      fail<ValueError>("vmap: the function changes in place a tensor of shape ", x.shape(),
                       " from outside ('", op.name, "' at ", describe(here()),
                       "), which its examples share; return the new value instead");
    if (differ(operands)) make_differ(x, op);
  }
  if (outer_ && !differs(x)) outer_->before_edit(x, op, operands);
}

// The memory that the function made for all examples becomes one for each.
void Batching::make_differ(const Tensor& x, const Op& op) {
  const Around around(outer_);
  Storage& memory = *x->storage.get();
  const int64_t n = memory.bytes / size_of(x.dtype());
  const Tensor root = x->base.defined() ? x->base : x,
               flat = root.numel() == n && root.is_contiguous() ? reshape(root, Shape{n})
                                                                : x.alias(Shape{n}, Strides{1}, 0);
  if (x->blind || (root.requires_grad() && !flat.requires_grad()))
    fail<ValueError>("vmap: '", op.name, "' at ", describe(here()),
                     " writes what differs between examples into a part of a tensor that they "
                     "share; add 0 times an argument to that where it is made");
  apart_.emplace(&memory, std::pair(x->storage, clone(expand(flat, Shape{size_, n}))));
  // Later readers of this memory get an error: it has no values.
  const Ref<Storage> former = Storage::promise(Shape{memory.bytes}, DType::uint8, memory.device);
  if (memory.data != memory.few) former->data = memory.data;
  memory.data = nullptr;
}
bool Batching::differs(const Tensor& x) const {
  if (!x.defined() || x->level == level_ || apart_.empty())
    return x.defined() && x->level == level_;
  const auto at = apart_.find(x->storage.get());
  if (at == apart_.end()) return false;
  const Around around(outer_);
  const GradMode on(true);
  Layout region{x.shape(), x.strides(), x->offset};
  region.shape.insert(0, size_);
  region.strides.insert(0, at->second.second.shape()[1]);
  stand_for(x, apply(region_op, at->second.second, region));
  return true;
}

void Batching::line(const Op& op, Tensors inputs, Tensors outputs, Tensors edited,
                    const Attrs& attrs) {
  const bool each = differ(inputs) || differ(edited) || draws(op);
  if (!each) {
    for (const Tensor& y : outputs) made_.insert(y->storage.get());
    if (outer_) outer_->line(op, inputs, outputs, edited, attrs);
    return;
  }
  if (outputs.empty())
    fail<ValueError>("vmap: '", op.name, "' at ", describe(here()),
                     " changes tensors in place that differ between examples; loop over the "
                     "examples instead");
  const Around around(outer_);
  SmallVector<Tensor, 8> all;
  for (const Tensor& x : inputs) all.emplace_back(all_of(x));
  const Batch b{op, attrs, size_, inputs, Tensors(all.begin(), all.size())};
  Tensor auxiliary;
  const auto rule = op.batch ? op.batch : op.elementwise ? batch_spread : batch_each;
  Tensor y = rule(b, outputs.size() > 1 ? &auxiliary : nullptr);
  if (!edited.empty()) {
    const Tensor x = all_of(edited[0]);
    apply_in_place(x, copy_op, Tensors(&(y = expand(y, x.shape())), 1), {}, op.name);
    return;
  }
  stand_for(outputs[0], y);
  if (outputs.size() > 1) stand_for(outputs[1], auxiliary);
}

void Batching::reads_grad(const Tensor& leaf) {
  if (differs(leaf) ? leaf->all.requires_grad() : !made_.count(leaf->storage.get()))
    fail<GradientError>(
        "vmap: backward() in the function, or .grad, of a tensor from outside, which its examples "
        "share; call wengert.grad(), or wengert.func.grad, and return the gradients");
}

void Batching::looks_at_value(const char* what, const Tensor& x) {
  if (differs(x) || (!x.defined() && random_ != same))
    fail<ValueError>("vmap: ", what, " at ", describe(here()),
                     " looks at a value, and examples have values of their own: write "
                     "wengert.where(condition, a, b) in place of an `if`, or loop over the "
                     "examples");
  if (outer_) outer_->looks_at_value(what, x);
}

}  // namespace wengert
