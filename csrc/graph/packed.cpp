#include "graph/packed.h"

namespace wengert {

constinit thread_local Pack* pack_saved = nullptr;

Tensor packed(const Tensor& value) {
  std::unique_ptr<Hook> hook = pack_saved(value.detach());
  const Tensor stand_in = Tensor::promise({value.shape(), value.dtype(), value.device()});
  stand_in->line = value->line;
  stand_in->hooks = std::make_shared<Hooks>();
  stand_in->hooks->emplace_back(0, std::move(hook));
  return stand_in;
}
bool is_packed(const Tensor& saved) {
  return saved->hooks && !saved->leaf_requires_grad && !saved->storage->data &&
         saved->hooks->size() == 1 && (*saved->hooks)[0].first == 0;
}
Tensor unpacked(const Tensor& saved) {
  const Tensor y = (*saved->hooks)[0].second->call(saved);
  if (!(y.shape() == saved.shape()) || y.dtype() != saved.dtype() || y.device() != saved.device())
    fail<GradientError>("saved_tensors_hooks: unpack returned ", y.dtype(), y.shape(), " on ",
                        y.device(), " for a saved tensor of ", saved.dtype(), saved.shape(), " on ",
                        saved.device(), "; return what pack was given");
  const Tensor known = y.alias(y.shape(), y.strides(), y->offset);
  known->line = saved->line;
  return known;
}

}  // namespace wengert
