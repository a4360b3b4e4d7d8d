// Steps of a small network inside one kernel: one block, all of whose memory is in the block's
// shared memory, runs the lines of a step one after another, and the steps of a launch likewise.
//
// Lines become instructions because they run against tables (GpuKernels) whose kernels append them.
// Other ops are refused, and the step becomes a graph.
// Thread i has the elements i, i + threads, ... of what a line makes, so that a line needs a
// barrier before it only where it reads another thread's elements; `add` finds out. Formulas and
// the order of sums are those of the kernels, but for products of few elements, whose inner axis is
// shared out among threads.
#include <cstring>
#include <tuple>

#include "gpu/runtime.h"
#include "gpu/steps.h"

#include "ops/elementwise/formulas.h"
#include "ops/elementwise/gpu.h"
#include "ops/matmul/gpu.h"
#include "ops/memory/gpu.h"
#include "ops/random/gpu.h"
#include "ops/reduce/gpu.h"
#include "ops/rows/gpu.h"
#include "ops/update/gpu.h"
#include "program/gpu/persistent.h"
#include "tensor/loop.h"

namespace wengert::WENGERT_ISA {
namespace {

constexpr int threads = 512;
constexpr int slots_room = 1024;       // the numbers of a step, at the start of the memory
constexpr int64_t most_rounds = 64;    // of a sum: beyond, its kernel cuts the rows into pieces
constexpr int64_t longest_row = 1024;  // of cross-entropy: beyond, its kernel has a block for a row

enum class Kind {
  unary,
  vjp,
  binary,
  fill,
  matmul,
  sum,
  loss,
  loss_vjp,
  update,
  uniform,
  less,
  mask  // what dropout is made of: of float64, of that and a number, bool to float32
};

// Where an operand begins, in bytes, and its strides in elements.
struct Place {
  int at = -1, row = 0, column = 0;
};
struct Instruction {
  Kind kind;
  int formula = 0;  // of an elementwise kind or an update: its row
  bool barrier = false;
  int rows = 1, columns = 1;  // of the grid, of y; of a sum: those reduced, and the results
  int k = 0;                  // matmul: the inner axis. sum: adjacent results
  int lanes = 1;              // threads that share a product, or a sum
  Place out = {}, in[4] = {};
  Params params = {};
  double value = 0;  // of fill; the divisor of a sum
};
struct Region {
  char* data;
  int at, bytes;
  bool before, after;
};
struct Program {
  Frame* frame;
  int ins, moves, instructions, regions;
  const Instruction* instruction;
  const Region* region;
  int begin;  // of the instructions in the block's memory
  Report* report;
};

// ---- what the threads do ----

struct Block {
  char* memory;
  Report* report;
  template <class T = float> __device__ T* at(const Place& p) const {
    return reinterpret_cast<T*>(memory + p.at);
  }
};

template <class F, int inputs> __device__ void elementwise(const Instruction& s, const Block& b) {
  const float *x = b.at(s.in[0]), *z = b.at(s.in[1]);
  for (int i = static_cast<int>(threadIdx.x); i < s.rows * s.columns; i += threads) {
    const int r = s.rows > 1 ? i / s.columns : 0, c = i - r * s.columns;
    const float p = x[r * s.in[0].row + c * s.in[0].column];
    if constexpr (inputs == 1)
      b.at(s.out)[i] = F::apply(s.params, p);
    else
      b.at(s.out)[i] = F::apply(s.params, p, z[r * s.in[1].row + c * s.in[1].column]);
  }
}
// CUDA's sin, cos and tan need a stack, polygamma more registers than there are.
template <class Row, class... Others>
constexpr bool is_one_of = (std::is_same_v<Row, Others> || ...);
template <class Row> constexpr bool fits = !is_one_of<Row, Sin, Cos, Tan, Lgamma, Polygamma>;

// Row number s.formula of a list, found by halves.
template <template <class, class> class F, int inputs, int first, int end, class... Rows>
__device__ void by_formula(List<Rows...> rows, const Instruction& s, const Block& b) {
  constexpr int middle = (first + end) / 2;
  if constexpr (end - first == 1) {
    using Row = std::tuple_element_t<first, std::tuple<Rows...>>;
    if constexpr (fits<Row>) elementwise<F<Row, float>, inputs>(s, b);
  } else if (s.formula < middle) {
    by_formula<F, inputs, first, middle>(rows, s, b);
  } else {
    by_formula<F, inputs, middle, end>(rows, s, b);
  }
}

template <class T> __device__ T add_lanes(T x, int lanes) {
  for (int half = lanes / 2; half > 0; half /= 2)
    x = x + __shfl_xor_sync(~0u, x, static_cast<unsigned>(half));
  return x;
}

// Each element by `lanes` neighbouring threads, which take every lanes-th product.
__device__ inline void matmul(const Instruction& s, const Block& b) {
  const int lane = static_cast<int>(threadIdx.x) % s.lanes, all = s.rows * s.columns;
  const Place &l = s.in[0], &r = s.in[1];
  for (int first = 0; first < all; first += threads / s.lanes) {
    const int i = first + static_cast<int>(threadIdx.x) / s.lanes;
    const int row = i / s.columns;
    float sum = 0;
    if (i < all) {
      const float *p = b.at(l) + row * l.row, *q = b.at(r) + (i - row * s.columns) * r.column;
      for (int k = lane; k < s.k; k += s.lanes) sum = fmaf(p[k * l.column], q[k * r.row], sum);
    }
    sum = add_lanes(sum, s.lanes);
    if (i < all && lane == 0) b.at(s.out)[i] = sum;
  }
}

// The tree of ops/reduce/reduce.cu: a team's members fold every team-th row; then halves are added.
// A lane stands for up to eight members, 32 apart.
__device__ inline void sum(const Instruction& s, const Block& b) {
  const int width = s.lanes < 32 ? s.lanes : 32, lane = static_cast<int>(threadIdx.x) % width;
  for (int first = 0; first < s.columns; first += threads / width) {
    const int unit = first + static_cast<int>(threadIdx.x) / width;
    double part[8] = {};
    if (unit < s.columns) {
      const float* x = b.at(s.in[0]) + unit / s.k * s.in[0].column + unit % s.k;
#pragma unroll
      for (int m = 0; m < 8; ++m)
        if (32 * m < s.lanes)
          for (int r = lane + 32 * m; r < s.rows; r += s.lanes)
            part[m] += static_cast<double>(x[r * s.in[0].row]);
    }
#pragma unroll
    for (int half = 4; half > 0; half /= 2)
#pragma unroll
      for (int m = 0; m < half; ++m) part[m] += part[m + half];
    const double total = add_lanes(part[0], width);
    if (unit < s.columns && lane == 0) b.at(s.out)[unit] = static_cast<float>(total / s.value);
  }
}

// Cross-entropy as ops/rows/softmax.cu has it, a warp for each row.
__device__ inline void loss(const Instruction& s, const Block& b) {
  const int lane = static_cast<int>(threadIdx.x) % 32, n = s.columns;
  const auto e = [](float x) { return exp(Lane<float>(x)).v; };
  for (int row = static_cast<int>(threadIdx.x) / 32; row < s.rows; row += threads / 32) {
    const float* x = b.at(s.in[0]) + row * n;
    float best = static_cast<float>(-HUGE_VAL);
    const auto larger = [](float p, float q) { return p > q || p != p ? p : q; };
    for (int i = lane; i < n; i += 32) best = larger(x[i], best);
    for (unsigned half = 16; half > 0; half /= 2)
      best = larger(best, __shfl_xor_sync(~0u, best, half));
    const float m = fabsf(best) == static_cast<float>(HUGE_VAL) ? 0.f : best;
    double total = 0;
    for (int i = lane; i < n; i += 32) total += static_cast<double>(e(x[i] - m));
    const auto log_s = static_cast<float>(::log(add_lanes(total, 32)));
    if (lane != 0) continue;
    const int64_t target = b.at<int64_t>(s.in[1])[row];
    const bool inside = target >= 0 && target < n;
    if (!inside) report(b.report, Fault::cross_entropy, target, row, n);
    b.at(s.in[2])[2 * row] = m;
    b.at(s.in[2])[2 * row + 1] = log_s;
    b.at(s.out)[row] = inside ? log_s - (x[target] - m) : static_cast<float>(NAN);
  }
}
__device__ inline void loss_vjp(const Instruction& s, const Block& b) {
  for (int i = static_cast<int>(threadIdx.x); i < s.rows * s.columns; i += threads) {
    const int row = i / s.columns, c = i - row * s.columns;
    const float g = b.at(s.in[0])[row * s.in[0].row], *kept = b.at(s.in[3]) + 2 * row;
    const float scaled = exp(Lane<float>(b.at(s.in[1])[i] - kept[0] - kept[1])).v * g;
    b.at(s.out)[i] = c == b.at<int64_t>(s.in[2])[row] ? scaled - g : scaled;
  }
}

// Philox for each number, so that each thread makes its own elements.
__device__ inline double uniform(const RandomState& state, int i) {
  static_assert(per_block<double>(RandomKind::uniform) == 2);
  const RandomBlock bits = philox(state.seed, state.first + static_cast<uint64_t>(i / 2));
  const auto draw = [&](int k) { return draw_one<double>(bits, k, RandomKind::uniform, 0, 0); };
  return i % 2 ? draw(1) : draw(0);  // an index that is known keeps the block in registers
}

template <class Row> __device__ bool update(const Instruction& s, const Block& b) {
  if (s.formula != index_of<Row>(UpdateRows{})) return false;
  const Row step = *b.at<const Row>(s.in[3]);
  float* const state[max_states] = {s.in[1].at >= 0 ? b.at(s.in[1]) : nullptr,
                                    s.in[2].at >= 0 ? b.at(s.in[2]) : nullptr};
  for (int i = static_cast<int>(threadIdx.x); i < s.columns; i += threads)
    update_element<Lane<float>>(step, b.at(s.out), state, i, b.at(s.in[0])[i]);
  return true;
}
template <class... Rows>
__device__ void update(List<Rows...>, const Instruction& s, const Block& b) {
  (update<Rows>(s, b) || ...);
}

__device__ inline void run(const Instruction& s, const Block& b) {
  switch (s.kind) {
    case Kind::unary:
      return by_formula<UnaryFormula, 1, 0, UnaryRows::size>(UnaryRows{}, s, b);
    case Kind::vjp:
      return by_formula<VjpFormula, 2, 0, UnaryRows::size>(UnaryRows{}, s, b);
    case Kind::binary:
      return by_formula<BinaryFormula, 2, 0, BinaryRows::size>(BinaryRows{}, s, b);
    case Kind::fill:
      for (int i = static_cast<int>(threadIdx.x); i < s.columns; i += threads)
        b.at(s.out)[i] = static_cast<float>(s.value);
      return;
    case Kind::uniform:
      for (int i = static_cast<int>(threadIdx.x); i < s.columns; i += threads)
        b.at<double>(s.out)[i] = uniform(*b.at<const RandomState>(s.in[0]), i);
      return;
    case Kind::less:
      for (int i = static_cast<int>(threadIdx.x); i < s.columns; i += threads)
        b.at<bool>(s.out)[i] = Lt::value(b.at<double>(s.in[0])[i], *b.at<double>(s.in[1]));
      return;
    case Kind::mask:
      for (int i = static_cast<int>(threadIdx.x); i < s.columns; i += threads)
        b.at(s.out)[i] = b.at<bool>(s.in[0])[i];
      return;
    case Kind::matmul:
      return matmul(s, b);
    case Kind::sum:
      return sum(s, b);
    case Kind::loss:
      return loss(s, b);
    case Kind::loss_vjp:
      return loss_vjp(s, b);
    case Kind::update:
      return update(InnerUpdateRows{}, s, b);
  }
}

__global__ void __launch_bounds__(threads, 1) run_steps(Program p, int64_t steps) {
  WENGERT_DYNAMIC_SHARED(memory);
  const int t = static_cast<int>(threadIdx.x);
  const Block block{memory, p.report};
  const auto* s = reinterpret_cast<const Instruction*>(memory + p.begin);
  copy_bytes(memory + p.begin, reinterpret_cast<const char*>(p.instruction),
             p.instructions * static_cast<int64_t>(sizeof(Instruction)), t, threads);
  for (int r = 0; r < p.regions; ++r)
    if (p.region[r].before)
      copy_bytes(memory + p.region[r].at, p.region[r].data, p.region[r].bytes, t, threads);
  const Move* move = reinterpret_cast<const Move*>(p.frame + 1);
  const int64_t slot_bytes = p.frame->slot_bytes;
  for (int64_t step = 0; step < steps; ++step) {
    copy_bytes(memory, reinterpret_cast<const char*>(move + p.moves) + step * slot_bytes,
               slot_bytes, t, threads);
    for (int i = 0; i < p.ins; ++i)
      copy_bytes(memory + reinterpret_cast<intptr_t>(move[i].place),
                 move[i].outside + step * move[i].step, move[i].bytes, t, threads);
    __syncthreads();
#if defined(__CUDACC__)
    if (step + 1 < steps)  // the next arguments are on their way meanwhile
      for (int i = 0; i < p.ins; ++i)
        for (int64_t at = t * 128; at < move[i].bytes; at += threads * 128)
          asm volatile(
              "prefetch.global.L2 [%0];" ::"l"(move[i].outside + (step + 1) * move[i].step + at));
#endif
    for (int i = 0; i < p.instructions; ++i) {
      if (s[i].barrier) __syncthreads();
      run(s[i], block);
    }
    __syncthreads();
    for (int i = p.ins; i < p.moves; ++i)
      copy_bytes(move[i].outside + step * move[i].step,
                 memory + reinterpret_cast<intptr_t>(move[i].place), move[i].bytes, t, threads);
  }
  for (int r = 0; r < p.regions; ++r)
    if (p.region[r].after)
      copy_bytes(p.region[r].data, memory + p.region[r].at, p.region[r].bytes, t, threads);
}

// ---- how lines become instructions ----

constexpr auto name = "steps inside one kernel";

int64_t bytes_of(const View& x) {  // from its first element to its last one
  int64_t last = 0;
  for (int d = 0; d < x.shape.size(); ++d) last += (x.shape[d] - 1) * x.strides[d];
  return (last + 1) * size_of(x.dtype);
}

class PersistentSteps final : public Steps {
 public:
  PersistentSteps(Device d, std::span<const Moved> in, std::span<const Moved> out,
                  std::span<const Persistent::Memory> memories)
      : Steps(d, in, out) {
    int64_t end = slots_room;
    for (const Persistent::Memory& m : memories) {
      const auto* const data = static_cast<const char*>(m.data);
      for (const Region& r : regions_)  // an array of others may be seen by two tensors
        if (data < r.data + r.bytes && r.data < data + m.bytes)
          fail<DeviceError>("two tensors share memory");
      regions_.push_back({static_cast<char*>(m.data), static_cast<int>(end),
                          static_cast<int>(m.bytes), m.before, m.after});
      end += divide_up(m.bytes, 16) * 16;
      if (end > room()) fail<DeviceError>("more memory than a block has");
    }
    begin_ = static_cast<int>(end);
    for (Move& m : moves_) m.place = reinterpret_cast<char*>(static_cast<intptr_t>(place(m.place)));
    for (size_t i = static_cast<size_t>(ins_); i < moves_.size(); ++i)
      for (size_t k = 0; k < static_cast<size_t>(ins_); ++k)
        if (moves_[i].place == moves_[k].place) fail<DeviceError>("it returns an argument");
    start();
  }

