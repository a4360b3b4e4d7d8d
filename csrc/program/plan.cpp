#include "program/plan.h"

#include <algorithm>

#include "base/allocator.h"
#include "base/pool.h"
#include "ops/matmul/matmul.h"
#include "ops/update/lines.h"
#include "program/cpu/chain.h"
#include "program/gpu/chain.h"
#include "program/gpu/matmul.h"
#include "program/passes.h"

namespace wengert {

namespace {

size_t at(int i) { return static_cast<size_t>(i); }

bool has_chain(const StepList::Line& line) {
  return line.op == &fused_op || (line.op == &matmul_op && !line.body.empty());
}

// The parts of a fused line: elementwise ones, behind the matmul if it is one, then updates.
// (Planes between them are no part of either.)
struct Parts {
  std::span<const StepList::Line> chain, updates;
};
Parts parts_of(const StepList::Line& line) {
  std::span<const StepList::Line> body = line.body;
  if (!has_chain(line)) return {};
  if (line.op == &matmul_op) body = body.subspan(1);
  size_t end = body.size();
  while (end > 0 && is_update(*body[end - 1].op)) --end;
  const bool planes = end > 0 && body[end - 1].op == &planes_op;
  return {body.first(end - planes), body.subspan(end)};
}

class ReadyOp final : public Ready {
 public:
  ReadyOp(const Op& op, std::vector<View> out, std::vector<View> in, const Attrs& attrs)
      : kernel_(kernel_for(op, Views(out), Views(in))),
        out_(std::move(out)),
        in_(std::move(in)),
        attrs_(attrs) {}
  void run() const override { kernel_(Views(out_), Views(in_), attrs_); }
  std::vector<View>& in() { return in_; }

 private:
  OpKernel kernel_;
  std::vector<View> out_, in_;
  Attrs attrs_;
};

class ReadyChain final : public Ready {
 public:
  explicit ReadyChain(Chain chain) : chain_(std::move(chain)) {}
  void run() const override { chain_.run_all(); }
  Chain& chain() { return chain_; }

 private:
  Chain chain_;
};

// Gradient, parameter and states, in the caches of two cores: 784-128-10 with momentum has 1.2 MB,
// and takes 127 instead of 141 us a step on two threads; 784-512-512-10 with Adam 6.4, and gains
// nothing (Intel Xeon, 2 MB of L2 a core).
constexpr int64_t cached_bytes = 2 << 20;

// A product, and what is done with it: with each block of it while the block is in the cache, where
// blocks are whole rows, as in small products, or in gradients of parameters that the cores' caches
// hold from step to step: a thread then makes and updates the rows that it reads in the next step.
// Else with the whole: chunks of larger products have a few columns, and short pieces of many rows
// take longer than reading it all again does (784-512-512-10 with Adam, one thread of an Intel
// Xeon: 4.28 against 3.75 ms a step).
class ReadyMatmul final : public Ready {
 public:
  // `source`: of b, if the step only reads it and it may be packed.
  ReadyMatmul(const View& c, const View& a, const View& b, std::optional<Chain> chain,
              std::vector<std::unique_ptr<const ReadyUpdate>> updates, Ref<Storage> source)
      : c_(c), a_(a), b_(b), chain_(std::move(chain)), updates_(std::move(updates)) {
    gemm_ = gemm_of(c_, a_, b_);
    kernel_ = gemm_kernel(c_.dtype);
    const double work =
        static_cast<double>(gemm_.m) * static_cast<double>(gemm_.n) * static_cast<double>(gemm_.k);
    const int64_t updated = updates_.empty() ? 0 : updates_[0]->bytes();
    const bool whole_rows = updated > 0 && updated <= cached_bytes && makes_whole_rows(gemm_);
    in_blocks_ = whole_rows || ((chain_ || updated > 0) && gemm_.n <= 512 && work <= (1 << 19));
    if (in_blocks_) gemm_.epilogue = {then, this, whole_rows};
    if (source && c_.shape.size() == 2 && packed_bytes(c_.dtype, gemm_) > 0)
      packed_ = std::make_unique<Packed>(std::move(source));
  }

  void run() const override {
    if (in_blocks_)
      for (const auto& update : updates_) update->begin();
    if (packed_) {
      Gemm gemm = gemm_;
      gemm.packed = packed_->of(c_.dtype, gemm_);
      kernel_(gemm);
    } else if (kernel_ && c_.shape.size() == 2) {
      kernel_(gemm_);
    } else {
      matmul(c_, a_, b_, gemm_.epilogue);
    }
    if (in_blocks_) return;
    if (chain_) chain_->run_all();
    for (const auto& update : updates_) update->run();
  }

