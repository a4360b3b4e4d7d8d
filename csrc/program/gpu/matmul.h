// A matrix product on a GPU that does more than multiply: elementwise lines behind it, its result
// as planes for the next product, the update of the parameter whose gradient it is
// (ops/matmul/epilogue.h).
#pragma once

#include <functional>

#include "program/list.h"

namespace wengert {

// A float32 product on a GPU, with or without such a body, that nothing else writes.
bool device_product(const StepList& list, const StepList::Line& line);
// What its elementwise lines end with: the last one's result, or the product.
int last_value(const StepList::Line& line);
// Whether `next` may be its next elementwise line; whether `update` its update.
bool takes_step(const StepList& list, const StepList::Line& line, const StepList::Line& next);
bool takes_update(const StepList& list, const StepList::Line& line, int gradient,
                  const StepList::Line& update);
// Whether a product's operand (0 or 1) lies so that its planes' elements have the order of its own:
// rows along k, without gaps.
bool lies_as_planes(const StepList::Value& x, int operand);

// `view` and `stored` say where a value lies, and whether anybody wants it there.
std::unique_ptr<const Ready> device_matmul(const StepList& list, const StepList::Line& line,
                                           const std::function<View(int)>& view,
                                           const std::function<bool(int)>& stored);

}  // namespace wengert