  void end() override {
    stop();
    const auto count = static_cast<int64_t>(instructions_.size());
    const int64_t bytes = count * static_cast<int64_t>(sizeof(Instruction));
    shared_bytes_ = begin_ + bytes;
    if (shared_bytes_ > room() || slot_bytes_ > slots_room)
      fail<DeviceError>("more memory than a block has");
    const auto upload = [&](const void* from, int64_t n) {
      void* to = take(n ? n : 1);
      if (!to) fail<OutOfMemory>("no memory on ", device_, " for ", name);
      cuda_to_device(device_, to, from, n, false);
      return to;
    };
    program_ = {reinterpret_cast<Frame*>(frame_),
                static_cast<int>(ins_),
                static_cast<int>(moves_.size()),
                static_cast<int>(count),
                static_cast<int>(regions_.size()),
                static_cast<const Instruction*>(upload(instructions_.data(), bytes)),
                static_cast<const Region*>(upload(
                    regions_.data(), static_cast<int64_t>(regions_.size() * sizeof(Region)))),
                begin_,
                report_of(device_)};
    check(cudaFuncSetAttribute(run_steps, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               static_cast<int>(room())),  // of all recordings
          name, device_);
  }
  void launch(std::span<const Outside> in, std::span<const Outside> out) override {
    const int64_t steps = rows_;
    upload(in, out);
    launch_with(name, device_, {}, threads, static_cast<size_t>(shared_bytes_), run_steps, program_,
                steps);
  }
  int64_t size() const override { return static_cast<int64_t>(instructions_.size()); }
  bool puts_copy(const View& to, const View& from) override {
    if (to.dtype != DType::float32 || from.dtype != DType::bool_ || !same_places(to, from))
      return false;
    add_flat(Kind::mask, to, read(from, 0, 1, true));
    return true;
  }

