// Images copied with zeros around them; convolution of few channels, such as depthwise, which has
// too few terms for a product of matrices to pay.
#include <utility>

#include "base/simd.h"
#include "base/vocab.h"
#include "ops/conv/rows.h"

namespace wengert::WENGERT_ISA {
namespace {

constexpr int together = 8;  // vectors whose sums are in registers

// Every second element of two vectors, from the first or the second on.
template <class T, int first, int... i>
FN Simd<T> alternate(Simd<T> a, Simd<T> b, std::integer_sequence<int, i...>) {
  return __builtin_shufflevector(a.v, b.v, (2 * i + first)...);
}
// The lower or upper half of a and b, in turns.
template <class T, int from, int... i>
FN Simd<T> zipped(Simd<T> a, Simd<T> b, std::integer_sequence<int, i...>) {
  constexpr int L = Simd<T>::width;
  return __builtin_shufflevector(a.v, b.v, (from + i / 2 + i % 2 * L)...);
}
// Some lanes: those from one to another, both of which may lie outside the vector.
template <class T> FN int lane_at(int64_t i) {
  return i < 0 ? 0 : i > Simd<T>::width ? Simd<T>::width : static_cast<int>(i);
}
#if defined(__AVX512F__)
template <class T> struct Lanes {
  Lanes() = default;
  FN Lanes(int64_t from, int64_t to)
      : mask(((1u << lane_at<T>(to)) - 1) & ~((1u << lane_at<T>(from)) - 1)) {}
  FN Simd<T> load(const T* p) const {  // 0 in the other lanes
    if constexpr (sizeof(T) == 4)
      return (typename Simd<T>::Vec)_mm512_maskz_loadu_epi32(static_cast<__mmask16>(mask), p);
    else
      return (typename Simd<T>::Vec)_mm512_maskz_loadu_epi64(static_cast<__mmask8>(mask), p);
  }
  FN void store(T* p, Simd<T> x) const {
    if constexpr (sizeof(T) == 4)
      _mm512_mask_storeu_epi32(p, static_cast<__mmask16>(mask), (__m512i)x.v);
    else
      _mm512_mask_storeu_epi64(p, static_cast<__mmask8>(mask), (__m512i)x.v);
  }
  unsigned mask;
};
#elif defined(__AVX2__)
template <class T> struct Lanes {
  Lanes() = default;
  FN Lanes(int64_t from, int64_t to)
      : from(lane_at<T>(from)), to(lane_at<T>(to)), some(Simd<T>::lanes(this->from, this->to)) {}
  FN Simd<T> load(const T* p) const {
    if constexpr (sizeof(T) == 4)
      return (typename Simd<T>::Vec)_mm256_maskload_ps(p, (__m256i)some);
    else
      return (typename Simd<T>::Vec)_mm256_maskload_pd(p, (__m256i)some);
  }
  FN void store(T* p, Simd<T> x) const {
    if (from == 0) return x.store_n(p, to);
    T lane[Simd<T>::width];
    x.store(lane);
    for (int l = from; l < to; ++l) p[l] = lane[l];
  }
  int from, to;
  typename Simd<T>::Bits some;
};
#else
template <class T> struct Lanes {
  Lanes() = default;
  FN Lanes(int64_t from, int64_t to) : from(lane_at<T>(from)), to(lane_at<T>(to)) {}
  __attribute__((noinline)) Simd<T> load(const T* p) const {
    if (from == 0 && to == Simd<T>::width) return Simd<T>::load(p);
    T lane[Simd<T>::width] = {};
    for (int l = from; l < to; ++l) lane[l] = p[l];
    return Simd<T>::load(lane);
  }
  __attribute__((noinline)) void store(T* p, Simd<T> x) const {
    if (from == 0 && to == Simd<T>::width) return x.store(p);
    T lane[Simd<T>::width];
    x.store(lane);
    for (int l = from; l < to; ++l) p[l] = lane[l];
  }
  int from, to;
};
#endif

}  // namespace
}  // namespace wengert::WENGERT_ISA

#include "ops/conv/depthwise.h"  // with the functions above

