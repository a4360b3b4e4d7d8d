#include "engine/arrivals.h"

#include "engine/gradient.h"

namespace wengert {

void Arrivals::at_line(const LineRef& line, Tensor gradient) {
  if (targets_ && !targets_->leads_to(*line.get())) return;
  if (line->number < since_) return add_to(kept_[line.get()], std::move(gradient));
  Waiting& w = waiting_at(line->number);
  if (!w.line) w.line = line;
  add_to(w.gradient, std::move(gradient));
}

void Arrivals::at_leaf(const Tensor& leaf, Tensor gradient) {
  if (targets_ && !targets_->has(leaf)) return;
  const auto [at, fresh] = leaf_index_.emplace(leaf.body(), leaves_.size());
  if (fresh) leaves_.push_back({leaf, Tensor()});
  add_to(leaves_[at->second].gradient, std::move(gradient));
}

Arrivals::Waiting& Arrivals::waiting_at(uint64_t number) {
  if (spare_.empty()) return waiting_[number];
  spare_.key() = number;
  auto found = waiting_.insert(std::move(spare_));
  spare_ = std::move(found.node);
  return found.position->second;
}

Arrivals::Waiting Arrivals::take_newest() {
  spare_ = waiting_.extract(waiting_.begin());
  return std::exchange(spare_.mapped(), {});
}

Tensor Arrivals::of(const Tensor& target) const {
  if (target->line) {
    const auto found = kept_.find(target->line.get());
    return found == kept_.end() ? Tensor() : found->second;
  }
  const auto found = leaf_index_.find(target.body());
  return found == leaf_index_.end() ? Tensor() : leaves_[found->second].gradient;
}

}  // namespace wengert
