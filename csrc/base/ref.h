// Reference counting: `Ref<T>` co-owns a T that counts its owners itself.
//
// T derives from RefCounted and offers `static void destroy(T*)`, called when the last share goes.
#pragma once

#include <atomic>
#include <cstddef>
#include <utility>

namespace wengert {

struct RefCounted {
  std::atomic<int32_t> refs{0};
  RefCounted() = default;
  RefCounted(const RefCounted&) = delete;
};

template <class T> class Ref {
 public:
  Ref() = default;
  Ref(std::nullptr_t) {}
  explicit Ref(T* p) : p_(p) {
    if (p_) p_->refs.fetch_add(1, std::memory_order_relaxed);
  }
  // The first owner of an object that no other thread knows yet: no atomic is needed.
  static Ref first(T* p) {
    p->refs.store(1, std::memory_order_relaxed);
    return uncounted(p);
  }
  // For a holder whose destructor never runs, while another owner lives.
  static Ref uncounted(T* p) {
    Ref made;
    made.p_ = p;
    return made;
  }
  Ref(const Ref& other) : Ref(other.p_) {}
  Ref(Ref&& other) noexcept : p_(std::exchange(other.p_, nullptr)) {}
  Ref& operator=(Ref other) noexcept {
    std::swap(p_, other.p_);
    return *this;
  }
  ~Ref() {
    // The sole owner needs no atomic decrement: no other thread can reach the object.
    if (p_ && (p_->refs.load(std::memory_order_acquire) == 1 ||
               p_->refs.fetch_sub(1, std::memory_order_acq_rel) == 1))
      T::destroy(p_);
  }

  T* get() const { return p_; }
  T* operator->() const { return p_; }
  T& operator*() const { return *p_; }
  explicit operator bool() const { return p_ != nullptr; }
  bool operator==(const Ref& other) const { return p_ == other.p_; }

 private:
  T* p_ = nullptr;
};

}  // namespace wengert
