// The instructions of tensor cores, and those that feed them: mma with cp.async and ldmatrix
// (compute capability 8.0), wgmma with TMA and mbarrier (9.0a only). Each is a function, with the
// emulation's below, which does work that is waited for no sooner than it is waited for.
#pragma once

#include "base/dtype.h"
#include "gpu/launch.h"

#if defined(__CUDACC__)
#include <cuda.h>
#endif

#if !defined(__CUDACC__)
#define HAS_MMA 1
#define HAS_WGMMA 1
#elif defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define HAS_WGMMA 1
#elif defined(__CUDA_ARCH__)
#define HAS_MMA (__CUDA_ARCH__ >= 800)
#endif

namespace wengert {

#if defined(__CUDACC__)

__device__ inline uint32_t shared_address(const void* p) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}

// ---- 8.0 ----

#if HAS_MMA
// 16 bytes to shared memory, or zeros; in groups.
__device__ inline void copy_later(void* to, const void* from, bool inside) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from),
               "r"(inside ? 16 : 0)
               : "memory");
}
__device__ inline void end_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int left> __device__ void wait_for_copies() {  // of all but the last `left` groups
  asm volatile("cp.async.wait_group %0;" ::"n"(left) : "memory");
}
// Four 8 x 8 matrices; lane 8 * i + r has the address of row r of matrix i.
__device__ inline void load_matrices(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}
// d += a @ b, 16 x 16 by 16 x 8.
__device__ inline void multiply(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
#endif

// ---- 9.0a ----

using TensorMap = CUtensorMap;
struct Barrier {
  uint64_t state;
};

#if HAS_WGMMA
__device__ inline void begin(Barrier* b, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(b)), "r"(arrivals)
               : "memory");
}
__device__ inline void show_barriers() {  // to the copy engine
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
__device__ inline void arrive(Barrier* b) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(b)) : "memory");
}
__device__ inline void arrive_before(Barrier* b, int bytes) {  // announces bytes
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(b)),
               "r"(bytes)
               : "memory");
}
__device__ inline void wait(Barrier* b, int parity) {  // for the end of a phase of this parity
  uint32_t done = 0;
  while (!done)
    asm volatile(
        "{\n.reg .pred p;\n"
        "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
        "selp.b32 %0, 1, 0, p;\n}"
        : "=r"(done)
        : "r"(shared_address(b)), "r"(parity)
        : "memory");
}
// A box whose first element is (x, y); elements outside are zero.
__device__ inline void copy_box(void* to, const TensorMap* map, int x, int y, Barrier* b) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], "
      "[%1, {%2, %3}], [%4];" ::"r"(shared_address(to)),
      "l"(map), "r"(x), "r"(y), "r"(shared_address(b))
      : "memory");
}
template <int registers> __device__ void keep_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(registers));
}
template <int registers> __device__ void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(registers));
}
__device__ inline void begin_products() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ inline void wait_for_products() {
  asm volatile("wgmma.commit_group.sync.aligned;\nwgmma.wait_group.sync.aligned 0;" ::: "memory");
}
// d = a @ b, or d += a @ b, by four warps: 64 x 16 by 16 x 128, both in shared memory.
#define FOUR(i) "+f"(d[i][0]), "+f"(d[i][1]), "+f"(d[i][2]), "+f"(d[i][3])
#define SIXTEEN(i) FOUR(i), FOUR(i + 1), FOUR(i + 2), FOUR(i + 3)
__device__ inline void multiply(float (&d)[16][4], uint64_t a, uint64_t b, bool add) {
  asm volatile(
      "{\n.reg .pred add;\nsetp.ne.b32 add, %66, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 "
      "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, "
      "%64, %65, add, 1, 1, 0, 0;\n}"
      : SIXTEEN(0), SIXTEEN(4), SIXTEEN(8), SIXTEEN(12)
      : "l"(a), "l"(b), "r"(static_cast<int>(add)));
}
// After the wait: so that the compiler reads no result before it.
__device__ inline void settle(float (&d)[16][4]) {
  asm volatile("" : SIXTEEN(0), SIXTEEN(4), SIXTEEN(8), SIXTEEN(12)::"memory");
}
#undef SIXTEEN
#undef FOUR
#endif

