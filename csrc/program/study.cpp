#include "program/study.h"

#include <algorithm>
#include <chrono>
#include <cstring>

#include "ops/functions.h"
#include "tensor/copy.h"

namespace wengert {

// ---- noting ----

void Study::about_to_run(Tensors operands) {
  for (const Tensor& x : operands) {
    if (is_cuda(x.device()))
      fail<DeviceError>("study: a tensor of the step is on ", x.device(),
                        "; only steps on the CPU are studied: move it, and the model, with "
                        ".to(\"cpu\")");
    const auto [at, fresh] = before_.try_emplace(x->storage.get());
    if (!fresh) continue;
    // Its number owns it, so no later tensor can reuse its memory.
    number(x);
    Ref<Storage> copy = Storage::make(Shape{x->storage->bytes}, DType::uint8);
    if (x->storage->bytes)
      std::memcpy(copy->data, x->storage->data, static_cast<size_t>(x->storage->bytes));
    at->second = std::make_shared<Ref<Storage>>(std::move(copy));
  }
}

void Study::line(const Op& op, Tensors inputs, Tensors outputs, Tensors edited,
                 const Attrs& attrs) {
  if (traced_.lines.size() >= most_lines_)
    fail<ValueError>("study: the step has more than ", most_lines_, " lines, the last at ",
                     describe(here()),
                     "; trace a single step, on a smaller batch or model, or allow more with "
                     "trace(fn, max_lines=...)");
  const size_t at = traced_.lines.size();
  notes_.resize(at);
  Note& note = notes_.emplace_back();  // first: should memory run out, each line still has one
  Program::line(op, inputs, outputs, edited, attrs);
  note.layer = layer_;
  note.answer = open_answer_;
  for (const Tensor& y : outputs) {
    if (edited.empty()) before_.try_emplace(y->storage.get());
    note.outputs.push_back(number(y));
  }
  for (const Tensor& x : edited) note.edited.push_back(number(x));
  if (edited.empty() && !outputs.empty() && outputs[0]->line) {
    const Line& line = *outputs[0]->line.get();
    note.recorded = true;
    line_of_[line.number] = static_cast<int>(at);
    for (const Saved& s : line.saved)
      if (const int n = value_of(s.value); n >= 0) note.saved.push_back(n);
  }
}

void Study::begins_backward(const Tensor& y, const Tensor& g) {
  about_to_run(Tensors(&g, 1));
  roots_.push_back({number(y), number(g), static_cast<int>(traced_.lines.size()),
                    static_cast<int>(answers_.size())});
}

void Study::asks(const Line& line, const Tensor& g) {
  const auto at = line_of_.find(line.number);
  if (at == line_of_.end()) return;  // written before the trace began
  open_answer_ = static_cast<int>(answers_.size());
  answers_.push_back({at->second, number(g), static_cast<int>(traced_.lines.size()), 0, {}});
}

void Study::answers(const Line& line, const Gradients& dx) {
  if (open_answer_ < 0) return;
  Answer& answer = answers_[static_cast<size_t>(open_answer_)];
  answer.last = static_cast<int>(traced_.lines.size());
  open_answer_ = -1;
  for (size_t i = 0; i < dx.size(); ++i) {
    const Edge& edge = line.inputs[i];
    if (!dx[i].defined() || !edge.needs_grad()) continue;
    int to = -1, to_line = -1;
    if (edge.leaf.defined()) {
      about_to_run(Tensors(&edge.leaf, 1));
      to = number(edge.leaf);
    } else if (const auto at = line_of_.find(edge.line->number); at != line_of_.end()) {
      to_line = at->second;
      to = traced_.lines[static_cast<size_t>(to_line)].outputs[0];
    }
    answer.gave.push_back({static_cast<int>(i), to, to_line, number(dx[i])});
  }
}

void Study::looks_at_value(const char* what, const Tensor&) {
  looks_.push_back({here(), what, static_cast<int>(traced_.lines.size())});
}

namespace {

struct TracedBody : Body {
  Ref<Study> study;
  std::vector<int> inputs;
  void run(Views out, Views in) const override;
};

bool is_wider(const View& given, const Tensor& x) {
  return size_of(given.dtype) > size_of(x.dtype());
}

void TracedBody::run(Views out, Views in) const {
  bool wide = false;
  for (size_t i = 0; i < in.size(); ++i) wide |= is_wider(in[i], study->kept(inputs[i]));
  const std::vector<int>& results = study->results();
  for (size_t i = 0; i < out.size(); ++i) wide |= is_wider(out[i], study->kept(results[i]));
  Replica replica(study, wide);
  for (size_t i = 0; i < in.size(); ++i) copy_into(replica.value(inputs[i]).view(), in[i]);
  const int lines = static_cast<int>(study->traced().lines.size());
  for (int i = 0; i < lines; ++i) replica.run(i);
  for (size_t i = 0; i < out.size(); ++i) copy_into(out[i], replica.value(results[i]).view());
}

}  // namespace

void Study::begins_body(Tensors inputs) {
  body_ = Ref<Study>(new Study({inputs.begin(), inputs.end()}, most_lines_));
  body_->begin();
}

void Study::leaves_body() { std::exchange(body_, {})->end(); }

Ref<Body> Study::ends_body(const char* op, Tensors outputs) {
  auto* const traced = new TracedBody;
  Ref<Body> result(traced);
  traced->study = body_;
  leaves_body();
  Study& body = *traced->study;
  if (!body.edited_.empty())
    fail<ValueError>("study: '", op, "' (", describe(here()), ") changes a tensor of shape ",
                     body.edited_[0].shape(),
                     " from outside, such as the state of a generator, "
                     "so its line could not run again alone; draw or change it before the call, "
                     "and pass it as an argument");
  body.close({outputs.begin(), outputs.end()});
  for (const Tensor& x : body.arguments_) traced->inputs.push_back(body.number(x));
  for (const Look& look : body.looks_)
    looks_.push_back({look.origin, look.what, static_cast<int>(traced_.lines.size())});
  return result;
}

void Study::close(std::vector<Tensor> outputs) {
  for (const Tensor& y : outputs) {
    about_to_run(Tensors(&y, 1));  // it may be one that no line has read
    results_.push_back(number(y));
  }
  for (const LeafGradient& g : gradients_) {
    const auto value = [&](const Tensor& x) { return x.defined() ? value_of(x) : -1; };
    leaf_gradients_.push_back({value(g.leaf), value(g.before), value(g.leaf->grad)});
  }
}

int Study::value_of(const Tensor& x) {
  if (!before_.count(x->storage.get())) return -1;
  return number(x);
}

const Storage* Study::before(const Storage* memory) const {
  const auto at = before_.find(memory);
  return at == before_.end() || !at->second ? nullptr : at->second->get();
}

// ---- running ----

Tensor copy_like(const Tensor& x, DType dtype) {
  // The axes by falling stride; repeated elements are kept once.
  std::vector<int> order;
  Shape once = x.shape();
  for (int d = 0; d < x.dim(); ++d) {
    order.push_back(d);
    if (x.strides()[d] == 0) once[d] = 1;
  }
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) {
    return std::abs(x.strides()[a]) > std::abs(x.strides()[b]);
  });
  Strides strides = x.strides();
  int64_t stride = 1;
  for (size_t i = order.size(); i-- > 0;) {
    strides[order[i]] = x.strides()[order[i]] == 0 ? 0 : stride;
    stride *= once[order[i]];
  }
  const Tensor flat(Shape{stride}, dtype);
  const Tensor copy = flat.alias(x.shape(), strides, 0);
  View to = copy.view(), from = x.view();
  to.shape = from.shape = once;
  if (numel(once)) copy_into(to, from);
  return copy;
}

