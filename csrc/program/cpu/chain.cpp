#include "program/cpu/chain.h"

#include <algorithm>
#include <cstring>

#include "base/pool.h"
#include "ops/conv/conv.h"
#include "ops/rows/batch_norm.h"
#include "program/plan.h"

namespace wengert {

namespace {

constexpr int64_t chunk_elements = 1 << 14;
constexpr int64_t largest_element = 8;

int64_t product(const Shape& shape, int from, int to) {
  int64_t n = 1;
  for (int d = from; d < to; ++d) n *= shape[d];
  return n;
}

bool fits_split(const StepList& list, std::span<const StepList::Line> lines, int split,
                bool periods) {
  for (const StepList::Line& line : lines) {
    const Shape& shape = list.value(line.outputs[0]).shape;
    for (int x : line.inputs) {
      const auto strides = strides_of(list.value(x), shape, split);
      if (!strides || (strides->period && !periods)) return false;
    }
  }
  return true;
}

// Numbers the tiles that values without memory take, each from its line to its last reader.
// Returns how many there are at most; fills `number` by value.
int assign_tiles(const StepList& list, std::span<const StepList::Line> lines,
                 std::span<char* const> base, std::vector<std::pair<int, int>>& number) {
  std::vector<bool> taken;
  const auto last_use = [&](int v) {
    size_t last = 0;
    for (size_t i = 0; i < lines.size(); ++i)
      for (int x : lines[i].inputs)
        if (list.value(x).slot == list.value(v).slot) last = i;
    return last;
  };
  for (size_t i = 0; i < lines.size(); ++i) {
    const int y = lines[i].outputs[0];
    if (!base[static_cast<size_t>(list.value(y).slot)]) {
      const auto free = std::find(taken.begin(), taken.end(), false);
      const auto at = static_cast<int>(free - taken.begin());
      if (free == taken.end()) taken.push_back(true);
      taken[static_cast<size_t>(at)] = true;
      number.emplace_back(list.value(y).slot, at);
    }
    // After the line has run: a result never takes the tile of an operand of its own line.
    for (const auto& [slot, at] : number)
      for (int x : lines[i].inputs)
        if (list.value(x).slot == slot && last_use(x) == i) taken[static_cast<size_t>(at)] = false;
  }
  return static_cast<int>(taken.size());
}

class ThenChain final : public Ready {
 public:
  ThenChain(const Op& op, std::vector<View> out, std::vector<View> in, const Attrs& attrs,
            Chain chain)
      : run_then_(then_of(op)),
        out_(std::move(out)),
        in_(std::move(in)),
        attrs_(attrs),
        chain_(std::move(chain)) {}
  void run() const override {
    const auto then = [](const void* chain, int64_t row, int64_t rows, int64_t col, int64_t cols) {
      static_cast<const Chain*>(chain)->run_block(row, rows, col, cols);
    };
    run_then_(Views(out_), Views(in_), attrs_, {then, &chain_});
  }
  void pointers(std::vector<void*>& at) override {
    for (View& x : in_) at.push_back(&x.data);
    chain_.pointers(at);
  }

