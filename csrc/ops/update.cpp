// Optimizer updates as lines: inputs are the parameters, their states, the step count (all
// overwritten), then the gradients and the learning rate.
#include "ops/update.h"

#include <algorithm>
#include <cmath>

#include "base/pool.h"
#include "ops/cuda_kernels.h"
#include "ops/functions.h"
#include "ops/update_lines.h"
#include "tensor/copy.h"

namespace wengert {

namespace {

constexpr int64_t chunk_elements = 1 << 14;
constexpr int max_states = 2;

const UpdateKernels& table() {
  static const UpdateKernels& t = WENGERT_PICK_KERNELS(update_kernels);
  return t;
}

template <class A> struct UpdateAttrs {
  UpdateGroup group;
  A of;
};

template <class A, const Op& op> void infer(Tensors in, const Attrs& attrs, SmallVector<Meta, 2>&) {
  const UpdateGroup& group = update_group(attrs);
  for (int64_t i = 0; i < group.count; ++i) {
    const Tensor& p = in[static_cast<size_t>(i)];
    if (!is_floating(p.dtype()) || p.dtype() == DType::bfloat16)
      fail<DTypeError>(op.name, ": parameter ", i, " has dtype ", p.dtype(),
                       "; expected float32 or float64: keep parameters in float32, and convert "
                       "what is computed from them with .bfloat16()");
    for (int64_t s = 0; s <= group.states; ++s) {
      const Tensor& t = s ? in[group.state(s - 1, i)] : in[group.gradient(i)];
      if (t.device() != p.device() || p.device() != in[0].device())
        fail<DeviceError>(op.name, ": parameter 0 is on ", in[0].device(), ", parameter ", i,
                          " on ", p.device(), ", its ", s ? "state" : "gradient", " on ",
                          t.device(), "; an update takes those of one device");
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
      lr.numel() != 1 || is_cuda(step.device()) || is_cuda(lr.device()))
    fail<DTypeError>(op.name, ": step and lr are ", step.dtype(), step.shape(), " and ", lr.dtype(),
                     lr.shape(), "; expected one int64 and one float64, on the CPU");
}

// Each rule is a struct: the constants of a step, worked out from step count and learning rate,
// and the kernel.
struct Sgd {
  using Attributes = SgdAttrs;
  static constexpr auto on_cuda = &CudaKernels::sgd;
  static SgdStep constants(const SgdAttrs& a, int64_t t, double lr) {
    return {lr, a.momentum, a.dampening, a.weight_decay, a.nesterov, t == 1};
  }
  static void apply(const auto& kernels, int64_t n, auto* p, auto* g, auto* const* state,
                    const SgdStep& s) {
    kernels.sgd(n, p, g, state[0], s);
  }
  static void put(CudaEpilogue::Update& update, const SgdStep& s) { update.constants.sgd = s; }
};
struct Adam {
  using Attributes = AdamAttrs;
  static constexpr auto on_cuda = &CudaKernels::adam;
  static AdamStep constants(const AdamAttrs& a, int64_t steps, double lr) {
    const auto t = static_cast<double>(steps);
    return {.step_size = lr / (1 - std::pow(a.beta1, t)),
            .bias2_rsqrt = 1 / std::sqrt(1 - std::pow(a.beta2, t)),
            .beta1 = a.beta1,
            .beta2 = a.beta2,
            .eps = a.eps,
            .weight_decay = a.decoupled ? 0 : a.weight_decay,
            .decay = a.decoupled ? 1 - lr * a.weight_decay : 1};
  }
  static void apply(const auto& kernels, int64_t n, auto* p, auto* g, auto* const* state,
                    const AdamStep& s) {
    kernels.adam(n, p, g, state[0], state[1], s);
  }
  static void put(CudaEpilogue::Update& update, const AdamStep& s) {
    update.adam = true;
    update.constants.adam = s;
  }
};
struct Rmsprop {
  using Attributes = RmspropAttrs;
  static constexpr auto on_cuda = &CudaKernels::rmsprop;
  static RmspropStep constants(const RmspropAttrs& a, int64_t, double lr) {
    return {lr, a.alpha, a.eps, a.weight_decay, a.momentum};
  }
  static void apply(const auto& kernels, int64_t n, auto* p, auto* g, auto* const* state,
                    const RmspropStep& s) {
    kernels.rmsprop(n, p, g, state[0], state[1], s);
  }
  static void put(CudaEpilogue::Update&, const RmspropStep&) {}  // not one: updates_in_epilogue
};

template <class Rule> class Update final : public ReadyUpdate {
 public:
  Update(Views in, const Attrs& attrs)
      : in_(in.begin(), in.end()), attrs_(attrs.as<UpdateAttrs<typename Rule::Attributes>>()) {
    int64_t left = 0;  // of the chunk's elements
    for (int64_t i = 0; i < attrs_.group.count; ++i) {
      const View &p = in_[static_cast<size_t>(i)], &g = in_[attrs_.group.gradient(i)];
      strided_ |= !is_contiguous(p.shape, p.strides) || !is_contiguous(g.shape, g.strides);
      for (int64_t at = 0, n; at < p.numel(); at += n) {
        n = std::min(chunk_elements, p.numel() - at);
        if (n > left) {
          chunks_.push_back(pieces_.size());
          left = chunk_elements;
        }
        pieces_.push_back({i, at, n});
        left -= n;
      }
    }
    chunks_.push_back(pieces_.size());
  }

  int64_t bytes() const override {
    int64_t sum = 0;
    for (int64_t i = 0; i < attrs_.group.count; ++i) {
      const View& p = in_[static_cast<size_t>(i)];
      sum += p.numel() * size_of(p.dtype) * (2 + attrs_.group.states);
    }
    return sum;
  }

  void begin() const override {
    int64_t& step = *in_[attrs_.group.step()].template as<int64_t>();
    step += attrs_.group.counts;
    constants_ = Rule::constants(attrs_.of, step, *in_[attrs_.group.lr()].template as<double>());
  }

  void apply(int64_t i, int64_t at, int64_t n) const override { apply(in_, i, at, n); }

  void put_into(CudaEpilogue::Update& update) const override {
    update.p = in_[0].template as<float>();
    for (int64_t s = 0; s < attrs_.group.states; ++s)
      update.state[s] = in_[attrs_.group.state(s, 0)].template as<float>();
    Rule::put(update, constants_);
  }

  void run() const override {
    begin();
    if (!strided_) return run_on(in_);
    std::vector<View> views = in_;
    std::vector<Tensor> copies;
    for (int64_t i = 0; i < attrs_.group.count; ++i)
      for (View* x : {&views[static_cast<size_t>(i)], &views[attrs_.group.gradient(i)]}) {
        copies.emplace_back(Meta{x->shape, x->dtype, x->device});
        copy_into(copies.back().view(), *x);
        *x = copies.back().view();
      }
    run_on(views);
    for (size_t i = 0; i < static_cast<size_t>(attrs_.group.count); ++i)
      copy_into(in_[i], views[i]);
  }

 private:
  struct Piece {
    int64_t parameter, at, n;
  };

  void run_on(const std::vector<View>& in) const {
    if (attrs_.group.count && is_cuda(in[0].device)) return run_on_cuda(in);
    parallel_for(static_cast<int64_t>(chunks_.size()) - 1, [&](int64_t chunk) {
      const auto c = static_cast<size_t>(chunk);
      for (size_t i = chunks_[c]; i < chunks_[c + 1]; ++i)
        apply(in, pieces_[i].parameter, pieces_[i].at, pieces_[i].n);
    });
  }

  void run_on_cuda(const std::vector<View>& in) const {
    const UpdateGroup& group = attrs_.group;
    for (DType dtype : {DType::float32, DType::float64}) {
      std::vector<UpdatePart<>> parts;
      for (int64_t i = 0; i < group.count; ++i) {
        const View& p = in[static_cast<size_t>(i)];
        if (p.dtype != dtype || p.numel() == 0) continue;
        parts.push_back({p.numel(), p.data, in[group.gradient(i)].data, {}});
        for (int64_t s = 0; s < group.states; ++s)
          parts.back().state[s] = in[group.state(s, i)].data;
      }
      if (!parts.empty()) (cuda_kernels().*Rule::on_cuda)(in[0].device, dtype, parts, constants_);
    }
  }

  void apply(const std::vector<View>& in, int64_t i, int64_t at, int64_t n) const {
    const UpdateGroup& group = attrs_.group;
    const View &p = in[static_cast<size_t>(i)], &g = in[group.gradient(i)];
    const auto run = [&](const auto& kernels, auto type) {
      using T = typename decltype(type)::type;
      T* state[max_states] = {};
      for (int64_t s = 0; s < group.states; ++s)
        state[s] = in[group.state(s, i)].template as<T>() + at;
      Rule::apply(kernels, n, p.as<T>() + at, g.as<T>() + at, state, constants_);
    };
    if (p.dtype == DType::float32)
      run(table().f32, Type<float>{});
    else
      run(table().f64, Type<double>{});
  }

  std::vector<View> in_;
  UpdateAttrs<typename Rule::Attributes> attrs_;
  std::vector<Piece> pieces_;
  std::vector<size_t> chunks_;  // the first piece of each
  bool strided_ = false;        // a parameter or gradient is not in one piece
  mutable decltype(Rule::constants(attrs_.of, 0, 0)) constants_;
};

template <class Rule> std::unique_ptr<const Ready> ready(Views, Views in, const Attrs& attrs) {
  return std::make_unique<Update<Rule>>(in, attrs);
}
template <class Rule> void run(Views, Views in, const Attrs& attrs) {
  Update<Rule>(in, attrs).run();
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
                .run = run<Sgd>,
                .no_gradient = why_not,
                .describe = describe_sgd,
                .cuda = true,
                .ready = ready<Sgd>};
const Op adam_op{.name = "adam_step",  // Kingma and Ba 2014, arXiv 1412.6980; decoupled: Loshchilov
                                       // and Hutter 2017, 1711.05101
                 .formula =
                     "m = b1 * m + (1 - b1) * g; v = b2 * v + (1 - b2) * g^2; "
                     "p = p - lr * m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps)",
                 .gradient = "",
                 .infer = infer<AdamAttrs, adam_op>,
                 .run = run<Adam>,
                 .no_gradient = why_not,
                 .describe = describe_adam,
                 .cuda = true,
                 .ready = ready<Adam>};
const Op rmsprop_op{
    .name = "rmsprop_step",  // Tieleman and Hinton 2012, lecture 6.5
    .formula =
        "v = alpha * v + (1 - alpha) * g^2; b = momentum * b + g / (sqrt(v) + eps); p = p - lr * b",
    .gradient = "",
    .infer = infer<RmspropAttrs, rmsprop_op>,
    .run = run<Rmsprop>,
    .no_gradient = why_not,
    .describe = describe_rmsprop,
    .cuda = true,
    .ready = ready<Rmsprop>};

void infer_count(Tensors, const Attrs&, SmallVector<Meta, 2>&) {}
void run_count(Views, Views in, const Attrs&) { ++*in[0].as<int64_t>(); }
const Op the_count_op{.name = "count_step",
                      .formula = "t = t + 1",
                      .gradient = "",
                      .infer = infer_count,
                      .run = run_count,
                      .no_gradient = why_not};

struct States {
  Tensors list;
  bool needed = true;
};
template <class A>
void update(const Op& op, Tensors params, Tensors grads, std::initializer_list<States> states,
            const Tensor& lr, const Tensor& step, const A& of) {
  std::vector<Tensor> in(params.begin(), params.end());
  UpdateGroup group{static_cast<int64_t>(params.size()), 0};
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

const Op& count_op = the_count_op;

bool updates_in_epilogue(const Op& op) { return &op == &sgd_op || &op == &adam_op; }
bool is_update(const Op& op) { return &op == &sgd_op || &op == &adam_op || &op == &rmsprop_op; }
const UpdateGroup& update_group(const Attrs& attrs) {
  return attrs.as<UpdateAttrs<SgdAttrs>>().group;  // it stands first in all of them
}
Attrs with_group(const Attrs& attrs, const UpdateGroup& group) {
  Attrs copy = attrs;
  copy.as<UpdateAttrs<SgdAttrs>>().group = group;
  return copy;
}
std::unique_ptr<const ReadyUpdate> ready_update(const Op& op, Views in, const Attrs& attrs) {
  if (&op == &sgd_op) return std::make_unique<Update<Sgd>>(in, attrs);
  if (&op == &adam_op) return std::make_unique<Update<Adam>>(in, attrs);
  return std::make_unique<Update<Rmsprop>>(in, attrs);
}

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
