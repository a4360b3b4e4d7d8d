// Program: a step, traced once as a Wengert list with fixed memory, and replayed: no Python, no
// allocation, no shape checks, just each line's `run`.
//
// A trace is made by running the step once while the program listens (Tracer). The arguments are
// the program's own tensors, overwritten at each replay; tensors from outside (parameters,
// optimizer state) are used where they lie. The lines are those that eager ran, in their order, so
// the results have the same bits.
#pragma once

#include <string>
#include <unordered_map>

#include "graph/record.h"

namespace wengert {

class Program : public Tracer, public RefCounted {
 public:
  struct ListedLine {
    const Op* op;
    Attrs attrs;
    Place place;
    std::vector<int> inputs;  // numbers of values
    int output = -1;          // number of the value made; -1 for an update
    bool edit = false;        // the output is an earlier value, overwritten
    Cost cost;
  };
  struct Value {
    std::string name;
    Shape shape;
    DType dtype;
  };

  // ---- making ----
  explicit Program(std::vector<Tensor> arguments);  // its own: the step is run on these
  void begin();                                     // listens to this thread
  void end();
  void finish(std::vector<Tensor> outputs);
  void line(const Op& op, Tensors inputs, Tensors outputs, Tensors edited,
            const Attrs& attrs) override;
  bool sole_owner(const Tensor& x) const override;
  void reads_grad(const Tensor& leaf) override;
  void sets_grad(const Tensor& leaf) override;

  // ---- running ----
  // Whether these arguments are like those of the trace.
  bool takes(Tensors arguments) const;
  // False where the gradients gathered in the leaves are not those that the trace began with.
  bool fits() const;
  // Whether it ends with the gradients that it begins with, so that it can follow itself.
  bool repeats() const;
  // One replay on these arguments; the results are copies.
  std::vector<Tensor> run(Tensors arguments);
  // A replay for each index of the arguments' first axis; the results are stacked along it.
  std::vector<Tensor> run_many(int64_t steps, Tensors arguments);

  // ---- reading ----
  const std::vector<ListedLine>& lines() const { return lines_; }
  const std::vector<Value>& values() const { return values_; }
  const std::vector<Tensor>& arguments() const { return arguments_; }
  int64_t bytes() const;  // of all memory that the program owns
  void name_value(const Tensor& x, const std::string& name);

  static void destroy(Program* program) { delete program; }

 private:
  struct Instruction {
    const Op* op;
    Attrs attrs;
    std::vector<View> outputs, inputs;
  };
  struct LeafGradient {
    Tensor leaf, before, after;
    bool read;  // the gradient from before the step counts
  };

  int number(const Tensor& x);  // of the value that lies there; a new one for a tensor from outside
  void touch(const Tensor& leaf, bool read);
  void replay();

  std::vector<Instruction> instructions_;
  std::vector<ListedLine> lines_;
  std::vector<Value> values_;
  std::unordered_map<std::string, int> numbers_;  // by place in memory and layout
  std::vector<Tensor> keep_;  // by number: the program keeps all that its views look at
  std::vector<Tensor> arguments_, outputs_;
  std::vector<Tensor>
      edited_;  // a tensor of each storage that is edited: its version goes up with a run
  std::vector<LeafGradient> gradients_;
  Tracer* outer_ = nullptr;
  int made_ = 0;
  std::atomic<bool> running_{false};
};

}  // namespace wengert
