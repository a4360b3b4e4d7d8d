// Origin: where in the user's program a line was written. Zero is "unknown"; other numbers index a
// table that the bindings keep (this layer knows no Python).
#pragma once

#include <cstdint>
#include <string>

namespace wengert {

using Origin = uint32_t;

struct OriginSource {
  Origin (*here)() = nullptr;
  std::string (*describe)(Origin) = nullptr;  // "file.py:12"
};
extern OriginSource origin_source;

inline Origin here() { return origin_source.here ? origin_source.here() : 0; }
inline std::string describe(Origin origin) {
  return origin && origin_source.describe ? origin_source.describe(origin) : "an unknown place";
}

}  // namespace wengert
