// Errors. Each kind becomes one Python exception class (bindings/host.cpp).
//
// A message names the op, what came, what was expected, and the way out:
//   matmul: inner sizes differ: (32, 10) @ (5, 1); the last axis of a must equal ...
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace wengert {

struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};
struct ValueError : Error {  // an argument has a value that makes no sense
  using Error::Error;
};
struct ShapeError : ValueError {  // shapes do not fit together
  using ValueError::ValueError;
};
struct DTypeError : Error {  // a dtype that the op does not support
  using Error::Error;
};
struct IndexError : Error {  // an axis or index out of range
  using Error::Error;
};
struct GradientError : Error {  // a gradient that cannot be had
  using Error::Error;
};
struct DeviceError : Error {  // tensors on two devices, or a device that is absent
  using Error::Error;
};
struct OutOfMemory : Error {
  using Error::Error;
};
struct Interrupted
    : std::exception {  // Ctrl-C seen while a kernel ran; Python's error is already set
  const char* what() const noexcept override { return "interrupted"; }
};

template <class... Parts> std::string concat(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

// Callers write `if (bad) fail<ShapeError>(...)`, so a message is only built when it is needed.
template <class E, class... Parts> [[noreturn]] void fail(const Parts&... parts) {
  throw E(concat(parts...));
}

}  // namespace wengert
