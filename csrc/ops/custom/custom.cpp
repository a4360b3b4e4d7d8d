#include "ops/custom/custom.h"

#include <algorithm>
#include <map>

namespace wengert {

namespace {

CustomCall& call_of(const Attrs& attrs) { return *static_cast<CustomCall*>(attrs.box()); }

void infer(Tensors, const Attrs& attrs, SmallVector<Meta, 2>& out) {
  for (const Meta& meta : call_of(attrs).outputs) out.emplace_back(meta);
}
void run(Views out, Views in, const Attrs& attrs) { call_of(attrs).body->run(out, in); }
void vjp(const Line& line, const Tensor& g, Gradients& dx) { call_of(line.attrs).vjp(line, g, dx); }
Cost cost(Tensors, const Tensor&, const Attrs& attrs) { return call_of(attrs).cost; }

// An op, with the texts that it points to.
struct OwnOp {
  std::string name, operands, formula;
  std::vector<std::string> gradients;
  Op op;
};

// The function of the program, told apart from all else in a trace.
class InBody {
 public:
  explicit InBody(Tensors inputs) : studies_(tracer && tracer->runs() ? tracer : nullptr) {
    if (studies_) studies_->begins_body(inputs);
  }
  Ref<Body> end(const char* op, Tensors outputs) {
    Tracer* const of = std::exchange(studies_, nullptr);
    return of ? of->ends_body(op, outputs) : Ref<Body>();
  }
  ~InBody() {
    if (studies_) studies_->leaves_body();
  }
  InBody(const InBody&) = delete;

 private:
  Tracer* studies_;
};

}  // namespace

CustomCall* custom_call(const Op& op, const Attrs& attrs) {
  return op.vjp == vjp ? static_cast<CustomCall*>(attrs.box()) : nullptr;
}

const Op& custom_op(const std::string& name, const std::string& operands,
                    const std::string& formula, const std::vector<std::string>& gradients) {
  static auto* known = new std::map<std::vector<std::string>, OwnOp>;
  std::vector<std::string> key{name, operands, formula};
  key.insert(key.end(), gradients.begin(), gradients.end());
  const auto [at, fresh] = known->try_emplace(key, OwnOp{name, operands, formula, gradients, {}});
  OwnOp& own = at->second;
  if (!fresh) return own.op;
  own.op = {.name = own.name.c_str(),
            .operands = own.operands.c_str(),
            .formula = own.formula.c_str(),
            .infer = infer,
            .run = run,
            .vjp = vjp,
            .cost = cost,
            .bfloat16 = true};
  for (size_t i = 0; i < own.gradients.size() && i < std::size(own.op.gradient); ++i)
    own.op.gradient[i] = own.gradients[i].c_str();
  return own.op;
}

std::vector<Tensor> call_custom(const Op& op, Tensors inputs, const Ref<CustomCall>& call,
                                const std::function<Made()>& make) {
  Made made;
  const bool studied = tracer && tracer->runs();
  if (studied) tracer->about_to_run(inputs);
  {
    const GradMode off(false);
    const KeptWhole whole(concat(op.name, ": its value"), inputs);
    InBody body(inputs);
    made = make();
    std::vector<Ref<Storage>> seen;  // an output has memory of its own
    for (const Tensor& x : inputs) seen.push_back(x->storage);
    for (Tensor& y : made.outputs) {
      if (studied || std::find(seen.begin(), seen.end(), y->storage) != seen.end())
        y = apply(copy_op, y);
      else
        y = y.alias(y.shape(), y.strides(), y->offset);
      y->made_by = &op;
      seen.push_back(y->storage);
      call->outputs.emplace_back(y.shape(), y.dtype(), y.device());
    }
    call->body = body.end(op.name, Tensors(made.outputs));
  }
  const Attrs attrs{Ref<Attrs::Box>(call.get())};
  if (call->cost.bytes == 0 && !made.outputs.empty()) {
    const Cost standard = default_cost(inputs, made.outputs[0]);
    call->cost.bytes = standard.bytes;
    if (call->cost.flops == 0) call->cost.flops = standard.flops;
  }
  if (made.differentiable)
    record_made(op, inputs, Tensors(made.outputs), Tensors(made.saved), made.saves_output, attrs);
  if (studied && !made.outputs.empty()) tracer->line(op, inputs, Tensors(made.outputs), {}, attrs);
  return std::move(made.outputs);
}

}  // namespace wengert
