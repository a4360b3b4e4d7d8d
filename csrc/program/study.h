// Study: a Program that notes, while it is traced, what a compiled step has no use for: which lines
// answer which (the vjp of a line), what was saved, what a leaf or a parameter held before the
// step.
//
// A Replica is a private copy of a program's memory, on which its lines are run one at a time; the
// user's own tensors are never touched. A wide one holds float64 where the program has float32: the
// same list, in double precision.
#pragma once

#include "program/program.h"

namespace wengert {

class Study : public Program {
 public:
  // Where a vjp's result goes: from input number `input` of the answered line to value `to`, which
  // line `to_line` made; -1 for a leaf.
  struct Contribution {
    int input, to, to_line, value;
  };
  // What one line's vjp wrote: the lines first to last - 1, given the gradient `gradient`.
  struct Answer {
    int line, gradient, first, last;
    std::vector<Contribution> gave;
  };
  struct Note {              // beside each line
    bool recorded = false;   // a gradient may be asked of it
    int answer = -1;         // the answer that it is part of
    int layer = -1;          // what set_layer() said
    std::vector<int> saved;  // values kept for the vjp
    std::vector<int> outputs, edited;
  };
  struct Root {  // where a backward began, before line `at` and the answer `answer`
    int value, gradient, at, answer;
  };
  struct Gradient {
    int leaf, before, after;  // values; -1 for none
  };
  struct Look {
    Origin origin;
    std::string what;
    int at;  // before this line
  };

  Study(std::vector<Tensor> arguments, size_t most_lines)
      : Program(std::move(arguments)), most_lines_(most_lines) {}
  void line(const Op& op, Tensors inputs, Tensors outputs, Tensors edited,
            const Attrs& attrs) override;
  bool runs() const override { return true; }
  // Arguments are the user's own: all is allowed.
  void before_edit(const Tensor&, const Op&, Tensors) override {}
  void about_to_run(Tensors operands) override;
  void begins_backward(const Tensor& y, const Tensor& g) override;
  void asks(const Line& line, const Tensor& g) override;
  void answers(const Line& line, const Gradients& dx) override;
  void looks_at_value(const char* what, const Tensor& x) override;
  void begins_body(Tensors inputs) override;
  Ref<Body> ends_body(const char* op, Tensors outputs) override;
  void leaves_body() override;
  // In place of finish(): the list stays as it was written.
  void close(std::vector<Tensor> outputs);

  void set_layer(int layer) { layer_ = layer; }
  const std::vector<Note>& notes() const { return notes_; }
  const std::vector<Answer>& written() const { return answers_; }
  const std::vector<Root>& roots() const { return roots_; }
  const std::vector<Gradient>& leaf_gradients() const { return leaf_gradients_; }
  const std::vector<Look>& looks() const { return looks_; }
  const std::vector<int>& results() const { return results_; }
  const Tensor& kept(int value) const { return keep_[static_cast<size_t>(value)]; }
  int size() const { return static_cast<int>(traced_.values.size()); }
  int value_of(const Tensor& x);  // its number, -1 where the list does not know it
  // The contents of an outside value before the step; null for what the list itself made.
  const Storage* before(const Storage* memory) const;

  static void destroy(Study* study) {
    if (tracer == study) study->end();
    delete study;
  }

 private:
  size_t most_lines_;
  int layer_ = -1, open_answer_ = -1;
  Ref<Study> body_;  // that of an op of the program's own, while it is traced
  std::vector<Note> notes_;
  std::vector<Answer> answers_;
  std::vector<Root> roots_;
  std::vector<Gradient> leaf_gradients_;
  std::vector<Look> looks_;
  std::vector<int> results_;
  std::unordered_map<uint64_t, int> line_of_;  // by the graph line's number
  std::unordered_map<const Storage*, std::shared_ptr<Ref<Storage>>> before_;  // null: made here
};

class Replica : public RefCounted {
 public:
  Replica(Ref<Study> study, bool wide);
  void reset();  // all memory from outside as it was before the step
  void run(int line);
  std::vector<double> run_all();  // after reset(); the seconds of each line
  // The memory of a value, as it is now; writing to it is an edit.
  const Tensor& value(int number) const { return values_[static_cast<size_t>(number)]; }
  // The line's op on other operands, on memory of its own.
  std::vector<Tensor> evaluate(int line, Tensors inputs) const;
  // Puts another op, or other operands, in a line's place: a planted fault.
  void plant(int line, const std::string& op, std::vector<int> inputs);

  static void destroy(Replica* replica) { delete replica; }

 private:
  const StepList::Line& listed(int line) const;

  Ref<Study> study_;
  bool wide_;
  std::vector<Tensor> values_;
  std::unordered_map<const Storage*, Tensor> memory_;
  std::unordered_map<int, StepList::Line> planted_;
};

// A copy in another dtype with the strides of x, so that the views that x can have, it can have
// too.
Tensor copy_like(const Tensor& x, DType dtype);

}  // namespace wengert
