// The loops of the updates, vector by vector.
#include "base/vocab.h"
#include "ops/update/rows.h"

namespace wengert::WENGERT_ISA {
namespace {

// States without memory are left alone.
template <class Row, class T>
void update(int64_t n, T* p, const T* g, T* const* state, const Row& constants) {
  using V = Simd<T>;
  const Row s = constants;  // a copy stays in registers: a store to p could change the caller's
  T *const a = state[0], *const b = states_of<Row> > 1 ? state[1] : nullptr,
           *const c = states_of<Row> > 2 ? state[2] : nullptr;
  const int states = (a != nullptr) + (b != nullptr) + (c != nullptr);
  each_vector<V>(n, [&](int64_t i, int count) INLINE {
    V w = load<V>(p + i, count), first(0), second(0), third(0);
    if (a) first = load<V>(a + i, count);
    if (b) second = load<V>(b + i, count);
    if (c) third = load<V>(c + i, count);
    s.update(w, load<V>(g + i, count), first, second, third, states);
    store(p + i, count, w);
    if (a) store(a + i, count, first);
    if (b) store(b + i, count, second);
    if (c) store(c + i, count, third);
  });
}

template <class... Rows> constexpr UpdateKernels kernels(List<Rows...>) {
  return {{UpdateKernelsOf<Rows>{update<Rows, float>, update<Rows, double>}...}};
}

}  // namespace

extern constexpr UpdateKernels update_kernels = kernels(UpdateRows{});

}  // namespace wengert::WENGERT_ISA
