// gather and scatter on a GPU. An index out of range is an error at the next wait; nothing is read
// or written there.
//
// A thread of scatter has a line, and of x's elements on it a part: it walks the whole index along
// the axis and folds in what is for its part. So a fold has the CPU's bits, and one line, too,
// keeps the GPU busy; the search costs an index's reading for each part.
#include <algorithm>

#include "ops/index/gpu.h"
#include "ops/memory/gpu.h"
#include "tensor/gpu_loop.h"

namespace wengert {

namespace {

constexpr int64_t enough_threads = 1 << 16;

struct Along {
  int64_t count, size, step[3];  // of the index; of x; of x, value and index along the axis
};

template <class T>
__global__ void __launch_bounds__(block_threads)
    gather(GpuLoop<3> all, Offsets<3> start, Along a, const T* x, T* y, const int64_t* index,
           Report* r) {
  for (int64_t i = first_index(); i < all.total; i += index_step()) {
    int64_t at[3];
    all.offsets(static_cast<uint32_t>(i), at);
    const int64_t given = index[start[2] + at[2]], row = given < 0 ? given + a.size : given;
    const bool fits = row >= 0 && row < a.size;
    if (!fits) report(r, Fault::index, given, i, a.size);
    y[start[1] + at[1]] = fits ? x[start[0] + at[0] + row * a.step[0]] : T();
  }
}

template <class T, Fold fold>
__global__ void __launch_bounds__(block_threads)
    scatter(GpuLoop<3> lines, Offsets<3> start, int64_t parts, Along a, T* x, const T* value,
            const int64_t* index, Report* r) {
  for (int64_t t = first_index(); t < lines.total * parts; t += index_step()) {
    const int64_t part = t / lines.total, low = a.size * part / parts,
                  high = a.size * (part + 1) / parts;
    int64_t at[3];
    lines.offsets(static_cast<uint32_t>(t % lines.total), at);
    T* const to = x + start[0] + at[0];
    const T* v = value + start[1] + at[1];
    const int64_t* i = index + start[2] + at[2];
    for (int64_t j = 0; j < a.count; ++j, v += a.step[1], i += a.step[2]) {
      const int64_t row = *i < 0 ? *i + a.size : *i;
      if (row < 0 || row >= a.size)
        report(r, Fault::index, *i, j, a.size);
      else if (row >= low && row < high)
        to[row * a.step[0]] = folded<fold>(to[row * a.step[0]], *v);
    }
  }
}

void scatter_along(const View& out, const View& value, const View& index, int axis, Fold fold) {
  if (index.numel() == 0) return;
  Shape others = index.shape;
  others[axis] = 1;
  const Along along{index.shape[axis],
                    out.shape[axis],
                    {out.strides[axis], value.strides[axis], index.strides[axis]}};
  const Loop<3> loop(others, {&out.strides, &value.strides, &index.strides});
  each_piece(loop, [&](const GpuLoop<3>& lines, const Offsets<3>& start) {
    const int64_t parts = std::clamp<int64_t>(enough_threads / lines.total, 1, along.size),
                  threads = lines.total * parts;
    dispatch_fold(out.dtype, fold, [&](auto type, auto of) {
      using T = typename decltype(type)::type;
      launch("scatter", out.device, grid_for(out.device, threads), block_threads,
             scatter<T, decltype(of)::value>, lines, start, parts, along, out.as<T>(),
             value.as<T>(), index.as<int64_t>(), report_of(out.device));
    });
  });
}

}  // namespace

void gather_on_gpu(Views out, Views in, const Attrs& attrs) {
  const View &x = in[0], &y = out[0], &index = in[1];
  if (y.numel() == 0) return;
  const int axis = static_cast<int>(attrs.as<ScatterAttrs>().axis);
  const Along along{0, x.shape[axis], {x.strides[axis], 0, 0}};
  Strides lines = x.strides;
  lines[axis] = 0;
  const Loop<3> loop(y.shape, {&lines, &y.strides, &index.strides});
  each_piece(loop, [&](const GpuLoop<3>& all, const Offsets<3>& start) {
    by_size(size_of(x.dtype), [&](auto type) {
      using T = typename decltype(type)::type;
      launch("gather", y.device, grid_for(y.device, all.total), block_threads, gather<T>, all,
             start, along, x.as<T>(), y.as<T>(), index.as<int64_t>(), report_of(y.device));
    });
  });
}

void scatter_on_gpu(Views out, Views in, const Attrs& attrs) {  // x, value, index; out holds x
  const auto& a = attrs.as<ScatterAttrs>();
  const int axis = static_cast<int>(a.axis);
  if (!a.include_self && in[2].numel() > 0) {
    const DeviceScratch start(out[0].device, size_of(out[0].dtype));
    View one{start.as<void>(), {}, {}, out[0].dtype, out[0].device};
    full_on_gpu(Views(&one, 1), {},
                FullAttrs{{}, start_of(a.fold, one.dtype), one.dtype, one.device});
    one.shape = in[2].shape;
    one.strides = Dims::filled(in[2].shape.size(), 0);
    scatter_along(out[0], one, in[2], axis, Fold::set);
  }
  scatter_along(out[0], in[1], in[2], axis, a.fold);
}

}  // namespace wengert
