// The cells of ops/recurrent/cells.h, vector by vector.
#include "ops/recurrent/recurrent.h"

#include "base/vocab.h"

namespace wengert::WENGERT_ISA {
namespace {

template <class C, class T> void next(const CellRows<T>& rows, int64_t first, int64_t end) {
  for (int64_t n = first; n < end; ++n)
    each_vector<Simd<T>>(rows.width, [&](int64_t i, int count)
                                         INLINE { next_units<C, Simd<T>>(rows, n, i, count); });
}
template <class C, class T> void back(const CellGradient<T>& rows, int64_t first, int64_t end) {
  for (int64_t n = first; n < end; ++n)
    each_vector<Simd<T>>(rows.width, [&](int64_t i, int count)
                                         INLINE { back_units<C, Simd<T>>(rows, n, i, count); });
}
template <class... C> constexpr RecurrentKernels kernels_of(CellList<C...>) {
  return {{{next<C, float>, back<C, float>}...}, {{next<C, double>, back<C, double>}...}};
}

}  // namespace

const RecurrentKernels recurrent_kernels = kernels_of(Cells{});

}  // namespace wengert::WENGERT_ISA
