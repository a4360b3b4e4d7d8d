#include "graph/record.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "base/pool.h"
#include "graph/packed.h"
#include "graph/writing.h"
#include "tensor/copy.h"

namespace wengert {

namespace {

std::atomic<uint64_t> next_number{1};
thread_local bool grad_mode = true;
std::atomic<bool> nan_watch{false};

constexpr int64_t few = 1 << 8;    // elements that no op cuts into chunks
constexpr int64_t much = 1 << 16;  // elements that an op may take milliseconds for

}  // namespace

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

namespace {

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

}  // namespace

uint32_t needs_mask(Tensors inputs) {
  uint32_t mask = 0;
  for (size_t i = 0; i < inputs.size(); ++i)
    if (inputs[i].requires_grad()) mask |= 1u << (i < 31 ? i : 31);
  return mask;
}

Tensor copy_to_save(const Tensor& value) {
  const GradMode on(value.requires_grad());
  return apply(copy_op, value);
}

static void save(Line& line, Saves what, const Tensor& value) {
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

// About how many elements the op's loops have. A small storage has few.
static int64_t work_of(Views outputs, Tensors inputs) {
  int64_t elements = 0;
  for (const View& y : outputs) elements += y.numel();
  for (const Tensor& x : inputs)
    if (x->storage->bytes >= few) elements += x.numel();
  return elements;
}

void run_op(const Op& op, Device device, Views outputs, Tensors inputs, const Attrs& attrs,
            bool whole) {
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

constinit thread_local const Line* backward_of = nullptr;
constinit thread_local Tracer* tracer = nullptr;

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
  const bool runs = !listener || listener->runs(op, inputs);
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
      for (int i = 0; i < op.edits; ++i) listener->before_edit(inputs[i], op, inputs);
    for (int i = 0; i < op.edits; ++i) Draws::note(inputs[i]);
    out = runs ? Tensor(metas[0]) : Tensor::promise(metas[0]);
    if (metas.size() > 1) auxiliary = runs ? Tensor(metas[1]) : Tensor::promise(metas[1]);
    const Device at = device_for(Tensors(&out, 1), inputs);  // a copy may cross
    if (!runs) kernel_on(op, at);                            // refused where the line stands
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

}  // namespace wengert
