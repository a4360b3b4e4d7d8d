#include "graph/line.h"

#include "base/pooled.h"
#include "graph/packed.h"
#include "graph/record.h"

namespace wengert {

OriginSource origin_source;

void* Line::operator new(size_t bytes) { return Pooled<Line>::take(bytes); }
void Line::operator delete(void* block, size_t bytes) { Pooled<Line>::give(block, bytes); }

void retain(Line* line) { line->refs.fetch_add(1, std::memory_order_relaxed); }

void forget_tensor(Line* line) { line->retains_grad = nullptr; }

void release(Line* line) {
  if (line->refs.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  // Deleting a line releases the lines that it owns, directly or through an object (a saved tensor,
  // a leaf's gradient, a hook): they come back here and are queued, so the depth of the stack stays
  // bounded.
  // The queue runs through the lines themselves: freeing must not ask for memory.
  thread_local Line* queue = nullptr;
  thread_local bool draining = false;
  line->next_free = std::exchange(queue, line);
  if (draining) return;
  draining = true;
  while (queue) delete std::exchange(queue, queue->next_free);
  draining = false;
}

void Line::check_not_freed() const {
  if (freed)
    fail<GradientError>(
        "backward: the list has been walked before, and what '", op->name, "' (", describe(origin),
        ") had saved is freed; say retain_graph=True in the first backward() to walk it again");
}

void Line::free() {
  freed = true;
  saved.clear();
  inputs.clear();
  attrs = {};
}

const Tensor& Line::unchanged(const Saved& s) const {
  if (is_packed(s.value)) [[unlikely]] {
    s.value = unpacked(s.value);
    s.version = s.value->storage->version;
  }
  const Storage& storage = *s.value->storage;
  if (storage.version != s.version)
    fail<GradientError>(
        "backward: a value that '", op->name, "' (", describe(origin),
        ") needs for its gradient, of shape ", s.value.shape(), ", was changed in place by '",
        storage.edited_by ? storage.edited_by : "a write", "' (", describe(storage.edited_at),
        "): it was at version ", s.version, " and is at version ", storage.version,
        "; write the change as a new tensor, or clone() the value before it is changed");
  return s.value;
}

const Tensor& Line::value(Saves what) const {
  for (const Saved& s : saved)
    if (s.what == what) return unchanged(s);
  fail<GradientError>("backward: '", op->name,
                      "' asks for a value that it did not save (a defect in its op)");
}

Tensor Line::result() const {
  const Tensor& y = value(save_output);
  if (!grad_enabled()) return y;
  Tensor connected = y.detach();
  connected->all = y->all;  // which has its own history
  connected->line = LineRef(const_cast<Line*>(this));
  connected->made_by = op;
  return connected;
}

}  // namespace wengert
