// Sorting and searching on a GPU. sort merges runs of 1, 2, 4, ... items of all rows at once: each
// item counts how many of the other run come before it (Cormen et al., Introduction to Algorithms,
// 27.3). Equal keys keep their order, so it gives the CPU's results.
#include <algorithm>

#include "gpu/launch.h"
#include "ops/order/gpu.h"
#include "ops/order/keys.h"

namespace wengert {

namespace {

template <class K> struct Item {
  K key;
  int64_t at;
};

template <class T>
__global__ void __launch_bounds__(block_threads)
    make_items(int64_t total, int64_t n, const T* x, Item<KeyOf<T>>* items, bool descending) {
  for (int64_t i = first_index(); i < total; i += index_step()) {
    const KeyOf<T> key = key_of(x[i]);
    items[i] = {descending ? static_cast<KeyOf<T>>(~key) : key, i % n};
  }
}

template <class K>
__global__ void __launch_bounds__(block_threads)
    merge(int64_t total, int64_t n, int64_t run, const Item<K>* from, Item<K>* to) {
  for (int64_t i = first_index(); i < total; i += index_step()) {
    const Item<K> item = from[i];
    const int64_t row = i / n * n, at = i - row, pair = at / (2 * run) * 2 * run;
    const bool second = at - pair >= run;
    const int64_t start = second ? pair : pair + run;
    int64_t first = start, end = start + run < n ? start + run : n;
    while (first < end) {
      const int64_t middle = (first + end) / 2;
      const K key = from[row + middle].key;
      const bool before = second ? key <= item.key : key < item.key;
      first = before ? middle + 1 : first;
      end = before ? end : middle;
    }
    to[row + (second ? at - run : at) + first - start] = item;
  }
}

template <class K>  // of which a value has the size
__global__ void __launch_bounds__(block_threads)
    write_ranks(int64_t total, int64_t n, int64_t first, int64_t count, const K* x,
                const Item<K>* sorted, K* values, int64_t* indices) {
  for (int64_t i = first_index(); i < total; i += index_step()) {
    const int64_t row = i / count * n, at = sorted[row + first + i % count].at;
    indices[i] = at;
    values[i] = x[row + at];
  }
}

template <class T>
__global__ void __launch_bounds__(block_threads)
    search(int64_t total, int64_t each, int64_t n, const T* x, const T* v, int64_t* y, bool right) {
  for (int64_t i = first_index(); i < total; i += index_step())
    y[i] = place_in_run(v[i], x + i / each * n, n, right);
}

void sort_on_gpu(Views out, Views in, const Attrs& attrs) {
  const auto [first, count, descending] = attrs.as<SortAttrs>();
  const int64_t total = in[0].numel(), wanted = out[0].numel(), n = in[0].shape.back();
  if (wanted == 0) return;
  const Device d = out[0].device;
  dispatch(in[0].dtype, [&, first = first, count = count, descending = descending](auto type) {
    using T = typename decltype(type)::type;
    using K = KeyOf<T>;
    const auto bytes = total * static_cast<int64_t>(sizeof(Item<K>));
    const DeviceScratch one(d, bytes), two(d, bytes);
    Item<K>*from = one.as<Item<K>>(), *to = two.as<Item<K>>();
    const dim3 grid = grid_for(d, total);
    launch("sort", d, grid, block_threads, make_items<T>, total, n, in[0].as<T>(), from,
           descending);
    for (int64_t run = 1; run < n; run *= 2, std::swap(from, to))
      launch("sort", d, grid, block_threads, merge<K>, total, n, run, from, to);
    launch("sort", d, grid_for(d, wanted), block_threads, write_ranks<K>, wanted, n, first, count,
           in[0].as<K>(), from, out[0].as<K>(), out[1].as<int64_t>());
  });
}

void search_on_gpu(Views out, Views in, const Attrs& attrs) {
  const bool right = attrs.as<SearchAttrs>().right;
  const int64_t total = in[1].numel(), n = in[0].shape.back();
  const int64_t each = in[0].shape.size() == 1 ? total : in[1].shape.back();
  if (total == 0) return;
  dispatch(in[0].dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    launch("searchsorted", out[0].device, grid_for(out[0].device, total), block_threads, search<T>,
           total, each, n, in[0].as<T>(), in[1].as<T>(), out[0].as<int64_t>(), right);
  });
}

}  // namespace

extern const OrderGpu order_gpu{.sort = sort_on_gpu, .search = search_on_gpu};

}  // namespace wengert
