// Storage: a block of memory that tensors share, with the counters that guard saved values.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/device.h"
#include "base/dtype.h"
#include "base/pooled.h"
#include "base/ref.h"
#include "base/shape.h"

namespace wengert {

struct Storage : RefCounted {
  static constexpr int64_t few_bytes = 64;
  alignas(few_bytes) std::byte few[few_bytes];  // the memory of so few on the CPU, such as a number

  void* data = nullptr;  // null: promised
  int64_t bytes = 0;
  Device device = Device::cpu;

  // Memory of another owner (a NumPy array, a DLPack producer): how to give it back.
  void (*give_back)(void* owner) = nullptr;
  void* owner = nullptr;
  bool read_only = false;
  // A NumPy array or a DLPack consumer may write to it unseen: lines save copies of it.
  bool exposed = false;

  // Edits in place since the start. A line that saved a value compares, and refuses a changed one.
  uint32_t version = 0;
  // Those that are part of a graph: a tensor that knows of fewer takes its history from its base.
  uint32_t recorded_edits = 0;
  const char* edited_by = nullptr;  // the op of the last edit, for the error message
  uint32_t edited_at = 0;           // and its place in the user's program (graph/origin.h)

  static Ref<Storage> make(const Shape& shape, DType dtype, Device device = Device::cpu);
  // Without memory: what a step makes while it is traced, and nothing runs (program/).
  static Ref<Storage> promise(const Shape& shape, DType dtype, Device device = Device::cpu);
  void provide();  // the memory that was promised, if it is not there
  static Ref<Storage> make_pinned(const Shape& shape, DType dtype);  // on the CPU; see gpu/loader.h
  static Ref<Storage> adopt(void* data, int64_t bytes, void (*give_back)(void*), void* owner);
  static void destroy(Storage* storage);
  static void* operator new(size_t bytes) { return Pooled<Storage>::take(bytes); }
  static void operator delete(void* block, size_t bytes) { Pooled<Storage>::give(block, bytes); }
};

}  // namespace wengert
