// Host tests of ops/matmul/tiles.h, and of what the emulation must notice in gpu/tensor_core.h.
// Without an argument: the functions. "late": reads a copy that was not waited for; "stuck": waits
// for a barrier at which nobody arrives. tests/gpu/test_cuda_matmul.py builds and runs it.
#include "ops/matmul/tiles.h"

#include <bit>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <set>
#include <vector>

#include "gpu/tensor_core.h"

using namespace wengert;

namespace {

void require(bool fine, const char* what) {
  if (fine) return;
  std::printf("wrong: %s\n", what);
  std::exit(1);
}

void tiles() {
  for (const Tiles t : {Tiles{1, 1, 1, 1}, Tiles{8, 3, 1, 1}, Tiles{9, 4, 1, 2}, Tiles{17, 5, 3, 2},
                        Tiles{7, 1, 2, 3}, Tiles{1, 19, 1, 1}}) {
    std::set<std::vector<int>> seen;
    for (int64_t w = 0; w < t.count(); ++w) {
      const auto [row, column, slab, matrix] = t.place(w);
      require(row >= 0 && row < t.rows && column >= 0 && column < t.columns && slab >= 0 &&
                  slab < t.slabs && matrix >= 0 && matrix < t.matrices,
              "a tile lies outside");
      require(seen.insert({row, column, slab, matrix}).second, "a tile is made twice");
    }
    require(static_cast<int64_t>(seen.size()) == t.count(), "a tile is missing");
  }
  const Tiles large{1 << 20, 1 << 10, 1, 3};  // more than 31 bits
  require(large.place(large.count() - 1).matrix == 2, "the last of many tiles");
  // 132 at a time of 64 x 64: they must not read as many rows and columns as 132 in a row would.
  std::set<int> rows, columns;
  for (int64_t w = 0; w < 132; ++w) {
    rows.insert(Tiles{64, 64, 1, 1}.place(w).row);
    columns.insert(Tiles{64, 64, 1, 1}.place(w).column);
  }
  require(rows.size() + columns.size() <= 25, "what runs at a time is spread out");
}

void swizzles() {
  for (const uint32_t row_bytes : {64u, 128u}) {
    std::set<uint32_t> places;
    for (uint32_t at = 0; at < 16 * row_bytes; at += 2) places.insert(swizzled(at, row_bytes));
    require(places.size() == 8 * row_bytes && *places.rbegin() == 16 * row_bytes - 2,
            "swizzled bytes share a place");
    for (uint32_t piece = 0; piece < row_bytes; piece += 16) {  // of eight rows, as ldmatrix reads
      std::set<uint32_t> banks;
      for (uint32_t row = 0; row < 8; ++row)
        banks.insert(swizzled(row * row_bytes + piece, row_bytes) / 16 % 8);
      require(banks.size() == 8, "eight rows share banks");
    }
  }
  // PTX ISA, "matrix descriptor": bits 13-0 address / 16, 29-16 leading offset / 16, 45-32 stride
  // offset / 16, 51-49 base offset, 63-62 swizzling, of which 1 is 128 bytes.
  for (const uint32_t address : {0u, 1024u, 5 * 1024u + 32, 232448u - 1024}) {
    const uint64_t d = descriptor(address);
    require((d & 0x3fff) << 4 == address && (d >> 32 & 0x3fff) == 64 && (d >> 49 & 7) == 0 &&
                d >> 62 == 1 && (d >> 14 & 3) == 0 && (d >> 30 & 3) == 0 && (d >> 46 & 7) == 0 &&
                (d >> 52 & 0x3ff) == 0,
            "a descriptor");
  }
}

void fragments() {
  std::set<std::pair<int, int>> seen;
  for (int lane = 0; lane < 32; ++lane)
    for (int i = 0; i < 4; ++i) {
      const int row = fragment_row(lane, i), column = fragment_column(lane, i);
      require(row >= 0 && row < 16 && column >= 0 && column < 8, "a fragment's element outside");
      seen.insert({row, column});
    }
  require(seen.size() == 128, "a fragment's element twice");
  // The figures of mma.m16n8k16 and wgmma in the PTX ISA, at two places.
  require(fragment_row(5, 0) == 1 && fragment_column(5, 0) == 2, "c0 of lane 5");
  require(fragment_row(31, 3) == 15 && fragment_column(31, 3) == 7, "c3 of lane 31");
}

template <int slices> double rest(float x) {  // what the slices miss
  bfloat16 slice[slices];
  split(x, slice);
  double sum = 0;
  for (const bfloat16 p : slice) {
    require(is_finite(p), "a slice of a finite number is not finite");
    sum += static_cast<float>(p);
  }
  return std::fabs(sum - x);
}

void splits() {
  std::mt19937 random(1);
  for (int i = 0; i < 2'000'000; ++i) {
    const auto x = std::bit_cast<float>(static_cast<uint32_t>(random()));
    bfloat16 slice[3];
    split(x, slice);
    if (!std::isfinite(x)) {
      require(slice[1].bits == 0 && slice[2].bits == 0, "slices behind one that is not finite");
      require(std::isnan(x) ? std::isnan(slice[0]) : slice[0] == x, "what is not finite");
      continue;
    }
    const double size = std::fabs(static_cast<double>(x));
    require(rest<3>(x) <= (size >= 0x1p-110 ? 0 : 0x1p-134), "three slices");
    require(rest<2>(x) <= std::max(size * 0x1p-16, 0x1p-134), "two slices");
    require(rest<1>(x) <= std::max(size * 0x1p-8, 0x1p-134), "one slice");
  }
  for (const float x : {3.4028234e38f, -3.4028234e38f, 3.4e38f, 0.0f, 1e-45f, 0x1p-110f})
    require(rest<3>(x) <= (std::fabs(x) < 1e-40f ? 0x1p-134 : 0), "a limit of float32");
  // The pairs: all with a + b < slices, none before a smaller one.
  std::vector<std::pair<int, int>> pairs;
  each_pair<3>([&](int a, int b) { pairs.emplace_back(a, b); });
  require(pairs.size() == 6 && pairs.back() == std::pair(0, 0), "pairs");
  for (size_t i = 1; i < pairs.size(); ++i)
    require(pairs[i].first + pairs[i].second <= pairs[i - 1].first + pairs[i - 1].second,
            "the order of pairs");
}

template <class F> void launch_on_cpu(unsigned threads, const F& f) {
  emulation::run({}, threads, [](const void* g) { (*static_cast<const F*>(g))(); }, &f);
}

}  // namespace

int main(int arguments, char** argument) {
  const char what = arguments > 1 ? argument[1][0] : 'f';
  if (what == 'l') {
    static const float from[4] = {1, 2, 3, 4};
    launch_on_cpu(32, [] {
      copy_later(dynamic_shared() + threadIdx.x * 16, from, true);
      end_copies();
      const bool early = *reinterpret_cast<float*>(dynamic_shared() + threadIdx.x * 16) == 1;
      wait_for_copies<0>();
      const bool then = *reinterpret_cast<float*>(dynamic_shared() + threadIdx.x * 16) == 1;
      require(!early && then, "a copy is there before it is waited for");
    });
  } else if (what == 's') {
    launch_on_cpu(32, [] {
      static Barrier b;
      if (threadIdx.x == 0) begin(&b, 2);
      __syncthreads();
      if (threadIdx.x == 0) arrive(&b);
      wait(&b, 0);
    });
  } else {
    tiles();
    swizzles();
    fragments();
    splits();
  }
  std::puts("fine");
}