  int64_t bytes_packed() const { return packed_ ? packed_bytes(c_.dtype, gemm_) : 0; }

  template <class Fn> void each_pointer(int a, int b, const Fn& fn) {  // memories of the operands
    fn(a, a_.data);
    fn(a, gemm_.a);
    fn(b, b_.data);
    fn(b, gemm_.b);
    if (chain_) chain_->each_pointer(fn);
  }

 private:
  // b in the order in which the kernel reads it. It is made when b is met a second time unchanged,
  // and left alone where others may write to b unseen.
  class Packed {
   public:
    explicit Packed(Ref<Storage> source) : source_(std::move(source)) {}
    ~Packed() {
      if (data_) deallocate(data_, bytes_);
    }
    Packed(const Packed&) = delete;
    const void* of(DType dtype, const Gemm& gemm) {
      if (source_->exposed) return nullptr;
      if (made_ && version_ == source_->version) return data_;
      const bool again = met_ && version_ == source_->version;
      met_ = true, made_ = false, version_ = source_->version;
      if (!again) return nullptr;
      bytes_ = packed_bytes(dtype, gemm);
      if (!data_) data_ = allocate(bytes_);
      if (!data_) return nullptr;
      pack_operand(dtype, gemm, data_);
      made_ = true;
      return data_;
    }

   private:
    Ref<Storage> source_;
    uint32_t version_ = 0;  // of the source, when it was last met
    bool met_ = false, made_ = false;
    void* data_ = nullptr;
    int64_t bytes_ = 0;
  };

  static void then(const void* context, const Epilogue::Block& block) {
    const auto& self = *static_cast<const ReadyMatmul*>(context);
    if (self.chain_) self.chain_->run(block.row, block.rows, block.col, block.cols);
    const int64_t all = self.gemm_.n;
    for (const auto& update : self.updates_) {
      if (block.cols == all)
        update->apply(0, block.row * all, block.rows * all);
      else
        for (int64_t r = block.row; r < block.row + block.rows; ++r)
          update->apply(0, r * all + block.col, block.cols);
    }
  }

