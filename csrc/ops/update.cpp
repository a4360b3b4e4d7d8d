// Optimizer updates as lines: inputs are the parameters, their states, the step count (all
// overwritten), then the gradients and the learning rate.
#include "ops/update.h"

#include <algorithm>
#include <cmath>

#include "base/pool.h"
#include "ops/functions.h"
#include "tensor/copy.h"

namespace wengert {

namespace {

constexpr int64_t chunk_elements = 1 << 14;
constexpr int max_states = 2;

const UpdateKernels& table() {
  static const UpdateKernels& t = WENGERT_PICK_KERNELS(update_kernels);
  return t;
}

// How the inputs of an update are laid out.
struct Group {
  int64_t count;   // parameters
  int64_t states;  // lists of states
  size_t step() const { return static_cast<size_t>(count * (1 + states)); }
  size_t gradient(int64_t i) const { return step() + 1 + static_cast<size_t>(i); }
  size_t lr() const { return gradient(count); }
};
template <class A> struct UpdateAttrs {
  Group group;
  A of;
};

template <class A, const Op& op> void infer(Tensors in, const Attrs& attrs, SmallVector<Meta, 2>&) {
  const Group& group = attrs.as<UpdateAttrs<A>>().group;
  for (int64_t i = 0; i < group.count; ++i) {
    const Tensor& p = in[static_cast<size_t>(i)];
    if (!is_floating(p.dtype()))
      fail<DTypeError>(op.name, ": parameter ", i, " has dtype ", p.dtype(),
                       "; expected float32 or float64");
    for (int64_t s = 0; s <= group.states; ++s) {
      const Tensor& t = s ? in[static_cast<size_t>(s * group.count + i)] : in[group.gradient(i)];
      if (!(t.shape() == p.shape()) || t.dtype() != p.dtype())
        fail<ShapeError>(op.name, ": the ", s ? "state" : "gradient", " of parameter ", i,
                         " has shape ", t.shape(), " and dtype ", t.dtype(), "; the parameter has ",
                         p.shape(), " and ", p.dtype());
      if (s && !t.is_contiguous())
        fail<ValueError>(op.name, ": the state of parameter ", i, " is not contiguous");
    }
  }
  const Tensor &step = in[group.step()], &lr = in[group.lr()];
  if (step.dtype() != DType::int64 || step.numel() != 1 || lr.dtype() != DType::float64 ||
      lr.numel() != 1)
    fail<DTypeError>(op.name, ": step and lr are ", step.dtype(), step.shape(), " and ", lr.dtype(),
                     lr.shape(), "; expected one int64 and one float64");
}

// body(kernels, first, n, p, g, states) for chunks of every parameter.
template <class Body> void each_chunk(Views in, const Group& group, const Body& body) {
  std::vector<int64_t> first_chunk{0};
  std::vector<Tensor> copies;  // of parameters and gradients that are not contiguous
  std::vector<View> params, grads;
  const auto flat = [&](const View& x) {
    if (is_contiguous(x.shape, x.strides)) return x;
    copies.emplace_back(x.shape, x.dtype);
    copy_into(copies.back().view(), x);
    return copies.back().view();
  };
  for (int64_t i = 0; i < group.count; ++i) {
    params.push_back(flat(in[static_cast<size_t>(i)]));
    grads.push_back(flat(in[group.gradient(i)]));
    first_chunk.push_back(first_chunk.back() + ceil_div(params.back().numel(), chunk_elements));
  }
  parallel_for(first_chunk.back(), [&](int64_t chunk) {
    const size_t i = static_cast<size_t>(
        std::upper_bound(first_chunk.begin(), first_chunk.end(), chunk) - first_chunk.begin() - 1);
    const int64_t at = (chunk - first_chunk[i]) * chunk_elements;
    const int64_t n = std::min(chunk_elements, params[i].numel() - at);
    const auto run = [&](const auto& kernels, auto type) {
      using T = typename decltype(type)::type;
      T* state[max_states] = {};
      for (int64_t s = 0; s < group.states; ++s)
        state[s] = in[static_cast<size_t>((s + 1) * group.count) + i].template as<T>() + at;
      body(kernels, n, params[i].as<T>() + at, grads[i].as<T>() + at, state);
    };
    if (params[i].dtype == DType::float32)
      run(table().f32, Type<float>{});
    else
      run(table().f64, Type<double>{});
  });
  for (int64_t i = 0; i < group.count; ++i)
    if (params[static_cast<size_t>(i)].data != in[static_cast<size_t>(i)].data)
      copy_into(in[static_cast<size_t>(i)], params[static_cast<size_t>(i)]);
}

void run_sgd(Views, Views in, const Attrs& attrs) {
  const auto& [group, a] = attrs.as<UpdateAttrs<SgdAttrs>>();
  const int64_t t = ++*in[group.step()].as<int64_t>();
  const SgdStep s{
      *in[group.lr()].as<double>(), a.momentum, a.dampening, a.weight_decay, a.nesterov, t == 1};
  each_chunk(in, group, [&](const auto& k, int64_t n, auto* p, auto* g, auto* state) {
    k.sgd(n, p, g, state[0], s);
  });
}
void run_adam(Views, Views in, const Attrs& attrs) {
  const auto& [group, a] = attrs.as<UpdateAttrs<AdamAttrs>>();
  const double t = static_cast<double>(++*in[group.step()].as<int64_t>()),
               lr = *in[group.lr()].as<double>();
  const AdamStep s{.step_size = lr / (1 - std::pow(a.beta1, t)),
                   .bias2_sqrt = std::sqrt(1 - std::pow(a.beta2, t)),
                   .beta1 = a.beta1,
                   .beta2 = a.beta2,
                   .eps = a.eps,
                   .weight_decay = a.decoupled ? 0 : a.weight_decay,
                   .decay = a.decoupled ? 1 - lr * a.weight_decay : 1};
  each_chunk(in, group, [&](const auto& k, int64_t n, auto* p, auto* g, auto* state) {
    k.adam(n, p, g, state[0], state[1], s);
  });
}
void run_rmsprop(Views, Views in, const Attrs& attrs) {
  const auto& [group, a] = attrs.as<UpdateAttrs<RmspropAttrs>>();
  ++*in[group.step()].as<int64_t>();
  const RmspropStep s{*in[group.lr()].as<double>(), a.alpha, a.eps, a.weight_decay, a.momentum};
  each_chunk(in, group, [&](const auto& k, int64_t n, auto* p, auto* g, auto* state) {
    k.rmsprop(n, p, g, state[0], state[1], s);
  });
}

void describe_sgd(const Attrs& attrs, AttrText& text) {
  const auto& a = attrs.as<UpdateAttrs<SgdAttrs>>().of;
  text.emplace_back("momentum", concat(a.momentum));
  text.emplace_back("dampening", concat(a.dampening));
  text.emplace_back("weight_decay", concat(a.weight_decay));
  text.emplace_back("nesterov", a.nesterov ? "True" : "False");
}
void describe_adam(const Attrs& attrs, AttrText& text) {
  const auto& a = attrs.as<UpdateAttrs<AdamAttrs>>().of;
  text.emplace_back("betas", concat("(", a.beta1, ", ", a.beta2, ")"));
  text.emplace_back("eps", concat(a.eps));
  text.emplace_back("weight_decay", concat(a.weight_decay));
  text.emplace_back("decoupled", a.decoupled ? "True" : "False");
}
void describe_rmsprop(const Attrs& attrs, AttrText& text) {
  const auto& a = attrs.as<UpdateAttrs<RmspropAttrs>>().of;
  text.emplace_back("alpha", concat(a.alpha));
  text.emplace_back("eps", concat(a.eps));
  text.emplace_back("weight_decay", concat(a.weight_decay));
  text.emplace_back("momentum", concat(a.momentum));
}

constexpr auto why_not = "it overwrites parameters, as the end of a training step";
extern const Op sgd_op, adam_op, rmsprop_op;
const Op sgd_op{.name = "sgd_step",
                .formula = "b = momentum * b + (1 - dampening) * g; p = p - lr * b",
                .gradient = "",
                .infer = infer<SgdAttrs, sgd_op>,
                .run = run_sgd,
                .no_gradient = why_not,
                .describe = describe_sgd};
const Op adam_op{.name = "adam_step",  // Kingma and Ba 2014, arXiv 1412.6980; decoupled: Loshchilov
                                       // and Hutter 2017, 1711.05101
                 .formula =
                     "m = b1 * m + (1 - b1) * g; v = b2 * v + (1 - b2) * g^2; "
                     "p = p - lr * m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps)",
                 .gradient = "",
                 .infer = infer<AdamAttrs, adam_op>,
                 .run = run_adam,
                 .no_gradient = why_not,
                 .describe = describe_adam};
const Op rmsprop_op{
    .name = "rmsprop_step",  // Tieleman and Hinton 2012, lecture 6.5
    .formula =
        "v = alpha * v + (1 - alpha) * g^2; b = momentum * b + g / (sqrt(v) + eps); p = p - lr * b",
    .gradient = "",
    .infer = infer<RmspropAttrs, rmsprop_op>,
    .run = run_rmsprop,
    .no_gradient = why_not,
    .describe = describe_rmsprop};

struct States {
  Tensors list;
  bool needed = true;
};
template <class A>
void update(const Op& op, Tensors params, Tensors grads, std::initializer_list<States> states,
            const Tensor& lr, const Tensor& step, const A& of) {
  std::vector<Tensor> in(params.begin(), params.end());
  Group group{static_cast<int64_t>(params.size()), 0};
  for (const auto& [list, needed] : states) {
    if (list.empty() && !needed) continue;
    if (list.size() != params.size())
      fail<ValueError>(op.name, ": got ", list.size(), " states for ", params.size(),
                       " parameters; one each is expected");
    in.insert(in.end(), list.begin(), list.end());
    ++group.states;
  }
  if (grads.size() != params.size())
    fail<ValueError>(op.name, ": got ", grads.size(), " gradients for ", params.size(),
                     " parameters; one each is expected");
  in.push_back(step);
  const int edited = static_cast<int>(in.size());
  in.insert(in.end(), grads.begin(), grads.end());
  in.push_back(lr);
  apply_update(op, Tensors(in), edited, UpdateAttrs<A>{group, of});
}

}  // namespace

void add_update_ops(std::vector<const Op*>& ops) {
  for (const Op* op : {&sgd_op, &adam_op, &rmsprop_op}) ops.push_back(op);
}

void sgd_step(Tensors params, Tensors grads, Tensors momentum_buffers, const Tensor& lr,
              const Tensor& step, const SgdAttrs& attrs) {
  update(sgd_op, params, grads, {{momentum_buffers, attrs.momentum != 0}}, lr, step, attrs);
}
void adam_step(Tensors params, Tensors grads, Tensors exp_avgs, Tensors exp_avg_sqs,
               const Tensor& lr, const Tensor& step, const AdamAttrs& attrs) {
  update(adam_op, params, grads, {{exp_avgs}, {exp_avg_sqs}}, lr, step, attrs);
}
void rmsprop_step(Tensors params, Tensors grads, Tensors square_avgs, Tensors momentum_buffers,
                  const Tensor& lr, const Tensor& step, const RmspropAttrs& attrs) {
  update(rmsprop_op, params, grads, {{square_avgs}, {momentum_buffers, attrs.momentum != 0}}, lr,
         step, attrs);
}

}  // namespace wengert
