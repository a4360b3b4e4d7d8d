// Element types, their names, sizes and promotion (the array API's table; integer with floating
// gives the floating type, as in PyTorch).
//
// bfloat16 is for storage: kernels widen it to float32, compute there, and round once.
#pragma once

#include <cstdint>
#include <limits>
#include <type_traits>

#include "base/error.h"
#include "base/fn.h"

namespace wengert {

enum class DType : uint8_t { bool_, uint8, int32, int64, bfloat16, float32, float64 };
constexpr int dtype_count = 7;

constexpr const char* name(DType t) {
  constexpr const char* names[] = {"bool",     "uint8",   "int32",  "int64",
                                   "bfloat16", "float32", "float64"};
  return names[static_cast<int>(t)];
}
constexpr int64_t size_of(DType t) {
  return 0x8428411 >> 4 * static_cast<int>(t) & 15;  // a digit each, bool's last
}
constexpr bool is_floating(DType t) { return t >= DType::bfloat16; }
constexpr bool is_integer(DType t) { return !is_floating(t) && t != DType::bool_; }

// The enum is ordered so that the larger of two types holds both.
constexpr DType promote(DType a, DType b) { return a > b ? a : b; }
// What functions such as exp make of an integer.
constexpr DType to_floating(DType t) { return is_floating(t) ? t : DType::float32; }

inline std::ostream& operator<<(std::ostream& out, DType t) { return out << name(t); }

// The upper half of a float32: its sign, its exponent, and 7 bits of fraction.
struct bfloat16 {
  uint16_t bits;

  bfloat16() = default;
  // The nearest, ties to even, which may be infinity; a NaN stays one, made quiet.
  FN explicit bfloat16(float x) {
    const auto wide = __builtin_bit_cast(uint32_t, x);
    const uint32_t rounded = wide + 0x7fff + (wide >> 16 & 1);
    const bool nan = (wide & 0x7fffffff) > 0x7f800000;
    bits = static_cast<uint16_t>((nan ? wide | 0x400000 : rounded) >> 16);
  }
  // Other numbers are rounded to float32 first, as in PyTorch.
  template <class T>
    requires std::is_arithmetic_v<T>
  FN explicit bfloat16(T x) : bfloat16(static_cast<float>(x)) {}
  FN operator float() const { return __builtin_bit_cast(float, static_cast<uint32_t>(bits) << 16); }
};

// A number from outside, with all its digits: a whole one of 64 bits, or a double.
class Number {
 public:
  template <class T>
    requires std::is_arithmetic_v<T>
  Number(T x) : whole_(std::is_integral_v<T>) {  // NOLINT: implicit on purpose, full(shape, 1)
    if constexpr (std::is_integral_v<T>)
      digits_ = static_cast<int64_t>(x);
    else
      value_ = x;
  }
  bool is_whole() const { return whole_ != 0; }
  template <class T = double> T as() const {
    return whole_ ? static_cast<T>(digits_) : static_cast<T>(value_);
  }
  // Whether that gives the number back, but for a fraction and for rounding.
  template <class T> bool fits() const {
    if constexpr (!std::is_integral_v<T> || std::is_same_v<T, bool>)
      return true;
    else if (whole_)
      return static_cast<int64_t>(static_cast<T>(digits_)) == digits_;
    else
      return value_ >= static_cast<double>(std::numeric_limits<T>::lowest()) &&
             value_ < 2 * static_cast<double>(std::numeric_limits<T>::max() / 2 + 1);
  }
  friend std::ostream& operator<<(std::ostream& out, const Number& x) {
    return x.whole_ ? out << x.digits_ : out << x.value_;
  }

 private:
  uint64_t whole_;  // no padding: lines are compared byte by byte
  union {
    int64_t digits_;
    double value_;
  };
};

template <class T> struct Type {
  using type = T;
};

// dispatch(t, [&](auto type) { using T = typename decltype(type)::type; ... })
template <class Body> decltype(auto) dispatch(DType t, const Body& body) {
  switch (t) {
    case DType::bool_:
      return body(Type<bool>{});
    case DType::uint8:
      return body(Type<uint8_t>{});
    case DType::int32:
      return body(Type<int32_t>{});
    case DType::int64:
      return body(Type<int64_t>{});
    case DType::bfloat16:
      return body(Type<bfloat16>{});
    case DType::float32:
      return body(Type<float>{});
    default:
      return body(Type<double>{});
  }
}

// dispatch() by the size of an element in bytes, for code that only moves elements.
template <class Body> void by_size(int64_t size, const Body& body) {
  if (size == 1) return body(Type<uint8_t>{});
  if (size == 2) return body(Type<uint16_t>{});
  if (size == 4) return body(Type<uint32_t>{});
  return body(Type<uint64_t>{});
}

// Calls f(float()) or, for float64, f(double()).
template <class F> void of_floats(DType dtype, const F& f) {
  dtype == DType::float32 ? f(float()) : f(double());
}

template <class T> constexpr DType dtype_of() {
  if constexpr (std::is_same_v<T, bool>) return DType::bool_;
  if constexpr (std::is_same_v<T, uint8_t>) return DType::uint8;
  if constexpr (std::is_same_v<T, int32_t>) return DType::int32;
  if constexpr (std::is_same_v<T, int64_t>) return DType::int64;
  if constexpr (std::is_same_v<T, bfloat16>) return DType::bfloat16;
  if constexpr (std::is_same_v<T, float>) return DType::float32;
  return DType::float64;
}

}  // namespace wengert
