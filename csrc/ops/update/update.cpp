// Optimizer updates as lines: inputs are the parameters, their states, the step count (all
// overwritten), then the gradients and the options (the rule's numbers, a float64 tensor).
#include "ops/update/update.h"

#include <algorithm>
#include <cmath>

#include "base/pool.h"
#include "ops/functions.h"
#include "ops/gpu.h"
#include "ops/update/gpu.h"
#include "ops/update/lines.h"
#include "tensor/copy.h"

namespace wengert {

namespace {

constexpr int64_t chunk_elements = 1 << 14;
constexpr int max_states = 2;

const UpdateKernels& table() {
  static const UpdateKernels& t = WENGERT_PICK_KERNELS(update_kernels);
  return t;
}

struct UpdateAttrs {
  UpdateGroup group;
  bool variant;  // of the rule: nesterov, decoupled
};

template <class Rule, const Op& op>
void infer(Tensors in, const Attrs& attrs, SmallVector<Meta, 2>&) {
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
  const Tensor &step = in[group.step()], &options = in[group.options()];
  if (step.dtype() != DType::int64 || step.numel() != 1 || is_cuda(step.device()))
    fail<DTypeError>(op.name, ": step is ", step.dtype(), step.shape(),
                     "; expected one int64, on the CPU");
  if (options.dtype() != DType::float64 || !(options.shape() == Shape{Rule::numbers}) ||
      !options.is_contiguous() || is_cuda(options.device()))
    fail<DTypeError>(op.name, ": options are ", options.dtype(), options.shape(), "; expected ",
                     Rule::numbers, " float64 in one piece, on the CPU: ", Rule::names);
}

// Each rule is a struct: its numbers, the constants of a step, worked out from them and the step
// count, and the kernel.
struct Sgd {
  static constexpr auto name = "sgd_step";
  static constexpr int numbers = 4, states = 1;
  static constexpr auto names = "lr, momentum, dampening, weight_decay";
  static constexpr auto on_cuda = &UpdateGpu::sgd;
  static double momentum(const double* o) { return o[1]; }
  static SgdStep constants(const double* o, bool nesterov, int64_t t) {
    return {.lr = o[0],
            .momentum = o[1],
            .dampening = o[2],
            .weight_decay = o[3],
            .nesterov = nesterov,
            .first = t == 1};
  }
  static void apply(const auto& kernels, int64_t n, auto* p, auto* g, auto* const* state,
                    const SgdStep& s) {
    kernels.sgd(n, p, g, state[0], s);
  }
  static void put(CudaEpilogue::Update& update, const SgdStep& s) { update.constants.sgd = s; }
};
struct Adam {
  static constexpr auto name = "adam_step";
  static constexpr int numbers = 5, states = 2;
  static constexpr auto names = "lr, beta1, beta2, eps, weight_decay";
  static constexpr auto on_cuda = &UpdateGpu::adam;
  static double momentum(const double*) { return 0; }
  static AdamStep constants(const double* o, bool decoupled, int64_t steps) {
    const auto t = static_cast<double>(steps);
    const double lr = o[0], beta1 = o[1], beta2 = o[2], weight_decay = o[4];
    return {.step_size = lr / (1 - std::pow(beta1, t)),
            .bias2_rsqrt = 1 / std::sqrt(1 - std::pow(beta2, t)),
            .beta1 = beta1,
            .beta2 = beta2,
            .eps = o[3],
            .weight_decay = decoupled ? 0 : weight_decay,
            .decay = decoupled ? 1 - lr * weight_decay : 1};
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
  static constexpr auto name = "rmsprop_step";
  static constexpr int numbers = 5, states = 2;
  static constexpr auto names = "lr, alpha, eps, weight_decay, momentum";
  static constexpr auto on_cuda = &UpdateGpu::rmsprop;
  static double momentum(const double* o) { return o[4]; }
  static RmspropStep constants(const double* o, bool, int64_t) {
    return {.lr = o[0], .alpha = o[1], .eps = o[2], .weight_decay = o[3], .momentum = o[4]};
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
      : in_(in.begin(), in.end()), attrs_(attrs.as<UpdateAttrs>()) {
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
    const auto* const options = in_[attrs_.group.options()].template as<double>();
    if (attrs_.group.states < Rule::states && Rule::momentum(options) != 0)
      fail<ValueError>(Rule::name, ": momentum is ", Rule::momentum(options),
                       ", and there are no momentum buffers; give one for each parameter");
    step += attrs_.group.counts;
    constants_ = Rule::constants(options, attrs_.variant, step);
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
      if (!parts.empty())
        (gpu_kernels().update->*Rule::on_cuda)(in[0].device, dtype, parts, constants_);
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
  UpdateAttrs attrs_;
  std::vector<Piece> pieces_;
  std::vector<size_t> chunks_;  // the first piece of each
  bool strided_ = false;        // a parameter or gradient is not in one piece
  mutable decltype(Rule::constants(nullptr, false, 0)) constants_;
};

template <class Rule> std::unique_ptr<Ready> ready(Views, Views in, const Attrs& attrs) {
  return std::make_unique<Update<Rule>>(in, attrs);
}
template <class Rule> void run(Views, Views in, const Attrs& attrs) {
  Update<Rule>(in, attrs).run();
}

void describe_sgd(const Attrs& attrs, AttrText& text) {
  text.emplace_back("nesterov", attrs.as<UpdateAttrs>().variant ? "True" : "False");
}
void describe_adam(const Attrs& attrs, AttrText& text) {
  text.emplace_back("decoupled", attrs.as<UpdateAttrs>().variant ? "True" : "False");
}

constexpr auto why_not = "it overwrites parameters, as the end of a training step";
extern const Op sgd_op, adam_op, rmsprop_op;
const Op sgd_op{.name = "sgd_step",
                .formula =
                    "lr, momentum, dampening, weight_decay = options; g = g + weight_decay * p; "
                    "b = momentum * b + (1 - dampening) * g; p = p - lr * b",
                .gradient = "",
                .infer = infer<Sgd, sgd_op>,
                .run = run<Sgd>,
                .gpu = run<Sgd>,
                .no_gradient = why_not,
                .describe = describe_sgd,
                .ready = ready<Sgd>};
const Op adam_op{.name = "adam_step",  // Kingma and Ba 2014, arXiv 1412.6980; decoupled: Loshchilov
                                       // and Hutter 2017, 1711.05101
                 .formula =
                     "lr, b1, b2, eps, weight_decay = options; m = b1 * m + (1 - b1) * g; v = b2 * "
                     "v + (1 - b2) * g^2; "
                     "p = p - lr * m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps)",
                 .gradient = "",
                 .infer = infer<Adam, adam_op>,
                 .run = run<Adam>,
                 .gpu = run<Adam>,
                 .no_gradient = why_not,
                 .describe = describe_adam,
                 .ready = ready<Adam>};
const Op rmsprop_op{.name = "rmsprop_step",  // Tieleman and Hinton 2012, lecture 6.5
                    .formula =
                        "lr, alpha, eps, weight_decay, momentum = options; v = alpha * v + (1 - "
                        "alpha) * g^2; b = momentum * b + g / (sqrt(v) + eps); p = p - lr * b",
                    .gradient = "",
                    .infer = infer<Rmsprop, rmsprop_op>,
                    .run = run<Rmsprop>,
                    .gpu = run<Rmsprop>,
                    .no_gradient = why_not,
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
void update(const Op& op, Tensors params, Tensors grads, std::initializer_list<States> states,
            const Tensor& options, const Tensor& step, bool variant) {
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
  in.push_back(options);
  apply_update(op, Tensors(in), edited, UpdateAttrs{group, variant});
}

}  // namespace

const Op& count_op = the_count_op;

bool updates_in_epilogue(const Op& op) { return &op == &sgd_op || &op == &adam_op; }
bool is_update(const Op& op) { return &op == &sgd_op || &op == &adam_op || &op == &rmsprop_op; }
const UpdateGroup& update_group(const Attrs& attrs) { return attrs.as<UpdateAttrs>().group; }
Attrs with_group(const Attrs& attrs, const UpdateGroup& group) {
  Attrs copy = attrs;
  copy.as<UpdateAttrs>().group = group;
  return copy;
}
std::unique_ptr<ReadyUpdate> ready_update(const Op& op, Views in, const Attrs& attrs) {
  if (&op == &sgd_op) return std::make_unique<Update<Sgd>>(in, attrs);
  if (&op == &adam_op) return std::make_unique<Update<Adam>>(in, attrs);
  return std::make_unique<Update<Rmsprop>>(in, attrs);
}

void add_update_ops(std::vector<const Op*>& ops) {
  for (const Op* op : {&sgd_op, &adam_op, &rmsprop_op}) ops.push_back(op);
}

void sgd_step(Tensors params, Tensors grads, Tensors momentum_buffers, const Tensor& options,
              const Tensor& step, bool nesterov) {
  update(sgd_op, params, grads, {{momentum_buffers, false}}, options, step, nesterov);
}
void adam_step(Tensors params, Tensors grads, Tensors exp_avgs, Tensors exp_avg_sqs,
               const Tensor& options, const Tensor& step, bool decoupled) {
  update(adam_op, params, grads, {{exp_avgs}, {exp_avg_sqs}}, options, step, decoupled);
}
void rmsprop_step(Tensors params, Tensors grads, Tensors square_avgs, Tensors momentum_buffers,
                  const Tensor& options, const Tensor& step) {
  update(rmsprop_op, params, grads, {{square_avgs}, {momentum_buffers, false}}, options, step,
         false);
}

}  // namespace wengert
