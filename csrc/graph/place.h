// Place: where in the user's program a line was written. Zero is "unknown"; other numbers index a
// table that the bindings keep (this layer knows no Python).
#pragma once

#include <cstdint>
#include <string>

namespace wengert {

using Place = uint32_t;

struct PlaceSource {
  Place (*here)() = nullptr;
  std::string (*describe)(Place) = nullptr;  // "file.py:12"
};
extern PlaceSource place_source;

inline Place here() { return place_source.here ? place_source.here() : 0; }
inline std::string describe(Place place) {
  return place && place_source.describe ? place_source.describe(place) : "an unknown place";
}

}  // namespace wengert
