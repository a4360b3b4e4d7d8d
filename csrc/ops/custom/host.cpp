#include "ops/custom/host.h"

#include <map>
#include <utility>

#include "ops/functions.h"
#include "tensor/copy.h"

namespace wengert {

namespace {

HostCall& call_of(const Attrs& attrs) { return *static_cast<HostCall*>(attrs.box()); }

void infer(Tensors, const Attrs&, SmallVector<Meta, 2>&) {}

// What a host line does inside has no lines of its own.
struct Untraced {
  Tracer* former = std::exchange(tracer, nullptr);
  ~Untraced() { tracer = former; }
};

void run(Views, Views operands, const Attrs& attrs) {
  const HostCall& call = call_of(attrs);
  const Untraced inside;
  for (size_t i = 0; i < call.gave.size(); ++i) copy_into(operands[i], call.gave[i].view());
  if (call.gave.empty()) call.run(operands);
}
Cost cost(Tensors, const Tensor&, const Attrs&) { return {}; }
void describe(const Attrs& attrs, NamedAttrs& named) {
  for (const auto& [name, value] : call_of(attrs).named) named.emplace_back(name.c_str(), value);
}

struct OwnOp {
  std::string name, formula;
  Op op;
};

}  // namespace

const HostCall* host_call(const Op& op, const Attrs& attrs) {
  return op.run == run ? &call_of(attrs) : nullptr;
}

const Op& host_op(const std::string& name, const std::string& formula) {
  static auto* known = new std::map<std::string, OwnOp>;
  const auto [at, fresh] = known->try_emplace(name, OwnOp{name, formula, {}});
  OwnOp& own = at->second;
  if (fresh)
    own.op = {.name = own.name.c_str(),
              .formula = own.formula.c_str(),
              .infer = infer,
              .run = run,
              .gpu = run,
              .no_gradient = "it has no result",
              .cost = cost,
              .describe = describe,
              .bfloat16 = true};
  return own.op;
}

void call_host(const Op& op, Tensors operands, int edited, const Ref<HostCall>& call) {
  apply_update(op, operands, edited, Attrs(Ref<Attrs::Box>(call.get())));
  if (!tracer || !tracer->runs()) return;
  const Untraced inside;
  for (const Tensor& x : operands.first(static_cast<size_t>(edited)))
    call->gave.push_back(clone(x));
}

}  // namespace wengert