 private:
  RunThen run_then_;
  std::vector<View> out_, in_;
  Attrs attrs_;
  Chain chain_;
};

// Fills `all` bytes with the first `have`, doubled up.
void repeat(char* to, size_t have, size_t all) {
  while (have < all) {
    const size_t more = std::min(have, all - have);
    std::memcpy(to + have, to, more);
    have += more;
  }
}

}  // namespace

std::optional<RowColumn> strides_of(const StepList::Value& x, const Shape& shape, int split) {
  const Strides s = broadcast_strides(x.shape, x.strides, shape);
  RowColumn found{0, 0, 0};
  int64_t next = -1;  // the stride that the next axis to the left must have; -1: any
  for (int d = shape.size() - 1; d >= 0; --d) {
    if (d == split - 1) next = -1;
    if (shape[d] == 1) continue;
    if (found.period && s[d]) return std::nullopt;
    if (found.period) continue;
    if (next >= 0 && s[d] != next) {
      if (s[d] || d >= split) return std::nullopt;
      found.period = product(shape, d + 1, split);
      continue;
    }
    if (next < 0) {
      if (s[d] < 0 || (d >= split && s[d] > 1)) return std::nullopt;
      (d >= split ? found.column : found.row) = s[d];
    }
    next = s[d] * shape[d];
  }
  return found;
}

int split_for(const Shape& shape, const Grid& grid) {
  for (int split = 0; split <= shape.size(); ++split)
    if (product(shape, 0, split) == grid.rows &&
        product(shape, split, shape.size()) == grid.columns)
      return split;
  return -1;
}

Device device_of(const StepList& list, const StepList::Line& line) {
  return list.slot(line.outputs[0]).storage->device;
}

bool chainable(const StepList& list, const StepList::Line& line) {
  if (!line.op->elementwise || !line.op->tile || line.outputs.size() != 1 || line.edited ||
      line.edit || !line.body.empty())
    return false;
  const StepList::Value& y = list.value(line.outputs[0]);
  if (is_cuda(device_of(list, line)) &&
      (y.dtype == DType::bfloat16 || list.value(line.inputs[0]).dtype == DType::bfloat16))
    return false;  // the CPU goes through tiles of float32
  return line.op->tile(y.dtype, list.value(line.inputs[0]).dtype) &&
         is_contiguous(y.shape, y.strides) && numel(y.shape) > 0;
}

std::span<const StepList::Line> chain_of(const StepList::Line& line) {
  const auto first = std::find_if(line.body.begin(), line.body.end(),
                                  [](const StepList::Line& part) { return part.op->elementwise; });
  return {first, std::find_if(first, line.body.end(),
                              [](const StepList::Line& part) { return !part.op->elementwise; })};
}

std::unique_ptr<Ready> ready_chain(const Plan& plan, const StepList::Line& line) {
  return std::make_unique<Chain>(plan.list(), line.body, *grid_of(plan.list(), line.body, true),
                                 plan.base());
}

RunThen then_of(const Op& op) {
  const RunThen conv = conv_then(op);
  return conv ? conv : batch_norm_then(op);
}

Grid grid_of_blocks(const Op& op, const Shape& result) {
  const int split = then_of(op) ? 2 : result.size() - 1;
  return {product(result, 0, split), product(result, split, result.size())};
}

std::unique_ptr<Ready> ready_then(const Plan& plan, const StepList::Line& line) {
  const StepList::Line& first = line.body[0];
  std::vector<View> out = plan.views(first.outputs), in = plan.views(first.inputs);
  const Grid grid = grid_of_blocks(*first.op, out[0].shape);
  return std::make_unique<ThenChain>(*first.op, std::move(out), std::move(in), first.attrs,
                                     Chain(plan.list(), chain_of(line), grid, plan.base()));
}

std::optional<Grid> grid_of(const StepList& list, std::span<const StepList::Line> lines,
                            bool periods) {
  const Shape& shape = list.value(lines[0].outputs[0]).shape;
  for (int split = 0; split <= shape.size(); ++split)
    if (fits_split(list, lines, split, periods)) {
      const Grid grid{product(shape, 0, split), product(shape, split, shape.size())};
      // Rows of a few elements are slower than line by line.
      if (grid.rows > 1 && grid.columns < 4) return std::nullopt;
      return grid;
    }
  return std::nullopt;
}

bool fits_grid(const StepList& list, std::span<const StepList::Line> lines, const Grid& grid,
               bool periods) {
  const int split = split_for(list.value(lines[0].outputs[0]).shape, grid);
  return split >= 0 && fits_split(list, lines, split, periods);
}

bool Chain::enough_tiles(const StepList& list, std::span<const StepList::Line> lines,
                         std::span<char* const> base) {
  std::vector<std::pair<int, int>> tiles;
  if (assign_tiles(list, lines, base, tiles) > max_tiles) return false;
  size_t operands = 0;
  for (const StepList::Line& line : lines) operands += 1 + line.inputs.size();
  return operands <= max_operands;
}

Chain::Chain(const StepList& list, std::span<const StepList::Line> lines, const Grid& grid,
             std::span<char* const> base)
    : grid_(grid) {
  std::vector<std::pair<int, int>> tiles;
  assign_tiles(list, lines, base, tiles);
  const Shape& shape = list.value(lines[0].outputs[0]).shape;
  const int split = split_for(shape, grid);
  std::vector<int> numbers;  // values, as operands_ has them
  const auto operand = [&](int v) {
    const auto known = std::find(numbers.begin(), numbers.end(), v);
    if (known != numbers.end()) return static_cast<int>(known - numbers.begin());
    const StepList::Value& x = list.value(v);
    numbers.push_back(v);
    char* const start = base[static_cast<size_t>(x.slot)];
    if (start) {
      const auto [row, column, period] = *strides_of(x, shape, split);
      operands_.push_back({start + x.offset, row, column, period, size_of(x.dtype)});
      if (!operands_.back().linear(grid_))
        gathered_.push_back(static_cast<int>(numbers.size()) - 1);
    } else {
      const auto tile_of = std::find_if(tiles.begin(), tiles.end(),
                                        [&](const auto& t) { return t.first == x.slot; });
      operands_.push_back({nullptr, tile_of->second, 1, 0, size_of(x.dtype)});
    }
    return static_cast<int>(numbers.size()) - 1;
  };
  for (const StepList::Line& line : lines) {
    const int y = line.outputs[0];
    Step step{.fn = line.op->tile(list.value(y).dtype, list.value(line.inputs[0]).dtype),
              .params = line.attrs.as<Params>(),
              .out = 0,
              .count = static_cast<int>(line.inputs.size()),
              .in = {},
              .ones = 0,
              .column_ones = 0};
    for (int i = 0; i < step.count; ++i) {
      step.in[i] = operand(line.inputs[static_cast<size_t>(i)]);
      const Operand& x = operands_[static_cast<size_t>(step.in[i])];
      if (x.data && x.one()) step.ones |= 1u << i;
      if (x.data && x.column == 0) step.column_ones |= 1u << i;
    }
    step.out = operand(y);
    steps_.push_back(step);
  }
}

void Chain::pointers(std::vector<void*>& at) {
  for (Operand& x : operands_)
    if (x.data) at.push_back(&x.data);
}

void Chain::steps(const Places& at, int64_t n, bool by_rows) const {
  for (const Step& s : steps_) {
    const void* in[3];
    for (int i = 0; i < s.count; ++i) in[i] = at[s.in[i]];
    s.fn(n, at[s.out], in, by_rows ? s.column_ones : s.ones, s.params);
  }
}

// n elements from `first` on; every operand is linear.
void Chain::run_flat(Places& at, int64_t first, int64_t n) const {
  for (int64_t done = 0; done < n; done += tile) {
    for (size_t i = 0; i < operands_.size(); ++i)
      if (const Operand& x = operands_[i]; x.data)
        at[i] = x.one() ? x.data : x.data + (first + done) * x.size;
    steps(at, std::min(tile, n - done), false);
  }
}

// Short rows, several to a tile: operands of another layout are copied into that order.
void Chain::run_joined(Places& at, int64_t row, int64_t rows) const {
  const int64_t columns = grid_.columns, together = std::min(rows, tile / columns);
  alignas(64) char gathered[max_gathered][tile * largest_element];
  for (int64_t r = 0; r < rows; r += together) {
    const int64_t n = std::min(together, rows - r);
    for (size_t i = 0; i < operands_.size(); ++i)
      if (const Operand& x = operands_[i]; x.data)
        at[i] = x.one() ? x.data : x.data + (row + r) * columns * x.size;
    for (size_t k = 0; k < gathered_.size(); ++k) {
      const auto i = static_cast<size_t>(gathered_[k]);
      const Operand& x = operands_[i];
      at[i] = gathered[k];
      if (x.row == 0 && r > 0) continue;  // the same row again
      const auto bytes = static_cast<size_t>(columns * x.size);
      if (x.row == 0) {  // one row over and over, doubled up
        std::memcpy(gathered[k], x.data, bytes);
        repeat(gathered[k], bytes, bytes * static_cast<size_t>(together));
        continue;
      }
      for (int64_t j = 0; j < n; ++j) {
        char* const to = gathered[k] + j * columns * x.size;
        const char* const from = x.row_at(row + r + j);
        if (x.column == 1) {
          std::memcpy(to, from, bytes);
          continue;
        }
        by_size(x.size, [&](auto type) {
          using T = typename decltype(type)::type;
          std::fill_n(reinterpret_cast<T*>(to), columns, *reinterpret_cast<const T*>(from));
        });
      }
    }
    steps(at, n * columns, false);
  }
}

void Chain::run_rows(Places& at, int64_t row, int64_t rows, int64_t column, int64_t columns) const {
  for (int64_t r = row; r < row + rows; ++r)
    for (int64_t c = 0; c < columns; c += tile) {
      for (size_t i = 0; i < operands_.size(); ++i)
        if (const Operand& x = operands_[i]; x.data)
          at[i] = x.row_at(r) + (column + c) * x.column * x.size;
      steps(at, std::min(tile, columns - c), true);
    }
}

// Calls body(places) with a tile for each value that has no memory.
template <class Body> void Chain::with_tiles(const Body& body) const {
  alignas(64) char tiles[max_tiles][tile * largest_element];
  Places at;
  for (size_t i = 0; i < operands_.size(); ++i)
    if (!operands_[i].data) at[i] = tiles[operands_[i].row];
  body(at);
}

void Chain::run_block(int64_t row, int64_t rows, int64_t column, int64_t columns) const {
  const bool whole_rows = columns == grid_.columns;
  with_tiles([&](Places& at) {
    if (whole_rows && gathered_.empty())
      run_flat(at, row * columns, rows * columns);
    else if (whole_rows && columns <= tile / 8 && gathered_.size() <= max_gathered)
      run_joined(at, row, rows);
    else
      run_rows(at, row, rows, column, columns);
  });
}

void Chain::run() const {
  const int64_t all = grid_.rows * grid_.columns;
  if (all <= chunk_elements) return run_block(0, grid_.rows, 0, grid_.columns);
  if (gathered_.empty()) {  // as one long row
    parallel_for(ceil_div(all, chunk_elements), [&](int64_t chunk) {
      const int64_t first = chunk * chunk_elements, n = std::min(chunk_elements, all - first);
      with_tiles([&](Places& at) { run_flat(at, first, n); });
    });
    return;
  }
  const int64_t columns = std::min(grid_.columns, chunk_elements),
                rows = std::max<int64_t>(1, chunk_elements / columns);
  const int64_t across = ceil_div(grid_.columns, columns), down = ceil_div(grid_.rows, rows);
  parallel_for(across * down, [&](int64_t chunk) {
    const int64_t row = chunk / across * rows, column = chunk % across * columns;
    run_block(row, std::min(rows, grid_.rows - row), column,
              std::min(columns, grid_.columns - column));
  });
}

}  // namespace wengert