  // ---- for the table below ----

  int place(const void* data) const {
    for (const Region& r : regions_)
      if (data >= r.data && data < r.data + r.bytes)
        return r.at + static_cast<int>(static_cast<const char*>(data) - r.data);
    fail<DeviceError>("an operand is in other memory");
  }
  // An operand of the instruction that is added next. flat: thread i touches its elements i,
  // i + threads, ... of `flat` bytes each, and no others; 0: any.
  Place touch(const void* data, int64_t bytes, bool written, int flat, int64_t row = 0,
              int64_t column = 0) {
    const int at = place(data);
    touched_.push_back({at, bytes, written, flat});
    return {at, static_cast<int>(row), static_cast<int>(column)};
  }
  Place write(const View& y, bool flat) {
    return touch(y.data, bytes_of(y), true, flat ? static_cast<int>(size_of(y.dtype)) : 0);
  }
  Place read(const View& x, int64_t row = 0, int64_t column = 0, bool flat = false) {
    return touch(x.data, bytes_of(x), false, flat ? static_cast<int>(size_of(x.dtype)) : 0, row,
                 column);
  }
  Place number(const void* value, int64_t bytes) {  // one of the host
    return {static_cast<int>(static_cast<const char*>(slot(value, bytes)) - slots_)};
  }
  static bool same_places(const View& a, const View& b) {
    return a.shape == b.shape && is_contiguous(a.shape, a.strides) &&
           is_contiguous(b.shape, b.strides) && a.numel() > 0;
  }
  void add_flat(Kind kind, const View& y, Place a, Place b = {}) {
    Instruction s{.kind = kind};
    s.columns = static_cast<int>(y.numel());
    s.out = write(y, true);
    s.in[0] = a, s.in[1] = b;
    add(s);
  }
  void add(Instruction s) {
    for (const Touch& a : touched_)
      for (const Touch& b : since_barrier_)
        s.barrier |= (a.written || b.written) && a.at < b.at + b.bytes && b.at < a.at + a.bytes &&
                     !(a.flat && a.flat == b.flat && a.at == b.at);
    if (s.barrier) since_barrier_.clear();
    since_barrier_.insert(since_barrier_.end(), touched_.begin(), touched_.end());
    touched_.clear();
    instructions_.push_back(s);
  }

