// Measures the float32 vocabulary (csrc/base/vocab.h) against libm in double, over all 2^32 inputs
// or every stride-th of them:
//
//   g++ -O3 -std=c++20 -ffp-contract=off -fno-math-errno -fno-trapping-math -DWENGERT_ISA=avx2
//       -mavx2 -mfma -Icsrc tests/ulp.cpp -o ulp && ./ulp [stride] [word]
//
// One line per word: the largest error in units of the last place of the true float32 result (with
// the spacing of subnormals near zero), where it was met, and ok or FAILED. NaN, infinities and
// zeros must match exactly, the sign of zero included. Exits 1 if a bound is broken.
#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "base/vocab.h"

namespace wengert::WENGERT_ISA {
namespace {

using V = Simd<float>;

#if defined(__FMA__)
constexpr double bound = 2;
#else
constexpr double bound = 3;
#endif

struct Word {
  const char* name;
  void (*ours)(float* y, const float* x);  // V::width elements
  double (*truth)(double x);
  double bound;
};

double true_sigmoid(double x) {
  const double e = std::exp(-std::fabs(x));
  return (x < 0 ? e : 1) / (1 + e);
}
double true_sign(double x) { return x > 0 ? 1 : x < 0 ? -1 : x; }

#define WORD(name, truth, bound)                                                     \
  Word {                                                                             \
    #name, [](float* y, const float* x) { name(V::load(x)).store(y); }, truth, bound \
  }

// Of two arguments, the second one fixed.
#define WITH(name, b, bound)                                                    \
  Word {                                                                        \
    #name, [](float* y, const float* x) { name(V::load(x), b).store(y); },      \
        [](double x) { return std::name(x, static_cast<double>(b##f)); }, bound \
  }

const Word words[] = {
    WORD(exp, std::exp, bound),     WORD(expm1, std::expm1, bound),
    WORD(log, std::log, bound),     WORD(log1p, std::log1p, bound),
    WORD(tanh, std::tanh, bound),   WORD(sigmoid, true_sigmoid, bound),
    WORD(erf, std::erf, bound),     WORD(sin, std::sin, bound),
    WORD(cos, std::cos, bound),     WORD(sqrt, std::sqrt, 0.5),
    WORD(floor, std::floor, 0),     WORD(ceil, std::ceil, 0),
    WORD(round, std::nearbyint, 0), WORD(abs, std::fabs, 0),
    WORD(sign, true_sign, 0),       WORD(trunc, std::trunc, 0),
    WORD(exp2, std::exp2, bound),   WORD(log2, std::log2, bound),
    WORD(log10, std::log10, bound), WORD(tan, std::tan, bound),
    WORD(asin, std::asin, 2.5),     WORD(acos, std::acos, bound),
    WORD(atan, std::atan, bound),   WORD(sinh, std::sinh, bound),
    WORD(cosh, std::cosh, bound),   WORD(asinh, std::asinh, bound),
    WORD(acosh, std::acosh, 2.5),   WORD(atanh, std::atanh, 2.5),
    WITH(atan2, 0.7, bound),        WITH(atan2, -3e-5, bound),
    WITH(atan2, -0.0, bound),       WITH(hypot, 0.7, 0.51),
};

// |y - truth| in units of the last float32 place of truth; infinite where a special value is wrong.
double error(float y, double truth) {
  const float rounded = static_cast<float>(truth);
  if (std::isnan(rounded) || std::isnan(y))
    return std::isnan(rounded) == std::isnan(y) ? 0 : INFINITY;
  if (std::isinf(rounded) || std::isinf(y)) return rounded == y ? 0 : INFINITY;
  if (std::signbit(y) != std::signbit(truth)) return INFINITY;
  if (y == truth) return 0;
  if (truth == 0) return INFINITY;
  uint64_t bits;  // the exponent is read and 2^exponent written by hand: this runs 2^32 times
  std::memcpy(&bits, &truth, sizeof bits);
  const int exponent = std::max(static_cast<int>(bits >> 52 & 0x7ff) - 1023, FLT_MIN_EXP - 1);
  const uint64_t scale_bits = static_cast<uint64_t>(1023 + FLT_MANT_DIG - 1 - exponent) << 52;
  double scale;
  std::memcpy(&scale, &scale_bits, sizeof scale);
  return std::fabs(y - truth) * scale;
}

// What a stride might step over; fills one batch of any width.
const float special[16] = {
    0.0f,    -0.0f,    INFINITY, -INFINITY, NAN,  -NAN,  FLT_TRUE_MIN,  -FLT_TRUE_MIN,
    FLT_MIN, -FLT_MIN, FLT_MAX,  -FLT_MAX,  1.0f, -1.0f, 0x1.62e43p+6f, 0x1.62e432p+6f};

bool measure(const Word& word, uint64_t stride) {
  constexpr int batch = 16;
  static_assert(batch % V::width == 0);
  double worst = 0;
  float worst_x = 0;
  const auto check = [&](const float* x) {
    float y[batch];
    for (int i = 0; i < batch; i += V::width) word.ours(y + i, x + i);
    for (int i = 0; i < batch; i++) {
      const double e = error(y[i], word.truth(x[i]));
      if (e > worst) worst = e, worst_x = x[i];
    }
  };
  check(special);
  for (uint64_t start = 0; start < (uint64_t(1) << 32); start += stride * batch) {
    float x[batch];
    for (int i = 0; i < batch; i++) {
      const auto bits = static_cast<uint32_t>(start + stride * static_cast<uint64_t>(i));
      std::memcpy(&x[i], &bits, sizeof bits);
    }
    check(x);
  }
  const bool ok = worst <= word.bound;
  std::printf("%-8s %.2f %s", word.name, worst, ok ? "ok" : "FAILED");
  if (worst > 0) std::printf("  at %a", static_cast<double>(worst_x));
  std::printf("\n");
  std::fflush(stdout);
  return ok;
}

}  // namespace
}  // namespace wengert::WENGERT_ISA

int main(int argc, char** argv) {
  using namespace wengert::WENGERT_ISA;
  const long long stride = argc > 1 ? std::atoll(argv[1]) : 1;
  if (stride < 1) return std::fprintf(stderr, "ulp: stride must be at least 1\n"), 2;
  int measured = 0, failed = 0;
  for (const Word& word : words) {
    if (argc > 2 && std::strcmp(argv[2], word.name) != 0) continue;
    measured++;
    if (!measure(word, static_cast<uint64_t>(stride))) failed++;
  }
  if (measured == 0) return std::fprintf(stderr, "ulp: no word is called %s\n", argv[2]), 2;
  return failed == 0 ? 0 : 1;
}
