// Random numbers: Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2,
// 3"), a function from (seed, counter) to 128 bits. So any chunk can be drawn by any thread, and on
// any device, with the same result.
//
// The state is an int64 tensor (seed, counter). A line takes it as its input and advances the
// counter by the blocks it used. Normal numbers are the inverse of the distribution function
// (Wichura 1988, algorithm AS 241), written with + - * / and sqrt alone, so that every device
// agrees to the bit.
#include <algorithm>
#include <limits>

#include "base/pool.h"
#include "graph/batch.h"
#include "ops/functions.h"
#include "ops/gpu.h"
#include "ops/random/gpu.h"
#include "ops/random/random.h"

namespace wengert {

namespace {

constexpr int64_t chunk_blocks = 1 << 13;

using Kind = RandomKind;

int64_t numbers_per_block(const RandomAttrs& a) {
  return a.dtype == DType::float32 ? per_block<float>(a.kind) : per_block<double>(a.kind);
}

void infer(Tensors in, const Attrs& attrs, SmallVector<Meta, 2>& out) {
  const Tensor& state = in[0];
  if (state.dtype() != DType::int64 || !(state.shape() == Shape{2}) || !state.is_contiguous() ||
      is_cuda(state.device()))
    fail<ValueError>(
        "random: the state has dtype ", state.dtype(), " and shape ", state.shape(),
        "; expected int64 and (2,), on the CPU: seed and counter, as Generator(seed).state holds "
        "them");
  const auto& a = attrs.as<RandomAttrs>();
  out.emplace_back(a.shape, a.dtype, a.device);
}

void run(Views out, Views in, const Attrs& attrs) {
  static const RandomKernels& table = WENGERT_PICK_KERNELS(random_kernels);
  const auto& a = attrs.as<RandomAttrs>();
  int64_t* state = in[0].as<int64_t>();
  const int64_t n = out[0].numel(), per = numbers_per_block(a);
  const auto seed = static_cast<uint64_t>(state[0]), first = static_cast<uint64_t>(state[1]);
  const RandomRange range{a.kind, a.low,
                          static_cast<uint64_t>(a.high) - static_cast<uint64_t>(a.low)};
  parallel_for(ceil_div(n, chunk_blocks * per), [&](int64_t chunk) {
    const int64_t at = chunk * chunk_blocks * per;
    table.draw(a.dtype, {seed, first + static_cast<uint64_t>(chunk * chunk_blocks)}, range,
               std::min(n - at, chunk_blocks * per), out[0].as<char>() + at * size_of(a.dtype));
  });
  state[1] += ceil_div(n, per);
}
void gpu(Views out, Views in, const Attrs& attrs) {
  gpu_kernels().random->draw(out, in, attrs);
  const auto& a = attrs.as<RandomAttrs>();
  in[0].as<int64_t>()[1] += ceil_div(out[0].numel(), numbers_per_block(a));
}
void describe(const Attrs& attrs, NamedAttrs& named) {
  const auto& a = attrs.as<RandomAttrs>();
  named.emplace_back("shape", a.shape);
  named.emplace_back("dtype", name(a.dtype));
  if (a.kind != Kind::integers) return;
  named.emplace_back("low", a.low);
  named.emplace_back("high", a.high);
}

Tensor batch_draw(const Batch& b, Tensor*) {  // numbers of its own for each example
  RandomAttrs a = b.attrs.as<RandomAttrs>();
  a.shape.insert(0, b.size);
  return apply(b.op, b.one[0], a);
}

constexpr auto why_not = "random numbers do not depend on any input but the generator's state";
Op random_op(const char* name, const char* formula) {
  return {.name = name,
          .operands = "state",
          .formula = formula,
          .infer = infer,
          .run = run,
          .gpu = gpu,
          .no_gradient = why_not,
          .describe = describe,
          .edits = 1,
          .batch = batch_draw};
}
const Op uniform_op = random_op("uniform", "uniform in [0, 1)");
const Op normal_op = random_op("normal", "normal, mean 0 and variance 1");
const Op integers_op = random_op("integers", "whole, low to high - 1");

void check_floating(const char* op, DType dtype) {
  if (!is_floating(dtype))
    fail<DTypeError>(op, ": got dtype ", dtype, "; expected float32, float64 or bfloat16");
}
// bfloat16 is drawn in float32, and rounded; of uniform numbers not up to 1.
Tensor draw(const Op& op, const Tensor& state, Kind kind, const Shape& shape, DType dtype,
            Device device) {
  const DType drawn = dtype == DType::bfloat16 ? DType::float32 : dtype;
  Tensor x = apply(op, state, RandomAttrs{kind, drawn, device, 0, 0, shape});
  if (drawn != dtype && kind == Kind::uniform) x = minimum(x, 1 - 0x1p-8);
  return to_dtype(x, dtype);
}

}  // namespace

void add_random_ops(std::vector<const Op*>& ops) {
  for (const Op* op : {&uniform_op, &normal_op, &integers_op}) ops.push_back(op);
}

Tensor random_uniform(const Tensor& state, const Shape& shape, DType dtype, Device device) {
  check_floating("rand", dtype);
  return draw(uniform_op, state, Kind::uniform, shape, dtype, device);
}
Tensor random_normal(const Tensor& state, const Shape& shape, DType dtype, Device device) {
  check_floating("randn", dtype);
  return draw(normal_op, state, Kind::normal, shape, dtype, device);
}
Tensor random_integers(const Tensor& state, const Shape& shape, int64_t low, int64_t high,
                       Device device) {
  if (low >= high)
    fail<ValueError>("randint: got low = ", low, " and high = ", high, "; expected low < high");
  return apply(integers_op, state,
               RandomAttrs{Kind::integers, DType::int64, device, low, high, shape});
}

Tensor random_permutation(const Tensor& state, int64_t n) {
  refuse_in_trace("randperm");
  if (n < 0) fail<ValueError>("randperm: got n = ", n, "; expected n >= 0");
  const Tensor order = arange(0, 1, n, DType::int64);
  // Fisher and Yates: place i swaps with a place up to i. A 63-bit draw modulo i + 1 is uneven by
  // less than n / 2^63.
  const Tensor draws = random_integers(state, Shape{n}, 0, std::numeric_limits<int64_t>::max());
  int64_t* const at = order.data<int64_t>();
  const int64_t* const draw = draws.data<int64_t>();
  serial_for(n, 1 << 16, [=](int64_t first, int64_t end) {
    for (int64_t i = n - 1 - first; i > n - 1 - end; --i) std::swap(at[i], at[draw[i] % (i + 1)]);
  });
  return order;
}

}  // namespace wengert
