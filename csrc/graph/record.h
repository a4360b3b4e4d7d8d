// Writing a line: `apply` is the only way by which any op runs. It infers, allocates, runs, and,
// where a gradient may be asked for, records.
#pragma once

#include "graph/line.h"

namespace wengert {

// Two tensors side by side that co-own nothing, as their owners outlive the call.
union Lent {
  Lent(const Tensor& a, const Tensor& b)
      : both{Tensor(Ref<TensorBody>::uncounted(a.body())),
             Tensor(Ref<TensorBody>::uncounted(b.body()))} {}
  ~Lent() {}
  Tensor both[2];
};

// `auxiliary` is given the auxiliary output, of an op that has one.
Tensor apply(const Op& op, Tensors inputs, const Attrs& attrs = {}, Tensor* auxiliary = nullptr);
inline Tensor apply(const Op& op, const Tensor& x, const Attrs& attrs = {}) {
  return apply(op, Tensors(&x, 1), attrs);
}
inline Tensor apply(const Op& op, const Tensor& a, const Tensor& b, const Attrs& attrs = {}) {
  return apply(op, Tensors(Lent(a, b).both), attrs);
}

// Edits in place. `x` becomes the result of op(inputs): its memory is overwritten, and if a
// gradient is wanted, x's history is from now on that of the result. Ctrl-C leaves no part of x as
// it was, unless it comes while values are put at indices. `by` is the edit's name in messages, the
// op's unless given.
void apply_in_place(const Tensor& x, const Op& op, Tensors inputs, const Attrs& attrs = {},
                    const char* by = nullptr);
// Runs an op that overwrites the first `edited` of its inputs and has no other output (optimizer
// updates, random state). Refused where a gradient would be lost.
void apply_update(const Op& op, Tensors inputs, int edited, const Attrs& attrs = {});
// Notes an edit that has been made: an op's name, and the place, are for messages.
void note_edit(const Tensor& x, const char* by, Origin at = here());

// While one lives, an edit in this thread of memory that these tensors look at is an error: `by`
// has no right to it.
class KeptWhole {
 public:
  KeptWhole(std::string by, Tensors tensors);
  ~KeptWhole();
  KeptWhole(const KeptWhole&) = delete;
  static void check(const Tensor& x);

 private:
  std::string by_;
  std::vector<Ref<Storage>> storages_;
  const KeptWhole* outer_;
};

// While one lives: the states of random generators that this thread draws from, each with a copy
// of what it was before the first draw.
struct Draws {
  std::vector<std::pair<Tensor, Tensor>> states;
  Draws();
  ~Draws();
  Draws(const Draws&) = delete;
  static void note(const Tensor& state);

 private:
  Draws* outer_;
};

// The lines that a function of the program's own has written, to run again on other values.
struct Body : RefCounted {
  virtual ~Body() = default;
  virtual void run(Views out, Views in) const = 0;
  static void destroy(Body* body) { delete body; }
};

// Told of every line of this thread, and of leaves' gradients: what a traced step is made of
// (program/).
struct Tracer {
  virtual ~Tracer() = default;
  // Whether lines run as they are written. Else what they make has no memory, and what they edit
  // stays as it is, until the tracer runs its list.
  virtual bool runs() const = 0;
  // The same of a line with these operands.
  virtual bool runs(const Op& /*op*/, Tensors /*operands*/) const { return runs(); }
  // x is about to be overwritten by op(operands).
  virtual void before_edit(const Tensor& x, const Op& op, Tensors operands) = 0;
  // outputs = op(inputs), or an edit: `edited` are then the outputs, or, of an update, which has
  // none, inputs.
  virtual void line(const Op& op, Tensors inputs, Tensors outputs, Tensors edited,
                    const Attrs& attrs) = 0;
  // True if x's storage has no owner besides the tracer and one tensor.
  virtual bool sole_owner(const Tensor& x) const = 0;
  virtual void reads_grad(const Tensor& leaf) = 0;
  virtual void sets_grad(const Tensor& leaf) = 0;
  // Lines between these two are the body of one line, which is told of next: of a tracer that runs.
  virtual void begins_body(Tensors /*inputs*/) {}
  virtual Ref<Body> ends_body(const char* /*op*/, Tensors /*outputs*/) { return {}; }
  virtual void leaves_body() {}  // it raised
  // For study; a compiled step has no use for them. An op is about to read these tensors, or to
  // overwrite them.
  virtual void about_to_run(Tensors /*operands*/) {}
  // Backward begins at y with gradient g; it asks a line for its vjp, given its gradient; the vjp
  // has written the gradients of the line's inputs.
  virtual void begins_backward(const Tensor& /*y*/, const Tensor& /*g*/) {}
  virtual void asks(const Line& /*line*/, const Tensor& /*g*/) {}
  virtual void answers(const Line& /*line*/, const Gradients& /*dx*/) {}
  // The program looks at a value of x, so that another value could have led to another list: an
  // error, unless a tracer knows better. x may be undefined.
  virtual void looks_at_value(const char* what, const Tensor& x);
};
extern constinit thread_local Tracer* tracer;
// For what a compiled step cannot hold, since it looks at values: an error while one is traced.
inline void refuse_in_trace(const char* what, const Tensor& x = Tensor()) {
  if (tracer) tracer->looks_at_value(what, x);
}

// The line of outputs[0], which has been computed, with what its vjp asks for; none where no
// gradient is needed.
void record_made(const Op& op, Tensors inputs, Tensors outputs, Tensors saved, bool saves_output,
                 const Attrs& attrs);

// The copy that edits in place and saved values need; also clone() (ops/memory/view.cpp).
extern const Op& copy_op;
// A region of a contiguous tensor, as a view by its Layout there, and the tensor with other values
// in a region: how an edit of a view is recorded for the tensor that it is a view of
// (ops/memory/view.cpp).
extern const Op &region_op, &put_region_op;
// Throws a GradientError if x's history was lost by an edit through a tensor of another base.
void check_history(const char* op, const Tensor& x);
// The cast that bfloat16 needs; its attribute is the dtype. Also to_dtype()
// (ops/elementwise/elementwise.cpp).
extern const Op& cast_op;

uint64_t next_line();  // the number that the next line gets
bool grad_enabled();
bool set_grad_enabled(bool enabled);  // returns what it was

class GradMode {  // sets it for a scope
 public:
  explicit GradMode(bool enabled) : before_(set_grad_enabled(enabled)) {}
  ~GradMode() { set_grad_enabled(before_); }
  GradMode(const GradMode&) = delete;

 private:
  bool before_;
};

// While on, the first op whose result has a NaN or an infinity is an error that names it.
void set_nan_watch(bool on);
bool watches_nan();
// The line whose vjp is being written, for messages.
extern constinit thread_local const Line* backward_of;

}  // namespace wengert
