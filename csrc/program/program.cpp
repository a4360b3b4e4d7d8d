#include "program/program.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include "base/allocator.h"
#include "base/pool.h"
#include "gpu/loader.h"
#include "ops/custom/host.h"
#include "program/passes.h"
#include "tensor/copy.h"

namespace wengert {

Program::Program(std::vector<Tensor> arguments) : arguments_(std::move(arguments)) {
  for (size_t i = 0; i < arguments_.size(); ++i) {
    name_value(arguments_[i], concat("arg", i));
    traced_.slots[static_cast<size_t>(slot(arguments_[i]))].kind = StepList::Slot::argument;
  }
}

void Program::begin() { outer_ = std::exchange(tracer, this); }
void Program::end() { tracer = outer_; }

int Program::slot(const Tensor& x) {
  const auto known = slots_.find(x->storage.get());
  if (known != slots_.end()) return known->second;
  const int m = static_cast<int>(traced_.slots.size());
  traced_.slots.push_back({x->storage, StepList::Slot::outside, false, x->storage->bytes});
  return slots_.emplace(x->storage.get(), m).first->second;
}

int Program::number(const Tensor& x) {
  // Detached tensors and saved outputs are other objects, but the same value.
  const std::string place =
      concat(x->storage.get(), '+', x->offset, x.shape(), x.strides(), x.dtype());
  const auto known = numbers_.find(place);
  if (known != numbers_.end()) return known->second;
  // Should memory run out here, a number still has both a value and the tensor that it keeps.
  const int n = static_cast<int>(traced_.values.size());
  const int at_slot = slot(x);
  StepList::Value value{concat("c", n), x.shape(), x.strides(),
                        x.dtype(),      at_slot,   x->offset * size_of(x.dtype())};
  keep_.reserve(traced_.values.capacity() + 1);
  traced_.values.push_back(std::move(value));
  keep_.push_back(x);
  return numbers_.emplace(place, n).first->second;
}

void Program::name_value(const Tensor& x, const std::string& name) {
  traced_.values[static_cast<size_t>(number(x))].name = name;
}

void Program::before_edit(const Tensor& x, const Op&, Tensors) {
  const auto at = slots_.find(x->storage.get());
  if (at != slots_.end() &&
      traced_.slots[static_cast<size_t>(at->second)].kind == StepList::Slot::argument)
    fail<ValueError>("compile: the step changes one of its arguments in place, at ",
                     describe(here()),
                     "; a compiled step works on copies of them: clone() it first, or let the step "
                     "use the tensor from outside");
}

void Program::abandon(Tensors arguments) {
  for (const LeafGradient& g : gradients_) g.leaf->grad = g.before;
  try {
    give_values(held_outside(), arguments, true);
  } catch (...) {  // the step's own error counts; what has no values says so when it is read
  }
}

void Program::settle(Tensors arguments) {
  try {
    give_values(held_outside(), arguments, true);
  } catch (...) {  // an interrupt: what is outside must not stay without values
    abandon(arguments);
    throw;
  }
}

void Program::give_values(std::vector<bool> wanted, Tensors arguments, bool outside) {
  // By memory: whether it is wanted, or a line that computes such a one reads it.
  const auto writes_wanted = [&](const StepList::Line& line) {
    bool found = false;
    each_slot(traced_, line,
              [&](int m, bool written) { found |= written && wanted[static_cast<size_t>(m)]; });
    return found;
  };
  for (size_t i = traced_.lines.size(); i-- > 0;)
    if (const StepList::Line& line = traced_.lines[i]; writes_wanted(line))
      each_slot(traced_, line, [&](int m, bool) { wanted[static_cast<size_t>(m)] = true; });

  std::vector<bool> known;  // by memory: whether it holds what the step would find there
  const std::vector<bool> held = outside ? std::vector<bool>() : held_outside();
  for (size_t m = 0; m < traced_.slots.size(); ++m)
    known.push_back(traced_.slots[m].kind != StepList::Slot::made &&
                    traced_.slots[m].storage->data && (outside || !held[m]));
  for (size_t i = 0; i < arguments.size(); ++i) {
    const auto m = static_cast<size_t>(slot(arguments_[i]));
    if (!wanted[m]) continue;
    arguments_[i]->storage->provide();
    copy_into(arguments_[i].view(), arguments[i].view());
    known[m] = true;
  }
  for (const StepList::Line& line : traced_.lines) {
    if (line.op->alias) continue;
    bool can_run = writes_wanted(line);
    for (int x : line.inputs) can_run &= known[static_cast<size_t>(traced_.value(x).slot)];
    each_slot(traced_, line, [&](int m, bool written) {
      can_run &= !written || traced_.slots[static_cast<size_t>(m)].kind == StepList::Slot::made;
    });
    if (can_run) traced_.run(line);
    each_slot(traced_, line, [&](int m, bool written) {
      if (written) known[static_cast<size_t>(m)] = can_run;
    });
  }
}

void Program::looks_at_value(const char* what, const Tensor& x) {
  const auto at = x.defined() ? slots_.find(x->storage.get()) : slots_.end();
  if (at != slots_.end()) {
    const auto m = static_cast<size_t>(at->second);
    std::vector<bool> wanted(traced_.slots.size(), false);
    wanted[m] = true;
    // Edits made so far count, so what was computed for an earlier look is computed again.
    if (traced_.slots[m].kind == StepList::Slot::made && depends_on_constants(at->second)) {
      give_values(std::move(wanted), {}, false);
      return;
    }
  }
  Tracer::looks_at_value(what, x);
}

// Whether all that is written to this memory follows from memories that nothing outside holds.
bool Program::depends_on_constants(int slot) const {
  const std::vector<bool> held = held_outside();
  std::vector<bool> seen(traced_.slots.size(), false);
  std::vector<int> todo{slot};
  while (!todo.empty()) {
    const int m = todo.back();
    todo.pop_back();
    if (seen[static_cast<size_t>(m)]) continue;
    seen[static_cast<size_t>(m)] = true;
    switch (traced_.slots[static_cast<size_t>(m)].kind) {
      case StepList::Slot::argument:
        return false;
      case StepList::Slot::outside:
        if (held[static_cast<size_t>(m)]) return false;
        break;
      default:
        break;
    }
    for (const StepList::Line& line : traced_.lines) {
      bool writes = false;
      each_slot(traced_, line, [&](int i, bool written) { writes |= written && i == m; });
      if (!writes) continue;
      each_slot(traced_, line, [&](int i, bool) { todo.push_back(i); });
    }
  }
  return true;
}

void Program::line(const Op& op, Tensors inputs, Tensors outputs, Tensors edited,
                   const Attrs& attrs) {
  StepList::Line listed{.op = &op, .attrs = attrs, .origin = here()};
  listed.edit = !edited.empty();
  listed.edited = outputs.empty() ? static_cast<int>(edited.size()) : op.edits;
  for (const Tensor& x : inputs) listed.inputs.push_back(number(x));
  for (const Tensor& y : outputs) {
    const size_t known_slots = traced_.slots.size(), known = traced_.values.size();
    listed.outputs.push_back(number(y));
    if (traced_.slots.size() > known_slots && !listed.edit)
      traced_.slots.back().kind = StepList::Slot::made;
    // A view may be one that is known: the transpose of a transpose.
    if (traced_.values.size() > known) traced_.values.back().name = concat("v", ++made_);
  }
  listed.cost = cost_of(op, inputs, outputs.empty() ? inputs[0] : outputs[0], attrs);
  traced_.lines.push_back(std::move(listed));
  const auto note = [&](const Tensor& x) {
    const auto same = [&](const Tensor& t) { return t->storage == x->storage; };
    const bool outside =
        traced_.slots[static_cast<size_t>(slot(x))].kind == StepList::Slot::outside;
    if (outside && std::none_of(edited_.begin(), edited_.end(), same))
      edited_.push_back(x.detach());
  };
  for (int i = 0; i < op.edits; ++i) note(inputs[static_cast<size_t>(i)]);
  for (const Tensor& x : edited) note(x);
}

bool Program::sole_owner(const Tensor& x) const {
  const auto at = slots_.find(x->storage.get());
  const bool known = at != slots_.end();
  int32_t kept = known;  // the list's share
  bool keeps_x = false;
  for (const Tensor& t : keep_) {
    if (!(t->storage == x->storage)) continue;
    ++kept;
    keeps_x |= t.body() == x.body();
    if (t.body() != x.body() && t->refs.load() != 1) return false;
  }
  return x->refs.load() == 1 + keeps_x && x->storage->refs.load() == kept + !keeps_x;
}

void Program::touch(const Tensor& leaf, bool read) {
  for (const LeafGradient& g : gradients_)
    if (g.leaf.body() == leaf.body()) return;
  gradients_.push_back({leaf, leaf->grad, Tensor(), read});
}
void Program::reads_grad(const Tensor& leaf) { touch(leaf, true); }
void Program::sets_grad(const Tensor& leaf) { touch(leaf, false); }

void Program::finish(std::vector<Tensor> outputs) {
  outputs_ = std::move(outputs);
  // A leaf that the step itself made, of an argument perhaps, takes its gradient with it.
  std::erase_if(gradients_, [&](const LeafGradient& g) {
    const auto at = slots_.find(g.leaf->storage.get());
    if (at == slots_.end() ||
        traced_.slots[static_cast<size_t>(at->second)].kind == StepList::Slot::outside)
      return false;
    g.leaf->grad = {};
    return true;
  });
  const auto keep = [&](const Tensor& y) { traced_.slot(number(y)).kept = true; };
  for (const Tensor& y : outputs_) keep(y);
  for (LeafGradient& g : gradients_) {
    g.after = g.leaf->grad;
    if (g.after.defined()) keep(g.after);
    if (!g.read) g.before = {};  // the step drops it; its memory is reused
    g.leaf->grad = g.before;     // until the first replay has come to its end
  }
  // The history of what the trace made is of no use: only the values are.
  for (const StepList::Line& l : traced_.lines)
    for (int y : l.outputs)
      if (!l.edit) {
        TensorBody& made = *keep_[static_cast<size_t>(y)].body();
        made.line = {};
        made.base = {};
      }
  // A value from outside that has no owner there any more, and that no line overwrites, is
  // constant.
  const std::vector<bool> held = held_outside();
  const std::vector<int> writers = traced_.writers();
  for (size_t m = 0; m < held.size(); ++m)
    if (!held[m] && !writers[m] && traced_.slots[m].kind == StepList::Slot::outside)
      traced_.slots[m].kind = StepList::Slot::constant;
}

// The slots whose storage has an owner besides this program.
std::vector<bool> Program::held_outside() const {
  std::vector<int32_t> shares(traced_.slots.size(), 1);  // ours: the list's
  std::vector<bool> held(traced_.slots.size(), false);
  std::unordered_map<const TensorBody*, int32_t> views;  // that we keep
  for (const Tensor& x : keep_)
    if (x->base.defined()) ++views[x->base.body()];
  const auto of = [&](const Tensor& x) { return static_cast<size_t>(slots_.at(x->storage.get())); };
  for (size_t i = 0; i < keep_.size(); ++i) {
    const auto m = static_cast<size_t>(traced_.values[i].slot);
    ++shares[m];
    const auto shown = views.find(keep_[i].body());
    held[m] = held[m] || keep_[i]->refs.load() != 1 + (shown == views.end() ? 0 : shown->second);
  }
  for (const Tensor& y : outputs_) ++shares[of(y)];
  for (const Tensor& x : edited_) ++shares[of(x)];
  for (size_t m = 0; m < held.size(); ++m)
    held[m] = held[m] || traced_.slots[m].storage->refs.load() != shares[m];
  return held;
}

std::string Program::escaped() const {
  std::vector<bool> held = held_outside();
  for (const LeafGradient& g : gradients_)
    if (g.after.defined()) held[static_cast<size_t>(slots_.at(g.after->storage.get()))] = false;
  for (const StepList::Line& l : traced_.lines)
    for (int y : l.outputs)
      if (traced_.slot(y).kind == StepList::Slot::made &&
          held[static_cast<size_t>(traced_.value(y).slot)])
        return concat("'", l.op->name, "' of shape ", traced_.value(y).shape, " at ",
                      describe(l.origin));
  return {};
}

void Program::improve(const std::vector<std::string>& passes, const Options& options) {
  StepList list = traced_;
  const bool gpu = std::any_of(list.slots.begin(), list.slots.end(), [](const StepList::Slot& m) {
    return m.storage && is_cuda(m.storage->device);
  });
  const auto run = [&](std::span<const Pass> some) {
    for (const Pass& pass : some) {
      const auto on_device = gpu ? pass.on_gpu : pass.on_cpu;
      if (on_device && std::find(passes.begin(), passes.end(), pass.name) != passes.end())
        on_device(list);
    }
  };
  run(simplifying_passes);
  std::unique_ptr<Plan> single;  // one kernel of a GPU fuses in its own way
  if (gpu && options.persistent && DeviceReplay::too_much(list).empty())
    single = std::make_unique<Plan>(list, options.memory, false);
  run(fusing_passes);
  plan_ = std::make_unique<Plan>(std::move(list), options.memory, options.packing && !gpu);
  if (gpu)
    replay_ = std::make_unique<DeviceReplay>(*plan_, std::move(single), arguments_, outputs_,
                                             options.graph);
  for (const StepList::Line& line : traced_.lines)
    calls_host_ = calls_host_ || host_call(*line.op, line.attrs);
  const auto written = [&](const Storage& s) {
    const auto* const first = static_cast<const char*>(s.data);
    written_.emplace_back(first, first + s.bytes);
  };
  for (const Tensor& x : edited_) written(*x->storage.get());
  for (const LeafGradient& g : gradients_)
    if (g.after.defined()) written(*g.after->storage.get());
  if (!options.memory) return;
  // The step's values are in the plan's arena now; only those seen from outside stay.
  keep_.clear();
  for (StepList::Slot& m : traced_.slots)
    if (m.kind == StepList::Slot::made) m.storage = {};
}

bool Program::takes(Tensors arguments) const {
  bool same = arguments.size() == arguments_.size();
  for (size_t i = 0; same && i < arguments.size(); ++i)
    same = arguments[i].shape() == arguments_[i].shape() &&
           arguments[i].dtype() == arguments_[i].dtype() &&
           arguments[i].device() == arguments_[i].device() && !arguments[i].requires_grad();
  return same;
}

bool Program::fits() const {
  return precision_ == matmul_precision() &&
         std::all_of(gradients_.begin(), gradients_.end(), [](const LeafGradient& g) {
           return !g.read || g.leaf->grad.body() == g.before.body();
         });
}

bool Program::repeats() const {
  return std::all_of(gradients_.begin(), gradients_.end(), [](const LeafGradient& g) {
    return !g.read || g.after.body() == g.before.body();
  });
}

namespace {

class Exclusive {
 public:
  explicit Exclusive(std::atomic<bool>& running) : running_(running) {
    if (running_.exchange(true))
      fail<ValueError>(
          "compile: this step is already running, in another thread or further out; a compiled "
          "step has one set of memory: compile one for each thread");
  }
  ~Exclusive() { running_ = false; }
  Exclusive(const Exclusive&) = delete;

