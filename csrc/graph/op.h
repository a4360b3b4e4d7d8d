// Op: one kind of line. Four functions and two formulas, all in one place (see csrc/README.md).
#pragma once

#include <cstddef>
#include <cstring>
#include <memory>
#include <new>
#include <span>
#include <string>
#include <type_traits>
#include <variant>
#include <vector>

#include "base/small_vector.h"
#include "base/tile.h"
#include "tensor/tensor.h"

namespace wengert {

struct Line;
using Tensors = std::span<const Tensor>;
using Views = std::span<const View>;
using Gradients = SmallVector<Tensor, 4>;

// The attributes of a line: a plain struct of the op's own, held in place. A large one is boxed, so
// that all other lines stay small; copies share the box.
class Attrs {
 public:
  struct Box : RefCounted {
    virtual ~Box() = default;
    static void destroy(Box* box) { delete box; }
  };

 private:
  template <class T> struct Boxed final : Box {
    explicit Boxed(const T& value) : value(value) {}
    T value;
  };
  static constexpr size_t room = sizeof(Shape) + 24;

 public:
  Attrs() = default;
  explicit Attrs(Ref<Box> box) : box_(std::move(box)) {}
  Box* box() const { return box_.get(); }
  template <class T>
    requires(!std::is_same_v<T, Attrs>)
  Attrs(const T& value) {  // NOLINT: implicit on purpose, `apply(op, inputs, SumAttrs{...})`
    static_assert(std::is_trivially_copyable_v<T>);
    if constexpr (sizeof(T) <= room)
      new (bytes_) T(value);
    else
      box_ = Ref<Box>(new Boxed<T>(value));
  }
  template <class T> const T& as() const {
    if constexpr (sizeof(T) <= room)
      return *std::launder(reinterpret_cast<const T*>(bytes_));
    else
      return static_cast<const Boxed<T>*>(box_.get())->value;
  }
  template <class T>
    requires(sizeof(T) <= room)
  T& as() {
    return *std::launder(reinterpret_cast<T*>(bytes_));
  }

 private:
  alignas(8) std::byte bytes_[room] = {};
  Ref<Box> box_;
};

// The attributes of a line by name, for listings.
using Attribute = std::variant<bool, Number, const char*, Dims>;
using NamedAttrs = std::vector<std::pair<const char*, Attribute>>;
std::ostream& operator<<(std::ostream& out, const Attribute& x);  // as Python writes it

// The source text of an elementwise op: lines `name = ...`, then the result. numpy is a pattern for
// Python's str.format().
enum class Dialect { reader, numpy, javascript };
using Source = std::vector<std::string>;

struct Cost {
  double flops = 0;  // additions and multiplications; a function such as exp counts as one
  double bytes = 0;  // read and written, each tensor once
};

struct Layout {
  Shape shape;
  Strides strides;
  int64_t offset;
};

// A function that fills ready-made outputs. It knows views only.
using OpKernel = void (*)(Views out, Views in, const Attrs& attrs);

// Bits of what a line keeps for its vjp: input i, output 0, or an auxiliary output.
using Saves = uint32_t;
constexpr Saves save_input(int i) { return 1u << i; }
constexpr Saves save_output = 1u << 16;
constexpr Saves save_auxiliary = 1u << 17;

// A line made ready to run again and again on the same memory: what follows from shapes, strides
// and attributes is worked out once.
struct Ready {
  virtual ~Ready() = default;
  virtual void run() const = 0;
  // Adds where it keeps pointers into its inputs: setting all of them moves an input. An input that
  // none of them points into cannot be moved.
  virtual void pointers(std::vector<void*>& /*at*/) {}
  // No line of the step writes to this storage, so a copy in another order may be kept. Returns the
  // bytes that it takes.
  virtual int64_t may_keep(const Ref<Storage>& /*storage*/) { return 0; }
};

struct Batch;  // graph/batch.h

struct Op {
  const char* name;
  const char* operands = "x";     // the names that the texts give them; the output is y
  const char* formula = nullptr;  // what y is; null: see `write`
  const char* gradient[4] = {};  // of each operand, given that of y, g; the last serves all further
  // y as Python's str.format() makes NumPy of it, in the names of operands and attributes; {all} is
  // all operands, {out} y's shape. Functions that it calls: python/wengert/study/numpy_code.py.
  const char* numpy = nullptr;

  // Shape and dtype of the outputs; every check of the arguments. Touches no memory.
  // The first output is the value; an op may have one auxiliary output, kept for its
  // vjp or for the caller of apply().
  void (*infer)(Tensors in, const Attrs& attrs, SmallVector<Meta, 2>& out) = nullptr;
  OpKernel run = nullptr;  // on the CPU
  OpKernel gpu = nullptr;  // where any view is in a GPU's memory; null: the op has no GPU kernel
  // For ops that only look at their input's memory in another way, in place of infer and run.
  Layout (*alias)(const Tensor& x, const Attrs& attrs) = nullptr;

  // Writes the gradients of the inputs that need one (line.needs(i)) with ops.
  void (*vjp)(const Line& line, const Tensor& g, Gradients& dx) = nullptr;
  // Which tensors vjp will ask the line for, given which inputs need a gradient.
  Saves (*saves)(uint32_t needs, const Attrs& attrs) = nullptr;
  // Why there is no vjp. Every op has either.
  const char* no_gradient = nullptr;

  Cost (*cost)(Tensors in, const Tensor& out,
               const Attrs& attrs) = nullptr;                         // null: see default_cost
  void (*describe)(const Attrs& attrs, NamedAttrs& named) = nullptr;  // null: no attributes
  // The value (0), or the gradient of an operand (1, ...), as the op's own code states it.
  Source (*write)(Dialect dialect, int of) = nullptr;
  int edits = 0;  // this many inputs, the first ones, are overwritten too (random states)
  bool elementwise = false;  // each element of the output needs the same element of each input only
  bool in_place = false;     // run may write over its first input: the output may be that
  // Takes bfloat16 as it is, as elementwise ops and aliases do; of others apply() makes a line
  // between casts from and to float32.
  bool bfloat16 = false;
  // The line of many examples at once, for vmap (graph/batch.h). Null: elementwise ops broadcast,
  // others run example by example.
  Tensor (*batch)(const Batch& b, Tensor* auxiliary) = nullptr;
  // The kernel of an elementwise op, by the dtypes of output and first input; null: it has none.
  TileFn (*tile)(DType out, DType in) = nullptr;
  // null, or what it returns is: `run` on the views
  std::unique_ptr<Ready> (*ready)(Views out, Views in, const Attrs& attrs) = nullptr;
};

// The device that an op runs on: the GPU, if any of its operands is there.
Device device_for(Tensors out, Tensors in);
Device device_for(Views out, Views in);
// The kernel of an op on a device, or an error.
OpKernel kernel_on(const Op& op, Device device);

// One operation an element of the output, each tensor read or written once.
Cost default_cost(Tensors in, const Tensor& out);
Cost cost_of(const Op& op, Tensors in, const Tensor& out, const Attrs& attrs);

NamedAttrs attributes_of(const Op& op, const Attrs& attrs);
std::vector<std::string> operands_of(const Op& op);
// For readers: the op's own text, or what it writes. Empty gradients: it has none.
std::string formula_of(const Op& op);
std::vector<std::string> gradients_of(const Op& op);

}  // namespace wengert
