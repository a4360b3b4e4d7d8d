// sort and searchsorted. Everything about order is written with these two: topk, kthvalue, median,
// quantile, unique and the like (python/wengert/order.py).
//
// sort is stable, and gives values and indices of some ranks of each row: all, the first k, or one.
// A row becomes items (key, index), sorted by digits of their keys (LSD radix sort: Knuth, The Art
// of Computer Programming 3, 5.2.5). Of few ranks, only items are sorted whose leading bits are
// those of a wanted one. The result is a function of the values, so it has the same bits for any
// number of threads.
#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "base/pool.h"
#include "base/scratch.h"
#include "graph/batch.h"
#include "ops/functions.h"
#include "ops/gpu.h"
#include "ops/order/gpu.h"
#include "ops/order/keys.h"

namespace wengert {

namespace {

constexpr int64_t chunk_elements = 1 << 16;  // a longer row is shared out among threads
constexpr int64_t few = 64;                  // items that are compared with each other
constexpr int leading = 11;                  // bits

// A key and, in the lower half, an index: one number, by which items are in the order of a stable
// sort.
__extension__ using uint128 = unsigned __int128;
template <class K> using Item = std::conditional_t<sizeof(K) == 4, uint64_t, uint128>;
template <class K> constexpr int index_bits = 8 * sizeof(K);

template <class Body> void for_chunks(int64_t n, const Body& body) {
  parallel_for(ceil_div(n, chunk_elements), [&](int64_t chunk) {
    const int64_t first = chunk * chunk_elements;
    body(chunk, first, std::min(n, first + chunk_elements));
  });
}

// Counts by (chunk, digit) become where each chunk writes its first item of each digit.
using Counts = std::vector<int64_t>;
bool give_places(Counts& counts, int64_t chunks, int64_t digits, int64_t n) {
  int64_t place = 0;
  for (int64_t d = 0; d < digits; ++d) {
    const int64_t before = place;
    for (int64_t c = 0; c < chunks; ++c)
      place += std::exchange(counts[static_cast<size_t>(c * digits + d)], place);
    if (place - before == n) return false;  // all have this digit
  }
  return true;
}

// n items, of which the first `wanted` are needed in order; `other` has room for as many. Returns
// which of both has them.
template <class K>
Item<K>* sort_items(Item<K>* x, Item<K>* other, int64_t n, int64_t wanted, int key_bits) {
  if (std::is_sorted(x, x + n)) return x;
  if (n <= few) {
    4 * wanted < n ? std::partial_sort(x, x + wanted, x + n) : std::sort(x, x + n);
    return x;
  }
  const int bits = n < 1 << 14 ? 8 : leading;
  const int64_t digits = int64_t{1} << bits, chunks = ceil_div(n, chunk_elements);
  Counts counts(static_cast<size_t>(chunks * digits));
  for (int shift = 0; shift < key_bits; shift += bits) {
    const auto digit = [=](Item<K> item) {
      return static_cast<int64_t>(item >> (index_bits<K> + shift)) & (digits - 1);
    };
    for_chunks(n, [&](int64_t chunk, int64_t first, int64_t end) {
      int64_t* const count = counts.data() + chunk * digits;
      std::fill(count, count + digits, 0);
      for (int64_t i = first; i < end; ++i) ++count[digit(x[i])];
    });
    if (!give_places(counts, chunks, digits, n)) continue;
    for_chunks(n, [&](int64_t chunk, int64_t first, int64_t end) {
      int64_t* const place = counts.data() + chunk * digits;
      for (int64_t i = first; i < end; ++i) other[place[digit(x[i])]++] = x[i];
    });
    std::swap(x, other);
  }
  return x;
}

// One row: K holds a key, and the row's indices.
template <class T, class K> struct Row {
  const T* x;
  int64_t n;
  SortAttrs wanted;
  Item<K>* items;  // room for 2 * n

  static constexpr int key_bits = std::is_same_v<T, bool> ? 1 : 8 * sizeof(T);

  KeyOf<T> directed(T v) const {
    const KeyOf<T> k = key_of(v);
    return wanted.descending ? static_cast<KeyOf<T>>(~k) : k;
  }
  KeyOf<T> key(int64_t i) const { return directed(x[i]); }
  Item<K> item(int64_t i) const {
    return static_cast<Item<K>>(key(i)) << index_bits<K> | static_cast<K>(i);
  }

  // The next two compare values, not keys, as vector instructions do. first_of passes over NaN.
  T first_of(const T* from, int64_t count) const {
    using Limits = std::numeric_limits<std::conditional_t<std::is_same_v<T, bfloat16>, float, T>>;
    constexpr auto high = Limits::has_infinity ? Limits::infinity() : Limits::max();
    constexpr auto low = Limits::has_infinity ? -Limits::infinity() : Limits::lowest();
    T y = wanted.descending ? T(low) : T(high);
    if (wanted.descending)
      for (int64_t i = 0; i < count; ++i) y = from[i] > y ? from[i] : y;
    else
      for (int64_t i = 0; i < count; ++i) y = from[i] < y ? from[i] : y;
    return y;
  }
  bool all_behind(const T* from, int64_t count, T v) const {
    KeyOf<T> found = 0;  // as wide as T
    if (wanted.descending)
      for (int64_t i = 0; i < count; ++i) found |= from[i] < v ? 0 : 1;
    else
      for (int64_t i = 0; i < count; ++i) found |= from[i] <= v ? 1 : 0;
    return !found;
  }

  // Items that make(first, end, to) writes for each chunk, moved together. Returns how many they
  // are, or 0 where it returned null.
  template <class Make> int64_t make_items(const Make& make) const {
    std::vector<Item<K>*> ends(static_cast<size_t>(ceil_div(n, chunk_elements)));
    for_chunks(n, [&](int64_t chunk, int64_t first, int64_t end) {
      ends[static_cast<size_t>(chunk)] = make(first, end, items + first);
    });
    Item<K>*to = items, *from = items;
    for (Item<K>* const end : ends) {
      if (!end) return 0;
      to = std::copy(from, end, to);
      from += chunk_elements;
    }
    return to - items;
  }

  // Of few first values. A chunk is cut into pieces, of which as many as values are wanted have one
  // that is not behind a bound: items are made of all values that are not. Returns how many, or 0
  // if they are too few, because a piece had nothing but NaN.
  int64_t choose_first() const {
    return make_items([&](int64_t first, int64_t end, Item<K>* to) -> Item<K>* {
      const int64_t size = std::max<int64_t>(8, (end - first) / (4 * wanted.count));
      const int64_t pieces = (end - first) / size;
      const bool bounded = pieces >= wanted.count;
      T bound{};
      if (bounded) {
        T *const tops = reinterpret_cast<T*>(to + n), *const last = tops + wanted.count - 1;
        for (int64_t i = 0; i < pieces; ++i) tops[i] = first_of(x + first + i * size, size);
        std::nth_element(tops, last, tops + pieces,
                         [&](T a, T b) { return wanted.descending ? a > b : a < b; });
        bound = *last;
      }
      const KeyOf<T> limit = directed(bound);
      const Item<K>* const start = to;
      for (int64_t i = first; i < end;) {
        const int64_t stop = std::min(end, i + 16);
        if (bounded && all_behind(x + i, stop - i, bound)) i = stop;
        for (; i < stop; ++i) {
          *to = item(i);
          to += !bounded || key(i) <= limit;
        }
      }
      return bounded && to - start < wanted.count ? nullptr : to;
    });
  }

  // Makes items of the values of which the wanted ones are some. Returns how many they are, and how
  // many values come before them.
  std::pair<int64_t, int64_t> choose() const {
    if (wanted.first == 0 && 8 * wanted.count <= std::min(n, chunk_elements))
      if (const int64_t chosen = choose_first()) return {chosen, 0};
    const auto make = [&](int64_t low, int64_t high, int shift) {
      return make_items([=, this](int64_t first, int64_t end, Item<K>* to) {
        for (int64_t i = first; i < end; ++i) {
          const int64_t bin = static_cast<int64_t>(key(i) >> shift);
          *to = item(i);
          to += bin >= low && bin <= high;
        }
        return to;
      });
    };
    constexpr int shift = key_bits > leading ? key_bits - leading : 0;
    constexpr int64_t bins = int64_t{1} << std::min(leading, static_cast<int>(8 * sizeof(T)));
    if (n <= few || 2 * wanted.count > n) return {make(0, bins, shift), 0};
    const int64_t chunks = ceil_div(n, chunk_elements);
    Counts counts(static_cast<size_t>(chunks * bins));
    for_chunks(n, [&](int64_t chunk, int64_t first, int64_t end) {
      int64_t* const count = counts.data() + chunk * bins;
      for (int64_t i = first; i < end; ++i) ++count[key(i) >> shift];
    });
    int64_t low = 0, bin = 0, before = 0;  // values before the bin `low`
    for (int64_t until = 0; until < wanted.first + wanted.count; ++bin) {
      if (until <= wanted.first) {
        low = bin;
        before = until;
      }
      for (int64_t c = 0; c < chunks; ++c) until += counts[static_cast<size_t>(c * bins + bin)];
    }
    return {make(low, bin - 1, shift), before};
  }

  void sort(T* values, int64_t* indices) const {
    const auto [chosen, before] = choose();
    const int64_t first = wanted.first - before;
    const Item<K>* const sorted =
        sort_items<K>(items, items + n, chosen, first + wanted.count, key_bits) + first;
    for_chunks(wanted.count, [&](int64_t, int64_t from, int64_t end) {
      for (int64_t i = from; i < end; ++i) {
        const int64_t at = static_cast<K>(sorted[i]);
        indices[i] = at;
        values[i] = x[at];
      }
    });
  }
};

template <class T, class K> void sort_rows(Views out, const View& x, const SortAttrs& wanted) {
  const int64_t n = x.shape.back(), rows = x.numel() / n;
  const auto sort_row = [&](int64_t row, void* memory) {
    Row<T, K>{x.as<T>() + row * n, n, wanted, static_cast<Item<K>*>(memory)}.sort(
        out[0].as<T>() + row * wanted.count, out[1].as<int64_t>() + row * wanted.count);
  };
  const auto bytes = static_cast<int64_t>(sizeof(Item<K>)) * 2 * n;
  if (n > chunk_elements) {
    const Tensor memory(Shape{bytes}, DType::uint8);
    for (int64_t row = 0; row < rows; ++row) sort_row(row, memory.data());
    return;
  }
  const int64_t per_chunk = std::max<int64_t>(1, (1 << 14) / n);
  parallel_for(ceil_div(rows, per_chunk), [&](int64_t chunk) {
    void* const memory = scratch(Scratch::chunk, static_cast<size_t>(bytes));
    if (!memory) scratch_failed("sort");
    const int64_t end = std::min(rows, (chunk + 1) * per_chunk);
    for (int64_t row = chunk * per_chunk; row < end; ++row) sort_row(row, memory);
  });
}

void infer_sort(Tensors in, const Attrs& attrs, SmallVector<Meta, 2>& out) {
  Shape shape = in[0].shape();
  shape[shape.size() - 1] = attrs.as<SortAttrs>().count;
  out.emplace_back(shape, in[0].dtype(), in[0].device());
  out.emplace_back(shape, DType::int64, in[0].device());
}
void run_sort(Views out, Views in, const Attrs& attrs) {
  if (out[0].numel() == 0) return;
  dispatch(in[0].dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    const auto& wanted = attrs.as<SortAttrs>();
    if constexpr (sizeof(T) <= 4)
      if (in[0].shape.back() <= UINT32_MAX) return sort_rows<T, uint32_t>(out, in[0], wanted);
    sort_rows<T, uint64_t>(out, in[0], wanted);
  });
}
Saves save_indices(uint32_t, const Attrs&) { return save_auxiliary; }
void vjp_sort(const Line& line, const Tensor& g, Gradients& dx) {
  const Tensor zeros = full(line.inputs[0].shape, 0, g.dtype(), g.device());
  dx[0] = scatter(zeros, -1, line.auxiliary(), g, {.by = "sort", .fold = Fold::add});
}
Cost cost_sort(Tensors in, const Tensor& out, const Attrs&) {
  Cost cost = default_cost(in, out);
  const auto n = static_cast<double>(in[0].shape().back());
  cost.flops = static_cast<double>(in[0].numel()) * std::log2(std::max(2.0, n));
  cost.bytes += 8 * static_cast<double>(out.numel());
  return cost;
}
void describe_sort(const Attrs& attrs, NamedAttrs& named) {
  const auto [first, count, descending] = attrs.as<SortAttrs>();
  named = {{"first", first}, {"count", count}, {"descending", descending}};
}
const Op sort_op{.name = "sort",
                 .formula = "x in order along the last axis, from rank first on, and the indices",
                 .gradient = {"zeros, with g at the indices"},
                 .numpy = "sort({x}, {first}, {count}, {descending})",
                 .infer = infer_sort,
                 .run = run_sort,
                 .gpu = on_gpu<&GpuKernels::order, &OrderGpu::sort>,
                 .vjp = vjp_sort,
                 .saves = save_indices,
                 .cost = cost_sort,
                 .describe = describe_sort,
                 .bfloat16 = true,
                 .batch = batch_rows<>};

// ---- searchsorted ----

void infer_search(Tensors in, const Attrs&, SmallVector<Meta, 2>& out) {
  out.emplace_back(in[1].shape(), DType::int64, in[1].device());
}
void run_search(Views out, Views in, const Attrs& attrs) {
  const bool right = attrs.as<SearchAttrs>().right;
  const int64_t total = in[1].numel(), n = in[0].shape.back();
  const int64_t each = in[0].shape.size() == 1 ? total : in[1].shape.back();
  dispatch(in[0].dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    parallel_for(ceil_div(total, 1 << 12), [&](int64_t chunk) {
      const int64_t end = std::min(total, (chunk + 1) << 12);
      for (int64_t i = chunk << 12; i < end; ++i)
        out[0].as<int64_t>()[i] =
            place_in_run(in[1].as<T>()[i], in[0].as<T>() + i / each * n, n, right);
    });
  });
}
Cost cost_search(Tensors in, const Tensor& out, const Attrs&) {
  Cost cost = default_cost(in, out);
  const auto n = static_cast<double>(in[0].shape().back());
  cost.flops = static_cast<double>(out.numel()) * std::log2(std::max(2.0, n));
  return cost;
}
void describe_search(const Attrs& attrs, NamedAttrs& named) {
  named.emplace_back("right", attrs.as<SearchAttrs>().right);
}
const Op search_op{.name = "searchsorted",
                   .operands = "x, v",
                   .formula = "how many of x are before v",
                   .numpy = "searchsorted({x}, {v}, {right})",
                   .infer = infer_search,
                   .run = run_search,
                   .gpu = on_gpu<&GpuKernels::order, &OrderGpu::search>,
                   .no_gradient = "an index is piecewise constant",
                   .cost = cost_search,
                   .describe = describe_search,
                   .bfloat16 = true};

}  // namespace

