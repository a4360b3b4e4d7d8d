// Devices: the CPU, and GPUs by number.
#pragma once

#include <cstdint>
#include <ostream>

namespace wengert {

enum class Device : int8_t { cpu = -1, cuda = 0 };  // cuda + i is GPU number i
constexpr int max_gpus = 8;

constexpr bool is_cuda(Device d) { return d != Device::cpu; }
constexpr int number(Device d) { return static_cast<int>(d); }

constexpr const char* name(Device d) {
  constexpr const char* names[1 + max_gpus] = {"cpu",    "cuda:0", "cuda:1", "cuda:2", "cuda:3",
                                               "cuda:4", "cuda:5", "cuda:6", "cuda:7"};
  return names[1 + number(d)];
}
inline std::ostream& operator<<(std::ostream& out, Device d) { return out << name(d); }

}  // namespace wengert
