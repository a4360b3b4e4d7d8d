// embedding and one_hot on a GPU. Ids are checked into row numbers first, -1 where there is no row,
// by which rows are then taken or gathered (ops/index/index.cu).
#include "gpu/launch.h"
#include "ops/index/gpu.h"
#include "ops/memory/gpu.h"

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

void embedding_on_gpu(Views out, Views in, const Attrs&) {  // table, ids
  const Shape& table = in[0].shape;
  take_on_gpu(out[0], in[0], Rows(in[1], table[0], -1), table[1]);
}
void embedding_vjp_on_gpu(Views out, Views in, const Attrs& attrs) {  // g, ids
  const auto [rows, padding] = attrs.as<EmbeddingAttrs>();
  full_on_gpu(out, {}, FullAttrs{out[0].shape, 0, out[0].dtype, out[0].device});
  put_on_gpu(out[0], in[0], Rows(in[1], rows, padding), out[0].shape[1], Put::gather);
}
void one_hot_on_gpu(Views outs, Views in, const Attrs&) {
  const View& out = outs[0];
  const int64_t n = out.numel();
  if (n == 0) return;
  dispatch(out.dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    launch("one_hot", out.device, grid_for(out.device, n), block_threads, mark<T>, n, out.as<T>(),
           in[0].as<int64_t>(), out.shape.back(), report_of(out.device));
  });
}

}  // namespace wengert
