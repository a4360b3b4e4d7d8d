// The two ops that the graph itself needs: copy, for edits and saved values, and cast, for
// bfloat16.
#include "graph/record.h"
#include "tensor/copy.h"

namespace wengert {

namespace {

void infer_copy(Tensors in, const Attrs&, SmallVector<Meta, 2>& out) {
  out.emplace_back(in[0].shape(), in[0].dtype(), in[0].device());
}
void run_copy(Views out, Views in, const Attrs&) { copy_into(out[0], in[0]); }
void vjp_copy(const Line&, const Tensor& g, Gradients& dx) { dx[0] = g; }
const Op the_copy_op{.name = "copy",
                     .formula = "x",
                     .gradient = {"g"},
                     .numpy = "np.copy({x})",
                     .infer = infer_copy,
                     .run = run_copy,
                     .gpu = run_copy,
                     .vjp = vjp_copy,
                     .elementwise = true};

void infer_cast(Tensors in, const Attrs& attrs, SmallVector<Meta, 2>& out) {
  out.emplace_back(in[0].shape(), attrs.as<DType>(), in[0].device());
}
void run_cast(Views out, Views in, const Attrs&) { copy_into(out[0], in[0]); }
void vjp_cast(const Line& line, const Tensor& g, Gradients& dx) {
  dx[0] = apply(cast_op, g, line.inputs[0].dtype);
}
void describe_cast(const Attrs& attrs, NamedAttrs& named) {
  named.emplace_back("dtype", name(attrs.as<DType>()));
}
const Op the_cast_op{.name = "cast",
                     .formula = "x, converted",
                     .gradient = {"g, converted back"},
                     .numpy = "np.asarray({x}).astype({dtype!r})",
                     .infer = infer_cast,
                     .run = run_cast,
                     .gpu = run_cast,
                     .vjp = vjp_cast,
                     .describe = describe_cast,
                     .elementwise = true};

}  // namespace

const Op& copy_op = the_copy_op;
const Op& cast_op = the_cast_op;

}  // namespace wengert
