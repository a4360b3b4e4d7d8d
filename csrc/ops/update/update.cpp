#include "ops/update/update.h"

#include <algorithm>

#include "base/pool.h"
#include "ops/functions.h"
#include "ops/gpu.h"
#include "ops/update/gpu.h"
#include "tensor/copy.h"

namespace wengert {

namespace {

constexpr int64_t chunk_elements = 1 << 14;

const UpdateKernels& table() {
  static const UpdateKernels& t = WENGERT_PICK_KERNELS(update_kernels);
  return t;
}

template <class Row> std::string names_of_options() {
  std::string names;
  for (const char* name : Row::options) names += concat(names.empty() ? "" : ", ", name);
  return names;
}

template <class Row> void infer(Tensors in, const Attrs& attrs, SmallVector<Meta, 2>&) {
  const auto& group = attrs.as<UpdateAttrs>();
  for (int64_t i = 0; i < group.count; ++i) {
    const Tensor& p = in[static_cast<size_t>(i)];
    if (!is_floating(p.dtype()) || p.dtype() == DType::bfloat16)
      fail<DTypeError>(Row::name, ": parameter ", i, " has dtype ", p.dtype(),
                       "; expected float32 or float64: keep parameters in float32, and convert "
                       "what is computed from them with .bfloat16()");
    for (int64_t s = 0; s <= group.states; ++s) {
      const Tensor& t = s ? in[group.state(s - 1, i)] : in[group.gradient(i)];
      if (t.device() != p.device() || p.device() != in[0].device())
        fail<DeviceError>(Row::name, ": parameter 0 is on ", in[0].device(), ", parameter ", i,
                          " on ", p.device(), ", its ", s ? "state" : "gradient", " on ",
                          t.device(), "; an update takes those of one device");
      if (!(t.shape() == p.shape()) || t.dtype() != p.dtype())
        fail<ShapeError>(Row::name, ": the ", s ? "state" : "gradient", " of parameter ", i,
                         " has shape ", t.shape(), " and dtype ", t.dtype(), "; the parameter has ",
                         p.shape(), " and ", p.dtype());
      if (s && !t.is_contiguous())
        fail<ValueError>(Row::name, ": the state of parameter ", i, " is not contiguous");
    }
  }
  const Tensor &step = in[group.step()], &options = in[group.options()];
  if (step.dtype() != DType::int64 || step.numel() != 1 || is_cuda(step.device()))
    fail<DTypeError>(Row::name, ": step is ", step.dtype(), step.shape(),
                     "; expected one int64, on the CPU");
  constexpr auto numbers = static_cast<int64_t>(Row::options.size());
  if (options.dtype() != DType::float64 || !(options.shape() == Shape{numbers}) ||
      !options.is_contiguous() || is_cuda(options.device()))
    fail<DTypeError>(Row::name, ": options are ", options.dtype(), options.shape(), "; expected ",
                     numbers, " float64 in one piece, on the CPU: ", names_of_options<Row>());
}

template <class Row> class Update final : public ReadyUpdate {
 public:
  Update(Views in, const Attrs& attrs)
      : in_(in.begin(), in.end()), attrs_(attrs.as<UpdateAttrs>()) {
    int64_t left = 0;  // of the chunk's elements
    for (int64_t i = 0; i < attrs_.count; ++i) {
      const View &p = in_[static_cast<size_t>(i)], &g = in_[attrs_.gradient(i)];
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
    for (int64_t i = 0; i < attrs_.count; ++i) {
      const View& p = in_[static_cast<size_t>(i)];
      sum += p.numel() * size_of(p.dtype) * (2 + attrs_.states);
    }
    return sum;
  }

  void begin() const override {
    int64_t& step = *in_[attrs_.step()].template as<int64_t>();
    constants_ = Row::of(in_[attrs_.options()].template as<double>(), step + attrs_.counts);
    if constexpr (requires { constants_.momentum; })
      if (attrs_.states == Row::needed && constants_.momentum != 0)
        fail<ValueError>(Row::name, ": momentum is ", constants_.momentum,
                         ", and there are no momentum buffers; give one for each parameter");
    step += attrs_.counts;
  }

  void apply(int64_t i, int64_t at, int64_t n) const override { apply(in_, i, at, n); }

  UpdateInMatmul in_matmul() const override {
    UpdateInMatmul update{.p = in_[0].template as<float>(), .row = index_of<Row>(UpdateRows{})};
    for (int64_t s = 0; s < attrs_.states; ++s)
      update.state[s] = in_[attrs_.state(s, 0)].template as<float>();
    if constexpr (std::is_base_of_v<Row, UpdateConstants>)
      static_cast<Row&>(update.constants) = constants_;
    return update;
  }

  void run() const override {
    begin();
    if (!strided_) return run_on(in_);
    std::vector<View> views = in_;
    std::vector<Tensor> copies;
    for (int64_t i = 0; i < attrs_.count; ++i)
      for (View* x : {&views[static_cast<size_t>(i)], &views[attrs_.gradient(i)]}) {
        copies.emplace_back(Meta{x->shape, x->dtype, x->device});
        copy_into(copies.back().view(), *x);
        *x = copies.back().view();
      }
    run_on(views);
    for (size_t i = 0; i < static_cast<size_t>(attrs_.count); ++i) copy_into(in_[i], views[i]);
  }

 private:
  struct Piece {
    int64_t parameter, at, n;
  };

  void run_on(const std::vector<View>& in) const {
    if (attrs_.count && is_cuda(in[0].device)) return run_on_cuda(in);
    parallel_for(static_cast<int64_t>(chunks_.size()) - 1, [&](int64_t chunk) {
      const auto c = static_cast<size_t>(chunk);
      for (size_t i = chunks_[c]; i < chunks_[c + 1]; ++i)
        apply(in, pieces_[i].parameter, pieces_[i].at, pieces_[i].n);
    });
  }

  void run_on_cuda(const std::vector<View>& in) const {
    const UpdateAttrs& group = attrs_;
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
        static_cast<const UpdateGpuOf<Row>&>(*gpu_kernels().update)
            .run(in[0].device, dtype, parts, constants_);
    }
  }

  void apply(const std::vector<View>& in, int64_t i, int64_t at, int64_t n) const {
    const UpdateAttrs& group = attrs_;
    const View &p = in[static_cast<size_t>(i)], &g = in[group.gradient(i)];
    const auto run = [&](auto kernel, auto type) {
      using T = typename decltype(type)::type;
      T* state[max_states] = {};
      for (int64_t s = 0; s < group.states; ++s)
        state[s] = in[group.state(s, i)].template as<T>() + at;
      kernel(n, p.as<T>() + at, g.as<T>() + at, state, constants_);
    };
    const UpdateKernelsOf<Row>& kernels = table();
    if (p.dtype == DType::float32)
      run(kernels.f32, Type<float>{});
    else
      run(kernels.f64, Type<double>{});
  }

  std::vector<View> in_;
  UpdateAttrs attrs_;
  std::vector<Piece> pieces_;
  std::vector<size_t> chunks_;  // the first piece of each
  bool strided_ = false;        // a parameter or gradient is not in one piece
  mutable Row constants_;
};

template <class Row> std::unique_ptr<Ready> ready(Views, Views in, const Attrs& attrs) {
  return std::make_unique<Update<Row>>(in, attrs);
}
template <class Row> void run(Views, Views in, const Attrs& attrs) { Update<Row>(in, attrs).run(); }

constexpr auto why_not = "it overwrites parameters, as the end of a training step";
template <class Row>
constexpr Op op_of{.name = Row::name,
                   .operands = Row::operands,
                   .formula = Row::formula,
                   .infer = infer<Row>,
                   .run = run<Row>,
                   .gpu = run<Row>,
                   .no_gradient = why_not,
                   .ready = ready<Row>};
template <class... Rows> std::span<const Op* const> ops(List<Rows...>) {
  static constexpr const Op* all[] = {&op_of<Rows>...};
  return all;
}

}  // namespace

const Op count_op{.name = "count_step",
                  .operands = "t",
                  .formula = "t = t + 1",
                  .infer = [](Tensors, const Attrs&, SmallVector<Meta, 2>&) {},
                  .run = [](Views, Views in, const Attrs&) { ++*in[0].as<int64_t>(); },
                  .no_gradient = why_not};

bool is_update(const Op& op) {
  const auto all = ops(UpdateRows{});
  return std::find(all.begin(), all.end(), &op) != all.end();
}
bool fits_in_gpu_matmul(const Op& update) {
  const auto all = ops(InnerUpdateRows{});
  return std::find(all.begin(), all.end(), &update) != all.end();
}
std::unique_ptr<ReadyUpdate> ready_update(const Op& op, Views in, const Attrs& attrs) {
  return std::unique_ptr<ReadyUpdate>(
      static_cast<ReadyUpdate*>(op.ready({}, in, attrs).release()));  // as `ready` above made it
}
void add_update_ops(std::vector<const Op*>& all) {
  for (const Op* op : ops(UpdateRows{})) all.push_back(op);
}

const Op& update_op_at(int row) { return *ops(UpdateRows{})[static_cast<size_t>(row)]; }

void update_step(const Op& op, Tensors params, Tensors grads,
                 std::span<const std::vector<Tensor>> states, int needed, const Tensor& options,
                 const Tensor& step) {
  std::vector<Tensor> in(params.begin(), params.end());
  UpdateAttrs attrs{.count = static_cast<int64_t>(params.size()), .states = 0};
  for (size_t s = 0; s < states.size(); ++s) {
    if (states[s].empty() && s >= static_cast<size_t>(needed)) continue;
    if (states[s].size() != params.size())
      fail<ValueError>(op.name, ": got ", states[s].size(), " states for ", params.size(),
                       " parameters; one each is expected");
    in.insert(in.end(), states[s].begin(), states[s].end());
    ++attrs.states;
  }
  if (grads.size() != params.size())
    fail<ValueError>(op.name, ": got ", grads.size(), " gradients for ", params.size(),
                     " parameters; one each is expected");
  in.push_back(step);
  const int edited = static_cast<int>(in.size());
  in.insert(in.end(), grads.begin(), grads.end());
  in.push_back(options);
  apply_update(op, Tensors(in), edited, attrs);
}

}  // namespace wengert
