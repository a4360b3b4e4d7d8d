// Random numbers: Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2,
// 3"), a function from (seed, counter) to 128 bits. So any chunk can be drawn by any thread, and on
// any device, with the same result.
//
// The state is an int64 tensor (seed, counter). A line takes it as its input and advances the
// counter by the blocks it used. Normal numbers are the inverse of the distribution function
// (Wichura 1988, algorithm AS 241), written with + - * / and sqrt alone, so that every device
// agrees to the bit.
#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "base/pool.h"
#include "ops/functions.h"

namespace wengert {

namespace {

constexpr int64_t chunk_blocks = 1 << 13;

struct Block {
  uint32_t word[4];
  uint64_t pair(int i) const { return static_cast<uint64_t>(word[2 * i + 1]) << 32 | word[2 * i]; }
};

Block philox(uint64_t seed, uint64_t counter) {
  uint32_t c[4] = {static_cast<uint32_t>(counter), static_cast<uint32_t>(counter >> 32), 0, 0};
  uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53} * c[0], p1 = uint64_t{0xCD9E8D57} * c[2];
    const uint32_t next[4] = {
        static_cast<uint32_t>(p1 >> 32) ^ c[1] ^ k0, static_cast<uint32_t>(p1),
        static_cast<uint32_t>(p0 >> 32) ^ c[3] ^ k1, static_cast<uint32_t>(p0)};
    std::copy(next, next + 4, c);
    k0 += 0x9E3779B9;
    k1 += 0xBB67AE85;
  }
  return {{c[0], c[1], c[2], c[3]}};
}

// log of a normal positive number: x = 2^e * m with m in [sqrt(1/2), sqrt(2)); log m = 2 atanh((m -
// 1) / (m + 1)).
double plain_log(double x) {
  const uint64_t bits = std::bit_cast<uint64_t>(x);
  int64_t e = static_cast<int64_t>(bits >> 52) - 1023;
  double m = std::bit_cast<double>((bits & 0xFFFFFFFFFFFFF) | 0x3FF0000000000000);
  if (m > 1.4142135623730951) {
    m *= 0.5;
    ++e;
  }
  const double s = (m - 1) / (m + 1), s2 = s * s;
  double tail = 0;
  for (int n = 23; n >= 1; n -= 2) tail = tail * s2 + 1.0 / n;
  return static_cast<double>(e) * 0.69314718055994531 + 2 * s * tail;
}

double ratio(double r, const double (&p)[8], const double (&q)[8]) {
  double above = p[7], below = q[7];
  for (int i = 6; i >= 0; --i) {
    above = above * r + p[i];
    below = below * r + q[i];
  }
  return above / below;
}

// x with P(normal < x) = u, for 0 < u < 1.
double inverse_normal(double u) {
  static constexpr double a[8] = {3.3871328727963666080e0,  1.3314166789178437745e+2,
                                  1.9715909503065514427e+3, 1.3731693765509461125e+4,
                                  4.5921953931549871457e+4, 6.7265770927008700853e+4,
                                  3.3430575583588128105e+4, 2.5090809287301226727e+3};
  static constexpr double b[8] = {1.0,
                                  4.2313330701600911252e+1,
                                  6.8718700749205790830e+2,
                                  5.3941960214247511077e+3,
                                  2.1213794301586595867e+4,
                                  3.9307895800092710610e+4,
                                  2.8729085735721942674e+4,
                                  5.2264952788528545610e+3};
  static constexpr double c[8] = {1.42343711074968357734e0,  4.63033784615654529590e0,
                                  5.76949722146069140550e0,  3.64784832476320460504e0,
                                  1.27045825245236838258e0,  2.41780725177450611770e-1,
                                  2.27238449892691845833e-2, 7.74545014278341407640e-4};
  static constexpr double d[8] = {1.0,
                                  2.05319162663775882187e0,
                                  1.67638483018380384940e0,
                                  6.89767334985100004550e-1,
                                  1.48103976427480074590e-1,
                                  1.51986665636164571966e-2,
                                  5.47593808499534494600e-4,
                                  1.05075007164441684324e-9};
  static constexpr double e[8] = {6.65790464350110377720e0,  5.46378491116411436990e0,
                                  1.78482653991729133580e0,  2.96560571828504891230e-1,
                                  2.65321895265761230930e-2, 1.24266094738807843860e-3,
                                  2.71155556874348757815e-5, 2.01033439929228813265e-7};
  static constexpr double f[8] = {1.0,
                                  5.99832206555887937690e-1,
                                  1.36929880922735805310e-1,
                                  1.48753612908506148525e-2,
                                  7.86869131145613259100e-4,
                                  1.84631831751005468180e-5,
                                  1.42151175831644588870e-7,
                                  2.04426310338993978564e-15};
  const double q = u - 0.5;
  if (std::abs(q) <= 0.425) return q * ratio(0.180625 - q * q, a, b);
  const double r = std::sqrt(-plain_log(q < 0 ? u : 1 - u));
  const double x = r <= 5 ? ratio(r - 1.6, c, d) : ratio(r - 5, e, f);
  return q < 0 ? -x : x;
}

enum class Kind { uniform, normal, integers };
struct RandomAttrs {
  Kind kind;
  DType dtype;
  int64_t low, high;  // of integers
  Shape shape;
};

void infer(Tensors in, const Attrs& attrs, SmallVector<Meta, 2>& out) {
  const Tensor& state = in[0];
  if (state.dtype() != DType::int64 || !(state.shape() == Shape{2}) || !state.is_contiguous())
    fail<ValueError>(
        "random: the state has dtype ", state.dtype(), " and shape ", state.shape(),
        "; expected int64 and (2,): seed and counter, as Generator(seed).state holds them");
  const auto& a = attrs.as<RandomAttrs>();
  out.emplace_back(a.shape, a.dtype, state.device());
}