namespace wengert::WENGERT_ISA {
namespace {

// to[i] = x[i * step] for begin <= i < end, and 0 for the others of n from i on; step is 1 or 2.
template <class T>
FN void copy_vector(const T* x, int64_t step, int64_t begin, int64_t end, T* to, int64_t i, int n) {
  constexpr int64_t L = Simd<T>::width;
  const int64_t first = begin - i, last = end - i;
  const T* const at = x + i * step;
  if (step == 1) return store<Simd<T>>(to + i, n, Lanes<T>(first, last).load(at));
  const Simd<T> a = Lanes<T>(2 * first, 2 * last - 1).load(at),
                b = Lanes<T>(2 * first - L, 2 * last - 1 - L).load(at + L);
  store<Simd<T>>(to + i, n, alternate<T, 0>(a, b, std::make_integer_sequence<int, L>()));
}
template <class T> void copy(const PlaneCopy& c, const void* from, void* into) {
  constexpr int64_t L = Simd<T>::width;
  const auto &z = c.side[0], &y = c.side[1], &w = c.side[2];
  const T* const x = static_cast<const T*>(from);
  T* to = static_cast<T*>(into);
  const int64_t n = w.rows, step = w.stride;
  for (int64_t pz = 0; pz < z.phase_count; ++pz)
    for (int64_t py = 0; py < y.phase_count; ++py)
      for (int64_t pw = 0; pw < w.phase_count; ++pw) {
        const int64_t first = w.phases[pw] + w.low;
        const int64_t begin = first < 0 ? (step - 1 - first) / step : 0;
        const int64_t end = first < w.in ? (w.in - first + step - 1) / step : 0;
        for (int64_t rz = 0; rz < z.rows; ++rz)
          for (int64_t ry = 0; ry < y.rows; ++ry, to += n) {
            const int64_t at_z = rz * z.stride + z.phases[pz] + z.low,
                          at_y = ry * y.stride + y.phases[py] + y.low;
            const T* const row = x + (at_z * y.in + at_y) * w.in + first;
            if (at_z < 0 || at_z >= z.in || at_y < 0 || at_y >= y.in)
              each_vector<Simd<T>>(n, [&](int64_t i, int count)
                                          INLINE { store<Simd<T>>(to + i, count, Simd<T>(T(0))); });
            else if (step > 2)
              for (int64_t i = 0; i < n; ++i) to[i] = i >= begin && i < end ? row[i * step] : T(0);
            else if (n <= L)  // its masks are those of all rows
              copy_vector<T>(row, step, begin, end, to, 0, static_cast<int>(n));
            else
              each_vector<Simd<T>>(n, [&](int64_t i, int count) INLINE {
                copy_vector<T>(row, step, begin, end, to, i, count);
              });
          }
      }
}

template <class T> void spread(const void* given, int64_t n, void* into, int64_t step) {
  constexpr int64_t L = Simd<T>::width;
  const T* const from = static_cast<const T*>(given);
  T* const to = static_cast<T*>(into);
  int64_t i = 0;
  if (step == 1)
    for (; i + L <= n; i += L) Simd<T>::load(from + i).store(to + i);
  if (step == 2) {  // the elements between, of the same row, are written back as they are
    T lane[L];
    for (int l = 0; l < L; ++l) lane[l] = static_cast<T>(l % 2);
    const auto odd = Simd<T>::load(lane) != Simd<T>(T(0));
    constexpr auto all = std::make_integer_sequence<int, L>();
    for (; i + L < n; i += L) {
      const Simd<T> x = Simd<T>::load(from + i);
      T* const at = to + 2 * i;
      select(odd, Simd<T>::load(at), zipped<T, 0>(x, x, all)).store(at);
      select(odd, Simd<T>::load(at + L), zipped<T, L / 2>(x, x, all)).store(at + L);
    }
  }
  for (; i < n; ++i) to[i * step] = from[i];
}

template <class T, int n> void sum_rows(const FewChannels& f, const Row* rows, const T* w, T* y) {
  const T* const x = static_cast<const T*>(f.x);
  Simd<T> sum[n];
#pragma GCC unroll 8
  for (int i = 0; i < n; ++i) sum[i] = Simd<T>(T(0));
  for (int64_t k = 0; k < f.terms; ++k) {
    const T* const at = x + f.bases[k];
    const Simd<T> weight(w[k]);
#pragma GCC unroll 8
    for (int i = 0; i < n; ++i) sum[i] = fma(Simd<T>::load(at + rows[i].place), weight, sum[i]);
  }
#pragma GCC unroll 8
  for (int i = 0; i < n; ++i) store<Simd<T>>(y + rows[i].result, rows[i].count, sum[i]);
}
template <class T, int... n>
void sum_rest(const FewChannels& f, int64_t r, const T* w, T* y, std::integer_sequence<int, n...>) {
  ((f.row_count - r == n ? sum_rows<T, n>(f, f.rows + r, w, y) : void()), ...);
}
template <class T> void few(const FewChannels& f, const void* given, void* to) {
  const T* const w = static_cast<const T*>(given);
  T* const y = static_cast<T*>(to);
  int64_t r = 0;
  for (; r + together <= f.row_count; r += together) sum_rows<T, together>(f, f.rows + r, w, y);
  sum_rest(f, r, w, y, std::integer_sequence<int, 1, 2, 3, 4, 5, 6, 7>());
}

template <class T, int n>
void sum_terms(const FewChannels& f, int64_t k, const T* g, double* sums) {
  constexpr int L = Simd<T>::width;
  constexpr int64_t chain = 64;  // vectors summed in T
  T lanes_of[L];
  for (int l = 0; l < L; ++l) lanes_of[l] = static_cast<T>(l);
  const Simd<T> lane = Simd<T>::load(lanes_of);
  const T* x[n];
#pragma GCC unroll 12
  for (int i = 0; i < n; ++i) x[i] = static_cast<const T*>(f.x) + f.bases[k + i];
  for (int i = 0; i < n; ++i) sums[k + i] = 0;
  for (int64_t first = 0; first < f.row_count; first += chain) {
    const int64_t end = first + chain < f.row_count ? first + chain : f.row_count;
    Simd<T> sum[n];
#pragma GCC unroll 12
    for (int i = 0; i < n; ++i) sum[i] = Simd<T>(T(0));
    for (int64_t r = first; r < end; ++r) {
      const Row& row = f.rows[r];
      if (row.count == L) {
        const Simd<T> gs = Simd<T>::load(g + row.result);
#pragma GCC unroll 12
        for (int i = 0; i < n; ++i) sum[i] = fma(Simd<T>::load(x[i] + row.place), gs, sum[i]);
      } else {
        // load_n sets the other lanes to 1: no NaN of other rows comes in.
        const Simd<T> gs = select(lane < Simd<T>(static_cast<T>(row.count)),
                                  Simd<T>::load_n(g + row.result, row.count), Simd<T>(T(0)));
#pragma GCC unroll 12
        for (int i = 0; i < n; ++i)
          sum[i] = fma(Simd<T>::load_n(x[i] + row.place, row.count), gs, sum[i]);
      }
    }
#pragma GCC unroll 12
    for (int i = 0; i < n; ++i) {
      T parts[L];
      sum[i].store(parts);
      double total = 0;
      for (int l = 0; l < L; ++l) total += static_cast<double>(parts[l]);
      sums[k + i] += total;
    }
  }
}
template <class T> void few_weights(const FewChannels& f, const void* g, double* sums) {
  int64_t k = 0;
  for (; k + 9 <= f.terms; k += 9) sum_terms<T, 9>(f, k, static_cast<const T*>(g), sums);
  for (; k + 5 <= f.terms; k += 5) sum_terms<T, 5>(f, k, static_cast<const T*>(g), sums);
  for (; k < f.terms; ++k) sum_terms<T, 1>(f, k, static_cast<const T*>(g), sums);
}

template <class T, int K>
constexpr DepthwiseKernels depthwise_kernels = {
    {depthwise<T, K, 1>, depthwise<T, K, 2>},
    depthwise_back<T, K>,
    {depthwise_weights<T, K, 1>, depthwise_weights<T, K, 2>}};

}  // namespace

const ConvKernels conv_kernels = {{copy<float>, copy<double>},
                                  {spread<float>, spread<double>},
                                  {few<float>, few<double>},
                                  {few_weights<float>, few_weights<double>},
                                  {Simd<float>::width, Simd<double>::width},
                                  {{depthwise_kernels<float, 3>, depthwise_kernels<float, 5>},
                                   {depthwise_kernels<double, 3>, depthwise_kernels<double, 5>}}};

}  // namespace wengert::WENGERT_ISA
