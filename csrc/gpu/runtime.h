// The functions that the table of gpu/loader.h points to; what they do is said there.
#pragma once

#include "gpu/launch.h"

namespace wengert {

const char* cuda_problem();
int cuda_devices();
const char* cuda_device_name(Device d);
void* cuda_allocate(Device d, int64_t bytes);
void cuda_deallocate(Device d, void* block, int64_t bytes);
void* cuda_allocate_pinned(int64_t bytes);
void cuda_deallocate_pinned(void* block);
MemoryFigures cuda_memory(Device d);
int64_t cuda_memory_free(Device d);
void cuda_reset_peak(Device d);
void cuda_empty_cache(Device d);
void cuda_to_host(Device d, void* to, const void* from, int64_t bytes);
void cuda_synchronize(Device d);
void cuda_to_device(Device d, void* to, const void* from, int64_t bytes, bool may_wait);
void cuda_copy_bytes(Device d, void* to, const void* from, int64_t bytes);
void cuda_copy_peer(Device to_device, void* to, Device from_device, const void* from,
                    int64_t bytes);
uintptr_t cuda_stream(Device d);
uintptr_t cuda_default_stream(Device d);
uintptr_t cuda_make_stream(Device d);
void cuda_set_stream(Device d, uintptr_t stream);
bool cuda_stream_done(Device d, uintptr_t stream, bool wait);
void cuda_let_wait(Device d, uintptr_t stream);
void cuda_use(Device d, void* block, uintptr_t stream);
// What stream b is given from now on comes behind what stream a has.
void cuda_order(cudaStream_t a, Device a_device, cudaStream_t b, Device b_device);
std::unique_ptr<CudaSteps> cuda_record(Device d, std::span<const CudaSteps::Moved> in,
                                       std::span<const CudaSteps::Moved> out);
void* cuda_make_event(Device d, bool timed);
void cuda_free_event(Device d, void* event);
void cuda_record_event(Device d, uintptr_t stream, void* event);
void cuda_wait_for_event(Device d, uintptr_t stream, void* event);
bool cuda_event_done(Device d, void* event, bool wait);
float cuda_milliseconds(Device d, void* from, void* to);

}  // namespace wengert
