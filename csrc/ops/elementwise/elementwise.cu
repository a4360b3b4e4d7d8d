// Elementwise ops on a GPU. From each row a kernel for each dtype. It takes any strides; of float32
// it moves 16 bytes at a time where all operands are contiguous, and takes bfloat16 too, which is
// widened and rounded on the way: what waits for memory may ask at run time, and the library stays
// small. For the same reason comparisons share a kernel, and bit operations do.
#include <tuple>
#include <utility>

#include "ops/elementwise/formulas.h"
#include "ops/elementwise/gpu.h"
#include "tensor/gpu_loop.h"

namespace wengert::WENGERT_ISA {
namespace {

// Four of float32, or eight of bfloat16, of which the first four come next.
struct alignas(16) Sixteen {
  uint32_t w[4];

  __device__ float4 next(bool narrow) {
    const auto f = [](uint32_t bits) { return __builtin_bit_cast(float, bits); };
    if (!narrow) return {f(w[0]), f(w[1]), f(w[2]), f(w[3])};
    const uint32_t a = w[0], b = w[1];
    w[0] = w[2], w[1] = w[3];
    return {f(a << 16), f(a & 0xffff0000), f(b << 16), f(b & 0xffff0000)};
  }
  __device__ void append(float4 x, bool narrow) {
    const auto bits = [](float f) { return __builtin_bit_cast(uint32_t, f); };
    const auto two = [](float low, float high) {
      return uint32_t{bfloat16(low).bits} | uint32_t{bfloat16(high).bits} << 16;
    };
    if (narrow)
      *this = {{w[2], w[3], two(x.x, x.y), two(x.z, x.w)}};
    else
      *this = {{bits(x.x), bits(x.y), bits(x.z), bits(x.w)}};
  }
};

// An input: elements in memory, or one value, from the host or from memory. Where T is float,
// memory holds bfloat16 if it is narrow.
template <class T> struct Operand {
  const void* data;  // null: the value
  T value;
  bool repeated, narrow;

  __device__ T get(int64_t at) const {
    if (!data) return value;
    if constexpr (std::is_same_v<T, float>)
      if (narrow) return static_cast<const bfloat16*>(data)[at];
    return static_cast<const T*>(data)[at];
  }
  __device__ Sixteen sixteen(int64_t i) const {
    if (!repeated) return static_cast<const Sixteen*>(data)[i];
    uint32_t bits = __builtin_bit_cast(uint32_t, get(0));
    if (narrow) bits |= bits >> 16;
    return {{bits, bits, bits, bits}};
  }
};
template <class T> struct Output {
  void* data;
  bool narrow;

  __device__ void set(int64_t at, T y) const {
    if constexpr (std::is_same_v<T, float>)
      if (narrow) return static_cast<void>(static_cast<bfloat16*>(data)[at] = bfloat16(y));
    static_cast<T*>(data)[at] = y;
  }
};

template <class F, class... In, size_t... k>
__device__ auto apply_at(const int64_t* at, const Params& p, std::index_sequence<k...>,
                         const Operand<In>&... x) {
  return F::apply(p, x.get(at[k + 1])...);
}
template <class F, class... Four> __device__ float4 apply_to_four(const Params& p, Four... x) {
  return {F::apply(p, x.x...), F::apply(p, x.y...), F::apply(p, x.z...), F::apply(p, x.w...)};
}
template <class F, class... X>
__device__ Sixteen apply_to_sixteen(const Params& p, bool narrow, X... x) {
  Sixteen y{};
#pragma unroll 1  // one copy of the formulas
  for (int turn = narrow ? 2 : 1; turn > 0; --turn)
    y.append(apply_to_four<F>(p, x.next(narrow)...), narrow);
  return y;
}
template <class... T> constexpr bool all_float = (true && ... && std::is_same_v<T, float>);

// `adjacent`: all operands are contiguous, on multiples of 16 bytes, or are one value. The loops
// are not unrolled: the threads that a GPU holds have enough under way.
template <class F, class Out, class... In>
__global__ void __launch_bounds__(block_threads)
    map_elements(GpuLoop<1 + sizeof...(In)> walk, bool adjacent, Output<Out> y, Params p,
                 Operand<In>... x) {
  int64_t i = first_index();
  if constexpr (all_float<Out, In...>)
    if (adjacent) {
      const int shift = y.narrow ? 3 : 2;
      const int64_t n = walk.total >> shift;
#pragma unroll 1
      for (int64_t k = i; k < n; k += index_step())
        static_cast<Sixteen*>(y.data)[k] = apply_to_sixteen<F>(p, y.narrow, x.sixteen(k)...);
      i += n << shift;
    }
#pragma unroll 1
  for (; i < walk.total; i += index_step()) {
    int64_t at[1 + sizeof...(In)];
    walk.offsets(static_cast<uint32_t>(i), at);
    y.set(at[0], apply_at<F>(at, p, std::index_sequence_for<In...>(), x...));
  }
}

// The kernel of one formula. What the host does with it depends on its types alone, so that it is
// compiled once for many formulas.
template <class Out, class... In> struct Kernel {
  const char* name;
  void (*kernel)(GpuLoop<1 + sizeof...(In)>, bool, Output<Out>, Params, Operand<In>...);

  void run(Views out, Views in, const Params& p) const {
    run(out[0], in, p, std::index_sequence_for<In...>());
  }

 private:
  template <class T, class Stored> static Operand<T> constant(const View& x) {
    const Varying<Stored> v = varying(*x.as<Stored>());
    return {v.slot, static_cast<T>(v.value), true, x.dtype == DType::bfloat16};
  }
  template <class T> static Operand<T> operand(const View& x) {
    const bool narrow = x.dtype == DType::bfloat16;
    if (is_cuda(x.device)) return {x.data, T{}, x.numel() == 1, narrow};
    if constexpr (std::is_same_v<T, float>)
      if (narrow) return constant<T, bfloat16>(x);
    return constant<T, T>(x);
  }
  template <class T> static Operand<T> moved(Operand<T> x, const View& of, int64_t at) {
    if (x.data) x.data = static_cast<const char*>(x.data) + at * size_of(of.dtype);
    return x;
  }
  // In one piece with the output, from here on.
  static bool flat(const void* data, int64_t stride) {
    return stride == 1 && reinterpret_cast<uintptr_t>(data) % 16 == 0;
  }
  template <size_t... k>
  void run(const View& out, Views in, const Params& p, std::index_sequence<k...>) const {
    constexpr int N = 1 + sizeof...(In);
    const Device d = out.device;
    if (out.numel() == 0) return;
    const std::tuple<Operand<In>...> operands{operand<In>(in[k])...};  // in order
    const bool narrow = out.dtype == DType::bfloat16;
    const Strides strides[N] = {out.strides,
                                broadcast_strides(in[k].shape, in[k].strides, out.shape)...};
    const Strides* all[N] = {&strides[0], &strides[k + 1]...};
    each_piece(Loop<N>(out.shape, all), [&](const GpuLoop<N>& walk, const Offsets<N>& start) {
      const Output<Out> y{out.as<char>() + start[0] * size_of(out.dtype), narrow};
      const std::tuple<Operand<In>...> x{moved(std::get<k>(operands), in[k], start[k + 1])...};
      bool adjacent = false;
      if constexpr (all_float<Out, In...>)
        adjacent = walk.dims == 1 && flat(y.data, walk.stride[0][0]) &&
                   (true && ... &&
                    (std::get<k>(x).repeated || flat(std::get<k>(x).data, walk.stride[k + 1][0])));
      const int64_t at_once = adjacent ? 16 / size_of(out.dtype) : 1;
      launch(name, d, grid_for(d, divide_up(walk.total, at_once)), block_threads, kernel, walk,
             adjacent, y, p, std::get<k>(x)...);
    });
  }
};
template <class F, class Out, class... In> void run(Views out, Views in, const Attrs& attrs) {
  Kernel<Out, In...>{F::name, map_elements<F, Out, In...>}.run(out, in, attrs.as<Params>());
}
template <class F, class Out, class... In>
constexpr OpKernel kernel_of(Out (*)(const Params&, In...)) {
  return run<F, Out, In...>;
}
template <class F> constexpr OpKernel kernel = kernel_of<F>(&F::apply);

// A kernel for all rows of a list; the parameters say which it is.
template <class Rows, class T, class Out> struct OneOf;
template <class... Rows, class T, class Out> struct OneOf<List<Rows...>, T, Out> {
  FN static Out apply(const Params& p, T a, T b) {
    Out y{};
    int i = 0;
    (void)((p.a == i++ && (y = Rows::value(a, b), true)) || ...);
    return y;
  }
};
template <class Row, class Rows, class T, class Out>
void one_of(Views out, Views in, const Attrs&) {
  const Params which{static_cast<double>(index_of<Row>(Rows{}))};
  Kernel<Out, T, T>{Row::name, map_elements<OneOf<Rows, T, Out>, Out, T, T>}.run(out, in, which);
}

using Table = ElementwiseGpu;

template <template <class, class> class F, class Row> constexpr Table::ByDType floating() {
  Table::ByDType by{};
  by[static_cast<size_t>(DType::bfloat16)] = kernel<F<Row, float>>;
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
  return {one_of<Row, TestRows, uint8_t, bool>, one_of<Row, TestRows, uint8_t, bool>,
          one_of<Row, TestRows, int32_t, bool>, one_of<Row, TestRows, int64_t, bool>,
          one_of<Row, TestRows, float, bool>,   one_of<Row, TestRows, float, bool>,
          one_of<Row, TestRows, double, bool>};
}
template <class Row> constexpr Table::ByDType logic() {
  return {one_of<Row, LogicRows, uint8_t, uint8_t>, one_of<Row, LogicRows, uint8_t, uint8_t>,
          one_of<Row, LogicRows, int32_t, int32_t>, one_of<Row, LogicRows, int64_t, int64_t>};
}
template <class... U, class... B, class... T, class... L>
constexpr Table make(List<U...>, List<B...>, List<T...>, List<L...>) {
  return {{{by_dtype<UnaryFormula, U>()...},
           {floating<VjpFormula, U>()...},
           {by_dtype<BinaryFormula, B>()...},
           {tests<T>()...},
           {logic<L>()...},
           // by size alone
           {kernel<WhereFormula<uint8_t>>, kernel<WhereFormula<uint8_t>>,
            kernel<WhereFormula<uint32_t>>, kernel<WhereFormula<uint64_t>>,
            kernel<WhereFormula<uint16_t>>, kernel<WhereFormula<uint32_t>>,
            kernel<WhereFormula<uint64_t>>},
           nullptr,
           nullptr}};
}

}  // namespace
}  // namespace wengert::WENGERT_ISA

namespace wengert {
extern const ElementwiseGpu elementwise_gpu =
    WENGERT_ISA::make(UnaryRows{}, BinaryRows{}, TestRows{}, LogicRows{});
}
