// Part of gemm.simd.cpp: packing a b that is Patches. A vector that has parts of several runs is
// put together in a register.
#pragma once

#include "ops/matmul/matmul.h"
#include "ops/matmul/pack.h"

namespace wengert::WENGERT_ISA {
namespace {

// Where columns j to j + count of a row lie, less the row's place, if they are neighbours.
template <class T> const T* neighbours(const Patches& p, int64_t j, int64_t count) {
  const int64_t run = j / p.run, x = j - run * p.run;
  if (p.transposed || x + count > p.run) return nullptr;
  return static_cast<const T*>(p.data) + p.starts[run] + x;
}

// Up to a vector of columns: the runs that it has parts of.
template <class T> struct Pieces {
  static constexpr int64_t L = lanes<T>;
  using Mask = decltype(Simd<T>() < Simd<T>());

  Pieces(const Patches& p, int64_t j, int64_t columns) {
    T lane[L];
    for (int i = 0; i < L; ++i) lane[i] = static_cast<T>(i);
    int64_t run = j / p.run, x = j - run * p.run;
    for (int64_t at = 0; at < columns; at += p.run - x, x = 0, ++run) {
      from[count] = p.starts[run] + x - at;
      after[count++] = Simd<T>::load(lane) < Simd<T>(static_cast<T>(at));
    }
  }
  template <int n> Simd<T> load(const T* row) const {
    Simd<T> x = Simd<T>::load(row + from[0]);
    const int pieces = n ? n : count;
    for (int i = 1; i < pieces; ++i) x = select(after[i], x, Simd<T>::load(row + from[i]));
    return x;
  }

  int count = 0;
  int64_t from[L] = {};  // lane 0 of each
  Mask after[L];         // the lanes before it
};

// Terms k to k + ks of up to a vector of columns.
template <class T, int pieces>
void pack_rows(const Patches& p, const Pieces<T>& part, int64_t k, int64_t ks, T* to) {
  const T* const data = static_cast<const T*>(p.data);
  for (int64_t r = 0; r < ks; ++r)
    part.template load<pieces>(data + p.rows[k + r]).store(to + r * lanes<T>);
}
template <class T, int pieces>
void pack_square(const Patches& p, const Pieces<T>& part, int64_t j, int64_t columns, int64_t ks,
                 T* to) {
  constexpr int64_t L = lanes<T>;
  const T* const data = static_cast<const T*>(p.data);
  Simd<T> x[L];
#pragma GCC unroll 16
  for (int r = 0; r < L; ++r)
    x[r] = part.template load<pieces>(data + p.rows[j + (r < columns ? r : 0)]);
  transpose<T>(x, std::make_integer_sequence<int, L>());
#pragma GCC unroll 16
  for (int r = 0; r < L; ++r)
    if (r < ks) x[r].store(to + r * L);
}
template <class T>
void pack_patches(const Patches& p, int64_t k, int64_t ks, int64_t j, int64_t columns, T* to) {
  constexpr int64_t L = lanes<T>;
  if (!p.transposed) {
    const Pieces<T> part(p, j, columns);
    return part.count == 2 ? pack_rows<T, 2>(p, part, k, ks, to)
                           : pack_rows<T, 0>(p, part, k, ks, to);
  }
  for (int64_t i = 0; i < ks; i += L) {
    const int64_t n = min(L, ks - i);
    const Pieces<T> part(p, k + i, n);
    part.count == 1   ? pack_square<T, 1>(p, part, j, columns, n, to + i * L)
    : part.count == 2 ? pack_square<T, 2>(p, part, j, columns, n, to + i * L)
                      : pack_square<T, 0>(p, part, j, columns, n, to + i * L);
  }
}

}  // namespace
}  // namespace wengert::WENGERT_ISA
