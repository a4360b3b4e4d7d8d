// CPU memory: a caching allocator. Fresh pages cost an order of magnitude more than reused ones,
// and a training step asks for the same sizes again and again; so freed blocks are kept by size
// class.
#pragma once

#include <cstddef>
#include <cstdint>

namespace wengert {

constexpr size_t alignment = 64;

void* allocate(int64_t bytes);  // aligned; nullptr where there is no memory
void deallocate(void* block, int64_t bytes);
void* from_system(int64_t bytes);  // the same, past the cache and its figures: for std::free

struct MemoryFigures {
  int64_t allocated;  // bytes in use now
  int64_t peak;       // the most that were in use since the start or reset_peak()
  int64_t cached;     // bytes kept for reuse
  int64_t limit;      // the most that are kept
};
MemoryFigures memory_figures();
void reset_peak();
void empty_cache();
void set_cache_limit(int64_t bytes);

}  // namespace wengert
