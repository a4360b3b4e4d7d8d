// Edits in place, and the history of views.
//
// A tensor and its views share memory, and one history: that of the base. A recorded edit of a view
// gives the base a line which puts the new values into a region of it. All others that look at the
// memory are stale then, and take a region of the base when they are next asked.

#include <algorithm>
#include <cmath>

#include "base/pool.h"
#include "graph/writing.h"
#include "tensor/copy.h"

namespace wengert {

static constinit thread_local const KeptWhole* kept_whole = nullptr;

KeptWhole::KeptWhole(std::string by, Tensors tensors)
    : by_(std::move(by)), outer_(std::exchange(kept_whole, this)) {
  for (const Tensor& x : tensors) storages_.push_back(x->storage);
}
KeptWhole::~KeptWhole() { kept_whole = outer_; }
void KeptWhole::check(const Tensor& x) {
  for (const KeptWhole* k = kept_whole; k; k = k->outer_)
    for (const Ref<Storage>& s : k->storages_)
      if (s == x->storage)
        fail<GradientError>(k->by_, " changes in place a tensor of shape ", x.shape(),
                            " that it was given, which others may share; compute a new tensor, or "
                            "change a clone()");
}

static constinit thread_local Draws* draws = nullptr;

Draws::Draws() : outer_(std::exchange(draws, this)) {}
Draws::~Draws() { draws = outer_; }
void Draws::note(const Tensor& state) {
  for (Draws* d = draws; d; d = d->outer_) {
    const auto same = [&](const auto& known) { return known.first->storage == state->storage; };
    if (std::any_of(d->states.begin(), d->states.end(), same)) continue;
    d->states.emplace_back(state, apply(copy_op, state));
  }
}

namespace {

bool shares_memory(const Tensor& a, const Tensor& b) { return a->storage == b->storage; }
bool same_layout(const Tensor& a, const Tensor& b) {
  return a->offset == b->offset && a->shape == b->shape && a->strides == b->strides &&
         a->dtype == b->dtype;
}

void check_writable(const char* op, const Tensor& x) {
  KeptWhole::check(x);
  if (x->storage->read_only)
    fail<ValueError>(
        op,
        ": this tensor's memory is read-only (it came from a read-only array); clone() it first");
  for (int i = 0; i < x.dim(); ++i)
    if (x.strides()[i] == 0 && x.shape()[i] > 1)
      fail<ValueError>(
          op,
          ": several elements of this expanded tensor share one place in memory, so it "
          "cannot be written in place; clone() it first");
}

// The inputs, with copies of those that a line would save and that share x's memory.
std::vector<Tensor> inputs_apart(const Tensor& x, Tensors inputs, Saves saves) {
  std::vector<Tensor> apart(inputs.begin(), inputs.end());
  for (size_t i = 0; i < apart.size() && i < 16; ++i)
    if ((saves & save_input(static_cast<int>(i))) && shares_memory(apart[i], x))
      apart[i] = copy_to_save(apart[i]);
  return apart;
}

const Tensor& root_of(const Tensor& x) {
  const Tensor* root = &x;
  while ((*root)->base.defined()) root = &(*root)->base;
  return *root;
}

Layout region_of(const Tensor& x, const Tensor& root) {
  return {x.shape(), x.strides(), x->offset - root->offset};
}

void set_history(const Tensor& x, const LineRef& line) {
  if (x->retains_grad) {  // of what the tensor is now
    if (x->line) forget_tensor(x->line.get());
    if (line) line->retains_grad = x.body();
  }
  x->line = line;
  x->recorded_edits = x->storage->recorded_edits;
}

// The line that puts `value` into root's region that `x` shows; empty where none needs a gradient.
LineRef put_into(const Tensor& root, const Tensor& x, const Tensor& value) {
  const Tensor in[] = {root, value}, after = root.detach();
  if (const uint32_t needs = needs_mask(Tensors(in)))
    record(put_region_op, Tensors(in), region_of(x, root), after, Tensor(), needs);
  return after->line;
}

// Whether some elements may share a place.
bool may_overlap(const Tensor& x) {
  std::vector<std::pair<int64_t, int64_t>> axes;  // stride, reach
  for (int d = 0; d < x.dim(); ++d)
    if (const int64_t stride = std::abs(x.strides()[d]); x.shape()[d] > 1)
      axes.emplace_back(stride, stride * (x.shape()[d] - 1));
  std::sort(axes.begin(), axes.end());
  int64_t reached = 0;
  for (const auto& [stride, reach] : axes) {
    if (stride <= reached) return true;
    reached += reach;
  }
  return false;
}

// Regions are of tensors in one piece: where the root is none, all memory from its first to its
// last element becomes its base. False where elements of the root share memory.
bool provide_base(const Tensor& x) {
  const Tensor root = root_of(x);
  if (root.is_contiguous() || root.body() == x.body()) return true;
  if (may_overlap(root)) return false;
  int64_t low = 0, high = 0;
  for (int d = 0; d < root.dim(); ++d) {
    const int64_t reach = (root.shape()[d] - 1) * root.strides()[d];
    (reach < 0 ? low : high) += reach;
  }
  const Tensor memory = root.alias(Shape{high - low + 1}, Strides{1}, root->offset + low);
  memory->detached = root->detached;
  memory->blind = root->blind;
  memory->line = put_into(memory, root, root);
  root->base = memory;
  return true;
}

void check_not_blind(const char* by, const Tensor& x) {
  const int32_t own = x->base.defined() ? 2 : 1;
  if (root_of(x)->blind && x->storage->refs.load() > own)
    fail<GradientError>(by,
                        " in place: this view was taken under no_grad(), of a tensor that requires "
                        "a gradient and would not know of the change; change it under no_grad(), "
                        "or take the view where gradients are recorded");
}

// Before x is edited as part of a graph.
void check_edit(const char* by, const Tensor& x) {
  check_history(by, x);
  const Tensor root = root_of(x);
  if (x->leaf_requires_grad || root->leaf_requires_grad)
    fail<GradientError>(
        by, " in place: this tensor is a ", x->leaf_requires_grad ? "" : "view of a ",
        "leaf that requires a gradient, and the change would be lost from its history; do it under "
        "no_grad(), or write x = x + ..., or edit a clone()");
  if (!is_floating(x.dtype()))
    fail<GradientError>(by, " in place: a tensor of ", x.dtype(), " cannot carry a gradient");
  if (!provide_base(x))
    fail<GradientError>(by, " in place: this is a view of a tensor of shape ", root.shape(),
                        " and strides ", root.strides(),
                        ", elements of which share memory, so the change cannot be recorded; "
                        "clone() that tensor first");
}

// x, which has been edited, has the history of `line`.
void record_edit(const Tensor& x, const LineRef& line, const Op& op) {
  const Tensor root = root_of(x);
  LineRef whole = line;
  if (root.body() != x.body()) {
    const Tensor value = x.detach();
    value->line = line;
    whole = put_into(root, x, value);
  }
  ++x->storage->recorded_edits;
  set_history(root, whole);
  root->made_by = root.body() == x.body() ? &op : &put_region_op;
  if (x->retains_grad) take_history(x);
}

}  // namespace

void take_history(const Tensor& x) {
  const uint32_t edits = x->storage->recorded_edits;
  if (const Tensor& root = root_of(x); root->recorded_edits != edits) {
    // Edited through a tensor that has another base. What is detached stays a constant.
    if (root->detached && !root->line) root->recorded_edits = x->recorded_edits = edits;
    return;
  }
  if (x->leaf_requires_grad || !provide_base(x)) return;
  const Tensor root = root_of(x);
  const GradMode on(true);
  set_history(x, apply(region_op, root, region_of(x, root))->line);
}

void check_history(const char* op, const Tensor& x) {
  if (!x.requires_grad() || !x.is_stale()) return;
  fail<GradientError>(
      op, ": the memory of this tensor was changed in place with a gradient (the last change is '",
      x->storage->edited_by, "', ", describe(x->storage->edited_at),
      ") through another that is no view of it and that it is no view of, such as a detached one, "
      "so its history is lost; clone() one of them before the change");
}

void note_edit(const Tensor& x, const char* by, Origin at) {
  ++x->storage->version;
  x->storage->edited_by = by;
  x->storage->edited_at = at;
}

void apply_in_place(const Tensor& x, const Op& op, Tensors inputs, const Attrs& attrs,
                    const char* by) {
  if (!by) by = op.name;
  check_writable(by, x);
  bool recorded = x.requires_grad();
  bool direct = op.elementwise || op.in_place;
  for (const Tensor& in : inputs) {
    recorded |= in.requires_grad();
    direct &= !shares_memory(in, x) || same_layout(in, x);
  }
  recorded &= grad_enabled();
  if (grad_enabled()) check_not_blind(by, x);
  if (recorded) check_edit(by, x);

  const Device device = check_device(op, inputs, op.elementwise);
  if (inputs.size() > 1 && device != x.device())  // a copy may cross
    fail<DeviceError>(by, " in place: the tensor is on ", x.device(), " and an operand on ", device,
                      "; move it with .to(\"", x.device(), "\")");
  SmallVector<Meta, 2> metas;
  op.infer(inputs, attrs, metas);
  if (!(metas[0].shape == x.shape()))
    fail<ShapeError>(by, " in place: the result has shape ", metas[0].shape,
                     " but the tensor has shape ", x.shape(),
                     "; a tensor cannot change its shape in place");
  if (metas[0].dtype != x.dtype())
    fail<DTypeError>(by, " in place: the result would be ", metas[0].dtype, " but the tensor is ",
                     x.dtype(), "; convert the operand with .to(", x.dtype(), ") first");
  if (tracer) tracer->before_edit(x, op, inputs);
  const bool runs = !tracer || (tracer->runs(op, inputs) && tracer->runs(op, Tensors(&x, 1)));
  if (tracer) {
    tracer->about_to_run(inputs);
    tracer->about_to_run(Tensors(&x, 1));
  }
  // A study reads how each line was recorded, so it sees a result and a copy of it.
  const bool studied = tracer && tracer->runs();
  const uint32_t needs = recorded ? needs_mask(inputs) : 0;
  const Saves saves = needs && op.saves ? op.saves(needs, attrs) : 0;
  std::vector<Tensor> apart;  // y.mul_(x) needs y as it was
  if (saves) inputs = Tensors(apart = inputs_apart(x, inputs, saves));
  if (direct && !(recorded && studied) && !(saves & (save_output | save_auxiliary))) {
    const Device at = device_for(Tensors(&x, 1), inputs);
    if (!runs) kernel_on(op, at);
    const Tensor after = recorded ? x.detach() : x;
    if (needs && op.vjp) record(op, inputs, attrs, after, Tensor(), needs);
    if (runs) {
      const View target = x.view();
      try {  // a scatter takes too long for Ctrl-C to wait
        run_op(op, at, Views(&target, 1), inputs, attrs, op.elementwise);
      } catch (...) {
        note_edit(x, by);
        throw;
      }
    }
    if (tracer) tracer->line(op, inputs, Tensors(&x, 1), Tensors(&x, 1), attrs);
    note_edit(x, by);
    if (recorded) record_edit(x, after->line, op);
    return;
  }
  Tensor target = x, result = apply(op, inputs, attrs);
  if (recorded && studied && x->base.defined()) {
    target = root_of(x);
    const Tensor in[] = {target, result};
    result = apply(put_region_op, Tensors(in), region_of(x, target));
  }
  if (runs) {
    const WithoutInterrupts whole;
    copy_into(target.view(), result.view());
  }
  if (tracer)
    tracer->line(copy_op, Tensors(&result, 1), Tensors(&target, 1), Tensors(&target, 1), {});
  note_edit(x, by);
  if (recorded) record_edit(target, result->line, op);
}

void apply_update(const Op& op, Tensors inputs, int edited, const Attrs& attrs) {
  SmallVector<Meta, 2> none;
  op.infer(inputs, attrs, none);
  for (int i = 0; i < edited; ++i) {
    check_writable(op.name, inputs[i]);
    if (grad_enabled() && inputs[i].requires_grad())
      fail<GradientError>(op.name,
                          ": updates a tensor that requires a gradient; call it under no_grad()");
    if (tracer) tracer->before_edit(inputs[i], op, inputs);
  }
  if (tracer) tracer->about_to_run(inputs);
  const Device device = device_for(Tensors(), inputs);
  if (tracer && !tracer->runs(op, inputs))
    kernel_on(op, device);
  else
    run_op(op, device, {}, inputs, attrs, true);  // half an update is of no step
  if (tracer) tracer->line(op, inputs, {}, inputs.first(static_cast<size_t>(edited)), attrs);
  const Origin at = here();
  for (int i = 0; i < edited; ++i) note_edit(inputs[i], op.name, at);
}

}  // namespace wengert