 private:
  void put_down(const char* op) override { fail<DeviceError>("it has no place for ", op); }
  int64_t room() const { return shared_memory(device_); }

  std::vector<Region> regions_;
  std::vector<Instruction> instructions_;
  struct Touch {
    int at;
    int64_t bytes;
    bool written;
    int flat;
  };
  std::vector<Touch> touched_, since_barrier_;
  int begin_ = 0;
  int64_t shared_bytes_ = 0;
  Program program_{};
};

PersistentSteps& recording() { return static_cast<PersistentSteps&>(*active_steps); }
void want(bool yes, const char* op) {
  if (!yes) fail<DeviceError>("it has no place for this ", op);
}
bool forwards(const View& x) {
  bool all = true;
  for (int d = 0; d < x.shape.size(); ++d) all &= x.strides[d] >= 0 && x.shape[d] > 0;
  return all;
}

void put_elementwise(Kind kind, int formula, int inputs, const View& out, Views in,
                     const Params& params) {
  PersistentSteps& to = recording();
  want(is_contiguous(out.shape, out.strides) && out.numel() > 0, "elementwise op");
  const View& other = in[static_cast<size_t>(inputs) - 1];
  const Strides strides[] = {broadcast_strides(in[0].shape, in[0].strides, out.shape),
                             broadcast_strides(other.shape, other.strides, out.shape)};
  const Loop<3> loop(out.shape, {&out.strides, &strides[0], &strides[1]});
  want(loop.dims <= 2, "broadcast");
  Instruction s{.kind = kind, .formula = formula};
  s.params = params;
  s.columns = static_cast<int>(loop.inner());
  s.rows = static_cast<int>(loop.outer());
  s.out = to.write(out, true);
  for (size_t i = 0; i < static_cast<size_t>(inputs); ++i) {
    if (!is_cuda(in[i].device)) {
      s.in[i] = to.number(in[i].data, size_of(in[i].dtype));
      continue;
    }
    want(forwards(in[i]), "elementwise op");
    const int64_t row = loop.dims == 2 ? loop.stride[i + 1][0] : 0,
                  column = loop.stride[i + 1][loop.dims - 1];
    s.in[i] = to.read(in[i], row, column, column == 1 && (s.rows == 1 || row == s.columns));
  }
  to.add(s);
}

void put_fill(Views outs, Views, const Attrs& attrs) {
  const View& out = outs[0];
  want(out.dtype == DType::float32 && out.numel() > 0, "full");
  Instruction s{.kind = Kind::fill};
  s.columns = static_cast<int>(out.numel());
  s.out = recording().write(out, true);
  s.value = attrs.as<FullAttrs>().value.as();
  recording().add(s);
}

void put_random(Views outs, Views in, const Attrs& attrs) {
  const View& out = outs[0];
  want(attrs.as<RandomAttrs>().kind == RandomKind::uniform && out.dtype == DType::float64 &&
           out.numel() > 0,
       "random op");
  recording().add_flat(Kind::uniform, out, recording().number(in[0].data, sizeof(RandomState)));
}
void put_less(Views outs, Views in, const Attrs&) {
  const View& out = outs[0];
  PersistentSteps& to = recording();
  want(to.same_places(out, in[0]) && !is_cuda(in[1].device), "comparison");
  const Place bound = to.number(in[1].data, sizeof(double));
  to.add_flat(Kind::less, out, to.read(in[0], 0, 1, true), bound);
}

// (Tensor cores would not serve products as small as these.)
void put_matmul(Views out, Views in, const Attrs&) {
  const View &y = out[0], &a = in[0], &b = in[1];
  want(y.dtype == DType::float32 && y.shape.size() == 2 && y.numel() > 0 && forwards(a) &&
           forwards(b) && a.shape[1] < 4096,
       "matmul");
  Instruction s{.kind = Kind::matmul};
  s.rows = static_cast<int>(y.shape[0]);
  s.columns = static_cast<int>(y.shape[1]);
  s.k = static_cast<int>(a.shape[1]);
  while (s.lanes < 32 && 8 * s.lanes <= s.k && 2 * s.lanes * y.numel() <= threads) s.lanes *= 2;
  s.out = recording().write(y, s.lanes == 1);
  s.in[0] = recording().read(a, a.strides[0], a.strides[1]);
  s.in[1] = recording().read(b, b.strides[0], b.strides[1]);
  recording().add(s);
}

void put_sum(Views outs, Views in, const Attrs& attrs) {
  const View &out = outs[0], &x = in[0];
  const ReduceBlock& b = *attrs.as<ReduceBlockAttrs>().block;
  int64_t outers = 1, stride = 0;
  int axes = 0;
  for (int d = 0; d < b.dims; ++d) {
    if (b.size[d] == 1) continue;
    ++axes;
    outers *= b.size[d];
    stride = b.stride[d];
  }
  Instruction s{.kind = Kind::sum};
  const int widest = b.inner == 1 ? 256 : 8;
  while (s.lanes < widest && s.lanes < b.rows) s.lanes *= 2;
  want(x.dtype == DType::float32 && axes <= 1 && forwards(x) && b.rows <= s.lanes * most_rounds,
       "reduction");
  s.rows = static_cast<int>(b.rows);
  s.columns = static_cast<int>(outers * b.inner);
  s.k = static_cast<int>(b.inner);
  s.value = attrs.as<ReduceBlockAttrs>().divisor;
  s.out = recording().write(out, false);
  s.in[0] = recording().read(x, b.row_stride, stride);
  recording().add(s);
}

template <bool vjp> void put_loss(Views outs, Views in, const Attrs&) {
  const View& out = outs[0];
  want(out.dtype == DType::float32, "cross_entropy");
  const View& x = vjp ? in[1] : in[0];
  want(forwards(x) && forwards(in[0]) && x.shape.back() <= longest_row, "cross_entropy");
  Instruction s{.kind = vjp ? Kind::loss_vjp : Kind::loss};
  s.columns = static_cast<int>(x.shape.back());
  s.rows = static_cast<int>(x.numel()) / s.columns;
  s.out = recording().write(out, vjp);
  for (size_t i = 0; i < in.size(); ++i)
    s.in[i] = recording().read(in[i], vjp && i == 0 ? in[0].strides[0] : 0);
  if (!vjp) s.in[2] = recording().write(outs[1], false);
  recording().add(s);
}

template <class Row>
void put_update(Device, DType dtype, std::span<const UpdatePart<>> parts, const Row& step) {
  want(dtype == DType::float32, "update");
  PersistentSteps& to = recording();
  const Place constants = to.number(&step, sizeof step);
  for (const UpdatePart<>& part : parts) {
    Instruction s{.kind = Kind::update, .formula = index_of<Row>(UpdateRows{})};
    s.columns = static_cast<int>(part.n);
    s.out = to.touch(part.p, 4 * part.n, true, 4);
    s.in[0] = to.touch(part.g, 4 * part.n, false, 4);
    want(std::is_base_of_v<Row, UpdateConstants> && !part.state[2], "update");
    for (int i = 0; i < 2; ++i)
      if (part.state[i]) s.in[1 + i] = to.touch(part.state[i], 4 * part.n, true, 4);
    s.in[3] = constants;
    to.add(s);
  }
}

template <class... Rows> UpdateGpu put_updates(List<Rows...>) {
  return {{UpdateGpuOf<Rows>{put_update<Rows>}...}};
}

template <Kind kind, int inputs, class... Rows> void fill_rows(auto& table, List<Rows...>) {
  const auto one = [&]<class Row>(Type<Row>) {
    constexpr int row = index_of<Row>(List<Rows...>{});
    if constexpr (fits<Row>)
      table[row][static_cast<size_t>(DType::float32)] = [](Views out, Views in,
                                                           const Attrs& attrs) {
        put_elementwise(kind, row, inputs, out[0], in, attrs.as<Params>());
      };
  };
  (one(Type<Rows>{}), ...);
}

// The tables that launch, but for what an instruction does. What is launched is refused.
struct RecordingTables {
  GpuKernels kernels = gpu_kernel_tables;
  ElementwiseGpu elementwise = *kernels.elementwise;
  CreateGpu create = *kernels.create;
  RandomGpu random{put_random};
  MatmulGpu matmul = *kernels.matmul;
  ReduceGpu reduce = *kernels.reduce;
  SoftmaxGpu softmax = *kernels.softmax;
  UpdateGpu update = put_updates(UpdateRows{});

