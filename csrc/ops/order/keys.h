// The order of a dtype's values as that of unsigned numbers, on the CPU and on a GPU: -0.0 is equal
// to 0.0, and NaN is last and equal to itself.
#pragma once

#include <cstdint>
#include <type_traits>

#include "base/dtype.h"
#include "base/fn.h"

namespace wengert {

template <class T>
using KeyOf =
    std::conditional_t<sizeof(T) == 1, uint8_t,
                       std::conditional_t<sizeof(T) == 2, uint16_t,
                                          std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>>>;

template <class T> FN KeyOf<T> key_of(T x) {
  using K = KeyOf<T>;
  const K bits = __builtin_bit_cast(K, x);
  if constexpr (sizeof(T) == 1) {
    return bits;
  } else {
    constexpr K top = static_cast<K>(K{1} << (8 * sizeof(K) - 1));
    if constexpr (std::is_integral_v<T>) return static_cast<K>(bits ^ top);
    constexpr K infinity = static_cast<K>(sizeof(T) == 2   ? 0x7f80
                                          : sizeof(T) == 4 ? 0x7f800000
                                                           : 0x7ff0000000000000);
    const K magnitude = static_cast<K>(bits & ~top), all = static_cast<K>(~K{0});
    const K negative = static_cast<K>(bits & top && magnitude ? all : top);
    return magnitude > infinity ? all : static_cast<K>((magnitude ? bits : K{0}) ^ negative);
  }
}

// Where v belongs in n values in order: before all that are equal to it, or behind them.
template <class T> FN int64_t place_in_run(T v, const T* x, int64_t n, bool right) {
  const KeyOf<T> key = key_of(v);
  int64_t first = 0;
  while (n > 0) {
    const int64_t half = n / 2;
    const KeyOf<T> at = key_of(x[first + half]);
    const bool behind = right ? at <= key : at < key;
    first = behind ? first + half + 1 : first;
    n = behind ? n - half - 1 : half;
  }
  return first;
}

}  // namespace wengert
