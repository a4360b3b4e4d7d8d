// Plan: a list made ready to run. What the step makes lies in one arena, each block for as long as
// it is needed; every line is a `Ready` that holds pointers, sizes and kernels.
#pragma once

#include <cstring>
#include <memory>

#include "program/list.h"

namespace wengert {

class Plan {
 public:
  // `arena`: whether what the step makes moves into one block; else it stays where the trace put
  // it. `pack`: whether matrices that the step only reads, such as the weights of a model that is
  // not trained here, are kept in the order in which products read them.
  Plan(StepList list, bool arena, bool pack);
  // Sets all pointers of lines into an argument's memory, so that it begins at `data` from now on.
  // Not where it is a result too, lies on a GPU, or a line keeps pointers for itself.
  bool can_bind(int memory) const { return !fixed_[static_cast<size_t>(memory)]; }
  void bind(int memory, const void* data) const {
    for (const Pointer& p : pointers_[static_cast<size_t>(memory)]) {
      const char* const to = static_cast<const char*>(data) + p.offset;
      std::memcpy(p.at, &to, sizeof to);
    }
  }
  // One replay. From the first update on, Ctrl-C waits for the end of the step: parameters are
  // never left half-way between two steps.
  void run() const;

  const StepList& list() const { return list_; }
  // Bytes of the arena; of what the step makes and keeps beside it (results, gradients,
  // packed matrices), and of constants; and what all lines' results would take if each had memory
  // of its own.
  struct Bytes {
    int64_t arena = 0, kept = 0, all = 0;
  };
  const Bytes& bytes() const { return bytes_; }

 private:
  View view(int value) const;
  bool passes_through(int memory, const StepList::Line& line) const;
  void leave_out_intermediates();
  void lend_memory(const StepList::Line& line);
  void place(bool arena);
  std::unique_ptr<const Ready> ready(const StepList::Line& line);

  struct Pointer {  // a line's, into an argument
    void* at;
    int64_t offset;
  };

  StepList list_;
  Bytes bytes_;
  Ref<Storage> arena_;
  std::vector<char*> base_;   // where each memory begins; null: it is never stored
  std::vector<bool> stored_;  // whether it is
  std::vector<int> lender_;   // of a product that is only on its way: whose memory it lies in; -1
  std::vector<std::vector<Pointer>> pointers_;  // into each memory
  std::vector<bool> fixed_;                     // whether it cannot be bound
  std::vector<bool> only_read_;                 // whether it may be packed; empty: nothing is
  std::vector<std::unique_ptr<const Ready>> steps_;
  size_t first_update_ = 0;
};

}  // namespace wengert
