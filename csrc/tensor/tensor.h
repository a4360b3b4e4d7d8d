// Tensor: a handle to a body that has a shape, strides, a share of a storage, and, where a gradient
// may be asked for, the line of the Wengert list that made it. Copying a handle copies nothing
// else.
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "tensor/storage.h"
#include "tensor/view.h"

namespace wengert {

struct Line;  // graph/line.h
struct Op;    // graph/op.h
void retain(Line* line);
void release(Line* line);        // frees without recursion, however long the chain behind it
void forget_tensor(Line* line);  // the tensor that asked the line for its gradient is gone
struct TensorBody;
void forget_cycle(TensorBody* body);  // engine/cycles.h
class Tensor;
void take_history(const Tensor& view);  // from its base, after a recorded edit (graph/record.cpp)

// A co-owner of a line.
class LineRef {
 public:
  LineRef() = default;
  explicit LineRef(Line* line) : line_(line) {
    if (line_) retain(line_);
  }
  LineRef(const LineRef& other) : LineRef(other.line_) {}
  LineRef(LineRef&& other) noexcept : line_(std::exchange(other.line_, nullptr)) {}
  LineRef& operator=(LineRef other) noexcept {
    std::swap(line_, other.line_);
    return *this;
  }
  ~LineRef() {
    if (line_) release(line_);
  }
  Line* get() const { return line_; }
  Line* operator->() const { return line_; }
  explicit operator bool() const { return line_ != nullptr; }

 private:
  Line* line_ = nullptr;
};

// What is known of a tensor before it has memory.
struct Meta {
  Shape shape;
  DType dtype = DType::float32;
  Device device = Device::cpu;
};

// A hook sees a gradient on its way and may return another, or an undefined tensor to leave it.
class Tensor;
struct Hook {
  virtual ~Hook() = default;
  virtual Tensor call(const Tensor& gradient) = 0;
  virtual void* object() const { return nullptr; }  // what a garbage collector should know of
};
using Hooks = std::vector<std::pair<int64_t, std::unique_ptr<Hook>>>;  // by id, in order

class Tensor {
 public:
  Tensor() = default;
  explicit Tensor(Ref<TensorBody> body) : body_(std::move(body)) {}
  explicit Tensor(const Meta& meta);  // uninitialised, contiguous
  Tensor(const Shape& shape, DType dtype) : Tensor(Meta{shape, dtype, Device::cpu}) {}
  static Tensor promise(const Meta& meta);          // without memory (storage.h)
  static Tensor scalar(Number value, DType dtype);  // 0-d

  bool defined() const { return static_cast<bool>(body_); }
  TensorBody* body() const { return body_.get(); }
  TensorBody* operator->() const { return body_.get(); }
  const Ref<TensorBody>& ref() const { return body_; }

  const Shape& shape() const;
  const Strides& strides() const;
  int dim() const { return shape().size(); }
  DType dtype() const;
  Device device() const;
  int64_t numel() const { return wengert::numel(shape()); }
  bool is_contiguous() const { return wengert::is_contiguous(shape(), strides()); }
  View view() const;
  template <class T = void> T* data() const { return static_cast<T*>(view_data()); }

  // A tensor over the same storage with another layout and no history.
  Tensor alias(const Shape& shape, const Strides& strides, int64_t offset) const;
  Tensor detach() const;

  // True also where its history is lost, so that the next recorded use is refused.
  bool requires_grad() const;
  bool is_leaf() const;
  // Whether its memory was edited, with gradients, since it took its history.
  bool is_stale() const;

 private:
  Tensor(Ref<Storage> storage, const Shape& shape, DType dtype);
  void* view_data() const;
  [[noreturn]] static void has_no_values();
  void refresh() const {
    if (is_stale()) [[unlikely]]
      take_history(*this);
  }
  Ref<TensorBody> body_;
};

struct TensorBody : RefCounted {
  Ref<Storage> storage;
  Shape shape;
  Strides strides;
  int64_t offset = 0;  // elements from the storage's start to the first element
  DType dtype = DType::float32;
  bool leaf_requires_grad = false;
  bool retains_grad = false;
  bool detached = false;        // by detach(): a constant, whatever others do to the memory
  bool noted = false;           // a cycle may pass here (engine/cycles.h)
  bool blind = false;           // a view taken under no_grad() of what requires a gradient
  uint32_t recorded_edits = 0;  // those of the storage that its history knows of
  void* object = nullptr;       // what stands for it in the language around us, for the bindings
  const Op* made_by = nullptr;  // the op that made it, recorded or not
  LineRef line;                 // its history; empty for leaves and constants
  Tensor base;                  // of a view: the tensor of whose memory it shows a part
  Tensor all;                   // where this is one of many examples: all of them (graph/batch.h)
  uint32_t level = 0;           // of which vmap
  Tensor grad;                  // gathered by backward(), for leaves and where retain_grad() asked
  std::shared_ptr<Hooks>
      hooks;  // shared with the line, which calls them; for a leaf, with its edges

  static void destroy(TensorBody* body);
  static void* operator new(size_t bytes);
  static void operator delete(void* block, size_t bytes);
};

inline const Shape& Tensor::shape() const { return body_->shape; }
inline const Strides& Tensor::strides() const { return body_->strides; }
inline DType Tensor::dtype() const { return body_->dtype; }
inline Device Tensor::device() const { return body_->storage->device; }
inline bool Tensor::is_stale() const {
  return body_->recorded_edits != body_->storage->recorded_edits;
}
inline bool Tensor::requires_grad() const {
  refresh();
  return body_->leaf_requires_grad || body_->line || is_stale();
}
inline bool Tensor::is_leaf() const {
  refresh();
  return !body_->line;
}
inline void* Tensor::view_data() const {
  const Storage& storage = *body_->storage;
  if (!storage.data && storage.bytes) [[unlikely]]
    has_no_values();
  return static_cast<char*>(storage.data) + body_->offset * size_of(body_->dtype);
}
inline View Tensor::view() const {
  return {view_data(), body_->shape, body_->strides, body_->dtype, body_->storage->device};
}

}  // namespace wengert
