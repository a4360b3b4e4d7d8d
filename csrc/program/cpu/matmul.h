// A matmul on the CPU, and what a compiled step does with its result: elementwise lines (Chain),
// updates of the parameter whose gradient it is.
#pragma once

#include "program/list.h"

namespace wengert {

std::unique_ptr<Ready> ready_matmul(const Plan& plan, const StepList::Line& line);

}  // namespace wengert
