// StepList: a step as a Wengert list, as plain data: lines, the values they read and make, and the
// slots, the pieces of memory of those values. A trace fills one (program.h), passes improve
// it (passes.h), and a plan runs it (plan.h).
//
// Values are fixed windows on slots: a view of a value is another value in the same slot. A slot
// that only one line writes holds the same thing from that line on; most do. Others, such as
// parameters, change in place, and lines that touch them keep their order (`conflict`).
#pragma once

#include <string>
#include <vector>

#include "graph/origin.h"
#include "graph/record.h"

namespace wengert {

class Plan;

struct StepList {
  struct Slot {
    Ref<Storage> storage;  // null once a plan has given it another place
    enum Kind { outside, argument, made, constant } kind = outside;
    bool kept = false;  // looked at after the step: a result, or a gradient in a leaf
    int64_t bytes = 0;
  };
  struct Value {
    std::string name;
    Shape shape;
    Strides strides;
    DType dtype;
    int slot;
    int64_t offset;  // in bytes, of the first element
  };
  struct Line {
    const Op* op;
    Attrs attrs = {};
    Origin origin = 0;
    std::vector<int> inputs = {};   // values
    std::vector<int> outputs = {};  // values: the result, and what an op keeps beside it
    int edited = 0;                 // this many inputs, the first ones, are overwritten (updates)
    bool edit = false;              // the output is an earlier value, overwritten
    Cost cost = {};
    std::vector<Line> body = {};  // of a fused line: the lines that it does, in order
    // Of a fused line, how a plan makes it ready; null: as its op says (Op::ready).
    std::unique_ptr<Ready> (*ready)(const Plan& plan, const Line& line) = nullptr;
  };

  std::vector<Slot> slots;
  std::vector<Value> values;
  std::vector<Line> lines;

  const Value& value(int v) const { return values[static_cast<size_t>(v)]; }
  const Slot& slot(int v) const { return slots[static_cast<size_t>(value(v).slot)]; }
  Slot& slot(int v) { return slots[static_cast<size_t>(value(v).slot)]; }
  View view(int v) const;  // where the trace left it
  // Runs a line there; what it makes gets memory.
  void run(const Line& line) const;

  // How many lines write each slot.
  std::vector<int> writers() const;
  // Bytes of all slots that the step itself makes.
  int64_t bytes_made() const;
};

// Calls fn(slot, written) for each slot that a line touches.
template <class Fn> void each_slot(const StepList& list, const StepList::Line& line, const Fn& fn) {
  for (size_t i = 0; i < line.inputs.size(); ++i)
    fn(list.value(line.inputs[i]).slot, static_cast<int>(i) < line.edited);
  for (int y : line.outputs) fn(list.value(y).slot, true);
}

// Whether the two must keep their order: one writes what the other reads or writes.
bool conflict(const StepList& list, const StepList::Line& a, const StepList::Line& b);
// Whether line `from` may stand right behind line `to` (to < from), or right before it (to > from).
bool can_move(const StepList& list, size_t from, size_t to);
// Moves it there: line `from` ends at to + 1, or at to - 1.
void move_line(StepList& list, size_t from, size_t to);

}  // namespace wengert
