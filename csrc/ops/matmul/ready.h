// A matmul on the CPU, made ready to run again and again (Op::ready). program/cpu/matmul.h adds
// what a compiled step does with the result.
#pragma once

#include "graph/op.h"
#include "ops/matmul/matmul.h"

namespace wengert {

// b, rewritten in the order in which the kernels read it: its bytes, 0 where none reads such a
// copy.
int64_t packed_bytes(DType dtype, const Gemm& g);
void pack(DType dtype, const Gemm& g, void* to);

class ReadyMatmul : public Ready {
 public:
  ReadyMatmul(const View& c, const View& a, const View& b, MatmulPrecision precision);
  ~ReadyMatmul() override;
  ReadyMatmul(const ReadyMatmul&) = delete;
  void run() const override;
  void pointers(std::vector<void*>& at) override;
  int64_t may_keep(const Ref<Storage>& storage) override;  // b, in the order that the kernel reads

 protected:
  Gemm gemm_;

 private:
  const void* packed() const;

  View c_, a_, b_;
  GemmKernel kernel_;
  // Made when b is met a second time unchanged, and again after each edit that is followed by two
  // runs; never where others may write to b unseen.
  Ref<Storage> source_;  // of b; null: nothing is packed
  mutable void* packed_ = nullptr;
  int64_t packed_bytes_ = 0;
  mutable uint32_t version_ = 0;  // of the source, when it was last met
  mutable bool met_ = false, made_ = false;
};

}  // namespace wengert
