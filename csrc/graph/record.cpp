#include "graph/record.h"

#include <cmath>
#include <optional>

#include "base/pool.h"
#include "tensor/copy.h"

namespace wengert {

namespace {

std::atomic<uint64_t> next_number{1};
thread_local bool grad_mode = true;
std::atomic<bool> nan_watch{false};

constexpr int64_t much = 1 << 16;  // elements that an op may take milliseconds for

// The device of the inputs. A constant of no dimensions may lie on the CPU beside others on a GPU,
// if `constants`: kernels take it by its value.
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
                     backward_of->op->name, "', which stands at ", describe(backward_of->place));
  fail<ValueError>("the first NaN or infinity: made by '", op.name, "' at ", describe(here()));
}

uint32_t needs_mask(Tensors inputs) {
  uint32_t mask = 0;
  for (size_t i = 0; i < inputs.size(); ++i)
    if (inputs[i].requires_grad()) mask |= 1u << (i < 31 ? i : 31);
  return mask;
}

// A view taken before an edit that is part of a graph gets its history of now.
void update_history(const char* op, const Tensor& x) {
  if (!x.is_out_of_date()) return;
  refresh_view(x);
  if (x.is_out_of_date())
    fail<GradientError>(op, ": this view was taken before its memory was changed in place by '",
                        x->storage->edited_by, "' (", describe(x->storage->edited_at),
                        "), so its history is out of date; take the view again after the change");
}

void infer_copy(Tensors in, const Attrs&, SmallVector<Meta, 2>& out) {
  out.emplace_back(in[0].shape(), in[0].dtype(), in[0].device());
}
void run_copy(Views out, Views in, const Attrs&) { copy_into(out[0], in[0]); }
void vjp_copy(const Line&, const Tensor& g, Gradients& dx) { dx[0] = g; }
const Op the_copy_op{.name = "copy",
                     .formula = "x",
                     .gradient = "g",
                     .infer = infer_copy,
                     .run = run_copy,
                     .vjp = vjp_copy,
                     .cuda = true,
                     .elementwise = true};

void infer_cast(Tensors in, const Attrs& attrs, SmallVector<Meta, 2>& out) {
  out.emplace_back(in[0].shape(), attrs.as<DType>(), in[0].device());
}
void run_cast(Views out, Views in, const Attrs&) { copy_into(out[0], in[0]); }
void vjp_cast(const Line& line, const Tensor& g, Gradients& dx) {
  dx[0] = apply(cast_op, g, line.inputs[0].dtype);
}
void describe_cast(const Attrs& attrs, AttrText& text) {
  text.emplace_back("dtype", name(attrs.as<DType>()));
}
const Op the_cast_op{.name = "cast",
                     .formula = "x, converted",
                     .gradient = "g, converted back",
                     .infer = infer_cast,
                     .run = run_cast,
                     .vjp = vjp_cast,
                     .describe = describe_cast,
                     .cuda = true,
                     .elementwise = true};

// What a line keeps in place of a value that is about to change: a copy with the value's history.
Tensor copy_to_save(const Tensor& value) {
  const GradMode on(value.requires_grad());
  return apply(copy_op, value);
}

void save(Line& line, Saves what, const Tensor& value) {
  // No version counter sees what others write to exposed memory.
  const Tensor kept = value->storage->exposed ? copy_to_save(value) : value;
  line.saved.emplace_back(what, kept, kept->storage->version);
}