Replica::Replica(Ref<Study> study, bool wide) : study_(std::move(study)), wide_(wide) {
  for (int n = 0; n < study_->size(); ++n) {
    const Tensor& x = study_->kept(n);
    const bool widened = wide && is_floating(x.dtype());
    const DType dtype = widened ? DType::float64 : x.dtype();
    const auto [at, fresh] = memory_.try_emplace(x->storage.get());
    if (fresh) {
      at->second = Tensor(Shape{x->storage->bytes / size_of(x.dtype())}, dtype);
      std::memset(at->second.data<char>(), 0,
                  static_cast<size_t>(nbytes(at->second.shape(), dtype)));
    }
    if (at->second.dtype() != dtype)
      fail<DTypeError>("study: one memory is read as ", at->second.dtype(), " and as ", dtype);
    values_.push_back(at->second.alias(x.shape(), x.strides(), x->offset));
  }
  reset();
}

void Replica::reset() {
  for (int n = 0; n < study_->size(); ++n) {
    const Tensor& x = study_->kept(n);
    const Storage* before = study_->before(x->storage.get());
    if (!before) continue;
    const Tensor& memory = memory_.at(x->storage.get());
    const View from{before->data, memory.shape(), memory.strides(), x.dtype()};
    copy_into(memory.view(), from);
  }
}

const StepList::Line& Replica::listed(int line) const {
  const auto at = planted_.find(line);
  return at == planted_.end() ? study_->traced().lines[static_cast<size_t>(line)] : at->second;
}

static bool draws(const Op& op) { return op.edits > 0; }  // random numbers, advancing a state

