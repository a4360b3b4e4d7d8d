// Indexing and embeddings on a GPU, and the attributes that the kernels share with the ops.
#pragma once

#include "graph/op.h"
#include "ops/index/fold.h"

namespace wengert {

struct RowsAttrs {
  int64_t lead;  // this many leading axes of x count as one
  bool add;
};
inline int64_t row_elements(const Shape& x, int64_t lead) {
  int64_t n = 1;
  for (int d = static_cast<int>(lead); d < x.size(); ++d) n *= x[d];
  return n;
}
struct ScatterAttrs {
  int64_t axis;
  Fold fold;             // no mean, which is composed of sums
  int64_t include_self;  // 0: an element that gets values counts for nothing itself
  const char* by;        // for messages
};
struct EmbeddingAttrs {
  int64_t rows;     // of the table
  int64_t padding;  // this row gets no gradient; -1: every row does
};

struct IndexGpu {
  // An index out of range is an error at the next wait. Values are put in the order of the rows, as
  // on the CPU; out holds x already.
  OpKernel ravel, take, put;
  OpKernel gather, scatter;  // of x, index; of value, index (out is x already)
  OpKernel embedding, embedding_vjp, one_hot;
};

// For both .cu files. What put does with values for rows: the last one stays; they are added, in
// their order; or their sum, gathered in float64, replaces the row (a floating dtype).
enum class Put { replace, add, gather };
void take_on_gpu(const View& out, const View& x, const View& rows, int64_t row_elements);
void put_on_gpu(const View& out, const View& value, const View& rows, int64_t row_elements,
                Put how);
void gather_on_gpu(Views out, Views in, const Attrs& attrs);
void scatter_on_gpu(Views out, Views in, const Attrs& attrs);
void embedding_on_gpu(Views out, Views in, const Attrs& attrs);
void embedding_vjp_on_gpu(Views out, Views in, const Attrs& attrs);
void one_hot_on_gpu(Views out, Views in, const Attrs& attrs);

}  // namespace wengert
