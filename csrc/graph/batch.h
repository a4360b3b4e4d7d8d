// Batch: how a line of one example becomes the line of many (wengert.vmap, program/batching.h).
//
// A tensor that differs from example to example stands for one of them; its body has the tensor of
// all, with the examples along a leading axis. An op's rule (Op::batch) writes the line of all:
// most are one of these, with how the attributes change.
#pragma once

#include "graph/record.h"

namespace wengert {

struct Batch {
  const Op& op;
  const Attrs& attrs;  // as of one example
  int64_t size;        // examples
  Tensors one;         // the operands, of one example
  Tensors all;         // of all of them; an operand that all share is that of `one`

  bool has(size_t i) const { return all[i].body() != one[i].body(); }  // whether examples differ
  Tensor whole(size_t i, bool dense = true) const;  // with the leading axis in any case
  Tensor aligned(size_t i, int dim) const;          // an example has this many axes, by axes of 1
  // `rows`, which number places among `count` in each example, as places of all.
  Tensor numbered(size_t rows, int64_t count) const;
};

// For any op: example by example, and the results are stacked.
Tensor batch_each(const Batch& b, Tensor* auxiliary);
// Operands that are broadcast against each other: elementwise ops, matmul.
Tensor batch_spread(const Batch& b, Tensor* auxiliary);
// The last axis counts: leading axes are rows, of which there are more now. Operands from number
// `rows` on are weights, which serve all rows.
Tensor batch_rows(const Batch& b, size_t rows, Tensor* auxiliary);
template <size_t rows = 16> Tensor batch_rows(const Batch& b, Tensor* auxiliary) {
  return batch_rows(b, rows, auxiliary);
}
// The first axis counts samples, which are independent: the examples join it. Weights as above.
Tensor batch_folded(const Batch& b, size_t samples, Tensor* auxiliary);
template <size_t samples = 16> Tensor batch_folded(const Batch& b, Tensor* auxiliary) {
  return batch_folded(b, samples, auxiliary);
}
// Every operand gets the leading axis, and `shift` gives the attributes.
Tensor batch_whole(const Batch& b, const Attrs& attrs, bool dense, Tensor* auxiliary);
template <auto shift, bool dense = true> Tensor batch_by(const Batch& b, Tensor* auxiliary) {
  return batch_whole(b, shift(b), dense, auxiliary);
}
template <class T> Attrs next_axis(const Batch& b) {
  T attrs = b.attrs.as<T>();
  ++attrs.axis;
  return attrs;
}

}  // namespace wengert
