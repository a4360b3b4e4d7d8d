// The list of every op, for listings and for the tests.
#include "ops/functions.h"

namespace wengert {

// Each family adds its own (at the end of its file).
using AddOps = void(std::vector<const Op*>&);
AddOps add_attention_ops, add_conv_ops, add_create_ops, add_elementwise_ops, add_embedding_ops,
    add_index_ops, add_matmul_ops, add_norm_ops, add_batch_norm_ops, add_order_ops, add_random_ops,
    add_recurrent_ops, add_reduce_ops, add_scan_ops, add_scatter_ops, add_softmax_ops,
    add_update_ops, add_view_ops, add_window_ops;

std::vector<const Op*> all_ops() {
  std::vector<const Op*> ops;
  for (AddOps* add :
       {add_create_ops, add_elementwise_ops, add_view_ops, add_index_ops, add_embedding_ops,
        add_scatter_ops, add_reduce_ops, add_scan_ops, add_matmul_ops, add_softmax_ops,
        add_norm_ops, add_batch_norm_ops, add_order_ops, add_conv_ops, add_recurrent_ops,
        add_window_ops, add_attention_ops, add_random_ops, add_update_ops})
    add(ops);
  return ops;
}

}  // namespace wengert