void Replica::run(int line) {
  const StepList::Line& l = listed(line);
  if (l.op->alias) return;
  std::vector<View> inputs, outputs;
  for (int i : l.inputs) inputs.push_back(value(i).view());
  for (int o : study_->notes()[static_cast<size_t>(line)].outputs)
    outputs.push_back(value(o).view());
  if (wide_ && draws(*l.op)) {  // the numbers that the program drew, not others
    const Tensor drawn(value(l.outputs[0]).shape(), study_->kept(l.outputs[0]).dtype());
    const View view = drawn.view();
    l.op->run(Views(&view, 1), Views(inputs), l.attrs);
    copy_into(outputs[0], view);
    return;
  }
  l.op->run(Views(outputs), Views(inputs), l.attrs);
}

std::vector<double> Replica::run_all() {
  reset();
  std::vector<double> seconds;
  const int n = static_cast<int>(study_->traced().lines.size());
  for (int i = 0; i < n; ++i) {
    const auto start = std::chrono::steady_clock::now();
    run(i);
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    seconds.push_back(study_->traced().lines[static_cast<size_t>(i)].op->alias ? 0.0
                                                                               : took.count());
  }
  return seconds;
}

std::vector<Tensor> Replica::evaluate(int line, Tensors given) const {
  const StepList::Line& l = listed(line);
  std::vector<Tensor> inputs(given.begin(), given.end());
  if (l.op == &cast_op && !inputs.empty() && is_floating(inputs[0].dtype()) &&
      is_floating(l.attrs.as<DType>()))
    return {clone(inputs[0])};  // in double precision nothing is rounded in between
  if (l.op->alias) {
    const Layout layout = l.op->alias(inputs[0], l.attrs);
    return {inputs[0].alias(layout.shape, layout.strides, layout.offset)};
  }
  if (l.edit) {  // its op may take another dtype from what it writes to
    std::vector<View> views;
    for (const Tensor& x : inputs) views.push_back(x.view());
    const Tensor out(value(l.outputs[0]).shape(), value(l.outputs[0]).dtype());
    const View view = out.view();
    l.op->run(Views(&view, 1), Views(views), l.attrs);
    return {out};
  }
  SmallVector<Meta, 2> metas;
  l.op->infer(Tensors(inputs), l.attrs, metas);
  std::vector<Tensor> result;
  std::vector<View> outputs, views;
  for (Meta& meta : metas) {
    if (wide_ && is_floating(meta.dtype)) meta.dtype = DType::float64;
    outputs.push_back(result.emplace_back(meta).view());
  }
  for (const Tensor& x : inputs) views.push_back(x.view());
  l.op->run(Views(outputs), Views(views), l.attrs);
  return result;
}

void Replica::plant(int line, const std::string& name, std::vector<int> inputs) {
  StepList::Line l = listed(line);
  if (l.op->alias || l.outputs.empty())
    fail<ValueError>("study: line ", line + 1, ", '", l.op->name,
                     "', computes nothing that could be wrong; choose another");
  const std::vector<const Op*> ops = all_ops();
  const auto op =
      std::find_if(ops.begin(), ops.end(), [&](const Op* o) { return o->name == name; });
  if (op == ops.end() || (*op)->alias)
    fail<ValueError>("study: there is no op '", name, "' that computes");
  // Attributes are the line's own: only an op that reads the same ones, or none, has a use for
  // them.
  if (*op != l.op && (draws(**op) || ((*op)->describe && (*op)->describe != l.op->describe)))
    fail<ValueError>("study: '", name, "' cannot be planted in line ", line + 1, ": '", l.op->name,
                     "' has no such attributes");
  const size_t wanted = *op == l.op ? l.inputs.size() : operands_of(**op).size();
  if (inputs.size() != wanted)
    fail<ValueError>("study: '", name, "' cannot be planted with ", inputs.size(),
                     " operands; it takes ", wanted);
  std::vector<Tensor> operands;
  for (int i : inputs) operands.push_back(study_->kept(i));
  SmallVector<Meta, 2> metas;
  (*op)->infer(Tensors(operands), l.attrs, metas);
  const Tensor& y = study_->kept(l.outputs[0]);
  if (metas.size() != study_->notes()[static_cast<size_t>(line)].outputs.size() ||
      !(metas[0].shape == y.shape()) || metas[0].dtype != y.dtype())
    fail<ShapeError>("study: '", name, "' gives ", metas[0].dtype, metas[0].shape, " and line ",
                     line + 1, " is ", y.dtype(), y.shape());
  l.op = *op;
  l.inputs = std::move(inputs);
  planted_[line] = std::move(l);
}

}  // namespace wengert
