#include "base/scratch.h"

#include <cstdlib>

#include "base/allocator.h"
#include "base/error.h"

namespace wengert {

namespace {

struct Piece {
  void* data = nullptr;
  size_t bytes = 0;
  ~Piece() { std::free(data); }
};

}  // namespace

void* scratch(Scratch use, size_t bytes) {
  thread_local Piece pieces[3];
  Piece& piece = pieces[static_cast<int>(use)];
  if (bytes > piece.bytes) {
    std::free(piece.data);
    piece.bytes = 0;
    piece.data = from_system(static_cast<int64_t>(bytes));
    if (piece.data) piece.bytes = bytes;
  }
  return piece.data;
}

void scratch_failed(const char* op) {
  fail<OutOfMemory>(op, ": no memory for the kernel's working space; free some tensors first");
}

}  // namespace wengert
