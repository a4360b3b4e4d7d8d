// Program: a step, traced once as a Wengert list, improved by passes, and replayed on fixed memory:
// no Python, no allocation, no shape checks.
//
// A trace is made by calling the step once while the program listens (Tracer). Nothing runs
// meanwhile: lines are checked and written down, what they make has no memory, and what they edit
// stays as it is. So a step that raises half-way has changed nothing; one that does not is run as
// its first replay. The arguments are the program's own tensors, overwritten at each replay, or
// larger ones, in one piece, are read where the caller's lie (`Plan::bind`);
// tensors from outside (parameters, optimizer state) are used in place. The lines are those
// that eager runs; what passes do to them leaves every bit of the results as it was.
#pragma once

#include <memory>
#include <string>
#include <unordered_map>

#include "ops/matmul/matmul.h"
#include "program/gpu/replay.h"
#include "program/list.h"
#include "program/plan.h"

namespace wengert {

class Program : public Tracer, public RefCounted {
 public:
  // ---- making ----
  explicit Program(std::vector<Tensor> arguments);  // its own: the step is run on these
  void begin();                                     // listens to this thread
  void end();
  // For a step that raised, called on these arguments. Leaves get the gradients from before it.
  // Tensors that it made and that still have an owner (the frames of a traceback, an optimizer with
  // new state) get their values, unless these depend on what the step was to change outside.
  void abandon(Tensors arguments);
  void finish(std::vector<Tensor> outputs);
  // What the step made and something outside holds gets its values, unless they depend on what the
  // step changes outside: before the first replay of a step that made state for later ones.
  void settle(Tensors arguments);
  // After finish: a tensor that the step made and that has an owner outside, as text; a replay
  // with an arena would not change it. Empty if there is none.
  std::string escaped() const;
  struct Options {
    bool memory = false;      // what the step makes shares one block (Plan::place)
    bool packing = false;     // lines may keep copies of what the step only reads (Ready::may_keep)
    bool graph = false;       // on a GPU a replay may be one CUDA graph,
    bool persistent = false;  // or, of a small step, a loop inside one kernel
  };
  // Runs the passes of these names over the list, in the order of passes.h, and plans its replay.
  void improve(const std::vector<std::string>& passes, const Options& options);

  // From now on only one of the two runs at a time, in the same memory.
  void share_memory(Program& other);

  bool runs() const override { return false; }
  using Tracer::runs;
  void before_edit(const Tensor& x, const Op& op, Tensors operands) override;
  void line(const Op& op, Tensors inputs, Tensors outputs, Tensors edited,
            const Attrs& attrs) override;
  bool sole_owner(const Tensor& x) const override;
  void reads_grad(const Tensor& leaf) override;
  void sets_grad(const Tensor& leaf) override;
  // A value that depends on nothing but constants of the step is computed; any other is refused.
  void looks_at_value(const char* what, const Tensor& x) override;

  // ---- running: after improve ----
  // Whether these arguments are like those of the trace.
  bool takes(Tensors arguments) const;
  // False where the gradients gathered in the leaves are not those that the trace began with, or
  // products have another precision.
  bool fits() const;
  // Whether it ends with the gradients that it begins with, so that it can follow itself.
  bool repeats() const;
  // One replay on these arguments; the results are copies.
  std::vector<Tensor> run(Tensors arguments);
  // A replay for each index of the arguments' first axis; the results are stacked along it.
  std::vector<Tensor> run_many(int64_t steps, Tensors arguments);

  // ---- reading ----
  const StepList& traced() const { return traced_; }
  bool on_gpu() const { return replay_ != nullptr; }  // whether any of its memory is a GPU's
  const StepList& improved() const { return plan_->list(); }
  const Plan& plan() const { return *plan_; }
  // On a GPU: how it is replayed, as text. Else empty.
  std::string how_replayed() const { return replay_ ? replay_->how() : ""; }
  const std::vector<Tensor>& arguments() const { return arguments_; }
  void name_value(const Tensor& x, const std::string& name);

  static void destroy(Program* program) {
    if (tracer == program) program->end();  // its trace has ended without memory to say so
    delete program;
  }

 protected:  // study.h reads the list as it is written
  struct LeafGradient {
    Tensor leaf, before, after;
    bool read;  // the gradient from before the step counts
  };

  int number(const Tensor& x);  // of the value in that memory; a new one for a tensor from outside
  int slot(const Tensor& x);
  void touch(const Tensor& leaf, bool read);
  std::vector<bool> held_outside() const;
  bool depends_on_constants(int slot) const;
  // Computes the slots that are wanted from what is outside (or, without `outside`, from what
  // nothing else holds there), as far as that goes. `arguments` may be empty.
  void give_values(std::vector<bool> wanted, Tensors arguments, bool outside);
  void note_edits();
  static Moving first_of(const Tensor& x);
  bool may_bind(size_t argument, const Moving& x, int64_t steps) const;
  void replay(int64_t steps, std::span<Moving> arguments, std::span<Moving> results);

  StepList traced_;
  std::unordered_map<std::string, int> numbers_;  // values by place in a slot and layout
  std::unordered_map<const Storage*, int> slots_;
  std::vector<Tensor> keep_;  // by number: while the trace is made, nothing it touched is freed
  std::vector<Tensor> arguments_, outputs_;  // slot number i is argument i's
  std::vector<Tensor> edited_;  // one of each slot outside that is edited: its version goes up
  std::vector<LeafGradient> gradients_;
  std::vector<std::pair<const char*, const char*>> written_;  // what the step writes to outside
  std::unique_ptr<Plan> plan_;
  std::unique_ptr<DeviceReplay> replay_;  // where it uses a GPU
  MatmulPrecision precision_ = matmul_precision();
  Tracer* outer_ = nullptr;
  int made_ = 0;
  bool calls_host_ = false;
  std::shared_ptr<std::atomic<bool>> running_ = std::make_shared<std::atomic<bool>>(false);
};

}  // namespace wengert
