#include "base/scratch.h"

#include <cstdlib>
#include <utility>

#include "base/allocator.h"
#include "base/error.h"

namespace wengert {

namespace {

struct Piece {
  void* data = nullptr;
  size_t bytes = 0;
  ~Piece() { std::free(data); }
};

thread_local Piece pieces[3];

}  // namespace

OtherScratch::OtherScratch() {
  for (int i = 0; i < 3; ++i) {
    data_[i] = std::exchange(pieces[i].data, nullptr);
    bytes_[i] = std::exchange(pieces[i].bytes, 0);
  }
}
OtherScratch::~OtherScratch() {
  for (int i = 0; i < 3; ++i) {
    std::free(std::exchange(pieces[i].data, data_[i]));
    pieces[i].bytes = bytes_[i];
  }
}

void* scratch(Scratch use, size_t bytes) {
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
