#include "program/cpu/matmul.h"

#include <optional>

#include "ops/matmul/ready.h"
#include "ops/update/update.h"
#include "program/cpu/chain.h"
#include "program/plan.h"

namespace wengert {

namespace {

// Gradient, parameter and states, in the caches of two cores: 784-128-10 with momentum has 1.2 MB,
// and takes 127 instead of 141 us a step on two threads; 784-512-512-10 with Adam has 6.4 MB, and
// gains nothing (Intel Xeon, 2 MB of L2 a core).
constexpr int64_t cached_bytes = 2 << 20;

// Chain and updates run on each block of the result while the block is in the cache, where blocks
// are whole rows: in small matmuls, and in gradients of parameters that the cores' caches hold from
// step to step, since each thread then updates the rows that it reads in the next step. Otherwise
// they run on the whole result: chunks of larger matmuls have a few columns, and short pieces of
// many rows take longer than reading it all again does (784-512-512-10 with Adam, one thread of an
// Intel Xeon: 4.28 against 3.75 ms a step).
class FusedMatmul final : public ReadyMatmul {
 public:
  FusedMatmul(const View& c, const View& a, const View& b, MatmulPrecision precision,
              std::optional<Chain> chain, std::vector<std::unique_ptr<ReadyUpdate>> updates)
      : ReadyMatmul(c, a, b, precision), chain_(std::move(chain)), updates_(std::move(updates)) {
    const double work =
        static_cast<double>(gemm_.m) * static_cast<double>(gemm_.n) * static_cast<double>(gemm_.k);
    const int64_t updated = updates_.empty() ? 0 : updates_[0]->bytes();
    const bool whole_rows = updated > 0 && updated <= cached_bytes && makes_whole_rows(gemm_);
    in_blocks_ = whole_rows || ((chain_ || updated > 0) && gemm_.n <= 512 && work <= (1 << 19));
    if (in_blocks_) gemm_.epilogue = {then, this, whole_rows};
  }

  void run() const override {
    if (in_blocks_)
      for (const auto& update : updates_) update->begin();
    ReadyMatmul::run();
    if (in_blocks_) return;
    if (chain_) chain_->run();
    for (const auto& update : updates_) update->run();
  }
  void pointers(std::vector<void*>& at) override {
    ReadyMatmul::pointers(at);
    if (chain_) chain_->pointers(at);
  }

 private:
  static void then(const void* context, const Epilogue::Block& block) {
    const auto& self = *static_cast<const FusedMatmul*>(context);
    if (self.chain_) self.chain_->run_block(block.row, block.rows, block.col, block.cols);
    const int64_t all = self.gemm_.n;
    for (const auto& update : self.updates_) {
      if (block.cols == all)
        update->apply(0, block.row * all, block.rows * all);
      else
        for (int64_t r = block.row; r < block.row + block.rows; ++r)
          update->apply(0, r * all + block.col, block.cols);
    }
  }

  std::optional<Chain> chain_;
  std::vector<std::unique_ptr<ReadyUpdate>> updates_;
  bool in_blocks_;
};

}  // namespace

std::unique_ptr<Ready> ready_matmul(const Plan& plan, const StepList::Line& line) {
  const StepList::Line& matmul = line.body[0];
  const View c = plan.view(matmul.outputs[0]);
  std::optional<Chain> chain;
  if (const auto lines = chain_of(line); !lines.empty())
    chain.emplace(plan.list(), lines, grid_of_blocks(matmul_op, c.shape), plan.base());
  std::vector<std::unique_ptr<ReadyUpdate>> updates;
  for (const StepList::Line& part : line.body)
    if (is_update(*part.op))
      updates.push_back(ready_update(*part.op, Views(plan.views(part.inputs)), part.attrs));
  return std::make_unique<FusedMatmul>(c, plan.view(matmul.inputs[0]), plan.view(matmul.inputs[1]),
                                       precision_of(matmul.attrs), std::move(chain),
                                       std::move(updates));
}

}  // namespace wengert