  View c_, a_, b_;
  std::optional<Chain> chain_;
  std::vector<std::unique_ptr<const ReadyUpdate>> updates_;
  Gemm gemm_;
  GemmKernel kernel_;
  bool in_blocks_;
  std::unique_ptr<Packed> packed_;
};

}  // namespace

Plan::Plan(StepList list, bool arena, bool pack)
    : list_(std::move(list)),
      base_(list_.memories.size(), nullptr),
      stored_(list_.memories.size(), true),
      lender_(list_.memories.size(), -1) {
  bytes_.all = list_.bytes_made();
  for (const StepList::Memory& m : list_.memories)
    if (m.storage && is_cuda(m.storage->device) && !is_cuda(arena_device_))
      arena_device_ = m.storage->device;
  leave_out_intermediates();
  place(arena);
  if (pack) {
    for (const StepList::Memory& m : list_.memories)
      only_read_.push_back(m.kind == StepList::Memory::outside ||
                           m.kind == StepList::Memory::constant);
    for (const StepList::Line& line : list_.lines)
      each_memory(list_, line, [&](int m, bool written) {
        if (written) only_read_[at(m)] = false;
      });
  }
  make_ready();
  for (StepList::Line& line : list_.lines) {
    if (line.op->alias || line.body.empty()) continue;
    std::vector<int> seen;  // a fused line reads and writes each memory that it stores once
    each_memory(list_, line, [&](int m, bool) {
      if (!stored_[at(m)] || std::find(seen.begin(), seen.end(), m) != seen.end()) return;
      seen.push_back(m);
      line.cost.bytes += static_cast<double>(list_.memories[at(m)].bytes);
    });
  }
}

void Plan::make_ready() {
  const size_t memories = list_.memories.size();
  pointers_.assign(memories, {});
  fixed_.assign(memories, false);
  for (size_t m = 0; m < memories; ++m) {
    const StepList::Memory& memory = list_.memories[m];
    fixed_[m] = memory.kept || (memory.storage && is_cuda(memory.storage->device));
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
    const bool updates = is_update(*line.op) || !parts_of(line).updates.empty();
    if (!updates && first_update_ == steps_.size() - 1) first_update_ = steps_.size();
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
  const StepList::Memory& memory = list_.memories[at(x.memory)];
  return {base_[at(x.memory)] + x.offset, x.shape, x.strides, x.dtype,
          memory.storage ? memory.storage->device : arena_device_};
}

bool Plan::touches(size_t i, Device d) const {
  bool found = false;
  each_memory(list_, line(i), [&](int m, bool) {
    const StepList::Memory& memory = list_.memories[at(m)];
    found |= (memory.storage ? memory.storage->device : arena_device_) == d;
  });
  return found;
}

std::vector<Plan::Region> Plan::regions() const {
  const std::vector<int> writers = list_.writers();
  std::vector<Region> found;
  if (arena_)
    found.push_back({StepList::Memory::made, static_cast<char*>(arena_->data), arena_->bytes,
                     arena_device_, false, true});
  for (size_t m = 0; m < list_.memories.size(); ++m) {
    const StepList::Memory& memory = list_.memories[m];
    if (memory.storage && base_[m])
      found.push_back({memory.kind, base_[m], memory.bytes, memory.storage->device, memory.kept,
                       writers[m] > 0});
  }
  return found;
}

// Whether a memory is only on its way through this fused line: made by one of its elementwise
// parts, or its product, and read by the others as it was made.
bool Plan::passes_through(int memory, const StepList::Line& line) const {
  const auto chain = parts_of(line).chain;
  if (chain.empty()) return false;
  int made = -1;
  for (const StepList::Line& part : line.body)
    for (int y : part.outputs)
      if (list_.value(y).memory == memory) {
        if (made >= 0) return false;
        made = y;
      }
  if (made < 0) return false;
  for (const StepList::Line& part : line.body)
    for (int x : part.inputs)
      if (list_.value(x).memory == memory && (x != made || is_update(*part.op))) return false;
  return true;
}

void Plan::leave_out_intermediates() {
  std::vector<int> users(list_.memories.size(), 0), last(list_.memories.size(), -1);
  for (size_t i = 0; i < list_.lines.size(); ++i)
    each_memory(list_, list_.lines[i], [&](int m, bool) {
      if (last[at(m)] == static_cast<int>(i)) return;
      last[at(m)] = static_cast<int>(i);
      ++users[at(m)];
    });
  std::vector<char*> base(list_.memories.size());
  static char somewhere;
  for (const StepList::Line& line : list_.lines) {
    if (!has_chain(line)) continue;
    std::vector<int> left_out;
    each_memory(list_, line, [&](int m, bool) {
      const StepList::Memory& memory = list_.memories[at(m)];
      if (stored_[at(m)] && memory.kind == StepList::Memory::made && !memory.kept &&
          users[at(m)] == 1 && passes_through(m, line)) {
        left_out.push_back(m);
        stored_[at(m)] = false;
      }
    });
    if (line.op == &matmul_op) lend_memory(line);
    for (size_t m = 0; m < base.size(); ++m)
      base[m] = stored_[m] || lender_[m] >= 0 ? &somewhere : nullptr;
    if (!parts_of(line).chain.empty() && !Chain::enough_tiles(list_, parts_of(line).chain, base))
      for (int m : left_out)
        if (lender_[at(m)] < 0) stored_[at(m)] = true;
  }
}

// A product that nobody else needs lies where a result of its chain will: that of the last part
// that reads the product, or of a later one.
void Plan::lend_memory(const StepList::Line& line) {
  const int product = line.body[0].outputs[0], memory = list_.value(product).memory;
  if (stored_[at(memory)]) return;
  bool read = false;
  const auto chain = parts_of(line).chain;
  for (size_t i = chain.size(); i-- > 0 && !read;) {
    const int y = chain[i].outputs[0];
    read = std::count(chain[i].inputs.begin(), chain[i].inputs.end(), product) > 0;
    if (stored_[at(list_.value(y).memory)] && list_.value(y).dtype == list_.value(product).dtype)
      lender_[at(memory)] = list_.value(y).memory;
  }
  if (lender_[at(memory)] < 0) stored_[at(memory)] = true;
}

// Blocks that are needed at the same time get places apart, large ones first.
void Plan::place(bool arena) {
  struct Block {
    int memory;
    int first, last;
    int64_t offset = -1;
  };
  std::vector<Block> blocks;
  std::vector<int> block_of(list_.memories.size(), -1);
  for (size_t m = 0; m < list_.memories.size(); ++m) {
    const StepList::Memory& memory = list_.memories[m];
    if (memory.kind != StepList::Memory::made || memory.kept || !arena ||
        memory.storage->device != arena_device_) {
      if (memory.storage) {
        memory.storage->provide();
        base_[m] = static_cast<char*>(memory.storage->data);
      }
      if (memory.kept || memory.kind == StepList::Memory::constant) bytes_.kept += memory.bytes;
    } else if (stored_[m]) {
      block_of[m] = static_cast<int>(blocks.size());
      blocks.push_back({static_cast<int>(m), -1, -1});
    }
  }
  for (size_t i = 0; i < list_.lines.size(); ++i)
    each_memory(list_, list_.lines[i], [&](int m, bool) {
      const int b = block_of[at(lender_[at(m)] >= 0 ? lender_[at(m)] : m)];
      if (b < 0) return;
      if (blocks[at(b)].first < 0) blocks[at(b)].first = static_cast<int>(i);
      blocks[at(b)].last = static_cast<int>(i);
    });
  std::erase_if(blocks, [](const Block& b) { return b.first < 0; });
  const auto size = [&](const Block& b) {
    return std::max<int64_t>(1, ceil_div(list_.memories[at(b.memory)].bytes, alignment)) *
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
    base_[at(block.memory)] = static_cast<char*>(arena_->data) + block.offset;
  for (size_t m = 0; m < base_.size(); ++m) {
    if (lender_[m] >= 0) base_[m] = base_[at(lender_[m])];
    if (!stored_[m] && lender_[m] < 0) base_[m] = nullptr;
    if (arena && list_.memories[m].kind == StepList::Memory::made && !list_.memories[m].kept &&
        list_.memories[m].storage->device == arena_device_)
      list_.memories[m].storage = {};
  }
}

std::unique_ptr<const Ready> Plan::ready(const StepList::Line& line) {
  const auto views = [&](const std::vector<int>& values) {
    std::vector<View> result;
    for (int v : values) result.push_back(view(v));
    return result;
  };
  const auto note = [&](int memory, auto& pointer) {
    if (list_.memories[at(memory)].kind == StepList::Memory::argument)
      pointers_[at(memory)].push_back(
          {&pointer, static_cast<const char*>(pointer) - base_[at(memory)]});
  };
  const auto fix = [&](const std::vector<int>& values) {
    for (int v : values) fixed_[at(list_.value(v).memory)] = true;
  };
  const auto chain = parts_of(line).chain;
  if (line.op == &fused_op) {
    const Grid grid = *grid_of(list_, chain);
    const Device device = view(chain[0].outputs[0]).device;
    if (is_cuda(device)) {
      fix(line.inputs);
      return device_chain(list_, chain, grid, base_, device);
    }
    auto made = std::make_unique<ReadyChain>(Chain(list_, chain, grid, base_));
    made->chain().each_pointer(note);
    return made;
  }
  const StepList::Line& product = line.body.empty() ? line : line.body[0];
  if (line.op == &matmul_op && !line.edit && !is_cuda(view(product.outputs[0]).device)) {
    const View c = view(product.outputs[0]);
    std::optional<Chain> then;
    if (!chain.empty())
      then.emplace(list_, chain, Grid{c.numel() / c.shape.back(), c.shape.back()}, base_);
    std::vector<std::unique_ptr<const ReadyUpdate>> updates;
    for (const StepList::Line& update : parts_of(line).updates) {
      fix(update.inputs);
      updates.push_back(ready_update(*update.op, Views(views(update.inputs)), update.attrs));
    }
    const int b = list_.value(product.inputs[1]).memory;
    Ref<Storage> source;
    if (!only_read_.empty() && only_read_[at(b)]) source = list_.memories[at(b)].storage;
    auto made =
        std::make_unique<ReadyMatmul>(c, view(product.inputs[0]), view(product.inputs[1]),
                                      std::move(then), std::move(updates), std::move(source));
    bytes_.packed += made->bytes_packed();
    made->each_pointer(list_.value(product.inputs[0]).memory, b, note);
    return made;
  }
  if (line.op == &matmul_op && (!line.body.empty() || line.inputs.size() > 2)) {
    fix(line.inputs);
    return device_matmul(
        list_, line, [&](int v) { return view(v); },
        [&](int v) { return stored_[at(list_.value(v).memory)]; });
  }
  const std::vector<View> in = views(line.inputs), out = views(line.outputs);
  if (line.op->ready) {
    fix(line.inputs);
    return line.op->ready(Views(out), Views(in), line.attrs);
  }
  auto made = std::make_unique<ReadyOp>(*line.op, out, in, line.attrs);
  for (size_t i = 0; i < in.size(); ++i)
    note(list_.value(line.inputs[i]).memory, made->in()[i].data);
  return made;
}

void Plan::run() const {
  for (size_t i = 0; i < first_update_; ++i) steps_[i]->run();
  if (first_update_ == steps_.size()) return;
  const WithoutInterrupts whole;
  for (size_t i = first_update_; i < steps_.size(); ++i) steps_[i]->run();
}

}  // namespace wengert