// Numbers drawn from one block.
template <class T> constexpr int64_t per_block(Kind kind) {
  return kind == Kind::uniform && sizeof(T) == 4 ? 4 : 2;
}

template <class T> void fill(T* y, int64_t n, int64_t* state, const RandomAttrs& a) {
  const int64_t per = per_block<T>(a.kind), blocks = ceil_div(n, per);
  const uint64_t seed = static_cast<uint64_t>(state[0]), first = static_cast<uint64_t>(state[1]);
  const uint64_t span = static_cast<uint64_t>(a.high) - static_cast<uint64_t>(a.low);
  parallel_for(ceil_div(blocks, chunk_blocks), [&](int64_t chunk) {
    const int64_t end = std::min(blocks, (chunk + 1) * chunk_blocks);
    for (int64_t block = chunk * chunk_blocks; block < end; ++block) {
      const Block bits = philox(seed, first + static_cast<uint64_t>(block));
      for (int i = 0; i < per && block * per + i < n; ++i) {
        T& to = y[block * per + i];
        if (a.kind == Kind::integers)
          to = static_cast<T>(
              static_cast<uint64_t>(a.low) +
              static_cast<uint64_t>(static_cast<unsigned __int128>(bits.pair(i)) * span >> 64));
        else if (a.kind == Kind::normal)
          to = static_cast<T>(
              inverse_normal((static_cast<double>(bits.pair(i) >> 12) + 0.5) * 0x1p-52));
        else if (sizeof(T) == 4)
          to = static_cast<T>(static_cast<float>(bits.word[i] >> 8) * 0x1p-24f);
        else
          to = static_cast<T>(static_cast<double>(bits.pair(i) >> 11) * 0x1p-53);
      }
    }
  });
  state[1] += blocks;
}

void run(Views out, Views in, const Attrs& attrs) {
  const auto& a = attrs.as<RandomAttrs>();
  int64_t* state = in[0].as<int64_t>();
  if (a.dtype == DType::float32) fill(out[0].as<float>(), out[0].numel(), state, a);
  if (a.dtype == DType::float64) fill(out[0].as<double>(), out[0].numel(), state, a);
  if (a.dtype == DType::int64) fill(out[0].as<int64_t>(), out[0].numel(), state, a);
}
void describe(const Attrs& attrs, AttrText& text) {
  const auto& a = attrs.as<RandomAttrs>();
  text.emplace_back("shape", concat(a.shape));
  text.emplace_back("dtype", name(a.dtype));
  if (a.kind != Kind::integers) return;
  text.emplace_back("low", concat(a.low));
  text.emplace_back("high", concat(a.high));
}

constexpr auto why_not = "random numbers do not depend on any input but the generator's state";
const Op uniform_op{.name = "uniform",
                    .formula = "uniform in [0, 1)",
                    .gradient = "",
                    .infer = infer,
                    .run = run,
                    .no_gradient = why_not,
                    .describe = describe,
                    .edits = 1};
const Op normal_op{.name = "normal",
                   .formula = "normal, mean 0 and variance 1",
                   .gradient = "",
                   .infer = infer,
                   .run = run,
                   .no_gradient = why_not,
                   .describe = describe,
                   .edits = 1};
const Op integers_op{.name = "integers",
                     .formula = "whole, low to high - 1",
                     .gradient = "",
                     .infer = infer,
                     .run = run,
                     .no_gradient = why_not,
                     .describe = describe,
                     .edits = 1};

void check_floating(const char* op, DType dtype) {
  if (!is_floating(dtype))
    fail<DTypeError>(op, ": got dtype ", dtype, "; expected float32 or float64");
}

}  // namespace

void add_random_ops(std::vector<const Op*>& ops) {
  for (const Op* op : {&uniform_op, &normal_op, &integers_op}) ops.push_back(op);
}

Tensor random_uniform(const Tensor& state, const Shape& shape, DType dtype) {
  check_floating("rand", dtype);
  return apply(uniform_op, state, RandomAttrs{Kind::uniform, dtype, 0, 0, shape});
}
Tensor random_normal(const Tensor& state, const Shape& shape, DType dtype) {
  check_floating("randn", dtype);
  return apply(normal_op, state, RandomAttrs{Kind::normal, dtype, 0, 0, shape});
}
Tensor random_integers(const Tensor& state, const Shape& shape, int64_t low, int64_t high) {
  if (low >= high)
    fail<ValueError>("randint: got low = ", low, " and high = ", high, "; expected low < high");
  return apply(integers_op, state, RandomAttrs{Kind::integers, DType::int64, low, high, shape});
}

Tensor random_permutation(const Tensor& state, int64_t n) {
  refuse_in_trace("randperm");
  if (n < 0) fail<ValueError>("randperm: got n = ", n, "; expected n >= 0");
  const Tensor order = arange(0, 1, n, DType::int64);
  // Fisher and Yates: place i swaps with a place up to i. A 63-bit draw modulo i + 1 is uneven by
  // less than n / 2^63.
  const Tensor draws = random_integers(state, Shape{n}, 0, std::numeric_limits<int64_t>::max());
  for (int64_t i = n - 1; i > 0; --i)
    std::swap(order.data<int64_t>()[i], order.data<int64_t>()[draws.data<int64_t>()[i] % (i + 1)]);
  return order;
}

}  // namespace wengert
