#include "graph/record.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "base/pool.h"
#include "graph/custom.h"
#include "tensor/copy.h"

namespace wengert {

namespace {

std::atomic<uint64_t> next_number{1};
thread_local bool grad_mode = true;
std::atomic<bool> nan_watch{false};

constexpr int64_t few = 1 << 8;    // elements that no op cuts into chunks
constexpr int64_t much = 1 << 16;  // elements that an op may take milliseconds for

// The device of the inputs. A constant of no dimensions may be on the CPU while others are on a
// GPU, if `constants`: kernels take it by its value.
Device check_device(const Op& op, Tensors inputs, bool constants) {
  if (inputs.empty()) return Device::cpu;
  const auto constant = [&](const Tensor& t) {
    return constants && t.dim() == 0 && !is_cuda(t.device());
  };
  Device device = inputs[0].device();
  for (const Tensor& t : inputs) {
    if (t.device() == device || constant(t)) continue;
    if (constant(inputs[0]) && !is_cuda(device))
      device = t.device();
    else
      fail<DeviceError>(op.name, ": tensors on two devices, ", device, " and ", t.device(),
                        "; move one with .to(\"", device, "\")");
  }
  return device;
}

void check_finite(const Op& op, const Tensor& y) {
  if (!is_floating(y.dtype()) || y.numel() == 0) return;
  const Tensor out = on_host(y);  // in one piece, as what an op has made is
  bool finite = true;
  dispatch(out.dtype(), [&](auto type) {
    const auto* x = out.data<typename decltype(type)::type>();
    serial_for(out.numel(), much, [&](int64_t first, int64_t end) {
      for (int64_t i = first; i < end; ++i) finite &= std::isfinite(static_cast<double>(x[i]));
    });
  });
  if (finite) return;
  if (backward_of)
    fail<ValueError>("the first NaN or infinity: made by '", op.name, "' in the gradient of '",
                     backward_of->op->name, "', which stands at ", describe(backward_of->origin));
  fail<ValueError>("the first NaN or infinity: made by '", op.name, "' at ", describe(here()));
}

uint32_t needs_mask(Tensors inputs) {
  uint32_t mask = 0;
  for (size_t i = 0; i < inputs.size(); ++i)
    if (inputs[i].requires_grad()) mask |= 1u << (i < 31 ? i : 31);
  return mask;
}

void infer_copy(Tensors in, const Attrs&, SmallVector<Meta, 2>& out) {
  out.emplace_back(in[0].shape(), in[0].dtype(), in[0].device());
}
void run_copy(Views out, Views in, const Attrs&) { copy_into(out[0], in[0]); }
void vjp_copy(const Line&, const Tensor& g, Gradients& dx) { dx[0] = g; }
const Op the_copy_op{.name = "copy",
                     .formula = "x",
                     .gradient = {"g"},
                     .infer = infer_copy,
                     .run = run_copy,
                     .gpu = run_copy,
                     .vjp = vjp_copy,
                     .elementwise = true};

void infer_cast(Tensors in, const Attrs& attrs, SmallVector<Meta, 2>& out) {
  out.emplace_back(in[0].shape(), attrs.as<DType>(), in[0].device());
}
void run_cast(Views out, Views in, const Attrs&) { copy_into(out[0], in[0]); }
void vjp_cast(const Line& line, const Tensor& g, Gradients& dx) {
  dx[0] = apply(cast_op, g, line.inputs[0].dtype);
}
void describe_cast(const Attrs& attrs, NamedAttrs& named) {
  named.emplace_back("dtype", name(attrs.as<DType>()));
}
const Op the_cast_op{.name = "cast",
                     .formula = "x, converted",
                     .gradient = {"g, converted back"},
                     .infer = infer_cast,
                     .run = run_cast,
                     .gpu = run_cast,
                     .vjp = vjp_cast,
                     .describe = describe_cast,
                     .elementwise = true};

// What a line keeps in place of a value that is about to change: a copy with the value's history.
Tensor copy_to_save(const Tensor& value) {
  const GradMode on(value.requires_grad());
  return apply(copy_op, value);
}

void save(Line& line, Saves what, const Tensor& value) {
  // No version counter sees what others write to exposed memory.
  const Tensor kept = pack_saved && !value->leaf_requires_grad ? packed(value)
                      : value->storage->exposed                ? copy_to_save(value)
                                                               : value;
  line.saved.emplace_back(what, kept, kept->storage->version);
}

Line* record(const Op& op, Tensors inputs, const Attrs& attrs, const Tensor& out,
             const Tensor& auxiliary, uint32_t needs) {
  Line* line = new Line;
  LineRef owner(line);
  line->op = &op;
  line->attrs = attrs;
  line->number = next_number.fetch_add(1, std::memory_order_relaxed);
  line->origin = here();
  line->output = {out.shape(), out.dtype(), out.device()};
  line->inputs.reserve(inputs.size());
  for (const Tensor& x : inputs) {
    if (x.is_stale()) [[unlikely]]
      check_history(op.name, x);
    Edge& edge = line->inputs.emplace_back();
    edge.line = x->line;
    if (x->leaf_requires_grad) edge.leaf = x;
    edge.shape = x.shape();
    edge.dtype = x.dtype();
  }
  const Saves saves = op.saves ? op.saves(needs, attrs) : 0;
  for (size_t i = 0; i < inputs.size() && i < 16; ++i)
    if (saves & save_input(static_cast<int>(i)))
      save(*line, save_input(static_cast<int>(i)), inputs[i]);
  // Detached: a line that held its own output would keep itself alive.
  if (saves & save_output) save(*line, save_output, out.detach());
  if (saves & save_auxiliary) save(*line, save_auxiliary, auxiliary);
  out->line = std::move(owner);
  return line;
}

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

// About how many elements the op's loops have. A small storage has few.
int64_t work_of(Views outputs, Tensors inputs) {
  int64_t elements = 0;
  for (const View& y : outputs) elements += y.numel();
  for (const Tensor& x : inputs)
    if (x->storage->bytes >= few) elements += x.numel();
  return elements;
}

// `whole`: Ctrl-C waits until the op has run to its end.
void run_op(const Op& op, Device device, Views outputs, Tensors inputs, const Attrs& attrs,
            bool whole = false) {
  const OpKernel kernel = kernel_on(op, device);
  SmallVector<View, 8> views;
  for (const Tensor& x : inputs) views.emplace_made([&] { return x.view(); });
  const Views in(views.begin(), views.size());
  const int64_t work = work_of(outputs, inputs);
  if (work < few) return kernel(outputs, in, attrs);
  std::optional<WithoutInterrupts> held;
  if (whole) held.emplace();
  std::optional<WithoutHostLock> unlocked;  // other threads of Python run meanwhile
  if (work >= much && !is_cuda(device)) unlocked.emplace();
  kernel(outputs, in, attrs);
}

}  // namespace

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

constinit thread_local const Line* backward_of = nullptr;
constinit thread_local Tracer* tracer = nullptr;
const Op& copy_op = the_copy_op;
const Op& cast_op = the_cast_op;

void Tracer::looks_at_value(const char* what, const Tensor&) {
  fail<ValueError>("compile: ", what, " at ", describe(here()),
                   " looks at values, which a compiled step cannot hold: each call would see "
                   "those of the first. Do it outside the step, on what the step returns");
}

uint64_t next_line() { return next_number.load(std::memory_order_relaxed); }
bool grad_enabled() { return grad_mode; }
bool set_grad_enabled(bool enabled) { return std::exchange(grad_mode, enabled); }
bool watches_nan() { return nan_watch.load(std::memory_order_relaxed); }
void set_nan_watch(bool on) { nan_watch.store(on, std::memory_order_relaxed); }

static bool runs_bfloat16(const Op& op) { return op.elementwise || op.alias || op.bfloat16; }

// op in float32, where it does not support bfloat16: three lines.
static Tensor apply_widened(const Op& op, Tensors inputs, const Attrs& attrs, Tensor* auxiliary) {
  SmallVector<Tensor, 8> wide;
  for (const Tensor& x : inputs)
    wide.emplace_back(x.dtype() == DType::bfloat16 ? apply(cast_op, x, DType::float32) : x);
  const Tensor y = apply(op, Tensors(wide.begin(), wide.size()), attrs, auxiliary);
  return y.dtype() == DType::float32 ? apply(cast_op, y, DType::bfloat16) : y;
}

Tensor apply(const Op& op, Tensors inputs, const Attrs& attrs, Tensor* second) {
  const Device device = check_device(op, inputs, op.elementwise);
  if (!runs_bfloat16(op))
    for (const Tensor& x : inputs)
      if (x.dtype() == DType::bfloat16) return apply_widened(op, inputs, attrs, second);
  Tracer* const listener = tracer;
  const bool runs = !listener || listener->runs();
  if (listener) listener->about_to_run(inputs);
  Tensor out, auxiliary;
  if (op.alias) {
    const Layout layout = op.alias(inputs[0], attrs);
    out = inputs[0].alias(layout.shape, layout.strides, layout.offset);
    if (grad_mode)
      out->base = inputs[0]->base.defined() ? inputs[0]->base : inputs[0];
    else  // without a base, so that it keeps no graph
      out->blind = inputs[0]->blind || inputs[0].requires_grad();
  } else {
    SmallVector<Meta, 2> metas;
    op.infer(inputs, attrs, metas);
    // The input that the op took for the model of its output may be a constant on the CPU.
    if (op.elementwise && is_cuda(device)) metas[0].device = device;
    if (listener)
      for (int i = 0; i < op.edits; ++i) listener->before_edit(inputs[i]);
    for (int i = 0; i < op.edits; ++i) Draws::note(inputs[i]);
    out = runs ? Tensor(metas[0]) : Tensor::promise(metas[0]);
    if (metas.size() > 1) auxiliary = runs ? Tensor(metas[1]) : Tensor::promise(metas[1]);
    // A copy may cross: it has one kernel for all devices.
    const Device at = is_cuda(device) ? device : out.device();
    if (!runs) kernel_on(op, at);  // refused where the line stands
    if (runs) {
      SmallVector<View, 2> out_views;
      out_views.emplace_made([&] { return out.view(); });
      if (auxiliary.defined()) out_views.emplace_made([&] { return auxiliary.view(); });
      run_op(op, at, Views(out_views.begin(), out_views.size()), inputs, attrs);
      if (nan_watch.load(std::memory_order_relaxed)) check_finite(op, out);
    }
  }
  out->made_by = &op;
  for (int i = 0; i < op.edits; ++i) note_edit(inputs[i], op.name);
  if (grad_mode && op.vjp && is_floating(out.dtype()))  // a cast to integers ends a gradient's way
    if (const uint32_t needs = needs_mask(inputs)) record(op, inputs, attrs, out, auxiliary, needs);
  if (listener) {
    const Tensor outputs[] = {out, auxiliary};
    listener->line(op, inputs, Tensors(outputs, auxiliary.defined() ? 2 : 1), {}, attrs);
  }
  if (second) {
    auxiliary->made_by = &op;
    *second = auxiliary;
  }
  return out;
}

void record_made(const Op& op, Tensors inputs, Tensors outputs, Tensors saved, bool saves_output,
                 const Attrs& attrs) {
  const uint32_t needs = grad_mode ? needs_mask(inputs) : 0;
  if (!needs) return;
  Line* line = record(op, inputs, attrs, outputs[0], Tensor(), needs);
  for (const Tensor& x : saved) save(*line, 0, x);
  if (saves_output) save(*line, save_output, outputs[0].detach());
}

// ---- edits in place, and the history of views ----
//
// A tensor and its views share memory, and one history: that of the base. A recorded edit of a view
// gives the base a line which puts the new values into a region of it. All others that look at the
// memory are stale then, and take a region of the base when they are next asked.

namespace {

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
  recorded &= grad_mode;
  if (grad_mode) check_not_blind(by, x);
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
  if (tracer) tracer->before_edit(x);
  const bool runs = !tracer || tracer->runs();
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
    if (!runs) kernel_on(op, x.device());
    const Tensor after = recorded ? x.detach() : x;
    if (needs && op.vjp) record(op, inputs, attrs, after, Tensor(), needs);
    if (runs) {
      const View target = x.view();
      try {  // a scatter takes too long for Ctrl-C to wait
        run_op(op, x.device(), Views(&target, 1), inputs, attrs, op.elementwise);
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
    if (grad_mode && inputs[i].requires_grad())
      fail<GradientError>(op.name,
                          ": updates a tensor that requires a gradient; call it under no_grad()");
    if (tracer) tracer->before_edit(inputs[i]);
  }
  if (tracer) tracer->about_to_run(inputs);
  if (tracer && !tracer->runs()) {
    kernel_on(op, inputs[0].device());
  } else {
    run_op(op, inputs[0].device(), {}, inputs, attrs, true);  // half an update is of no step
  }
  if (tracer) tracer->line(op, inputs, {}, inputs.first(static_cast<size_t>(edited)), attrs);
  const Origin at = here();
  for (int i = 0; i < edited; ++i) note_edit(inputs[i], op.name, at);
}

}  // namespace wengert
