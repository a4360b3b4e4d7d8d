// Memory for the small objects that every line makes: a free list per thread and type.
#pragma once

#include <cstddef>
#include <new>
#include <utility>

namespace wengert {

template <class T> class Pooled {
 public:
  static void* take(size_t bytes) {
    if (bytes != sizeof(T) || !list.head) return ::operator new(bytes, align);
    --list.length;
    return std::exchange(list.head, list.head->next);
  }
  static void give(void* block, size_t bytes) {
    // Blocks given after the thread's list has gone, or beyond its cap, go back to the heap.
    if (bytes != sizeof(T) || list.length >= cap) return ::operator delete(block, align);
    if (!list.head) free_at_end();
    list.head = new (block) Free{list.head};
    ++list.length;
  }

 private:
  static constexpr int cap = 4096;
  static constexpr std::align_val_t align{alignof(T)};
  struct Free {
    Free* next;
  };
  // Without a destructor, so that nothing has to be asked before each use.
  struct List {
    Free* head = nullptr;
    int length = 0;
  };
  static inline constinit thread_local List list;
  static void free_at_end() {
    struct End {
      ~End() {
        while (list.head) ::operator delete(std::exchange(list.head, list.head->next), align);
        list.length = cap;
      }
    };
    thread_local End end;
  }
};

}  // namespace wengert
