// Kernels compiled at run time: NVRTC, and a cache on disk of what it made.
//
// NVRTC is a library of NVIDIA's (pip install "wengert[cuda]"), loaded when a chain is first to be
// fused; without it nothing is fused. What it makes is kept in $WENGERT_CACHE_DIR, or
// ~/.cache/wengert, by a hash of all that it depends on; each file ends with a checksum, and one
// that does not fit is compiled again. A folder that cannot be written to is no error.
#pragma once

#include <string>

#include "base/device.h"
#include "base/tile.h"

namespace wengert {

struct Header {
  const char* name;
  const char* text;
};
extern const Header headers[];
extern const int header_count;

// Null, or why nothing is compiled at run time. Asked once.
const char* compiler_problem();
std::string compiler_name();  // "NVRTC 13.0"
// Machine code for "sm_90a", or PTX for "compute_120"; what the compiler says besides is appended
// to `log`. Throws where it refuses the source. Needs no GPU, and does not look at the cache.
std::string compile_source(const char* source, const char* architecture, std::string& log);
// The kernel `wengert_chain` of a source: from this process, from the cache, or compiled.
const void* chain_kernel(Device d, const char* source);
void launch_chain(Device d, const void* kernel, const ChainArguments& arguments, int64_t threads);

}  // namespace wengert
