// Memory for the small objects that every line makes: a free list per thread and type.
#pragma once

#include <cstddef>
#include <new>
#include <utility>

namespace wengert {

template <class T> class Pooled {
 public:
  static void* take(size_t bytes) {
    List& list = local();
    if (bytes != sizeof(T) || !list.head) return ::operator new(bytes);
    --list.length;
    return std::exchange(list.head, list.head->next);
  }
  static void give(void* block, size_t bytes) {
    List& list = local();
    // Blocks given after the thread's list has gone, or beyond its cap, go back to the heap.
    if (bytes != sizeof(T) || list.length >= cap) return ::operator delete(block);
    list.head = new (block) Free{list.head};
    ++list.length;
  }

 private:
  static constexpr int cap = 4096;
  struct Free {
    Free* next;
  };
  struct List {
    Free* head = nullptr;
    int length = 0;
    ~List() {
      while (head) ::operator delete(std::exchange(head, head->next));
      length = cap;
    }
  };
  static List& local() {
    thread_local List list;
    return list;
  }
};

}  // namespace wengert
