#include "tensor/tensor.h"

#include <new>

#include "base/allocator.h"
#include "base/pooled.h"
#include "gpu/loader.h"

namespace wengert {

namespace {

void give_memory(Storage& storage, const Shape& shape, DType dtype) {
  const Device device = storage.device;
  const int64_t bytes = storage.bytes;
  storage.data = is_cuda(device)               ? cuda().allocate(device, bytes)
                 : bytes <= Storage::few_bytes ? storage.few
                                               : allocate(bytes);
  if (storage.data) return;
  const MemoryFigures held = is_cuda(device) ? cuda().memory(device) : memory_figures();
  fail<OutOfMemory>("no memory for a tensor of shape ", shape, " and dtype ", dtype, " (", bytes,
                    " bytes) on ", device, "; ", held.allocated,
                    " bytes are in use by other tensors",
                    is_cuda(device) ? concat(", ", cuda().memory_free(device), " are free") : "");
}

}  // namespace

Ref<Storage> Storage::make(const Shape& shape, DType dtype, Device device) {
  Ref<Storage> storage = promise(shape, dtype, device);
  give_memory(*storage.get(), shape, dtype);
  return storage;
}

void Storage::provide() {
  if (!data) give_memory(*this, Shape{bytes}, DType::uint8);
}

Ref<Storage> Storage::promise(const Shape& shape, DType dtype, Device device) {
  Ref<Storage> storage = Ref<Storage>::first(new Storage);
  storage->bytes = nbytes(shape, dtype);
  storage->device = device;
  return storage;
}

Ref<Storage> Storage::make_pinned(const Shape& shape, DType dtype) {
  const int64_t bytes = nbytes(shape, dtype);
  void* data = cuda().allocate_pinned(bytes);
  if (!data) fail<OutOfMemory>("no pinned memory for a tensor of shape ", shape, " and ", dtype);
  return adopt(data, bytes, cuda().deallocate_pinned, data);
}

Ref<Storage> Storage::adopt(void* data, int64_t bytes, void (*give_back)(void*), void* owner) {
  Ref<Storage> storage = Ref<Storage>::first(new Storage);
  storage->data = data;
  storage->bytes = bytes;
  storage->give_back = give_back;
  storage->owner = owner;
  return storage;
}

void Storage::destroy(Storage* storage) {
  if (storage->give_back)
    storage->give_back(storage->owner);
  else if (!storage->data || storage->data == storage->few)
    ;  // never provided, or its own
  else if (is_cuda(storage->device))
    cuda().deallocate(storage->device, storage->data, storage->bytes);
  else
    deallocate(storage->data, storage->bytes);
  delete storage;
}

void TensorBody::destroy(TensorBody* body) {
  if (body->retains_grad && body->line) forget_tensor(body->line.get());
  if (body->noted) forget_cycle(body);
  delete body;
}
void* TensorBody::operator new(size_t bytes) { return Pooled<TensorBody>::take(bytes); }
void TensorBody::operator delete(void* block, size_t bytes) {
  Pooled<TensorBody>::give(block, bytes);
}

Tensor::Tensor(Ref<Storage> storage, const Shape& shape, DType dtype)
    : body_(Ref<TensorBody>::first(new TensorBody)) {
  body_->storage = std::move(storage);
  body_->shape = shape;
  body_->strides = contiguous_strides(shape);
  body_->dtype = dtype;
}
Tensor::Tensor(const Meta& meta)
    : Tensor(Storage::make(meta.shape, meta.dtype, meta.device), meta.shape, meta.dtype) {}
Tensor Tensor::promise(const Meta& meta) {
  return Tensor(Storage::promise(meta.shape, meta.dtype, meta.device), meta.shape, meta.dtype);
}

Tensor Tensor::scalar(Number value, DType dtype) {
  Tensor t(Shape{}, dtype);
  dispatch(dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    *t.data<T>() = value.as<T>();
  });
  return t;
}

void Tensor::has_no_values() {
  fail<ValueError>(
      "this tensor has no values: it was made by a step that was being traced, of which nothing "
      "has run (wengert.compile), and which raised or has not come to its end; or it stood for "
      "one of many examples in a function that has ended (wengert.vmap): return it from there");
}

Tensor Tensor::alias(const Shape& shape, const Strides& strides, int64_t offset) const {
  Ref<TensorBody> other = Ref<TensorBody>::first(new TensorBody);
  other->storage = body_->storage;
  other->shape = shape;
  other->strides = strides;
  other->offset = offset;
  other->dtype = body_->dtype;
  other->recorded_edits = body_->storage->recorded_edits;
  if (const Tensor& all = body_->all; all.defined()) [[unlikely]] {
    const auto of_all = [](int64_t first, Dims rest) { return rest.insert(0, first), rest; };
    other->all = all.alias(of_all(all.shape()[0], shape), of_all(all.strides()[0], strides),
                           all->offset + offset - body_->offset);
    other->level = body_->level;
  }
  return Tensor(std::move(other));
}
Tensor Tensor::detach() const {
  Tensor other = alias(body_->shape, body_->strides, body_->offset);
  for (Tensor* t = &other; t->defined(); t = &(*t)->all) (*t)->detached = true;
  return other;
}

}  // namespace wengert
