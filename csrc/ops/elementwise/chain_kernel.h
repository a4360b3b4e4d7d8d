// What the kernel of a fused chain is made of. program/gpu/chain.cpp writes its source, which
// includes this file and defines `chain`; NVRTC compiles it (gpu/compiler.cu), or g++, against the
// emulation. Formulas are found by the names of their ops, so that no list of them is kept twice.
#pragma once

#if !defined(__CUDACC__)
#include "emulation.h"
#define WENGERT_CHAIN_KERNEL extern "C" void wengert_chain(const wengert::ChainArguments& a)
#else
#define WENGERT_CHAIN_KERNEL                        \
  extern "C" __global__ void __launch_bounds__(256) \
      wengert_chain(const __grid_constant__ wengert::ChainArguments a)
#endif

#include "ops/elementwise/formulas.h"
#include "tensor/convert.h"

namespace wengert::WENGERT_ISA {

// ---- Formulas by name ----

template <int size> struct Name {
  char text[size];
  FN constexpr Name(const char (&from)[size]) {
    for (int i = 0; i < size; ++i) text[i] = from[i];
  }
  FN constexpr bool operator==(const char* other) const {
    for (int i = 0; i < size; ++i)
      if (text[i] != other[i]) return false;
    return true;
  }
};
template <Name name, class Row, class... Rows> FN constexpr auto find(List<Row, Rows...>) {
  if constexpr (name == Row::name)
    return Row{};
  else
    return find<name>(List<Rows...>{});
}
template <class... A, class... B, class... C>
FN constexpr List<A..., B..., C...> join(List<A...>, List<B...>, List<C...>) {
  return {};
}
template <Name name> using Unary = decltype(find<name>(UnaryRows{}));
template <Name name>
using Binary = decltype(find<name>(join(BinaryRows{}, TestRows{}, LogicRows{})));

template <Name name, class T> FN T value(const Params& p, T x) {
  return UnaryFormula<Unary<name>, T>::apply(p, x);
}
template <Name name, class T> FN T vjp(const Params& p, T g, T kept) {
  return VjpFormula<Unary<name>, T>::apply(p, g, kept);
}
template <Name name, class T> FN auto value(const Params& p, T a, T b) {
  using Row = Binary<name>;
  if constexpr (requires { Row::takes; })
    return BinaryFormula<Row, T>::apply(p, a, b);
  else
    return PlainFormula<Row, T, decltype(Row::value(a, b))>::apply(p, a, b);
}
template <class T> FN T where(const Params& p, bool c, T a, T b) {
  return WhereFormula<T>::apply(p, c, a, b);
}

// ---- W adjacent elements of an operand ----

template <class T, int W> struct alignas(W * sizeof(T) < 16 ? W * sizeof(T) : 16) Pack {
  T v[W];
  FN T operator[](int k) const { return v[k]; }
};
template <int W, class T> FN Pack<T, W> load(uint64_t at, int64_t offset) {
  return *reinterpret_cast<const Pack<T, W>*>(reinterpret_cast<const T*>(at) + offset);
}
template <class T> struct Repeated {
  T v;
  FN T operator[](int) const { return v; }
};
template <class T> FN Repeated<T> repeat(uint64_t at, int64_t offset) {
  return {reinterpret_cast<const T*>(at)[offset]};
}
template <class T> FN Repeated<T> given(const ChainArguments& a, int operand) {
  const uint64_t at = a.at[operand];
  if (!(a.given >> operand & 1)) return repeat<T>(at, 0);  // a number that was brought to the GPU
  T v;
  memcpy(&v, &at, sizeof v);
  return {v};
}
template <int W, class T> FN void store(uint64_t at, int64_t offset, const Pack<T, W>& y) {
  *reinterpret_cast<Pack<T, W>*>(reinterpret_cast<T*>(at) + offset) = y;
}

// ---- The loop over the grid ----

template <int W> __device__ void chain(const ChainArguments& a, int64_t i);  // of the source

template <int W> __device__ void each_element(const ChainArguments& a) {
  const int64_t first = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x,
                step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = first; i < a.n / W; i += step) chain<W>(a, i * W);
  if constexpr (W > 1)
    if (const int64_t i = a.n / W * W + first; i < a.n) chain<1>(a, i);
}

}  // namespace wengert::WENGERT_ISA
