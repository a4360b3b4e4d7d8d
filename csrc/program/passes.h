// Passes: each takes a list to a shorter or cheaper one with the same results, bit for bit. Any of
// them may be left out. Each file of passes/ opens with a list before and after.
#pragma once

#include "program/list.h"

namespace wengert {

void fold_constants(StepList& list);
void drop_dead(StepList& list);
void share_common(StepList& list);
void fold_views(StepList& list);
void fuse_chains(StepList& list);
void fuse_epilogues(StepList& list);
void fuse_gpu_epilogues(StepList& list);
void fuse_losses(StepList& list);
void keep_slices(StepList& list);
void fuse_updates(StepList& list);
void overlap(StepList& list);

struct Pass {
  const char* name;
  void (*on_cpu)(StepList& list);  // null: there is none
  void (*on_gpu)(StepList& list);  // for steps that use a GPU
};
// In the order in which they run. After the first four, no line is fused yet.
inline constexpr Pass simplifying_passes[] = {
    {"constants", fold_constants, fold_constants},
    {"dead", drop_dead, drop_dead},
    {"common", share_common, share_common},
    {"views", fold_views, fold_views},
};
// On a GPU matmuls take elementwise lines before chains do, since their kernel does them for free.
inline constexpr Pass fusing_passes[] = {
    {"epilogues", nullptr, fuse_gpu_epilogues},
    {"chains", fuse_chains, fuse_chains},
    {"epilogues", fuse_epilogues, nullptr},
    {"losses", fuse_losses, nullptr},
    {"slices", nullptr, keep_slices},
    {"updates", fuse_updates, fuse_updates},
    {"overlap", overlap, nullptr},
};

// The op of a chain of elementwise lines, which are its body.
extern const Op fused_op;
// The bfloat16 slices that a matmul on a GPU writes besides its result: a part of its line.
extern const Op slices_op;

// The line that does what these do: it reads and writes what they read and write.
StepList::Line fused(const Op& op, std::vector<StepList::Line> body,
                     decltype(StepList::Line::ready) ready = nullptr);
// The lines that a line does: its body, or itself.
std::vector<StepList::Line> body_of(const StepList::Line& line);

}  // namespace wengert