 private:
  std::atomic<bool>& running_;
};

// How values come to or from a tensor of the program's own, step after step.
struct Way {
  void* own;
  size_t bytes;
  bool plain, binds;
  Way(const Tensor& x, const View& other, bool may_bind)
      : own(x.data()),
        bytes(static_cast<size_t>(nbytes(x.shape(), x.dtype()))),
        plain(bytes <= max_plain && !is_cuda(x.device()) && !is_cuda(other.device) &&
              x.is_contiguous() && is_contiguous(other.shape, other.strides)),
        binds(may_bind) {}
  static constexpr size_t max_plain = 1 << 18;  // larger ones are shared out among threads
};

constexpr int64_t min_bound = 1024;  // bytes; smaller arguments are sooner copied than looked at

void advance(View& x, int64_t bytes) { x.data = x.as<char>() + bytes; }

}  // namespace

void Program::note_edits() {
  for (const Tensor& x : edited_) note_edit(x, "a compiled step");
}

// What belongs to the first step of a stack of them.
Moving Program::first_of(const Tensor& x) {
  View view = x.view();
  const int64_t stride = view.strides[0] * size_of(view.dtype);
  view.shape.erase(0);
  view.strides.erase(0);
  return {std::move(view), stride};
}

// Whether the lines may read an argument in place.
bool Program::may_bind(size_t i, const Moving& x, int64_t steps) const {
  const int64_t bytes = nbytes(x.view.shape, x.view.dtype);
  if (bytes < min_bound || is_cuda(x.view.device) || !plan_->can_bind(static_cast<int>(i)) ||
      !is_contiguous(x.view.shape, x.view.strides))
    return false;
  const char* const first = x.view.as<char>();
  const char* const last = first + (steps - 1) * x.stride;
  // Nor may it share memory with what the step changes.
  return std::none_of(written_.begin(), written_.end(), [&](const auto& w) {
    return w.first < std::max(first, last) + bytes && std::min(first, last) < w.second;
  });
}

void Program::replay(int64_t steps, std::span<Moving> arguments, std::span<Moving> results) {
  if (replay_ && replay_->run(steps, arguments, results)) return;
  SmallVector<Way, 4> in, out;
  for (size_t i = 0; i < arguments.size(); ++i) {
    in.emplace_back(arguments_[i], arguments[i].view, may_bind(i, arguments[i], steps));
    if (!in[i].binds) plan_->bind(static_cast<int>(i), in[i].own);
  }
  for (size_t i = 0; i < results.size(); ++i) out.emplace_back(outputs_[i], results[i].view, false);
  for (int64_t step = 0; step < steps; ++step) {
    for (size_t i = 0; i < in.size(); ++i) {
      View& from = arguments[i].view;
      if (in[i].binds)
        plan_->bind(static_cast<int>(i), from.data);
      else if (in[i].plain)
        std::memcpy(in[i].own, from.data, in[i].bytes);
      else
        copy_into(arguments_[i].view(), from);
      advance(from, arguments[i].stride);
    }
    plan_->run();
    for (size_t i = 0; i < out.size(); ++i) {
      View& to = results[i].view;
      if (out[i].plain)
        std::memcpy(to.data, out[i].own, out[i].bytes);
      else
        copy_into(to, outputs_[i].view());
      advance(to, results[i].stride);
    }
    if (step % 16 == 15) poll_interrupt();  // long kernels do it themselves
  }
}

void Program::share_memory(Program& other) {
  if (replay_ || other.replay_) return;  // a GPU's graph has fixed addresses
  running_ = other.running_;
  const Exclusive only(*running_);
  if (plan_->share_arena(*other.plan_)) empty_cache();  // no step needs the smaller one again
}

std::vector<Tensor> Program::run(Tensors arguments) {
  const Exclusive only(*running_);
  std::vector<Tensor> results;
  SmallVector<Moving, 4> from, to;
  for (const Tensor& x : arguments) from.emplace_back(x.view(), 0);
  for (const Tensor& y : outputs_)
    to.emplace_back(results.emplace_back(Meta{y.shape(), y.dtype(), y.device()}).view(), 0);
  note_edits();
  {
    // What host lines have begun, in other threads, goes on meanwhile.
    std::optional<WithoutHostLock> unlocked;
    if (calls_host_) unlocked.emplace();
    replay(1, {from.begin(), from.size()}, {to.begin(), to.size()});
  }
  for (const LeafGradient& g : gradients_) g.leaf->grad = g.after;
  return results;
}

std::vector<Tensor> Program::run_many(int64_t steps, Tensors arguments) {
  const Exclusive only(*running_);
  std::vector<Tensor> results;
  SmallVector<Moving, 4> from, to;
  for (const Tensor& x : arguments) from.emplace_back(first_of(x));
  for (const Tensor& y : outputs_) {
    Shape shape = y.shape();
    shape.insert(0, steps);
    to.emplace_back(first_of(results.emplace_back(Meta{shape, y.dtype(), y.device()})));
  }
  note_edits();
  {
    const WithoutHostLock unlocked;
    replay(steps, {from.begin(), from.size()}, {to.begin(), to.size()});
  }
  for (const LeafGradient& g : gradients_) g.leaf->grad = g.after;
  return results;
}

}  // namespace wengert
