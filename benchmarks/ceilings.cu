// What this GPU can do at most, before anything is compared with it: JSON lines on stdout.
//
// Bandwidth of a copy (bytes read and written) and of reading alone, over 2 GiB; the time from one
// small kernel to the next in a stream, in a graph, and in a graph of a thousand; from the CPU's
// call to the CPU's knowing that it is done; one barrier over all blocks of a cooperative kernel.
#include <cooperative_groups.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <vector>

namespace {

void check(cudaError_t e, const char* what) {
  if (e == cudaSuccess) return;
  std::fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(e));
  std::exit(1);
}
#define CHECK(call) check(call, #call)

__global__ void copy(float4* to, const float4* from, size_t n) {
  for (size_t i = blockIdx.x * size_t{blockDim.x} + threadIdx.x; i < n;
       i += size_t{gridDim.x} * blockDim.x)
    to[i] = from[i];
}
__global__ void read(float* to, const float4* from, size_t n) {
  float sum = 0;
  for (size_t i = blockIdx.x * size_t{blockDim.x} + threadIdx.x; i < n;
       i += size_t{gridDim.x} * blockDim.x) {
    const float4 v = from[i];
    sum += v.x + v.y + v.z + v.w;
  }
  if (sum == -1) *to = sum;  // never: the memory holds other numbers, but the compiler cannot know
}
__global__ void nothing() {}
__global__ void barriers(int n) {
  const auto all = cooperative_groups::this_grid();
  for (int i = 0; i < n; ++i) all.sync();
}

cudaStream_t stream;
constexpr int turns = 9;

// The median over turns of the milliseconds between two events around body().
template <class Body> float milliseconds(const Body& body) {
  cudaEvent_t from, to;
  CHECK(cudaEventCreate(&from));
  CHECK(cudaEventCreate(&to));
  body();  // untimed: loads the kernel, wakes the clocks
  std::vector<float> times(turns);
  for (float& t : times) {
    CHECK(cudaEventRecord(from, stream));
    body();
    CHECK(cudaEventRecord(to, stream));
    CHECK(cudaEventSynchronize(to));
    CHECK(cudaEventElapsedTime(&t, from, to));
  }
  CHECK(cudaGetLastError());
  std::sort(times.begin(), times.end());
  return times[turns / 2];
}
void print(const char* name, double value, const char* unit) {
  std::printf("{\"name\": \"%s\", \"value\": %.5g, \"unit\": \"%s\"}\n", name, value, unit);
}

float graph_of(int nodes) {
  cudaGraph_t graph;
  cudaGraphExec_t ready;
  CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  for (int i = 0; i < nodes; ++i) nothing<<<1, 32, 0, stream>>>();
  CHECK(cudaStreamEndCapture(stream, &graph));
  CHECK(cudaGraphInstantiate(&ready, graph, 0));
  return milliseconds([&] { CHECK(cudaGraphLaunch(ready, stream)); });
}

}  // namespace

int main() {
  cudaDeviceProp gpu;
  CHECK(cudaGetDeviceProperties(&gpu, 0));
  CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  const size_t bytes = size_t{1} << 30, n = bytes / sizeof(float4);
  float4 *a, *b;
  CHECK(cudaMalloc(&a, bytes));
  CHECK(cudaMalloc(&b, bytes));
  CHECK(cudaMemset(a, 0x3f, bytes));
  const unsigned blocks = static_cast<unsigned>(gpu.multiProcessorCount) * 16;

  float ms = milliseconds([&] { copy<<<blocks, 256, 0, stream>>>(b, a, n); });
  print("copy by a kernel, read and written", 2.0 * bytes / ms / 1e6, "GB/s");
  ms = milliseconds([&] { CHECK(cudaMemcpyAsync(b, a, bytes, cudaMemcpyDeviceToDevice, stream)); });
  print("copy by cudaMemcpyAsync, read and written", 2.0 * bytes / ms / 1e6, "GB/s");
  ms = milliseconds([&] { read<<<blocks, 256, 0, stream>>>(reinterpret_cast<float*>(b), a, n); });
  print("read", 1.0 * bytes / ms / 1e6, "GB/s");

  const int many = 1000;
  ms = milliseconds([&] {
    for (int i = 0; i < many; ++i) nothing<<<1, 32, 0, stream>>>();
  });
  print("kernel after kernel in a stream", ms * 1e3 / many, "us");
  const float one = graph_of(1), all = graph_of(many + 1);
  print("launch of a graph of one kernel", one * 1e3, "us");
  print("kernel after kernel in a graph", (all - one) * 1e3 / many, "us");

  std::vector<double> waits;
  for (int i = 0; i < 200; ++i) {
    const auto from = std::chrono::steady_clock::now();
    nothing<<<1, 32, 0, stream>>>();
    CHECK(cudaStreamSynchronize(stream));
    waits.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - from).count());
  }
  std::sort(waits.begin(), waits.end());
  print("launch and wait", waits[waits.size() / 2] * 1e6, "us");

  if (gpu.cooperativeLaunch) {
    const auto synced = [&](int count) {
      void* arguments[] = {&count};
      return milliseconds([&] {
        CHECK(cudaLaunchCooperativeKernel(reinterpret_cast<const void*>(barriers),
                                          dim3(static_cast<unsigned>(gpu.multiProcessorCount)),
                                          dim3(256), arguments, 0, stream));
      });
    };
    print("barrier over all multiprocessors", (synced(1000) - synced(0)) * 1e3 / 1000, "us");
  }
  return 0;
}
