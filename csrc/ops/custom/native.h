// Ops of other extension modules, which give them in the form of <wengert/op.h>.
#pragma once

#include <wengert/op.h>

#include "ops/functions.h"

namespace wengert {

// The attributes of such a line: the definition, with the op made of it. It is never freed.
struct NativeOp : Attrs::Box {
  wengert_op given;
  std::string name, operands, gradients[WENGERT_MAX_INPUTS];
  Op op;
};
// Of a definition that lives as long as the process; errors say what it lacks.
NativeOp& native_op(const wengert_op& given);
Tensor call_native(NativeOp& op, Tensors inputs);

}  // namespace wengert
