// Bessel functions J0 and J1 as ops: values, gradients, and gradients of these.
//
// J0' = -J1 and J1' = J0 - J1 / x (Abramowitz and Stegun, 9.1.27 and 9.1.28). A gradient is an op
// of (g, x); its own gradients are ops of (h, g, x), where h is what comes back to it.
#include <pybind11/pybind11.h>
#include <wengert/op.h>

#include <algorithm>
#include <cmath>

namespace {

double j0(double x) { return std::cyl_bessel_j(0.0, std::abs(x)); }
double j1(double x) { return std::copysign(std::cyl_bessel_j(1.0, std::abs(x)), x); }
double dj0(double x) { return -j1(x); }
double dj1(double x) { return x == 0 ? 0.5 : j0(x) - j1(x) / x; }
double ddj0(double x) { return -dj1(x); }
double ddj1(double x) { return x == 0 ? 0.0 : dj0(x) - dj1(x) / x + j1(x) / (x * x); }

// y = f(x) times the first operands, `factors` of them, in chunks of a fixed size. x is the last.
template <double (*f)(double), int inputs, int factors, class T>
void fill(const wengert_array* in, wengert_array* out, const wengert_tools* tools) {
  struct Job {
    const wengert_array *in, *out;
  } job{in, out};
  constexpr int64_t chunk = 4096;
  const auto body = [](const void* context, int64_t at) {
    const Job& job = *static_cast<const Job*>(context);
    const int64_t end = std::min(job.out->size, (at + 1) * chunk);
    for (int64_t i = at * chunk; i < end; ++i) {
      double y = f(static_cast<const T*>(job.in[inputs - 1].data)[i]);
      for (int k = 0; k < factors; ++k) y *= static_cast<const T*>(job.in[k].data)[i];
      static_cast<T*>(job.out->data)[i] = static_cast<T>(y);
    }
  };
  tools->parallel_for((out->size + chunk - 1) / chunk, body, &job);
}
template <double (*f)(double), int inputs, int factors>
const char* value(const wengert_array* in, wengert_array* out, const wengert_tools* tools) {
  if (out->dtype == wengert_float32)
    fill<f, inputs, factors, float>(in, out, tools);
  else
    fill<f, inputs, factors, double>(in, out, tools);
  return nullptr;
}

template <double (*f)(double), int inputs, int factors>
wengert_op op(const char* name, const char* operands, const char* formula) {
  wengert_op made{};
  made.version = WENGERT_OP_VERSION;
  made.inputs = inputs;
  made.name = name;
  made.operands = operands;
  made.formula = formula;
  made.value = value<f, inputs, factors>;
  return made;
}

const wengert_op j0_of_g = op<dj0, 3, 1>("j0_of_g", "h, g, x", "-J1(x) h");
const wengert_op j0_of_x = op<ddj0, 3, 2>("j0_of_x", "h, g, x", "J0''(x) g h");
const wengert_op j1_of_g = op<dj1, 3, 1>("j1_of_g", "h, g, x", "J1'(x) h");
const wengert_op j1_of_x = op<ddj1, 3, 2>("j1_of_x", "h, g, x", "J1''(x) g h");

wengert_op with_gradient(wengert_op op, const wengert_op* first,
                         const wengert_op* second = nullptr) {
  op.gradient[0] = first;
  op.gradient[1] = second;
  return op;
}
const wengert_op j0_vjp =
    with_gradient(op<dj0, 2, 1>("j0_vjp", "g, x", "-J1(x) g"), &j0_of_g, &j0_of_x);
const wengert_op j1_vjp =
    with_gradient(op<dj1, 2, 1>("j1_vjp", "g, x", "(J0(x) - J1(x) / x) g"), &j1_of_g, &j1_of_x);
const wengert_op j0_op = with_gradient(op<j0, 1, 0>("j0", "x", "J0(x)"), &j0_vjp);
const wengert_op j1_op = with_gradient(op<j1, 1, 0>("j1", "x", "J1(x)"), &j1_vjp);

}  // namespace

PYBIND11_MODULE(_bessel, m) {
  m.attr("j0") = pybind11::capsule(&j0_op, "wengert.op");
  m.attr("j1") = pybind11::capsule(&j1_op, "wengert.op");
}
