#include "ops/scan/scan.h"

#include <algorithm>

#include "base/pool.h"
#include "graph/batch.h"
#include "ops/functions.h"
#include "ops/gpu.h"
#include "ops/scan/gpu.h"

namespace wengert {

namespace {

constexpr int64_t chunk_elements = 1 << 15;
constexpr int64_t column_tile = 512;
constexpr int64_t many_lines = 16;
constexpr int64_t largest_accumulator = 16;

const ScanKernels& table() {
  static const ScanKernels& t = WENGERT_PICK_KERNELS(scan_kernels);
  return t;
}

template <Scan kind> void run(Views out, Views in, const Attrs& attrs) {
  const auto [axis, reverse] = attrs.as<ScanAttrs>();
  const ScanShape s(out[0].shape, axis);
  if (out[0].numel() == 0) return;
  const ScanKernel& k = table().by[static_cast<size_t>(kind)][static_cast<size_t>(out[0].dtype)];
  const int64_t element = size_of(out[0].dtype), columns = std::min(s.inner, column_tile),
                tiles = ceil_div(s.inner, columns), lines = s.outer * tiles,
                rows = std::max<int64_t>(1, chunk_elements / columns), pieces = ceil_div(s.n, rows);

  const auto scan = [&](int64_t line, int64_t piece, void* acc, bool write) {
    const int64_t first = piece * rows, column = line % tiles * columns;
    const int64_t row = line / tiles * s.n + (reverse ? s.n - 1 - first : first);
    const int64_t at = row * s.inner + column;
    ScanRows r{std::min(rows, s.n - first),
               std::min(columns, s.inner - column),
               reverse ? -s.inner : s.inner,
               first,
               {},
               nullptr,
               nullptr};
    for (size_t i = 0; i < in.size(); ++i) r.x[i] = in[i].as<char>() + at * element;
    if (write) {
      r.y = out[0].as<char>() + at * element;
      if (out.size() > 1) r.at = out[1].as<int64_t>() + at;
    }
    k.scan(r, acc);
  };

  if (pieces == 1 || lines >= many_lines) {
    const int64_t together = std::max<int64_t>(1, chunk_elements / (s.n * columns));
    parallel_for(ceil_div(lines, together), [&](int64_t chunk) {
      alignas(64) char acc[column_tile * largest_accumulator];
      const int64_t end = std::min(lines, (chunk + 1) * together);
      for (int64_t line = chunk * together; line < end; ++line) {
        k.start(columns, acc);
        for (int64_t piece = 0; piece < pieces; ++piece) {
          scan(line, piece, acc, true);
          if (pieces > 1) poll_interrupt();
        }
      }
    });
    return;
  }

  // What comes before each piece.
  const int64_t unit = columns * k.accumulator;
  const Tensor before(Shape{lines, pieces, unit}, DType::uint8);
  char* const acc = before.data<char>();
  parallel_for(lines * pieces, [&](int64_t i) {
    const bool last = i % pieces == pieces - 1;
    char* const next = acc + (last ? i + 1 - pieces : i + 1) * unit;
    k.start(columns, next);
    if (!last) scan(i / pieces, i % pieces, next, false);
  });
  for (int64_t line = 0; line < lines; ++line)
    for (int64_t i = line * pieces + 2; i < (line + 1) * pieces; ++i)
      k.merge(columns, acc + i * unit, acc + (i - 1) * unit);
  parallel_for(lines * pieces,
               [&](int64_t i) { scan(i / pieces, i % pieces, acc + i * unit, true); });
}

template <Scan kind> void run_on_gpu(Views out, Views in, const Attrs& attrs) {
  if (out[0].numel()) gpu_kernels().scan->by[static_cast<size_t>(kind)](out, in, attrs);
}

void infer(Tensors in, const Attrs&, SmallVector<Meta, 2>& out) {
  out.emplace_back(in[0].shape(), in[0].dtype(), in[0].device());
}
void describe(const Attrs& attrs, NamedAttrs& named) {
  named.emplace_back("axis", attrs.as<ScanAttrs>().axis);
  named.emplace_back("reverse", attrs.as<ScanAttrs>().reverse);
}
Saves save_x_and_y(uint32_t, const Attrs&) { return save_input(0) | save_output; }
int axis_of(const Line& line) { return static_cast<int>(line.attrs.as<ScanAttrs>().axis); }

// Of each element the one `by` places on, 1 or -1, along the axis; `beyond` where there is none.
Tensor neighbour(const Tensor& x, int axis, int by, double beyond) {
  Shape one = x.shape();
  const int64_t n = one[axis];
  if (n == 0) return x;
  one[axis] = 1;
  const Tensor end = full(one, beyond, x.dtype(), x.device()),
               rest = slice(x, axis, by > 0 ? 1 : 0, 1, n - 1);
  const Tensor parts[] = {by > 0 ? rest : end, by > 0 ? end : rest};
  return concatenate(Tensors(parts), axis);
}

extern const Op recurrence_op;
Tensor recurrence(const Tensor& a, const Tensor& b, int axis, bool reverse) {
  return apply(recurrence_op, contiguous(a), contiguous(b), ScanAttrs{axis, reverse});
}
Saves save_a_and_y(uint32_t needs, const Attrs&) {
  return save_input(0) | (needs & 1 ? save_output : 0);
}
void vjp_recurrence(const Line& line, const Tensor& g, Gradients& dx) {
  const auto [axis_given, reverse] = line.attrs.as<ScanAttrs>();
  const int axis = static_cast<int>(axis_given), later = reverse ? -1 : 1;
  const Tensor db = recurrence(neighbour(line.input(0), axis, later, 0), g, axis, !reverse);
  if (line.needs(0)) dx[0] = times(db, neighbour(line.result(), axis, -later, 0));
  if (line.needs(1)) dx[1] = db;
}
const Op recurrence_op{.name = "recurrence",
                       .operands = "a, b",
                       .formula =
                           "y[i] = a[i] * y[i - 1] + b[i] along the axis, from y[-1] = 0; "
                           "with y[i + 1] if reverse",
                       .gradient = {"db[i] * y[i - 1]", "db[i] = a[i + 1] * db[i + 1] + g[i]"},
                       .numpy = "recurrence({a}, {b}, {axis}, {reverse})",
                       .infer = infer,
                       .run = run<Scan::affine>,
                       .gpu = run_on_gpu<Scan::affine>,
                       .vjp = vjp_recurrence,
                       .saves = save_a_and_y,
                       .describe = describe,
                       .batch = batch_by<next_axis<ScanAttrs>>};

extern const Op cumsum_op;
void vjp_cumsum(const Line& line, const Tensor& g, Gradients& dx) {
  const auto [axis, reverse] = line.attrs.as<ScanAttrs>();
  dx[0] = apply(cumsum_op, contiguous(g), ScanAttrs{axis, !reverse});
}
const Op cumsum_op{
    .name = "cumsum",
    .formula = "y[i] = sum of x[0] to x[i] along the axis; from x[i] on if reverse",
    .gradient = {"dx[i] = sum of g[i] and all that follow; the other way if reverse"},
    .numpy = "cumsum({x}, {axis}, {reverse})",
    .infer = infer,
    .run = run<Scan::sum>,
    .gpu = run_on_gpu<Scan::sum>,
    .vjp = vjp_cumsum,
    .describe = describe,
    .batch = batch_by<next_axis<ScanAttrs>>};

// Without a division, which zeros would spoil: dx[i] = y[i - 1] * s[i], where s[i] = g[i] +
// x[i + 1] * s[i + 1] is what y[i] and all that follow have of x[i], but for y[i - 1].
void vjp_cumprod(const Line& line, const Tensor& g, Gradients& dx) {
  const int axis = axis_of(line);
  const Tensor s = recurrence(neighbour(line.input(0), axis, 1, 0), g, axis, true);
  dx[0] = times(s, neighbour(line.result(), axis, -1, 1));
}
const Op cumprod_op{.name = "cumprod",
                    .formula = "y[i] = product of x[0] to x[i] along the axis",
                    .gradient = {"dx[i] = y[i - 1] * s[i], s[i] = g[i] + x[i + 1] * s[i + 1]"},
                    .numpy = "np.cumprod({x}, axis={axis})",
                    .infer = infer,
                    .run = run<Scan::prod>,
                    .gpu = run_on_gpu<Scan::prod>,
                    .vjp = vjp_cumprod,
                    .saves = save_x_and_y,
                    .describe = describe,
                    .batch = batch_by<next_axis<ScanAttrs>>};

// exp(x[k] - y[i]) for the share of x[k] in y[i], as exp(x[k] - y[k]) * exp(y[k] - y[k + 1]) * ...,
// none of which is above 1.
void vjp_logcumsumexp(const Line& line, const Tensor& g, Gradients& dx) {
  const Tensor &x = line.input(0), y = line.result();
  constexpr double inf = std::numeric_limits<double>::infinity();
  const auto share = [](const Tensor& a, const Tensor& b) {  // where both are infinite, 1
    return select(a == b, 1.0, exp(a - b));
  };
  const int axis = axis_of(line);
  const Tensor s = recurrence(share(y, neighbour(y, axis, 1, inf)), g, axis, true);
  dx[0] = times(s, select(x == -inf, 0.0, share(x, y)));
}
const Op logcumsumexp_op{
    .name = "logcumsumexp",
    .formula = "y[i] = log(exp(x[0]) + ... + exp(x[i])) along the axis",
    .gradient = {"dx[i] = s[i] * exp(x[i] - y[i]), s[i] = g[i] + exp(y[i] - y[i + 1]) * s[i + 1]"},
    .numpy = "np.logaddexp.accumulate({x}, axis={axis})",
    .infer = infer,
    .run = run<Scan::logsumexp>,
    .gpu = run_on_gpu<Scan::logsumexp>,
    .vjp = vjp_logcumsumexp,
    .saves = save_x_and_y,
    .describe = describe,
    .batch = batch_by<next_axis<ScanAttrs>>};

void infer_extreme(Tensors in, const Attrs&, SmallVector<Meta, 2>& out) {
  out.emplace_back(in[0].shape(), in[0].dtype(), in[0].device());
  out.emplace_back(in[0].shape(), DType::int64, in[0].device());
}
Saves save_places(uint32_t, const Attrs&) { return save_auxiliary; }
void vjp_extreme(const Line& line, const Tensor& g, Gradients& dx) {
  const Tensor zeros = full(line.inputs[0].shape, 0, g.dtype(), g.device());
  dx[0] = scatter(zeros, axis_of(line), line.auxiliary(), g, {"cummax", Fold::add});
}
const Op cummax_op{.name = "cummax",
                   .formula = "y[i] = largest of x[0] to x[i] along the axis; NaN from one on",
                   .gradient = {"g, added at the last place of each largest x"},
                   .numpy = "scan_of(np.maximum, {x}, {axis})",
                   .infer = infer_extreme,
                   .run = run<Scan::max>,
                   .gpu = run_on_gpu<Scan::max>,
                   .vjp = vjp_extreme,
                   .saves = save_places,
                   .describe = describe,
                   .batch = batch_by<next_axis<ScanAttrs>>};
const Op cummin_op{.name = "cummin",
                   .formula = "y[i] = smallest of x[0] to x[i] along the axis; NaN from one on",
                   .gradient = {"g, added at the last place of each smallest x"},
                   .numpy = "scan_of(np.minimum, {x}, {axis})",
                   .infer = infer_extreme,
                   .run = run<Scan::min>,
                   .gpu = run_on_gpu<Scan::min>,
                   .vjp = vjp_extreme,
                   .saves = save_places,
                   .describe = describe,
                   .batch = batch_by<next_axis<ScanAttrs>>};

// Along an axis; a single number has one too.
Tensor along(const Op& op, const Tensor& x, int64_t axis, Tensor* second = nullptr) {
  if (x.dim() == 0) {
    const Tensor y = reshape(along(op, reshape(x, Shape{1}), axis, second), Shape{});
    if (second) *second = reshape(*second, Shape{});
    return y;
  }
  const Tensor in = contiguous(x);
  return apply(op, Tensors(&in, 1), ScanAttrs{normalize_axis(op.name, axis, x.dim()), false},
               second);
}
Tensor number(const Tensor& x) { return is_floating(x.dtype()) ? x : to_dtype(x, DType::int64); }

}  // namespace

void add_scan_ops(std::vector<const Op*>& ops) {
  for (const Op* op :
       {&cumsum_op, &cumprod_op, &logcumsumexp_op, &cummax_op, &cummin_op, &recurrence_op})
    ops.push_back(op);
}

Tensor cumsum(const Tensor& x, int64_t axis) { return along(cumsum_op, number(x), axis); }
Tensor cumprod(const Tensor& x, int64_t axis) { return along(cumprod_op, number(x), axis); }
Tensor logcumsumexp(const Tensor& x, int64_t axis) {
  return along(logcumsumexp_op, to_dtype(x, to_floating(x.dtype())), axis);
}
std::pair<Tensor, Tensor> cummax(const Tensor& x, int64_t axis) {
  Tensor at;
  const Tensor y = along(cummax_op, x, axis, &at);
  return {y, at};
}
std::pair<Tensor, Tensor> cummin(const Tensor& x, int64_t axis) {
  Tensor at;
  const Tensor y = along(cummin_op, x, axis, &at);
  return {y, at};
}

}  // namespace wengert
