// Convolution of few channels, such as depthwise: too few terms for a product of matrices to pay.
#include "base/simd.h"
#include "base/vocab.h"
#include "ops/conv/rows.h"

namespace wengert::WENGERT_ISA {
namespace {

constexpr int together = 8;  // vectors whose sums are in registers

template <class T, int n> void sum_rows(const FewChannels& f, const Row* rows, const T* w, T* y) {
  constexpr int L = Simd<T>::width;
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
  static_assert(L >= 1);
}
template <class T> void few(const FewChannels& f, const void* w, void* y) {
  int64_t r = 0;
  for (; r + together <= f.row_count; r += together)
    sum_rows<T, together>(f, f.rows + r, static_cast<const T*>(w), static_cast<T*>(y));
  for (; r < f.row_count; ++r)
    sum_rows<T, 1>(f, f.rows + r, static_cast<const T*>(w), static_cast<T*>(y));
}

template <class T, int n>
void sum_terms(const FewChannels& f, int64_t k, const T* g, double* sums) {
  constexpr int L = Simd<T>::width;
  constexpr int64_t chain = 64;  // vectors summed in T
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
        T part[L] = {};
        for (int l = 0; l < row.count; ++l) part[l] = g[row.result + l];
        const Simd<T> gs = Simd<T>::load(part);
        // load_n sets the other lanes to 1, and so keeps NaN of other rows out.
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

}  // namespace

const ConvKernels conv_kernels = {{few<float>, few<double>},
                                  {few_weights<float>, few_weights<double>},
                                  {Simd<float>::width, Simd<double>::width}};

}  // namespace wengert::WENGERT_ISA
