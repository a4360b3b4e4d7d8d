// Passes: each takes a list to a shorter or cheaper one with the same results, bit for bit. They
// run in the order of all_passes(); any of them may be left out.
#pragma once

#include <span>

#include "program/list.h"

namespace wengert {

struct Pass {
  const char* name;
  void (*run)(StepList& list);
};
std::span<const Pass> all_passes();

// ---- passes/, a file each ----
void fold_constants(StepList& list);  // lines whose operands never change are run once
void drop_dead(StepList& list);       // lines whose results nobody looks at
void share_common(StepList& list);    // lines that compute what an earlier one has
void fold_views(StepList& list);      // lines that only look at memory in another way
void fuse_chains(StepList& list);     // elementwise lines become one, tile by tile
void fuse_epilogues(StepList& list);  // elementwise lines behind a matmul become a part of it
void fuse_device_epilogues(StepList& list);  // the same for products on a GPU
void fuse_losses(StepList& list);            // cross-entropy and its gradient, row by row
void keep_planes(StepList& list);            // a product on a GPU writes what the next one takes
void fuse_updates(StepList& list);           // a parameter is updated where its gradient is made
// ("memory" and "packing" are the plan's: see plan.h; "graph" and "persistent" are ways to run it
// on a GPU: device_replay.h.)

// The op of a chain of elementwise lines, which are its body.
extern const Op fused_op;
// Of the planes that a product on a GPU writes beside its result: a part of that product's line.
extern const Op planes_op;

// The line that does what these do: what they read and write is read and written by it.
StepList::Line fused(const Op& op, std::vector<StepList::Line> body);

}  // namespace wengert
