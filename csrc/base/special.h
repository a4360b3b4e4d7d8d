// Functions that libm has not, of one double, for the CPU and for a GPU.
#pragma once

#include <math.h>

#include "base/fn.h"

namespace wengert {

// c0 + c1 x + c2 x^2 + ...
FN double horner(double, double c0) { return c0; }
template <class... C> FN double horner(double x, double c0, C... c) {
  return horner(x, c...) * x + c0;
}

// The inverse of the normal distribution function, Wichura 1988, algorithm AS 241: of q = u - 1/2,
// |q| <= 0.425, and beyond, without its sign, of r = sqrt(-log(min(u, 1 - u))).
FN double normal_center(double q) {
  const double r = 0.180625 - q * q;
  return q * (horner(r, 3.3871328727963666080e0, 1.3314166789178437745e+2, 1.9715909503065514427e+3,
                     1.3731693765509461125e+4, 4.5921953931549871457e+4, 6.7265770927008700853e+4,
                     3.3430575583588128105e+4, 2.5090809287301226727e+3) /
              horner(r, 1.0, 4.2313330701600911252e+1, 6.8718700749205790830e+2,
                     5.3941960214247511077e+3, 2.1213794301586595867e+4, 3.9307895800092710610e+4,
                     2.8729085735721942674e+4, 5.2264952788528545610e+3));
}
FN double normal_tail(double r) {
  if (r <= 5)
    return horner(r - 1.6, 1.42343711074968357734e0, 4.63033784615654529590e0,
                  5.76949722146069140550e0, 3.64784832476320460504e0, 1.27045825245236838258e0,
                  2.41780725177450611770e-1, 2.27238449892691845833e-2, 7.74545014278341407640e-4) /
           horner(r - 1.6, 1.0, 2.05319162663775882187e0, 1.67638483018380384940e0,
                  6.89767334985100004550e-1, 1.48103976427480074590e-1, 1.51986665636164571966e-2,
                  5.47593808499534494600e-4, 1.05075007164441684324e-9);
  return horner(r - 5, 6.65790464350110377720e0, 5.46378491116411436990e0, 1.78482653991729133580e0,
                2.96560571828504891230e-1, 2.65321895265761230930e-2, 1.24266094738807843860e-3,
                2.71155556874348757815e-5, 2.01033439929228813265e-7) /
         horner(r - 5, 1.0, 5.99832206555887937690e-1, 1.36929880922735805310e-1,
                1.48753612908506148525e-2, 7.86869131145613259100e-4, 1.84631831751005468180e-5,
                1.42151175831644588870e-7, 2.04426310338993978564e-15);
}

FN double erfinv(double x) {
  constexpr double half = 0.70710678118654752;  // its root
  const double a = ::fabs(x);
  if (a <= 0.85) return half * normal_center(0.5 * x);
  const double y = half * normal_tail(::sqrt(-::log(0.5 * (1 - a))));
  return ::copysign(a == 1 ? 1 / (1 - a) : y, x);  // NaN beyond
}

FN double power(double x, int n) {
  double y = 1;
  for (int i = 0; i < n; ++i) y *= x;
  return y;
}

// Derivative n of digamma, up to the sign (-1)^(n + 1), for x >= 1/2: by its recurrence up to where
// the asymptotic series holds, whose Bernoulli numbers these are (DLMF 5.15).
FN double polygamma_right(double x, int n) {
  double terms = 0, factorial = 1;  // (n - 1)!
  for (int i = 2; i < n; ++i) factorial *= i;
  const double next = n ? factorial * n : 1;
  for (; x < 12 + n; x += 1) terms += 1 / power(x, n + 1);
  const double w = 1 / (x * x), xn = power(x, n);
  double s = 0;
  const auto step = [&](int k, double bernoulli) {
    s = bernoulli + (2 * k + n) * (2 * k + n + 1) * w / ((2 * k + 1) * (2 * k + 2)) * s;
  };
  step(10, -174611.0 / 330);
  step(9, 43867.0 / 798);
  step(8, -3617.0 / 510);
  step(7, 7.0 / 6);
  step(6, -691.0 / 2730);
  step(5, 5.0 / 66);
  step(4, -1.0 / 30);
  step(3, 1.0 / 42);
  step(2, -1.0 / 30);
  step(1, 1.0 / 6);
  const double first = n ? factorial / xn : -::log(x);
  return first + next / (2 * xn * x) + next * (n + 1) / 2 / xn * w * s + next * terms;
}

// To the left, with r = x less the nearest integer: by the reflection at both x and r, which have
// one cotangent. The poles are at 0, -1, ...
FN double polygamma(double x, double order) {
  const int n = static_cast<int>(order);
  const bool right = x >= 0.5;
  const double r = x == 0 ? x : x - ::rint(x), odd = n % 2 ? 1 : -1;
  double y = odd * polygamma_right(right ? x : 1 + r, n);
  if (right) return y;
  if (r == 0 && x != 0 && n % 2 == 0) return r / r;  // NaN: both sides differ in sign
  double pole = 1;
  for (int i = 1; i <= n; ++i) pole *= i;
  y += odd * (pole / power(r, n + 1));
  for (int side = 0; side < 2; ++side)
    y += (side ? -1 : 1) * polygamma_right(1 - (side ? x : r), n);
  return y;
}

}  // namespace wengert
