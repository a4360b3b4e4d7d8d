// The structs of the DLPack ABI, version 1.x, as its specification lays them down
// (dmlc.github.io/dlpack).
#pragma once

#include <cstdint>

namespace wengert::dlpack {

struct Version {
  uint32_t major, minor;
};
struct DeviceInfo {
  int32_t type;  // 1: CPU
  int32_t id;
};
struct TypeInfo {
  uint8_t code;  // 0 int, 1 uint, 2 float, 6 bool
  uint8_t bits;
  uint16_t lanes;
};
struct Array {
  void* data;
  DeviceInfo device;
  int32_t ndim;
  TypeInfo dtype;
  int64_t* shape;
  int64_t* strides;
  uint64_t byte_offset;
};
struct Managed {  // before version 1
  Array array;
  void* context;
  void (*deleter)(Managed*);
};
constexpr uint64_t read_only = 1, is_copied = 2;
struct ManagedVersioned {
  Version version;
  void* context;
  void (*deleter)(ManagedVersioned*);
  uint64_t flags;
  Array array;
};

}  // namespace wengert::dlpack
