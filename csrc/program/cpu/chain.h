// Chain: elementwise lines over one grid of rows x columns, run one after another on a tile of it
// before the next tile is begun: what only the chain itself needs stays in L1 and never gets a
// memory of its own. The kernels are those of the ops' tables, so the bits are too.
#pragma once

#include <optional>
#include <span>

#include "graph/blocks.h"
#include "program/list.h"

namespace wengert {

struct Grid {
  int64_t rows = 1, columns = 1;
};

// Where a line runs: while passes look at it.
Device device_of(const StepList& list, const StepList::Line& line);
// Whether a line can be a part of a chain: elementwise, with a kernel, its result in one piece.
bool chainable(const StepList& list, const StepList::Line& line);
// The grid with the longest rows in which every operand of these lines lies with one stride from
// row to row, and within a row end to end or not at all. Their results have one shape. `periods`:
// whether operands may have one, as on a CPU.
std::optional<Grid> grid_of(const StepList& list, std::span<const StepList::Line> lines,
                            bool periods);
// Whether they fit in this very grid.
bool fits_grid(const StepList& list, std::span<const StepList::Line> lines, const Grid& grid,
               bool periods);

// The strides of x, broadcast to `shape`, whose axes from `split` on are the columns.
struct RowColumn {
  int64_t row, column;
  int64_t period = 0;  // the rows of x begin again after so many, such as one for each channel of
                       // each image; 0: they do not
};
std::optional<RowColumn> strides_of(const StepList::Value& x, const Shape& shape, int split);
// The axis at which a shape is cut into such rows and columns; -1 if there is none.
int split_for(const Shape& shape, const Grid& grid);

// The elementwise lines of a fused line, in order.
std::span<const StepList::Line> chain_of(const StepList::Line& line);
// A line that is nothing but a chain.
std::unique_ptr<Ready> ready_chain(const Plan& plan, const StepList::Line& line);
// A line whose first part runs the chain behind it on each block of its result (graph/blocks.h).
std::unique_ptr<Ready> ready_then(const Plan& plan, const StepList::Line& line);
// How an op runs with a chain behind each block of its result; null: it is not made in blocks.
RunThen then_of(const Op& op);
// The grid of such blocks; of a matmul, its rows and columns.
Grid grid_of_blocks(const Op& op, const Shape& result);

class Chain final : public Ready {
 public:
  static constexpr size_t max_operands = 32;

  // `base`: where each slot begins; null for those that only this chain needs. What has no place
  // in the chain's few tiles is refused by `enough_tiles`.
  Chain(const StepList& list, std::span<const StepList::Line> lines, const Grid& grid,
        std::span<char* const> base);
  static bool enough_tiles(const StepList& list, std::span<const StepList::Line> lines,
                           std::span<char* const> base);

  // All of it, shared out in chunks of a fixed size.
  void run() const override;
  // A block of the grid, on this thread.
  void run_block(int64_t row, int64_t rows, int64_t column, int64_t columns) const;
  void pointers(std::vector<void*>& at) override;

 private:
  static constexpr int64_t tile = 1024;   // elements
  static constexpr int max_tiles = 6;     // of values without memory, alive at one time
  static constexpr int max_gathered = 4;  // operands that are brought into a tile's order first

  struct Operand {
    char* data;           // null: a tile, number `row`
    int64_t row, column;  // strides in elements
    int64_t period;       // as RowColumn's
    int64_t size;         // of an element in bytes
    bool one() const { return row == 0 && column == 0; }
    bool linear(const Grid& g) const {  // its strides are the grid's
      return one() ||
             (!period && (column == 1 || g.columns == 1) && (g.rows == 1 || row == g.columns));
    }
    char* row_at(int64_t r) const { return data + (period ? r % period : r) * row * size; }
  };
  struct Step {
    TileFn fn;
    Params params;
    int out, count, in[3];
    uint32_t ones, column_ones;  // inputs that are one element: always, and along a row
  };
  using Places = char* [max_operands];

  template <class Body> void with_tiles(const Body& body) const;
  void run_flat(Places& at, int64_t first, int64_t n) const;
  void run_joined(Places& at, int64_t row, int64_t rows) const;
  void run_rows(Places& at, int64_t row, int64_t rows, int64_t column, int64_t columns) const;
  void steps(const Places& at, int64_t n, bool by_rows) const;

  Grid grid_;
  std::vector<Operand> operands_;
  std::vector<Step> steps_;
  std::vector<int> gathered_;  // operands that are not linear
};

}  // namespace wengert