// A map of a matrix of bfloat16 whose rows are `stride` elements apart, for boxes of 64 columns,
// swizzled by 128 bytes.
inline TensorMap tensor_map(const char* op, Device d, const void* data, int64_t rows,
                            int64_t columns, int64_t stride, int box_rows) {
  using Encode = decltype(&cuTensorMapEncodeTiled);
  static const Encode encode = [] {
    void* f = nullptr;
    cudaDriverEntryPointQueryResult found;
    const auto asked = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &f, 12000,
                                                        cudaEnableDefault, &found);
    return asked == cudaSuccess && found == cudaDriverEntryPointSuccess
               ? reinterpret_cast<Encode>(f)
               : nullptr;
  }();
  TensorMap map;
  const cuuint64_t size[] = {static_cast<cuuint64_t>(columns), static_cast<cuuint64_t>(rows)};
  const cuuint64_t bytes[] = {static_cast<cuuint64_t>(stride) * 2};
  const cuuint32_t box[] = {64, static_cast<cuuint32_t>(box_rows)}, step[] = {1, 1};
  if (!encode ||
      encode(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, const_cast<void*>(data), size, bytes, box,
             step, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
             CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) != CUDA_SUCCESS)
    fail<DeviceError>(op, ": the driver of ", d, " makes no map of a matrix of ", rows, " x ",
                      columns, "; set_matmul_precision(\"strict\") needs none");
  return map;
}

#else  // ---- the emulation ----

inline uint32_t shared_address(const void* p) {
  return static_cast<uint32_t>(static_cast<const char*>(p) - emulation::dynamic_shared());
}

// Products of bfloat16 are exact; sums of eight of them are cut off, not rounded: what Fasi,
// Higham, Mikaitis and Pranesh (2021) found of the first three generations, and the worst of these.
inline void add_products(float& sum, const float* a, const float* b) {
  for (int half = 0; half < 2; ++half) {
    double s = sum;
    for (int k = 8 * half; k < 8 * half + 8; ++k) s += static_cast<double>(a[k]) * b[k];
    sum = static_cast<float>(s);
    if (std::isfinite(sum) && std::fabs(sum) > std::fabs(s)) sum = std::nextafterf(sum, 0);
  }
}
inline void unpack(float* to, uint32_t two) {
  to[0] = __builtin_bit_cast(float, two << 16);
  to[1] = __builtin_bit_cast(float, two & 0xffff0000);
}

inline void copy_later(void* to, const void* from, bool inside) {
  emulation::later([=] { inside ? std::memcpy(to, from, 16) : std::memset(to, 0, 16); });
}
inline void end_copies() { emulation::end_group(); }
template <int left> void wait_for_copies() { emulation::wait_for_groups(left); }
inline void load_matrices(uint32_t (&r)[4], const void* row) {
  const emulation::Gathered<const void*> rows(row);
  for (unsigned i = 0; i < 4; ++i)
    std::memcpy(
        &r[i],
        static_cast<const char*>(rows.of(8 * i + threadIdx.x % 32 / 4)) + threadIdx.x % 4 * 4, 4);
}
inline void multiply(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  struct Held {
    uint32_t a[4], b[2];
  };
  const emulation::Gathered<Held> held({{a[0], a[1], a[2], a[3]}, {b0, b1}});
  // The lanes that hold a row of a, or a column of b, are four neighbours.
  const unsigned lane = threadIdx.x % 32;
  float rows[2][16], columns[2][16];
  for (unsigned q = 0; q < 4; ++q) {
    const Held of_row = held.of(lane / 4 * 4 + q);
    for (unsigned i = 0; i < 4; ++i) unpack(&rows[i % 2][q * 2 + i / 2 * 8], of_row.a[i]);
    for (unsigned j = 0; j < 2; ++j) {
      const Held of_column = held.of((lane % 4 * 2 + j) * 4 + q);
      for (unsigned i = 0; i < 2; ++i) unpack(&columns[j][q * 2 + i * 8], of_column.b[i]);
    }
  }
  for (int i = 0; i < 4; ++i) add_products(d[i], rows[i / 2], columns[i % 2]);
}

