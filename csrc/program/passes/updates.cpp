// updates: a parameter whose gradient a matmul makes is updated in the matmul's line, block by
// block where gradient, parameter and states fit into caches (program/cpu/matmul.cpp); on a GPU in
// the matmul's kernel. The other parameters keep their common line. The step is counted once,
// before the first. Where a line reads the gradient in between (clipping), nothing moves.
//
//   v28 = matmul(v24.T, arg0)             count_step(c36)
//   ...                              ->   v28 = matmul(v24.T, arg0), then
//   sgd_step(c2, c5, c36, v28, v26)         sgd_step(c2, c36, v28)
//                                         ...
//                                         sgd_step(c5, c36, v26)
#include <algorithm>

#include "ops/matmul/matmul.h"
#include "ops/update/update.h"
#include "program/cpu/chain.h"
#include "program/cpu/matmul.h"
#include "program/gpu/matmul.h"
#include "program/passes.h"

namespace wengert {

namespace {

// The line of some of an update's parameters, which does not count the step.
StepList::Line part_of(const StepList::Line& update, const std::vector<int64_t>& parameters) {
  const auto& all = update.attrs.as<UpdateAttrs>();
  UpdateAttrs group = all;
  group.count = static_cast<int64_t>(parameters.size());
  group.counts = false;
  StepList::Line line{.op = update.op, .attrs = group, .origin = update.origin};
  const auto add = [&](size_t i) { line.inputs.push_back(update.inputs[i]); };
  for (int64_t i : parameters) add(static_cast<size_t>(i));
  for (int64_t s = 0; s < all.states; ++s)
    for (int64_t i : parameters) add(all.state(s, i));
  line.edited = static_cast<int>(line.inputs.size());
  add(all.step());
  for (int64_t i : parameters) add(all.gradient(i));
  add(all.options());
  return line;
}

// Its share of what the whole update costs.
void set_cost(const StepList& list, StepList::Line& part, const StepList::Line& update) {
  const auto elements = [&](const StepList::Line& line) {
    double n = 0;
    for (int64_t i = 0; i < line.attrs.as<UpdateAttrs>().count; ++i)
      n += static_cast<double>(numel(list.value(line.inputs[static_cast<size_t>(i)]).shape));
    return n;
  };
  const double share = elements(part) / std::max(1.0, elements(update));
  part.cost = {update.cost.flops * share, update.cost.bytes * share};
}

// Whether `line` may stand right before line `at` of those up to `end`.
bool fits_before(const StepList& list, const StepList::Line& line, size_t at, size_t end) {
  for (size_t i = at; i < end; ++i)
    if (conflict(list, list.lines[i], line)) return false;
  return true;
}

bool in_one_piece(const StepList& list, int v) {
  return is_contiguous(list.value(v).shape, list.value(v).strides);
}

// The matmul that makes this gradient, in the update's order of elements, and touches nothing that
// the update overwrites; list.lines.size() if there is none.
size_t maker_of(const StepList& list, size_t before, int gradient, const StepList::Line& update) {
  for (size_t i = before; i-- > 0;) {
    const StepList::Line& line = list.lines[i];
    const auto made = std::find(line.outputs.begin(), line.outputs.end(), gradient);
    if (made == line.outputs.end()) continue;
    const int made_first = line.outputs[0];
    bool fits = line.op == &matmul_op && list.value(made_first).shape.size() == 2 &&
                list.value(gradient).shape == list.value(made_first).shape &&
                list.value(gradient).dtype == list.value(made_first).dtype &&
                (!is_cuda(device_of(list, line)) ||
                 (takes_update(list, line, gradient) && fits_in_gpu_matmul(*update.op)));
    for (int k = 0; k <= update.edited; ++k)
      fits &=
          in_one_piece(list, k < update.edited ? update.inputs[static_cast<size_t>(k)] : gradient);
    each_slot(list, line, [&](int m, bool) {
      for (int k = 0; k < update.edited; ++k)
        fits &= list.value(update.inputs[static_cast<size_t>(k)]).slot != m;
    });
    return fits ? i : list.lines.size();
  }
  return list.lines.size();
}

}  // namespace

void fuse_updates(StepList& list) {
  for (size_t u = 0; u < list.lines.size(); ++u) {
    if (!is_update(*list.lines[u].op) || !list.lines[u].attrs.as<UpdateAttrs>().counts) continue;
    const StepList::Line update = list.lines[u];
    const auto& group = update.attrs.as<UpdateAttrs>();
    // The count goes before the first matmul that takes an update, so it must be free to move.
    const StepList::Line count{.op = &count_op,
                               .origin = update.origin,
                               .inputs = {update.inputs[group.step()]},
                               .edited = 1};
    std::vector<int64_t> rest;
    size_t first = u;
    const StepList before = list;  // parts of one update do not stand in each other's way
    for (int64_t i = 0; i < group.count; ++i) {
      StepList::Line part = part_of(update, {i});
      set_cost(list, part, update);
      const size_t maker = maker_of(list, u, update.inputs[group.gradient(i)], part);
      if (maker == list.lines.size() || !fits_before(before, part, maker + 1, u) ||
          !fits_before(before, count, maker, u)) {
        rest.push_back(i);
        continue;
      }
      StepList::Line& line = list.lines[maker];
      std::vector<StepList::Line> body = body_of(line);
      body.push_back(std::move(part));
      const auto ready = is_cuda(device_of(list, line)) ? ready_gpu_matmul : ready_matmul;
      line = fused(matmul_op, std::move(body), ready);
      first = std::min(first, maker);
    }
    if (first == u) continue;  // it stays as it was
    if (rest.empty()) {
      list.lines.erase(list.lines.begin() + static_cast<std::ptrdiff_t>(u));
    } else {
      list.lines[u] = part_of(update, rest);
      set_cost(list, list.lines[u], update);
    }
    list.lines.insert(list.lines.begin() + static_cast<std::ptrdiff_t>(first), count);
    ++u;
  }
}

}  // namespace wengert
