// A matmul on a GPU that does more than multiply: elementwise lines behind it, its result as
// bfloat16 slices for the next matmul, the update of the parameter whose gradient it is
// (ops/matmul/epilogue.h).
#pragma once

#include "program/list.h"

namespace wengert {

// A float32 matmul on a GPU, with or without a body.
bool is_gpu_matmul(const StepList& list, const StepList::Line& line);
// The result of its last elementwise line, or of the matmul.
int last_value(const StepList::Line& line);
// Whether `next` may be its next elementwise line; whether it takes the update that has this
// gradient.
bool takes_step(const StepList& list, const StepList::Line& line, const StepList::Line& next);
bool takes_update(const StepList& list, const StepList::Line& line, int gradient);
// True if the slices of a matmul's operand (0 or 1) would have the order of the operand's own
// elements: rows along k, without gaps.
bool lies_as_slices(const StepList::Value& x, int operand);

std::unique_ptr<Ready> ready_gpu_matmul(const Plan& plan, const StepList::Line& line);

}  // namespace wengert
