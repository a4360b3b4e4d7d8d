// How an element becomes one of another dtype, on every device.
#pragma once

#include <limits>
#include <type_traits>

#include "base/fn.h"

namespace wengert {

struct bfloat16;

template <class To, class From> FN To convert(From x) {
  if constexpr (std::is_same_v<To, From>) {
    return x;
  } else if constexpr (std::is_same_v<From, bfloat16>) {
    return convert<To>(static_cast<float>(x));
  } else if constexpr (std::is_same_v<To, bool>) {
    return x != From(0);
  } else if constexpr (std::is_floating_point_v<From> && std::is_integral_v<To>) {
    // Outside To's range C++ leaves the result open; every machine shall give the same: NaN is 0,
    // others saturate.
    constexpr From low = static_cast<From>(std::numeric_limits<To>::min());
    constexpr From high = static_cast<From>(std::numeric_limits<To>::max());
    if (!(x > low)) return x != x ? To(0) : std::numeric_limits<To>::min();
    return x >= high ? std::numeric_limits<To>::max() : static_cast<To>(x);
  } else {
    return static_cast<To>(x);
  }
}

}  // namespace wengert
