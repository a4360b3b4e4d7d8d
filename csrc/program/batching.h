// Batching: many examples run as one, for wengert.vmap.
//
// A function is called once. Its arguments stand for one example each: they have its shape, and no
// memory, and their bodies hold the tensors of all examples, with those along a leading axis. While
// Batching listens, each line that reads such a tensor is written for all examples by its op's rule
// (graph/batch.h), at once, as a line of whatever is around: of eager, of a compiled step that is
// being traced, of another Batching. Lines that read none are those of eager, and run once.
//
// So there are two histories. Of examples, for derivatives within the function; of all, for those
// around it. Each is kept by the lines of its own kind.
#pragma once

#include <unordered_map>
#include <unordered_set>

#include "graph/batch.h"

namespace wengert {

class Batching : public Tracer, public RefCounted {
 public:
  enum Random { error, different, same };
  Batching(int64_t size, Random random);
  void begin() { outer_ = std::exchange(tracer, this); }
  void end() { tracer = outer_; }
  Tensor one(const Tensor& all, bool argument = true);  // an example of those
  Tensor all(const Tensor& one) const;                  // of all examples; undefined: they share it
  void stand_for(const Tensor& one, const Tensor& all) const;
  int64_t size() const { return size_; }
  Random random() const { return random_; }

  bool runs() const override { return false; }
  bool runs(const Op& op, Tensors operands) const override;
  void before_edit(const Tensor& x, const Op& op, Tensors operands) override;
  void line(const Op& op, Tensors inputs, Tensors outputs, Tensors edited,
            const Attrs& attrs) override;
  bool sole_owner(const Tensor&) const override { return false; }
  void reads_grad(const Tensor& leaf) override;
  void sets_grad(const Tensor& leaf) override { reads_grad(leaf); }
  void about_to_run(Tensors operands) override;
  void looks_at_value(const char* what, const Tensor& x) override;

  static void destroy(Batching* batching) {
    if (tracer == batching) batching->end();
    delete batching;
  }

 private:
  bool differs(const Tensor& x) const;
  void make_differ(const Tensor& x, const Op& op);
  Tensor all_of(const Tensor& x) const { return differs(x) ? x->all : x; }
  bool differ(Tensors some) const;
  bool draws(const Op& op) const { return op.edits > 0 && random_ == different; }

  const int64_t size_;
  const Random random_;
  const uint32_t level_;
  Tracer* outer_ = nullptr;
  std::unordered_set<const Storage*> arguments_, made_;  // made_: by lines of which one serves all
  // What the function made for all examples, and then edited for each: the memory of all.
  std::unordered_map<const Storage*, std::pair<Ref<Storage>, Tensor>> apart_;
};

}  // namespace wengert
