// Elementwise ops on a GPU. From each row two kernels at most: one that takes any strides, and, for
// float32, one that moves 16 bytes at a time where all operands lie in one piece. bfloat16 is
// widened and rounded on the way, by the formulas of float32.
#include <tuple>
#include <utility>

#include "ops/cuda_kernels.h"
#include "ops/elementwise_formulas.h"
#include "tensor/walk.h"

namespace wengert::WENGERT_ISA {
namespace {

// An input: elements in memory, or one value, from the host or from memory.
template <class T> struct Operand {
  const T* data;  // null: the value
  T value;
  bool repeated;

  __device__ T get(int64_t at) const { return data ? data[at] : value; }
  __device__ float4 four(int64_t i) const {
    if (!repeated) return reinterpret_cast<const float4*>(data)[i];
    const T v = get(0);
    return {v, v, v, v};
  }
};

template <class F, class... In, size_t... k>
__device__ auto apply_at(const int64_t* at, const Params& p, std::index_sequence<k...>,
                         const Operand<In>&... x) {
  return F::apply(p, x.get(at[k + 1])...);
}
template <class F, class Out, class... In>
__global__ void __launch_bounds__(block_threads)
    strided(Walk<1 + sizeof...(In)> walk, Out* y, Params p, Operand<In>... x) {
#pragma unroll 1
  for (int64_t i = first_index(); i < walk.total; i += index_step()) {
    int64_t at[1 + sizeof...(In)];
    walk.offsets(static_cast<uint32_t>(i), at);
    y[at[0]] = static_cast<Out>(apply_at<F>(at, p, std::index_sequence_for<In...>(), x...));
  }
}

template <class F, class... Four> __device__ float4 apply_to_four(const Params& p, Four... x) {
  return {F::apply(p, x.x...), F::apply(p, x.y...), F::apply(p, x.z...), F::apply(p, x.w...)};
}
template <class F, class... X>
__global__ void __launch_bounds__(block_threads) adjacent(int64_t n, float* y, Params p, X... x) {
  for (int64_t i = first_index(); i < n / 4; i += index_step())
    reinterpret_cast<float4*>(y)[i] = apply_to_four<F>(p, x.four(i)...);
  const int64_t i = n / 4 * 4 + first_index();
  if (i < n) y[i] = F::apply(p, x.get(x.repeated ? 0 : i)...);
}

// The kernels of one formula. What the host does with them depends on their types alone, so that it
// is compiled once for many formulas.
template <class Out, class... In> struct Kernels {
  const char* name;
  void (*strided)(Walk<1 + sizeof...(In)>, Out*, Params, Operand<In>...);
  void (*adjacent)(int64_t, float*, Params, Operand<In>...);  // null but where all are float

  void run(const View& out, const View* in, const Params& p) const {
    run(out, in, p, std::index_sequence_for<In...>());
  }

 private:
  template <class T> static Operand<T> operand(const View& x) {
    if (is_cuda(x.device)) return {x.as<T>(), T{}, x.numel() == 1};
    const Varying<T> constant = varying(*x.as<T>());
    return {constant.slot, constant.value, true};
  }
  template <class T> static Operand<T> moved(Operand<T> x, int64_t at) {
    if (x.data) x.data += at;
    return x;
  }
  static bool flat(const View& v, const View& out) {
    return v.shape == out.shape && is_contiguous(v.shape, v.strides) &&
           reinterpret_cast<uintptr_t>(v.data) % 16 == 0;
  }
  template <size_t... k>
  void run(const View& out, const View* in, const Params& p, std::index_sequence<k...>) const {
    constexpr int N = 1 + sizeof...(In);
    const int64_t n = out.numel();
    const Device d = out.device;
    if (n == 0) return;
    const std::tuple<Operand<In>...> operands{operand<In>(in[k])...};  // in order
    if (adjacent && flat(out, out) && (true && ... && (in[k].numel() == 1 || flat(in[k], out))))
      return launch(name, d, grid_for(d, divide_up(n, 4)), block_threads, adjacent, n,
                    out.as<float>(), p, std::get<k>(operands)...);
    const Strides strides[N] = {out.strides,
                                broadcast_strides(in[k].shape, in[k].strides, out.shape)...};
    const Strides* all[N] = {&strides[0], &strides[k + 1]...};
    each_piece(Loop<N>(out.shape, all), [&](const Walk<N>& walk, const Offsets<N>& start) {
      launch(name, d, grid_for(d, walk.total), block_threads, strided, walk,
             out.as<Out>() + start[0], p, moved(std::get<k>(operands), start[k + 1])...);
    });
  }
};
template <class F, class Out, class... In>
void run(const View& out, const View* in, const Params& p) {
  Kernels<Out, In...> kernels{F::name, strided<F, Out, In...>, nullptr};
  if constexpr ((std::is_same_v<Out, float> && ... && std::is_same_v<In, float>))
    kernels.adjacent = adjacent<F, Operand<In>...>;
  kernels.run(out, in, p);
}

// The kernel of a formula; of one over T, where memory holds Stored in its place.
template <class X, class T, class Stored>
using Held = std::conditional_t<std::is_same_v<X, T>, Stored, X>;
template <class F, class T, class Stored, class Out, class... In>
constexpr CudaElementwise kernel_of(Out (*)(const Params&, In...)) {
  return run<F, Held<Out, T, Stored>, Held<In, T, Stored>...>;
}
template <class F, class T = void, class Stored = void>
constexpr CudaElementwise kernel = kernel_of<F, T, Stored>(&F::apply);

using Table = ElementwiseTable<CudaElementwise>;

template <template <class, class> class F, class Row> constexpr Table::ByDType floating() {
  Table::ByDType by{};
  by[static_cast<size_t>(DType::bfloat16)] = kernel<F<Row, float>, float, bfloat16>;
  by[static_cast<size_t>(DType::float32)] = kernel<F<Row, float>>;
  by[static_cast<size_t>(DType::float64)] = kernel<F<Row, double>>;
  return by;
}
template <template <class, class> class F, class Row> constexpr Table::ByDType by_dtype() {
  Table::ByDType by = floating<F, Row>();
  if constexpr (Row::takes == Takes::numbers) {
    by[static_cast<size_t>(DType::uint8)] = kernel<F<Row, uint8_t>>;
    by[static_cast<size_t>(DType::int32)] = kernel<F<Row, int32_t>>;
    by[static_cast<size_t>(DType::int64)] = kernel<F<Row, int64_t>>;
  }
  return by;
}
template <class Row> constexpr Table::ByDType tests() {
  return {kernel<PlainFormula<Row, bool, bool>>,
          kernel<PlainFormula<Row, uint8_t, bool>>,
          kernel<PlainFormula<Row, int32_t, bool>>,
          kernel<PlainFormula<Row, int64_t, bool>>,
          kernel<PlainFormula<Row, float, bool>, float, bfloat16>,
          kernel<PlainFormula<Row, float, bool>>,
          kernel<PlainFormula<Row, double, bool>>};
}
template <class Row> constexpr Table::ByDType logic() {
  return {kernel<PlainFormula<Row, bool, bool>>,
          kernel<PlainFormula<Row, uint8_t, uint8_t>>,
          kernel<PlainFormula<Row, int32_t, int32_t>>,
          kernel<PlainFormula<Row, int64_t, int64_t>>,
          nullptr,
          nullptr,
          nullptr};
}
template <class... U, class... B, class... T, class... L>
constexpr Table make(List<U...>, List<B...>, List<T...>, List<L...>) {
  return {{by_dtype<UnaryFormula, U>()...},
          {floating<VjpFormula, U>()...},
          {by_dtype<BinaryFormula, B>()...},
          {tests<T>()...},
          {logic<L>()...},
          {kernel<WhereFormula<uint8_t>>, kernel<WhereFormula<uint8_t>>,
           kernel<WhereFormula<int32_t>>, kernel<WhereFormula<int64_t>>,
           kernel<WhereFormula<bfloat16>>, kernel<WhereFormula<float>>,
           kernel<WhereFormula<double>>},
          nullptr,
          nullptr};
}

}  // namespace
}  // namespace wengert::WENGERT_ISA

namespace wengert {
extern const ElementwiseTable<CudaElementwise> cuda_elementwise =
    WENGERT_ISA::make(UnaryRows{}, BinaryRows{}, TestRows{}, LogicRows{});
}
