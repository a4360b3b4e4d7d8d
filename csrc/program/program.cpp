#include "program/program.h"

#include <algorithm>
#include <unordered_set>

#include "base/pool.h"
#include "tensor/copy.h"

namespace wengert {

Program::Program(std::vector<Tensor> arguments) : arguments_(std::move(arguments)) {
  for (size_t i = 0; i < arguments_.size(); ++i) name_value(arguments_[i], concat("arg", i));
}

void Program::begin() { outer_ = std::exchange(tracer, this); }
void Program::end() { tracer = outer_; }

int Program::number(const Tensor& x) {
  // Detached tensors and saved outputs are other objects, but the same value.
  const std::string place = concat(x.data(), x.shape(), x.strides(), x.dtype());
  const auto [at, fresh] = numbers_.emplace(place, static_cast<int>(values_.size()));
  if (fresh) {
    keep_.push_back(x);
    values_.push_back({concat("c", values_.size()), x.shape(), x.dtype()});
  }
  return at->second;
}

void Program::name_value(const Tensor& x, const std::string& name) {
  values_[static_cast<size_t>(number(x))].name = name;
}

void Program::line(const Op& op, Tensors inputs, Tensors outputs, Tensors edited,
                   const Attrs& attrs) {
  ListedLine listed{&op, attrs, here(), {}, -1, !edited.empty(), {}};
  for (const Tensor& x : inputs) listed.inputs.push_back(number(x));
  if (!outputs.empty()) {
    const size_t known = values_.size();
    listed.output = number(outputs[0]);
    // A view may be one that is known: the transpose of a transpose.
    if (values_.size() > known) values_.back().name = concat("v", ++made_);
  }
  listed.cost = cost_of(op, inputs, outputs.empty() ? inputs[0] : outputs[0], attrs);
  lines_.push_back(std::move(listed));
  if (op.alias) return;  // the view is fixed: nothing to run
  Instruction instruction{&op, attrs, {}, {}};
  for (const Tensor& x : inputs) instruction.inputs.push_back(x.view());
  for (const Tensor& y : outputs) {
    number(y);
    instruction.outputs.push_back(y.view());
  }
  instructions_.push_back(std::move(instruction));
  for (const Tensor& x : edited) {
    const auto same = [&](const Tensor& t) { return t->storage == x->storage; };
    if (std::none_of(edited_.begin(), edited_.end(), same)) edited_.push_back(x);
  }
}

bool Program::sole_owner(const Tensor& x) const {
  int32_t kept = 0;
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
  for (const Tensor& y : outputs_) number(y);
  for (LeafGradient& g : gradients_) g.after = g.leaf->grad;
  // The history of what the trace made is of no use: only the values are.
  for (const ListedLine& l : lines_)
    if (l.output >= 0 && !l.edit) keep_[static_cast<size_t>(l.output)]->line = {};
}

bool Program::takes(Tensors arguments) const {
  bool same = arguments.size() == arguments_.size();
  for (size_t i = 0; same && i < arguments.size(); ++i)
    same = arguments[i].shape() == arguments_[i].shape() &&
           arguments[i].dtype() == arguments_[i].dtype() && !arguments[i].requires_grad();
  return same;
}

bool Program::fits() const {
  return std::all_of(gradients_.begin(), gradients_.end(), [](const LeafGradient& g) {
    return !g.read || g.leaf->grad.body() == g.before.body();
  });
}

bool Program::repeats() const {
  return std::all_of(gradients_.begin(), gradients_.end(), [](const LeafGradient& g) {
    return !g.read || g.after.body() == g.before.body();
  });
}

void Program::replay() {
  for (const Instruction& i : instructions_) i.op->run(Views(i.outputs), Views(i.inputs), i.attrs);
}

namespace {

class Exclusive {
 public:
  explicit Exclusive(std::atomic<bool>& running) : running_(running) {
    if (running_.exchange(true))
      fail<ValueError>(
          "compile: this step is already running, in another thread or further out; a compiled "
          "step has one set of "
          "memory: compile one for each thread");
  }
  ~Exclusive() { running_ = false; }
  Exclusive(const Exclusive&) = delete;

 private:
  std::atomic<bool>& running_;
};

Tensor copy_of(const Tensor& x) {
  const Tensor copy({x.shape(), x.dtype(), x.device()});
  copy_into(copy.view(), x.view());
  return copy;
}

}  // namespace

std::vector<Tensor> Program::run(Tensors arguments) {
  const Exclusive only(running_);
  for (size_t i = 0; i < arguments.size(); ++i)
    copy_into(arguments_[i].view(), arguments[i].view());
  for (const Tensor& x : edited_) note_edit(x, "a compiled step");
  replay();
  for (const LeafGradient& g : gradients_) g.leaf->grad = g.after;
  std::vector<Tensor> results;
  for (const Tensor& y : outputs_) results.push_back(copy_of(y));
  return results;
}

std::vector<Tensor> Program::run_many(int64_t steps, Tensors arguments) {
  const Exclusive only(running_);
  std::vector<Tensor> results;
  for (const Tensor& y : outputs_) {
    Shape shape = y.shape();
    shape.insert(0, steps);
    results.emplace_back(Meta{shape, y.dtype(), y.device()});
  }
  // The part of x that belongs to a step: x[step].
  const auto part = [](const Tensor& x, int64_t step) {
    View view = x.view();
    view.data = view.as<char>() + step * view.strides[0] * size_of(view.dtype);
    view.shape.erase(0);
    view.strides.erase(0);
    return view;
  };
  for (const Tensor& x : edited_) note_edit(x, "a compiled step");
  {
    const WithoutHostLock unlocked;
    for (int64_t step = 0; step < steps; ++step) {
      for (size_t i = 0; i < arguments.size(); ++i)
        copy_into(arguments_[i].view(), part(arguments[i], step));
      replay();
      for (size_t i = 0; i < outputs_.size(); ++i)
        copy_into(part(results[i], step), outputs_[i].view());
      if (step % 16 == 0) poll_interrupt();  // long kernels do it themselves
    }
  }
  for (const LeafGradient& g : gradients_) g.leaf->grad = g.after;
  return results;
}

int64_t Program::bytes() const {
  std::unordered_set<const Storage*> seen;
  int64_t total = 0;
  for (const ListedLine& l : lines_) {
    if (l.output < 0 || l.edit) continue;
    const Storage* storage = keep_[static_cast<size_t>(l.output)]->storage.get();
    if (!l.op->alias && seen.insert(storage).second) total += storage->bytes;
  }
  return total;
}

}  // namespace wengert
