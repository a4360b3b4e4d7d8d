// How scatter joins an element with a value for it.
#pragma once

#include <limits>
#include <type_traits>

#include "base/dtype.h"

namespace wengert {

enum class Fold : int64_t { set, add, prod, amax, amin, mean };
struct ScatterHow {
  const char* by;  // the function that the user called, for messages
  Fold fold = Fold::set;
  bool include_self = true;  // else an element that gets values counts for nothing itself
  bool in_place = false;
};

template <Fold fold, class T> FN T folded(T y, T v) {
  if constexpr (fold == Fold::add) return static_cast<T>(y + v);
  if constexpr (fold == Fold::prod) return static_cast<T>(y * v);
  if constexpr (fold == Fold::amax) return v > y || v != v ? v : y;
  if constexpr (fold == Fold::amin) return v < y || v != v ? v : y;
  return v;
}

// body(type, std::integral_constant<Fold, ...>).
template <class Body> void dispatch_fold(DType dtype, Fold fold, const Body& body) {
  const auto with = [&]<Fold f>(auto type) { body(type, std::integral_constant<Fold, f>()); };
  if (fold == Fold::set)
    return by_size(size_of(dtype), [&](auto type) { with.template operator()<Fold::set>(type); });
  dispatch(dtype, [&](auto type) {
    if (fold == Fold::add) return with.template operator()<Fold::add>(type);
    if constexpr (!std::is_same_v<decltype(type), Type<bfloat16>>) {  // which is widened before
      if (fold == Fold::prod) return with.template operator()<Fold::prod>(type);
      if (fold == Fold::amax) return with.template operator()<Fold::amax>(type);
      if (fold == Fold::amin) return with.template operator()<Fold::amin>(type);
    }
  });
}

// The value with which a fold begins, for elements that do not count themselves.
inline Number start_of(Fold fold, DType dtype) {
  if (fold == Fold::add || fold == Fold::prod) return fold == Fold::prod;
  return dispatch(dtype, [&](auto type) -> Number {
    using L = std::numeric_limits<typename decltype(type)::type>;
    if (is_floating(dtype)) return fold == Fold::amax ? -L::infinity() : L::infinity();
    return static_cast<int64_t>(fold == Fold::amax ? L::lowest() : L::max());
  });
}

}  // namespace wengert