void record(const Op& op, Tensors inputs, const Attrs& attrs, const Tensor& out,
            const Tensor& auxiliary, uint32_t needs) {
  Line* line = new Line;
  LineRef owner(line);
  line->op = &op;
  line->attrs = attrs;
  line->number = next_number.fetch_add(1, std::memory_order_relaxed);
  line->place = here();
  line->output = {out.shape(), out.dtype(), out.device()};
  line->inputs.reserve(inputs.size());
  for (const Tensor& x : inputs) {
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
}

bool shares_memory(const Tensor& a, const Tensor& b) { return a->storage == b->storage; }
bool same_layout(const Tensor& a, const Tensor& b) {
  return a->offset == b->offset && a->shape == b->shape && a->strides == b->strides &&
         a->dtype == b->dtype;
}

void check_writable(const char* op, const Tensor& x) {
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

void check_kernel(const Op& op, Device device) {
  if (is_cuda(device) && !op.cuda)
    fail<DeviceError>(op.name, ": has no CUDA kernel; move its inputs to the CPU with .cpu()");
}

void run_op(const Op& op, Views outputs, Tensors inputs, const Attrs& attrs) {
  SmallVector<View, 8> views;
  int64_t elements = 0;
  bool on_host = true;
  const auto count = [&](const View& x) {
    elements += x.numel();
    on_host &= !is_cuda(x.device);
  };
  for (const View& y : outputs) count(y);
  for (const Tensor& x : inputs) count(views.emplace_made([&] { return x.view(); }));
  // Other threads of Python run during all that takes long, whether its loops are parallel or not.
  std::optional<WithoutHostLock> unlocked;
  if (elements >= much && on_host) unlocked.emplace();
  op.run(outputs, Views(views.begin(), views.size()), attrs);
}

}  // namespace

constinit thread_local const Line* backward_of = nullptr;
constinit thread_local Tracer* tracer = nullptr;
const Op& copy_op = the_copy_op;
const Op& cast_op = the_cast_op;

void Tracer::looks_at_value(const char* what, const Tensor&) {
  fail<ValueError>("compile: ", what, " at ", describe(here()),
                   " looks at values, which a compiled step cannot hold: it would see those of "
                   "the first call for "
                   "ever. Do it outside the step, on what the step returns");
}

bool grad_enabled() { return grad_mode; }
bool set_grad_enabled(bool enabled) { return std::exchange(grad_mode, enabled); }
bool watches_nan() { return nan_watch.load(std::memory_order_relaxed); }
void set_nan_watch(bool on) { nan_watch.store(on, std::memory_order_relaxed); }

Cost default_cost(Tensors in, const Tensor& out) {
  Cost cost;
  cost.flops = static_cast<double>(out.numel());
  cost.bytes = static_cast<double>(nbytes(out.shape(), out.dtype()));
  for (const Tensor& x : in) cost.bytes += static_cast<double>(nbytes(x.shape(), x.dtype()));
  return cost;
}
Cost cost_of(const Op& op, Tensors in, const Tensor& out, const Attrs& attrs) {
  if (op.alias) return {};
  return op.cost ? op.cost(in, out, attrs) : default_cost(in, out);
}

static bool runs_bfloat16(const Op& op) { return op.elementwise || op.alias || op.bfloat16; }

// op in float32, where it does not take bfloat16: three lines.
static Tensor apply_widened(const Op& op, Tensors inputs, const Attrs& attrs) {
  SmallVector<Tensor, 8> wide;
  for (const Tensor& x : inputs)
    wide.emplace_back(x.dtype() == DType::bfloat16 ? apply(cast_op, x, DType::float32) : x);
  const Tensor y = apply(op, Tensors(wide.begin(), wide.size()), attrs);
  return y.dtype() == DType::float32 ? apply(cast_op, y, DType::bfloat16) : y;
}

Tensor apply(const Op& op, Tensors inputs, const Attrs& attrs) {
  const Device device = check_device(op, inputs, op.elementwise);
  if (!runs_bfloat16(op))
    for (const Tensor& x : inputs)
      if (x.dtype() == DType::bfloat16) return apply_widened(op, inputs, attrs);
  Tracer* const listener = tracer;
  const bool runs = !listener || listener->runs();
  if (listener) listener->about_to_run(inputs);
  Tensor out, auxiliary;
  if (op.alias) {
    const Layout layout = op.alias(inputs[0], attrs);
    out = inputs[0].view_of(layout.shape, layout.strides, layout.offset);
  } else {
    SmallVector<Meta, 2> metas;
    op.infer(inputs, attrs, metas);
    // The input that the op took for the model of its output may be a constant on the CPU.
    if (op.elementwise && is_cuda(device)) metas[0].device = device;
    if (tracer)
      for (int i = 0; i < op.edits; ++i) tracer->before_edit(inputs[i]);
    out = runs ? Tensor(metas[0]) : Tensor::promise(metas[0]);
    if (metas.size() > 1) auxiliary = runs ? Tensor(metas[1]) : Tensor::promise(metas[1]);
    check_kernel(op, out.device());
    if (runs) {
      SmallVector<View, 2> out_views;
      out_views.emplace_made([&] { return out.view(); });
      if (auxiliary.defined()) out_views.emplace_made([&] { return auxiliary.view(); });
      run_op(op, Views(out_views.begin(), out_views.size()), inputs, attrs);
      if (nan_watch.load(std::memory_order_relaxed)) check_finite(op, out);
    }
  }
  out->made_by = &op;
  for (int i = 0; i < op.edits; ++i) note_edit(inputs[i], op.name);
  if (grad_mode && op.vjp &&
      is_floating(out.dtype())) {  // a cast to integers ends a gradient's way
    for (const Tensor& x : inputs) update_history(op.name, x);
    if (const uint32_t needs = needs_mask(inputs)) record(op, inputs, attrs, out, auxiliary, needs);
  }
  if (listener) {
    const Tensor outputs[] = {out, auxiliary};
    listener->line(op, inputs, Tensors(outputs, auxiliary.defined() ? 2 : 1), {}, attrs);
  }
  return out;
}

// ---- edits of views that are part of a graph ----

// From now on x's history is that of `line`; views of it taken before are out of date.
static void set_history(const Tensor& x, const LineRef& line, const Op& made_by) {
  if (x->retains_grad) {  // of what the tensor is now
    if (x->line) forget_tensor(x->line.get());
    if (line) line->retains_grad = x.body();
  }
  x->line = line;
  x->made_by = &made_by;
  if (x->family) x->edits_seen = ++x->family->edits;
}

static Tensor root_of(const Tensor& view) { return Tensor(Ref<TensorBody>(view->family->root)); }

static bool root_needs_grad(const Tensor& x) {
  return x.is_view() && x->family->root && root_of(x).requires_grad();
}

// Whether an edit of this view can become a part of the history of the tensor that it is a view of.
static void check_root(const char* by, const Tensor& view) {
  if (!view->family->root) return;
  const Tensor root = root_of(view);
  if (root->leaf_requires_grad)
    fail<GradientError>(
        by,
        " in place: this is a view of a leaf that requires a gradient, and the change would be "
        "lost from its history; do it under no_grad(), or on a copy: x.clone()");
  if (root.requires_grad() && !view->line)
    fail<GradientError>(by,
                        " in place: this view was taken under no_grad(), of a tensor with history, "
                        "which the change would not be a part of; take it again, outside");
  if (!root.is_contiguous())
    fail<GradientError>(by, " in place: this is a view of a tensor of shape ", root.shape(),
                        " whose elements are not in one piece, and the change cannot be recorded; "
                        "make the view of x.contiguous()");
}

// The memory of a view has got the values of `value`: the root's history becomes that of a line
// which puts them there, and the view is one of the new root.
static void record_region(const Tensor& view, const Tensor& value) {
  const Tensor root = root_of(view);
  const Layout region{view.shape(), view.strides(), view->offset - root->offset};
  const Tensor in[] = {root, value};
  const LineRef before = root->line;
  record(put_region_op, Tensors(in), region, root, Tensor(), needs_mask(Tensors(in)));
  const LineRef line = root->line;
  root->line = before;
  set_history(root, line, put_region_op);
  const Tensor taken = apply(region_op, root, region);
  set_history(view, taken->line, region_op);
  view->edits_seen = root->edits_seen = view->family->edits;
}

void refresh_view(const Tensor& x) {
  if (!x.is_view() || !x.is_out_of_date() || !x->family->root) return;
  const Tensor root = root_of(x);
  if (!root.is_contiguous()) return;
  const GradMode on(true);
  const Tensor taken =
      apply(region_op, root, Layout{x.shape(), x.strides(), x->offset - root->offset});
  x->line = taken->line;
  x->made_by = &region_op;
  x->edits_seen = x->family->edits;
}

void note_edit(const Tensor& x, const char* by, Place at) {
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
  if (recorded && x->leaf_requires_grad)
    fail<GradientError>(
        by,
        " in place: this tensor is a leaf that requires a gradient, and the change would "
        "be lost from its history; do it under no_grad(), or write x = x + ...");
  if (grad_mode && is_floating(x.dtype())) {
    update_history(by, x);
    for (const Tensor& in : inputs) update_history(by, in);
    recorded |= root_needs_grad(x);
    if (recorded && x.is_view()) check_root(by, x);
  }
  if (recorded && !is_floating(x.dtype()))
    fail<GradientError>(by, " in place: a tensor of ", x.dtype(), " cannot carry a gradient");

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
  if (direct && !recorded) {
    check_kernel(op, x.device());
    if (runs) {
      const View target = x.view();
      std::optional<WithoutInterrupts> whole;  // what is scattered takes too long to wait for
      if (op.elementwise) whole.emplace();
      try {
        run_op(op, Views(&target, 1), inputs, attrs);
      } catch (...) {
        note_edit(x, by);
        throw;
      }
    }
    if (tracer) tracer->line(op, inputs, Tensors(&x, 1), Tensors(&x, 1), attrs);
    note_edit(x, by);
    return;
  }
  const Tensor result = apply(op, inputs, attrs);
  if (recorded && result->line)  // y.mul_(x) needs y as it was
    for (Saved& s : result->line->saved)
      if (shares_memory(s.value, x)) s = {s.what, copy_to_save(s.value), 0};
  if (runs) {
    const WithoutInterrupts whole;
    copy_into(x.view(), result.view());
  }
  if (tracer) tracer->line(copy_op, Tensors(&result, 1), Tensors(&x, 1), Tensors(&x, 1), {});
  note_edit(x, by);
  if (!recorded) return;
  if (x.is_view() && x->family->root)
    record_region(x, result);
  else
    set_history(x, result->line, op);
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
  check_kernel(op, inputs[0].device());
  if (!tracer || tracer->runs()) {
    const WithoutInterrupts whole;  // half an update would be of no step
    run_op(op, {}, inputs, attrs);
  }
  if (tracer) tracer->line(op, inputs, {}, inputs.first(static_cast<size_t>(edited)), attrs);
  const Place at = here();
  for (int i = 0; i < edited; ++i) note_edit(inputs[i], op.name, at);
}

}  // namespace wengert