void add_order_ops(std::vector<const Op*>& ops) {
  for (const Op* op : {&sort_op, &search_op}) ops.push_back(op);
}

std::pair<Tensor, Tensor> sort(const Tensor& given, int64_t axis_given, int64_t first,
                               int64_t count, bool descending) {
  const Tensor x = given.dim() ? given : reshape(given, {1});
  const int axis = normalize_axis("sort", axis_given, x.dim()), last = x.dim() - 1;
  if (first < 0 || count < 0 || first + count > x.shape()[axis])
    fail<IndexError>("sort: ranks ", first, " to ", first + count, " of axis ", axis, " of shape ",
                     x.shape(), ", which has ", x.shape()[axis], " elements");
  const auto turned = [&](const Tensor& t) { return axis == last ? t : transpose(t, axis, last); };
  Tensor indices;
  const Tensor in = contiguous(turned(x));
  const Tensor values =
      apply(sort_op, Tensors(&in, 1), SortAttrs{first, count, descending}, &indices);
  if (given.dim() == 0 && count == 1) return {reshape(values, {}), reshape(indices, {})};
  return {turned(values), turned(indices)};
}

Tensor searchsorted(const Tensor& sorted, const Tensor& values, bool right) {
  const Shape &x = sorted.shape(), &v = values.shape();
  bool fits = x.size() == 1 || x.size() == v.size();
  for (int d = 0; fits && d + 1 < x.size(); ++d) fits = x[d] == v[d];
  if (!fits || x.empty())
    fail<ShapeError>("searchsorted: the sorted sequence has shape ", x, " and the values ", v,
                     "; expected one axis, or the values' shape but for the last axis");
  const auto [a, b] = promote_both(sorted, values, DType::bool_);
  return apply(search_op, contiguous(a), contiguous(b), SearchAttrs{right});
}

}  // namespace wengert
