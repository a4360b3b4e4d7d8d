// embedding and one_hot on a GPU. Ids are checked into row numbers first, -1 where there is no row,
// by which rows are then taken or gathered (ops/index/index.cu).
#include "gpu/launch.h"
#include "ops/cuda_ops.h"

namespace wengert {

namespace {

__global__ void __launch_bounds__(block_threads)
    check_ids(int64_t n, int64_t* rows, const int64_t* ids, int64_t size, int64_t padding,
              Report* r) {
  for (int64_t i = first_index(); i < n; i += index_step()) {
    const int64_t id = ids[i];
    const bool fits = id >= 0 && id < size;
    if (!fits) report(r, Fault::embedding, id, i, size);
    rows[i] = fits && id != padding ? id : -1;
  }
}

// The ids as rows of a table of `size` rows, for as long as it lives.
class Rows {
 public:
  Rows(const View& ids, int64_t size, int64_t padding)
      : memory_(ids.device, nbytes(ids.shape, DType::int64)), view_(ids) {
    view_.data = memory_.as<void>();
    const int64_t n = ids.numel();
    if (n)
      launch("embedding", ids.device, grid_for(ids.device, n), block_threads, check_ids, n,
             view_.as<int64_t>(), ids.as<int64_t>(), size, padding, report_of(ids.device));
  }
  operator const View&() const { return view_; }

 private:
  DeviceScratch memory_;
  View view_;
};

template <class T>
__global__ void __launch_bounds__(block_threads)
    mark(int64_t n, T* y, const int64_t* ids, int64_t classes, Report* r) {
  for (int64_t i = first_index(); i < n; i += index_step()) {
    const int64_t id = ids[i / classes];
    if (id < 0 || id >= classes) report(r, Fault::one_hot, id, i / classes, classes);
    y[i] = static_cast<T>(id == i % classes);
  }
}

}  // namespace

void cuda_embedding(const View& out, const View& table, const View& ids) {
  cuda_take(out, table, Rows(ids, table.shape[0], -1), table.shape[1]);
}
void cuda_embedding_vjp(const View& out, const View& g, const View& ids, int64_t padding) {
  cuda_fill(out, 0);
  cuda_put(out, g, Rows(ids, out.shape[0], padding), out.shape[1], Put::gather);
}
void cuda_one_hot(const View& out, const View& ids) {
  const int64_t n = out.numel();
  if (n == 0) return;
  dispatch(out.dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    launch("one_hot", out.device, grid_for(out.device, n), block_threads, mark<T>, n, out.as<T>(),
           ids.as<int64_t>(), out.shape.back(), report_of(out.device));
  });
}

}  // namespace wengert