  RecordingTables() {
    fill_rows<Kind::unary, 1>(elementwise.unary, UnaryRows{});
    fill_rows<Kind::vjp, 2>(elementwise.unary_vjp, UnaryRows{});
    fill_rows<Kind::binary, 2>(elementwise.binary, BinaryRows{});
    elementwise.test[index_of<Lt>(TestRows{})][static_cast<size_t>(DType::float64)] = put_less;
    create.full = put_fill;
    matmul.matmul = put_matmul;
    reduce.by[static_cast<int>(Reduction::sum)] = put_sum;
    softmax.cross_entropy = put_loss<false>;
    softmax.cross_entropy_vjp = put_loss<true>;
    kernels.elementwise = &elementwise;
    kernels.create = &create;
    kernels.random = &random;
    kernels.matmul = &matmul;
    kernels.reduce = &reduce;
    kernels.softmax = &softmax;
    kernels.update = &update;
  }
};

Persistent record(Device d, std::span<const CudaSteps::Moved> in,
                  std::span<const CudaSteps::Moved> out,
                  std::span<const Persistent::Memory> memories) {
  static const RecordingTables tables;
  return {std::make_unique<PersistentSteps>(d, in, out, memories), &tables.kernels};
}

}  // namespace
}  // namespace wengert::WENGERT_ISA

namespace wengert {
extern const PersistentGpu persistent_gpu{WENGERT_ISA::record};
}  // namespace wengert
