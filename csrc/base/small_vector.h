// A vector that keeps up to N elements in place: lines have few inputs, and one allocation each.
#pragma once

#include <cstddef>
#include <new>
#include <utility>

namespace wengert {

template <class T, size_t N> class SmallVector {
 public:
  SmallVector() = default;
  SmallVector(const SmallVector&) = delete;
  ~SmallVector() {
    clear();
    if (data_ != in_place()) ::operator delete(data_);
  }

  template <class... Args> T& emplace_back(Args&&... args) {
    if (size_ == capacity_) grow(2 * capacity_);
    return *new (data_ + size_++) T(std::forward<Args>(args)...);
  }
  // With what make() returns, made in place.
  template <class Make> T& emplace_made(const Make& make) {
    if (size_ == capacity_) grow(2 * capacity_);
    return *new (data_ + size_++) T(make());
  }
  void reserve(size_t n) {
    if (n > capacity_) grow(n);
  }
  void resize(size_t n) {
    reserve(n);
    while (size_ < n) emplace_back();
  }
  void clear() {
    while (size_) data_[--size_].~T();
  }

  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  T& operator[](size_t i) { return data_[i]; }
  const T& operator[](size_t i) const { return data_[i]; }
  T* begin() { return data_; }
  T* end() { return data_ + size_; }
  const T* begin() const { return data_; }
  const T* end() const { return data_ + size_; }

 private:
  T* in_place() { return reinterpret_cast<T*>(bytes_); }
  void grow(size_t capacity) {
    T* moved = static_cast<T*>(::operator new(capacity * sizeof(T)));
    for (size_t i = 0; i < size_; ++i) {
      new (moved + i) T(std::move(data_[i]));
      data_[i].~T();
    }
    if (data_ != in_place()) ::operator delete(data_);
    data_ = moved;
    capacity_ = capacity;
  }

  alignas(T) std::byte bytes_[N * sizeof(T)];
  T* data_ = in_place();
  size_t size_ = 0, capacity_ = N;
};

}  // namespace wengert
