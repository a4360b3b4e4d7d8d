// matmul: y[..., i, j] = sum over k of a[..., i, k] * b[..., k, j]; vectors and batches as in
// NumPy.
//
// The op itself takes matrices, or stacks of them with batch axes that broadcast; vectors become
// matrices before.
#include "ops/matmul/matmul.h"

#include <atomic>

#include "base/allocator.h"
#include "base/pool.h"
#include "graph/batch.h"
#include "ops/functions.h"
#include "ops/gpu.h"
#include "ops/matmul/amx.h"
#include "ops/matmul/gpu.h"
#include "ops/matmul/ready.h"
#include "tensor/copy.h"

namespace wengert {

namespace {

// Threads share a stack matrix by matrix if a matrix has at most small_product multiply-adds, in
// chunks of at least stack_chunk.
constexpr double small_product = 1 << 18, stack_chunk = 1 << 14;

void infer(Tensors in, const Attrs&, SmallVector<Meta, 2>& out) {
  const Shape &a = in[0].shape(), &b = in[1].shape();
  if (a.back() != b[b.size() - 2])
    fail<ShapeError>("matmul: inner sizes differ: ", a, " @ ", b, "; the last axis of a (",
                     a.back(), ") must equal the second-to-last of b (", b[b.size() - 2], ")");
  Shape shape = broadcast("matmul (batch axes)", batch_of(a), batch_of(b));
  shape.push_back(a[a.size() - 2]);
  shape.push_back(b.back());
  out.emplace_back(shape, in[0].dtype(), in[0].device());
}

// The inputs' layout: the gradient of a transposed input (the weights of x @ W.T) is written
// transposed too, so that it is contiguous when it reaches what was transposed.
struct MatmulAttrs {
  bool a_transposed = false, b_transposed = false;
  MatmulPrecision precision;
};
std::atomic<MatmulPrecision> the_precision{MatmulPrecision::strict};

void run(Views out, Views in, const Attrs& attrs) {
  matmul_into(out[0], in[0], in[1], precision_of(attrs));
}
void gpu(Views out, Views in, const Attrs& attrs) {
  const MatmulPrecision precision = attrs.as<MatmulAttrs>().precision;
  const auto matmul = gpu_kernels().matmul->matmul;
  if (out[0].dtype != DType::bfloat16) return matmul(out, in, MatmulGpuAttrs{precision});
  // Products and sums in float32; one slice holds all of a bfloat16.
  const auto wide = [](const View& x) { return Tensor({x.shape, DType::float32, x.device}); };
  const Tensor y = wide(out[0]), a = wide(in[0]), b = wide(in[1]);
  copy_into(a.view(), in[0]);
  copy_into(b.view(), in[1]);
  const View to = y.view(), from[] = {a.view(), b.view()};
  matmul(Views(&to, 1), Views(from),
         MatmulGpuAttrs{precision == MatmulPrecision::strict ? precision : MatmulPrecision::bf16});
  copy_into(out[0], to);
}

Saves saves(uint32_t needs, const Attrs&) {
  return (needs & 1 ? save_input(1) : 0) | (needs & 2 ? save_input(0) : 0);
}
bool transposed(const Tensor& x) {
  const int n = x.dim();
  return x.strides()[n - 2] == 1 && x.strides()[n - 1] != 1;
}
void vjp(const Line& line, const Tensor& g, Gradients& dx);
Cost cost(Tensors in, const Tensor& out, const Attrs&) {
  Cost c = default_cost(in, out);
  c.flops = 2 * static_cast<double>(out.numel()) * static_cast<double>(in[0].shape().back());
  return c;
}
std::unique_ptr<Ready> ready(Views out, Views in, const Attrs& attrs) {
  if (is_cuda(out[0].device)) return nullptr;
  return std::make_unique<ReadyMatmul>(out[0], in[0], in[1], precision_of(attrs));
}
const Op the_matmul_op{.name = "matmul",
                       .operands = "a, b",
                       .formula = "a @ b",
                       .gradient = {"g @ transpose(b)", "transpose(a) @ g"},
                       .numpy = "{a} @ {b}",
                       .infer = infer,
                       .run = run,
                       .gpu = gpu,
                       .vjp = vjp,
                       .saves = saves,
                       .cost = cost,
                       .bfloat16 = true,
                       .batch = batch_spread,
                       .ready = ready};
Tensor product(const Tensor& a, const Tensor& b, MatmulPrecision precision) {
  return apply(the_matmul_op, a, b, MatmulAttrs{transposed(a), transposed(b), precision});
}
Tensor t(const Tensor& x) { return transpose(x, -2, -1); }
void vjp(const Line& line, const Tensor& g, Gradients& dx) {
  const auto [a_transposed, b_transposed, precision] = line.attrs.as<MatmulAttrs>();
  if (line.needs(0)) {
    const Tensor& b = line.input(1);
    dx[0] = a_transposed ? t(product(b, t(g), precision)) : product(g, t(b), precision);
  }
  if (line.needs(1)) {
    const Tensor& a = line.input(0);
    dx[1] = b_transposed ? t(product(t(g), a, precision)) : product(t(a), g, precision);
  }
}

}  // namespace

const Op& matmul_op = the_matmul_op;
MatmulPrecision precision_of(const Attrs& attrs) { return attrs.as<MatmulAttrs>().precision; }

MatmulPrecision matmul_precision() { return the_precision; }
void set_matmul_precision(MatmulPrecision precision) {
  if (precision != MatmulPrecision::strict) tile_status();  // asks for permission, once
  the_precision = precision;
}

GemmKernel gemm_kernel(DType dtype) {
  static const MatmulKernels& table = WENGERT_PICK_KERNELS(matmul_kernels);
  switch (dtype) {
    case DType::float32:
      return table.f32;
    case DType::float64:
      return table.f64;
    case DType::bfloat16:
      return nullptr;
    case DType::int32:
      return table.i32;
    default:
      return table.i64;
  }
}

int64_t packed_bytes(DType dtype, const Gemm& g) {
  // Sums of more than 4096 terms are made in another way.
  if (!is_floating(dtype) || dtype == DType::bfloat16 || g.k > 4096) return 0;
  return ceil_div(g.n, 32) * 32 * g.k * size_of(dtype);
}
void pack(DType dtype, const Gemm& g, void* to) {
  static const MatmulKernels& table = WENGERT_PICK_KERNELS(matmul_kernels);
  (dtype == DType::float32 ? table.pack_f32 : table.pack_f64)(g, to);
}

bool makes_whole_rows(const Gemm& g) {
  return g.b_col == 1 && g.k <= 256 && g.n * g.k <= (1 << 17);
}

Gemm gemm_of(const View& y, const View& a, const View& b, const Epilogue& epilogue) {
  const int ya = y.shape.size(), aa = a.shape.size(), ba = b.shape.size();
  return {.m = y.shape[ya - 2],
          .n = y.shape[ya - 1],
          .k = a.shape[aa - 1],
          .a = a.data,
          .a_row = a.strides[aa - 2],
          .a_col = a.strides[aa - 1],
          .b = b.data,
          .b_row = b.strides[ba - 2],
          .b_col = b.strides[ba - 1],
          .c = y.data,
          .c_row = y.shape[ya - 1],
          .epilogue = epilogue};
}

Gemm whole_of(const View& y, const View& a, const View& b, const Epilogue& epilogue) {
  Gemm g = gemm_of(y, a, b, epilogue);
  bool whole = a.shape.size() == y.shape.size() && numel(batch_of(b.shape)) == 1;
  for (int d = 0; whole && d + 2 < y.shape.size(); ++d)
    whole = a.shape[d] == y.shape[d] && a.strides[d] == a.shape[d + 1] * a.strides[d + 1];
  if (whole) g.m *= numel(batch_of(y.shape));
  return g;
}

static GemmKernel kernel_for(const View& y, const View& a, const View& b,
                             MatmulPrecision precision) {
  if (precision != MatmulPrecision::strict)
    if (const GemmKernel on_tiles = tile_kernel(whole_of(y, a, b), y.dtype, precision))
      return on_tiles;
  return gemm_kernel(y.dtype);
}

void matmul_into(const View& y, const View& a, const View& b, MatmulPrecision precision,
                 const Epilogue& epilogue) {
  if (y.dtype == DType::bfloat16) return matmul_bfloat16(y, a, b);
  multiply(kernel_for(y, a, b, precision), y, a, b, epilogue);
}

void multiply(GemmKernel kernel, const View& y, const View& a, const View& b,
              const Epilogue& epilogue) {
  const Gemm gemm = gemm_of(y, a, b, epilogue);
  if (y.shape.size() == 2) return kernel(gemm);
  if (kernel != gemm_kernel(y.dtype))  // it splits or widens b first
    if (const Gemm whole = whole_of(y, a, b, epilogue); whole.m != gemm.m) return kernel(whole);

  const Shape batch = batch_of(y.shape);
  const Strides a_strides = broadcast_strides(batch_of(a.shape), batch_of(a.strides), batch);
  const Strides b_strides = broadcast_strides(batch_of(b.shape), batch_of(b.strides), batch);
  const int64_t in_size = size_of(a.dtype), size = size_of(y.dtype);
  const auto one = [&](int64_t i) {
    Gemm g = gemm;
    int64_t rest = i, a_at = 0, b_at = 0;
    for (int d = batch.size() - 1; d >= 0; --d) {
      const int64_t before = d > 0 ? rest / batch[d] : 0, at = rest - before * batch[d];
      a_at += at * a_strides[d];
      b_at += at * b_strides[d];
      rest = before;
    }
    g.a = a.as<char>() + a_at * in_size;
    g.b = b.as<char>() + b_at * in_size;
    g.c = y.as<char>() + i * g.m * g.n * size;
    g.row = i * g.m;
    kernel(g);
  };
  const int64_t count = numel(batch);
  const double work =
      static_cast<double>(gemm.m) * static_cast<double>(gemm.n) * static_cast<double>(gemm.k);
  if (work > small_product) {
    for (int64_t i = 0; i < count; ++i) {
      one(i);
      poll_interrupt();
    }
    return;
  }
  const int64_t per_chunk = 1 + static_cast<int64_t>(stack_chunk / (work + 1));
  parallel_for(ceil_div(count, per_chunk), [&](int64_t chunk) {
    for (int64_t i = chunk * per_chunk; i < count && i < (chunk + 1) * per_chunk; ++i) one(i);
  });
}

ReadyMatmul::ReadyMatmul(const View& c, const View& a, const View& b, MatmulPrecision precision)
    : gemm_(gemm_of(c, a, b)), c_(c), a_(a), b_(b), kernel_(kernel_for(c, a, b, precision)) {}
ReadyMatmul::~ReadyMatmul() {
  if (packed_) deallocate(packed_, packed_bytes_);
}

void ReadyMatmul::pointers(std::vector<void*>& at) {
  at.insert(at.end(), {&a_.data, &gemm_.a, &b_.data, &gemm_.b});
}

int64_t ReadyMatmul::may_keep(const Ref<Storage>& storage) {
  const auto* const first = static_cast<const char*>(storage->data);
  if (b_.data < first || b_.data >= first + storage->bytes || c_.shape.size() != 2) return 0;
  // Up to 64 rows, adjacent columns are read in place. Of 512 rows or more, a copy of b is a small
  // part of the work.
  const Gemm& g = gemm_;
  const bool copied = g.b_col != 1 ? g.n > 1 : g.m > 64;
  if (copied && g.m <= 512 && g.n * g.k >= 4096 && kernel_ == gemm_kernel(c_.dtype))
    packed_bytes_ = packed_bytes(c_.dtype, g);
  if (packed_bytes_) source_ = storage;
  return packed_bytes_;
}

const void* ReadyMatmul::packed() const {
  if (source_->exposed) return nullptr;
  const bool again = met_ && version_ == source_->version;
  if (made_ && again) return packed_;
  met_ = true, made_ = false, version_ = source_->version;
  if (!again) return nullptr;
  if (!packed_) packed_ = allocate(packed_bytes_);
  if (!packed_) return nullptr;
  pack(c_.dtype, gemm_, packed_);
  made_ = true;
  return packed_;
}

void ReadyMatmul::run() const {
  if (source_) {
    Gemm gemm = gemm_;
    gemm.packed = packed();
    kernel_(gemm);
  } else if (c_.dtype == DType::bfloat16) {
    matmul_bfloat16(c_, a_, b_);
  } else if (c_.shape.size() == 2) {
    kernel_(gemm_);
  } else {
    multiply(kernel_, c_, a_, b_, gemm_.epilogue);
  }
}

Tensor matmul(const Tensor& a, const Tensor& b) {
  if (a.dim() == 0 || b.dim() == 0)
    fail<ShapeError>("matmul: got shapes ", a.shape(), " @ ", b.shape(),
                     "; expected at least one axis on either side: multiply by a scalar with *");
  if (a.dtype() != b.dtype()) {
    const auto [x, y] = promote_both(a, b, DType::bool_);
    return matmul(x, y);
  }
  if (a.dtype() == DType::bool_)
    fail<DTypeError>(
        "matmul: does not support bool; convert with .to(\"int32\") or .float() first");
  if (a.dtype() == DType::uint8)  // the low bits are those of the wider sum
    return to_dtype(matmul(to_dtype(a, DType::int32), to_dtype(b, DType::int32)), DType::uint8);
  const bool row = a.dim() == 1, column = b.dim() == 1;
  if (a.shape().back() != b.shape()[column ? 0 : b.dim() - 2])
    fail<ShapeError>("matmul: inner sizes differ: ", a.shape(), " @ ", b.shape(),
                     "; the last axis of a (", a.shape().back(), ") must equal the ",
                     column ? "only" : "second-to-last", " axis of b (",
                     b.shape()[column ? 0 : b.dim() - 2], ")");
  if (!row && !column) return product(a, b, matmul_precision());
  const Tensor y =
      product(row ? unsqueeze(a, 0) : a, column ? unsqueeze(b, 1) : b, matmul_precision());
  AxisMask gone = 0;
  if (row) gone |= 1u << (y.dim() - 2);
  if (column) gone |= 1u << (y.dim() - 1);
  return squeeze(y, gone);
}

// ---- linear ----

namespace {

void infer_linear(Tensors in, const Attrs&, SmallVector<Meta, 2>& out) {
  out.emplace_back(Shape{in[0].shape()[0], in[1].shape()[0]}, in[0].dtype(), in[0].device());
}
void run_linear(Views out, Views in, const Attrs& attrs) {
  View b = in[1];
  std::swap(b.shape[0], b.shape[1]);
  std::swap(b.strides[0], b.strides[1]);
  const View factors[] = {in[0], b}, terms[] = {out[0], in[2]};
  kernel_on(matmul_op, out[0].device)(out, Views(factors), attrs);
  kernel_on(binary_op<Add>(), out[0].device)(out, Views(terms), Params{});
}
// The lines, in the order, that matmul(x, transpose(weight)) + bias would be given.
void vjp_linear(const Line& line, const Tensor& g, Gradients& dx) {
  const auto [x_transposed, by_rows, precision] = line.attrs.as<MatmulAttrs>();
  if (line.needs(2)) dx[2] = sum_to(g, line.inputs[2].shape);
  if (line.needs(0)) {
    const Tensor& w = line.input(1);
    dx[0] = x_transposed ? t(product(t(w), t(g), precision)) : product(g, w, precision);
  }
  if (line.needs(1)) {
    const Tensor& x = line.input(0);
    dx[1] = by_rows ? product(t(g), x, precision) : t(product(t(x), g, precision));
  }
}
Cost cost_linear(Tensors in, const Tensor& out, const Attrs& attrs) {
  Cost c = cost(in, out, attrs);
  c.flops += static_cast<double>(out.numel());
  return c;
}
const Op linear_op{.name = "linear",
                   .operands = "x, weight, bias",
                   .formula = "x @ transpose(weight) + bias",
                   .gradient = {"g @ weight", "transpose(g) @ x", "sum(g, 0)"},
                   .numpy = "{x} @ {weight}.T + {bias}",
                   .infer = infer_linear,
                   .run = run_linear,
                   .gpu = run_linear,
                   .vjp = vjp_linear,
                   .saves = saves,
                   .cost = cost_linear,
                   .bfloat16 = true};

}  // namespace

void add_matmul_ops(std::vector<const Op*>& ops) {
  ops.insert(ops.end(), {&matmul_op, &linear_op});
}

Tensor one_line_linear(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  const bool by_rows = weight.strides()[1] == 1 && weight.strides()[0] != 1;
  const Tensor operands[] = {x, weight, bias};
  return apply(linear_op, operands, MatmulAttrs{transposed(x), by_rows, matmul_precision()});
}

}  // namespace wengert
