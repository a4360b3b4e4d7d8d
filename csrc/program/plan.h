// Plan: a list made ready to run. The step's values share one arena, each with its block for as
// long as it is needed; every line is a `Ready` that holds pointers, sizes and kernels.
#pragma once

#include <cstring>
#include <memory>
#include <span>

#include "program/list.h"

namespace wengert {

class Plan {
 public:
  // `arena`: whether what the step makes moves into one block; else it stays where the trace put
  // it. `pack`: whether lines may keep copies, in an order of their own, of what the step only
  // reads, such as the weights of a model that is not trained here (Ready::may_keep).
  Plan(StepList list, bool arena, bool pack);
  // Two plans that never run at the same time use the larger arena of both. Whether one let go of
  // its own.
  bool share_arena(Plan& other);
  // Sets all pointers of lines into an argument's memory, so that it begins at `data` from now on.
  // Not where it is a result too, is on a GPU, or a line keeps pointers for itself.
  bool can_bind(int slot) const { return !fixed_[static_cast<size_t>(slot)]; }
  void bind(int slot, const void* data) const {
    for (const Pointer& p : pointers_[static_cast<size_t>(slot)]) {
      const char* const to = static_cast<const char*>(data) + p.offset;
      std::memcpy(p.at, &to, sizeof to);
    }
  }
  // One replay. From the first update on, Ctrl-C waits for the end of the step: parameters are
  // never left half-way between two steps.
  void run() const;

  const StepList& list() const { return list_; }
  // What it runs, for a GPU's replay (gpu/replay.h).
  size_t size() const { return steps_.size(); }
  const Ready& step(size_t i) const { return *steps_[i]; }
  const StepList::Line& line(size_t i) const { return list_.lines[line_of_[i]]; }
  size_t number(size_t i) const { return line_of_[i] + 1; }  // as listings have it
  bool touches(size_t i, Device d) const;  // whether it reads or writes memory of d
  View view(int value) const;              // in its slot
  std::vector<View> views(const std::vector<int>& values) const;
  // Where each slot begins; null: only one fused line needs it, and never stores it.
  std::span<char* const> base() const { return base_; }
  // False if not, and if a fused line only passes it through the slot of another value.
  bool stored(int value) const { return stored_[static_cast<size_t>(list_.value(value).slot)]; }
  // Each slot, once; slots that the step makes and that have no owner are one region, the arena.
  struct Region {
    StepList::Slot::Kind kind;
    char* data;
    int64_t bytes;
    Device device;
    bool kept, written;
  };
  std::vector<Region> regions() const;
  // Bytes of the arena; of what the step makes and keeps beside it (results, gradients), and of
  // constants; of packed matrices; and what all lines' results would take if each had memory of its
  // own.
  struct Bytes {
    int64_t arena = 0, kept = 0, packed = 0, all = 0;
  };
  const Bytes& bytes() const { return bytes_; }

 private:
  bool passes_through(int slot, const StepList::Line& line) const;
  void leave_out_intermediates();
  void lend_slot(const StepList::Line& line);
  void place(bool arena);
  void make_ready();
  std::unique_ptr<Ready> ready(const StepList::Line& line);

  struct Pointer {  // a line's, into an argument
    void* at;
    int64_t offset;
  };

  StepList list_;
  Bytes bytes_;
  Ref<Storage> arena_;
  Device arena_device_ = Device::cpu;  // the GPU's, where the step uses one
  std::vector<char*> base_;            // where each slot begins; null: it is never stored
  std::vector<bool> stored_;           // whether it is
  std::vector<int> lender_;  // of a matmul's result that a chain takes on: whose slot it uses; -1
  std::vector<std::vector<Pointer>> pointers_;  // into each slot
  std::vector<bool> fixed_;                     // whether it cannot be bound
  std::vector<bool> only_read_;                 // whether copies may be kept; empty: none
  std::vector<std::unique_ptr<Ready>> steps_;
  std::vector<size_t> line_of_;  // by step
  size_t first_update_ = 0;
};

}  // namespace wengert
