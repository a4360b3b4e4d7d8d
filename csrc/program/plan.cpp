#include "program/plan.h"

#include <algorithm>

#include "base/allocator.h"
#include "base/pool.h"
#include "ops/update/update.h"
#include "program/cpu/chain.h"

namespace wengert {

namespace {

size_t at(int i) { return static_cast<size_t>(i); }

bool updates(const StepList::Line& line) {
  return is_update(*line.op) || std::any_of(line.body.begin(), line.body.end(), updates);
}

// A line whose op has no way of its own to make it ready.
class ReadyOp final : public Ready {
 public:
  ReadyOp(const Op& op, std::vector<View> out, std::vector<View> in, const Attrs& attrs)
      : kernel_(kernel_on(op, device_for(Views(out), Views(in)))),
        out_(std::move(out)),
        in_(std::move(in)),
        attrs_(attrs) {}
  void run() const override { kernel_(Views(out_), Views(in_), attrs_); }
  void pointers(std::vector<void*>& to) override {
    for (View& x : in_) to.push_back(&x.data);
  }

 private:
  OpKernel kernel_;
  std::vector<View> out_, in_;
  Attrs attrs_;
};

}  // namespace

Plan::Plan(StepList list, bool arena, bool pack)
    : list_(std::move(list)),
      base_(list_.slots.size(), nullptr),
      stored_(list_.slots.size(), true),
      lender_(list_.slots.size(), -1) {
  bytes_.all = list_.bytes_made();
  for (const StepList::Slot& m : list_.slots)
    if (m.storage && is_cuda(m.storage->device) && !is_cuda(arena_device_))
      arena_device_ = m.storage->device;
  leave_out_intermediates();
  place(arena);
  if (pack) {
    for (const StepList::Slot& m : list_.slots)
      only_read_.push_back(m.kind == StepList::Slot::outside || m.kind == StepList::Slot::constant);
    for (const StepList::Line& line : list_.lines)
      each_slot(list_, line, [&](int m, bool written) {
        if (written) only_read_[at(m)] = false;
      });
  }
  make_ready();
  for (StepList::Line& line : list_.lines) {
    if (line.op->alias || line.body.empty()) continue;
    std::vector<int> seen;  // a fused line reads and writes each memory that it stores once
    each_slot(list_, line, [&](int m, bool) {
      if (!stored_[at(m)] || std::find(seen.begin(), seen.end(), m) != seen.end()) return;
      seen.push_back(m);
      line.cost.bytes += static_cast<double>(list_.slots[at(m)].bytes);
    });
  }
}

void Plan::make_ready() {
  const size_t slots = list_.slots.size();
  pointers_.assign(slots, {});
  fixed_.assign(slots, false);
  for (size_t m = 0; m < slots; ++m) {
    const StepList::Slot& slot = list_.slots[m];
    fixed_[m] = slot.kept || (slot.storage && is_cuda(slot.storage->device));
  }
  steps_.clear();
  line_of_.clear();
  first_update_ = 0;
  bytes_.packed = 0;
  for (size_t i = 0; i < list_.lines.size(); ++i) {
    const StepList::Line& line = list_.lines[i];
    if (line.op->alias) continue;
    steps_.push_back(ready(line));
    line_of_.push_back(i);
    if (!updates(line) && first_update_ == steps_.size() - 1) first_update_ = steps_.size();
  }
}

bool Plan::share_arena(Plan& other) {
  if (!arena_ || !other.arena_ || arena_->data == other.arena_->data) return false;
  if (arena_->bytes > other.arena_->bytes) return other.share_arena(*this);
  const auto* const from = static_cast<const char*>(arena_->data);
  for (char*& base : base_)
    if (base >= from && base < from + arena_->bytes)
      base = static_cast<char*>(other.arena_->data) + (base - from);
  arena_ = other.arena_;
  make_ready();
  return true;
}

View Plan::view(int v) const {
  const StepList::Value& x = list_.value(v);
  const StepList::Slot& slot = list_.slots[at(x.slot)];
  return {base_[at(x.slot)] + x.offset, x.shape, x.strides, x.dtype,
          slot.storage ? slot.storage->device : arena_device_};
}

std::vector<View> Plan::views(const std::vector<int>& values) const {
  std::vector<View> found;
  for (int v : values) found.push_back(view(v));
  return found;
}

bool Plan::touches(size_t i, Device d) const {
  bool found = false;
  each_slot(list_, line(i), [&](int m, bool) {
    const StepList::Slot& slot = list_.slots[at(m)];
    found |= (slot.storage ? slot.storage->device : arena_device_) == d;
  });
  return found;
}

std::vector<Plan::Region> Plan::regions() const {
  const std::vector<int> writers = list_.writers();
  std::vector<Region> found;
  if (arena_)
    found.push_back({StepList::Slot::made, static_cast<char*>(arena_->data), arena_->bytes,
                     arena_device_, false, true});
  for (size_t m = 0; m < list_.slots.size(); ++m) {
    const StepList::Slot& slot = list_.slots[m];
    if (slot.storage && base_[m])
      found.push_back(
          {slot.kind, base_[m], slot.bytes, slot.storage->device, slot.kept, writers[m] > 0});
  }
  return found;
}

// Whether one part of this fused line makes the memory, and only parts that are no updates read it,
// as it was made.
bool Plan::passes_through(int slot, const StepList::Line& line) const {
  int made = -1;
  for (const StepList::Line& part : line.body)
    for (int y : part.outputs)
      if (list_.value(y).slot == slot) {
        if (made >= 0 || y != part.outputs[0]) return false;
        made = y;
      }
  if (made < 0) return false;
  for (const StepList::Line& part : line.body)
    for (int x : part.inputs)
      if (list_.value(x).slot == slot && (x != made || is_update(*part.op))) return false;
  return true;
}

void Plan::leave_out_intermediates() {
  std::vector<int> users(list_.slots.size(), 0), last(list_.slots.size(), -1);
  for (size_t i = 0; i < list_.lines.size(); ++i)
    each_slot(list_, list_.lines[i], [&](int m, bool) {
      if (last[at(m)] == static_cast<int>(i)) return;
      last[at(m)] = static_cast<int>(i);
      ++users[at(m)];
    });
  std::vector<char*> base(list_.slots.size());
  static char somewhere;
  for (const StepList::Line& line : list_.lines) {
    const auto chain = chain_of(line);
    if (chain.empty()) continue;
    std::vector<int> left_out;
    each_slot(list_, line, [&](int m, bool) {
      const StepList::Slot& slot = list_.slots[at(m)];
      if (stored_[at(m)] && slot.kind == StepList::Slot::made && !slot.kept && users[at(m)] == 1 &&
          passes_through(m, line)) {
        left_out.push_back(m);
        stored_[at(m)] = false;
      }
    });
    if (!line.body[0].op->elementwise) lend_slot(line);
    for (size_t m = 0; m < base.size(); ++m)
      base[m] = stored_[m] || lender_[m] >= 0 ? &somewhere : nullptr;
    if (!Chain::enough_tiles(list_, chain, base))
      for (int m : left_out)
        if (lender_[at(m)] < 0) stored_[at(m)] = true;
  }
}

// The result of an op that only the chain behind it reads shares the memory of a result of the
// chain: that of the last part that reads it, or of a later one.
void Plan::lend_slot(const StepList::Line& line) {
  const int made = line.body[0].outputs[0], slot = list_.value(made).slot;
  if (stored_[at(slot)]) return;
  bool read = false;
  const auto chain = chain_of(line);
  for (size_t i = chain.size(); i-- > 0 && !read;) {
    const int y = chain[i].outputs[0];
    read = std::count(chain[i].inputs.begin(), chain[i].inputs.end(), made) > 0;
    if (stored_[at(list_.value(y).slot)] && list_.value(y).dtype == list_.value(made).dtype)
      lender_[at(slot)] = list_.value(y).slot;
  }
  if (lender_[at(slot)] < 0) stored_[at(slot)] = true;
}

// Blocks that are needed at the same time get places apart, large ones first.
void Plan::place(bool arena) {
  struct Block {
    int slot;
    int first, last;
    int64_t offset = -1;
  };
  std::vector<Block> blocks;
  std::vector<int> block_of(list_.slots.size(), -1);
  for (size_t m = 0; m < list_.slots.size(); ++m) {
    const StepList::Slot& slot = list_.slots[m];
    if (slot.kind != StepList::Slot::made || slot.kept || !arena ||
        slot.storage->device != arena_device_) {
      if (slot.storage) {
        slot.storage->provide();
        base_[m] = static_cast<char*>(slot.storage->data);
      }
      if (slot.kept || slot.kind == StepList::Slot::constant) bytes_.kept += slot.bytes;
    } else if (stored_[m]) {
      block_of[m] = static_cast<int>(blocks.size());
      blocks.push_back({static_cast<int>(m), -1, -1});
    }
  }
  for (size_t i = 0; i < list_.lines.size(); ++i)
    each_slot(list_, list_.lines[i], [&](int m, bool) {
      const int b = block_of[at(lender_[at(m)] >= 0 ? lender_[at(m)] : m)];
      if (b < 0) return;
      if (blocks[at(b)].first < 0) blocks[at(b)].first = static_cast<int>(i);
      blocks[at(b)].last = static_cast<int>(i);
    });
  std::erase_if(blocks, [](const Block& b) { return b.first < 0; });
  const auto size = [&](const Block& b) {
    return std::max<int64_t>(1, ceil_div(list_.slots[at(b.slot)].bytes, alignment)) *
           static_cast<int64_t>(alignment);
  };
  std::stable_sort(blocks.begin(), blocks.end(),
                   [&](const Block& a, const Block& b) { return size(a) > size(b); });
  std::vector<const Block*> placed;  // by offset
  for (Block& block : blocks) {
    int64_t offset = 0;
    for (const Block* other : placed) {
      if (other->last < block.first || other->first > block.last) continue;
      if (offset + size(block) <= other->offset) break;
      offset = std::max(offset, other->offset + size(*other));
    }
    block.offset = offset;
    bytes_.arena = std::max(bytes_.arena, offset + size(block));
    placed.insert(
        std::upper_bound(placed.begin(), placed.end(), &block,
                         [](const Block* a, const Block* b) { return a->offset < b->offset; }),
        &block);
  }
  if (!blocks.empty()) arena_ = Storage::make({bytes_.arena}, DType::uint8, arena_device_);
  for (const Block& block : blocks)
    base_[at(block.slot)] = static_cast<char*>(arena_->data) + block.offset;
  for (size_t m = 0; m < base_.size(); ++m) {
    if (lender_[m] >= 0) base_[m] = base_[at(lender_[m])];
    if (!stored_[m] && lender_[m] < 0) base_[m] = nullptr;
    if (arena && list_.slots[m].kind == StepList::Slot::made && !list_.slots[m].kept &&
        list_.slots[m].storage->device == arena_device_)
      list_.slots[m].storage = {};
  }
}

std::unique_ptr<Ready> Plan::ready(const StepList::Line& line) {
  std::unique_ptr<Ready> made;
  if (line.ready) {
    made = line.ready(*this, line);
  } else {
    std::vector<View> out = views(line.outputs), in = views(line.inputs);
    if (line.op->ready) made = line.op->ready(Views(out), Views(in), line.attrs);
    if (!made)
      made = std::make_unique<ReadyOp>(*line.op, std::move(out), std::move(in), line.attrs);
  }
  std::vector<void*> pointers;
  made->pointers(pointers);
  std::vector<bool> seen(list_.slots.size(), false);
  for (int x : line.inputs) {
    const int m = list_.value(x).slot;
    const StepList::Slot& slot = list_.slots[at(m)];
    if (seen[at(m)]) continue;
    seen[at(m)] = true;
    if (!only_read_.empty() && only_read_[at(m)]) bytes_.packed += made->may_keep(slot.storage);
    if (slot.kind != StepList::Slot::argument) continue;
    const size_t known = pointers_[at(m)].size();
    for (void* p : pointers) {
      const char* into;
      std::memcpy(&into, p, sizeof into);
      if (into >= base_[at(m)] && into < base_[at(m)] + slot.bytes)
        pointers_[at(m)].push_back({p, into - base_[at(m)]});
    }
    if (pointers_[at(m)].size() == known) fixed_[at(m)] = true;
  }
  return made;
}

void Plan::run() const {
  for (size_t i = 0; i < first_update_; ++i) steps_[i]->run();
  if (first_update_ == steps_.size()) return;
  const WithoutInterrupts whole;
  for (size_t i = first_update_; i < steps_.size(); ++i) steps_[i]->run();
}

}  // namespace wengert