struct TensorMap {
  const char* data;
  int64_t rows, columns, stride;
  int box_rows;
};
inline TensorMap tensor_map(const char*, Device, const void* data, int64_t rows, int64_t columns,
                            int64_t stride, int box_rows) {
  return {static_cast<const char*>(data), rows, columns, stride, box_rows};
}
using emulation::arrive;
using emulation::Barrier;
using emulation::begin;
using emulation::wait;
inline void show_barriers() {}
inline void arrive_before(Barrier* b, int bytes) { arrive(b, bytes); }
inline void copy_box(void* to, const TensorMap* map, int x, int y, Barrier* b) {
  const uint32_t at = shared_address(to);
  for (int r = 0; r < map->box_rows; ++r)
    for (int c = 0; c < 64; ++c) {
      const bool inside = y + r < map->rows && x + c < map->columns;
      // The swizzle, from its description: address bits 4 to 6 are xored with bits 7 to 9.
      uint32_t to_byte = at + static_cast<uint32_t>(r * 128 + c * 2);
      to_byte ^= (to_byte >> 7 & 7) << 4;
      char* place = emulation::dynamic_shared() + to_byte;
      if (inside)
        std::memcpy(place, map->data + ((y + r) * map->stride + x + c) * 2, 2);
      else
        std::memset(place, 0, 2);
    }
  emulation::complete(b, map->box_rows * 128);
}
template <int registers> void keep_registers() {}
template <int registers> void take_registers() {}
inline void begin_products() {}
inline void settle(float (&)[16][4]) {}
inline void wait_for_products() {
  emulation::end_group();
  emulation::wait_for_groups(0);
  __syncwarp();
}
// Row `row` of an operand, 16 of k: where the descriptor's fields say.
inline void read_row(float* to, uint64_t described, unsigned row) {
  const auto start = static_cast<uint32_t>(described & 0x3fff) << 4;
  const auto eight_rows = static_cast<uint32_t>(described >> 32 & 0x3fff) << 4;
  const auto mode = described >> 62;
  for (unsigned k = 0; k < 16; k += 2) {
    uint32_t at = start + row / 8 * eight_rows + row % 8 * 128 + k * 2, two;
    if (mode == 1) at ^= (at >> 7 & 7) << 4;
    std::memcpy(&two, emulation::dynamic_shared() + at, 4);
    unpack(to + k, two);
  }
}
inline void multiply(float (&d)[16][4], uint64_t a, uint64_t b, bool add) {
  const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32 % 4;
  emulation::later([=, &d] {
    float rows[2][16], column[16];
    for (unsigned i = 0; i < 2; ++i) read_row(rows[i], a, warp * 16 + i * 8 + lane / 4);
    for (unsigned f = 0; f < 16; ++f)
      for (unsigned j = 0; j < 2; ++j) {
        read_row(column, b, f * 8 + lane % 4 * 2 + j);
        for (unsigned i = 0; i < 2; ++i) {
          float& to = d[f][i * 2 + j];
          if (!add) to = 0;
          add_products(to, rows[i], column);
        }
      }
  });
}

#endif

// The block's memory whose size is given at launch.
__device__ inline char* dynamic_shared() {
#if defined(__CUDACC__)
  extern __shared__ char shared_block[];
  return shared_block;
#else
  return emulation::dynamic_shared();
#endif
}

}  // namespace wengert
