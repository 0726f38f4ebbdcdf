// What attention's kernels are asked to do, from tensors: the same on every device.
#pragma once

#include "csrc/tensors.h"

namespace fastlm {

// What decides the result beside the tensors, in the schema's order.
struct AttentionOptions {
  const Tensor& cu_seqlens_q;
  const Tensor& cu_seqlens_k;
  int64_t max_seqlen_q, max_seqlen_k;
  bool causal;
  double scale, dropout_p;
  const Tensor& dropout_seed;
};

inline void check_inputs(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionOptions& options) {
  STD_TORCH_CHECK(q.dim() == 3, "q: shape ", to_string(q.sizes()), ", expected (T_q, H, D)");
  STD_TORCH_CHECK(k.dim() == 3, "k: shape ", to_string(k.sizes()), ", expected (T_k, H, D)");
  check_dtype("k", k, q.scalar_type());
  check_dtype("v", v, q.scalar_type());
  check_sizes("k", k, {std::initializer_list<int64_t>{k.size(0), q.size(1), q.size(2)}});
  check_sizes("v", v, k.sizes());
  const Tensor& starts = options.cu_seqlens_q;
  check_dtype("cu_seqlens_q", starts, torch::headeronly::ScalarType::Int);
  check_dtype("cu_seqlens_k", options.cu_seqlens_k, torch::headeronly::ScalarType::Int);
  STD_TORCH_CHECK(starts.dim() == 1 && starts.size(0) >= 1 && starts.stride(0) == 1, "cu_seqlens_q: shape ",
                  to_string(starts.sizes()), ", expected contiguous (B+1,)");
  check_sizes("cu_seqlens_k", options.cu_seqlens_k, starts.sizes());
  STD_TORCH_CHECK(options.cu_seqlens_k.stride(0) == 1, "cu_seqlens_k: expected contiguous (B+1,)");
}

inline AttentionInput input(const Tensor& x) { return {x.const_data_ptr(), x.stride(0), x.stride(1)}; }

inline AttentionShape shape_of(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionOptions& options) {
  AttentionShape shape{};
  shape.sequences = options.cu_seqlens_q.size(0) - 1;
  shape.heads = q.size(1);
  shape.head_dim = q.size(2);
  shape.rows_q = q.size(0);
  shape.rows_k = k.size(0);
  shape.cu_seqlens_q = static_cast<const int32_t*>(options.cu_seqlens_q.const_data_ptr());
  shape.cu_seqlens_k = static_cast<const int32_t*>(options.cu_seqlens_k.const_data_ptr());
  shape.max_seqlen_q = options.max_seqlen_q;
  shape.max_seqlen_k = options.max_seqlen_k;
  shape.q = input(q);
  shape.k = input(k);
  shape.v = input(v);
  shape.causal = options.causal;
  shape.scale = static_cast<float>(options.scale);
  shape.dropout = make_dropout(options.dropout_p, options.dropout_seed);
  return shape;
}

// How a device wants a tensor's rows: the tensor itself, or a copy.
using Lay = Tensor (*)(const Tensor& tensor);

// These own what their params point to, but for the options' tensors.
struct AttentionForwardCall {
  int dtype;
  Tensor q, k, v, out, lse;
  AttentionForward params{};

  AttentionForwardCall(const Tensor& given_q, const Tensor& given_k, const Tensor& given_v,
                       const AttentionOptions& options, Lay lay)
      : dtype(dtype_index("q", given_q)) {
    check_inputs(given_q, given_k, given_v, options);
    q = lay(given_q);
    k = lay(given_k);
    v = lay(given_v);
    out = new_output(q);
    lse = torch::stable::new_empty(q, {std::initializer_list<int64_t>{q.size(1), q.size(0)}},
                                   torch::headeronly::ScalarType::Float);
    params.shape = shape_of(q, k, v, options);
    params.out = out.mutable_data_ptr();
    params.lse = static_cast<float*>(lse.mutable_data_ptr());
    params.lse_stride = lse.stride(0);
  }
};

struct AttentionBackwardCall {
  int dtype;
  Tensor q, k, v, grad_out, out, lse, grad_q, grad_k, grad_v;
  AttentionBackward params{};

  AttentionBackwardCall(const Tensor& given_grad, const Tensor& given_q, const Tensor& given_k, const Tensor& given_v,
                        const Tensor& given_out, const Tensor& given_lse, const AttentionOptions& options, Lay lay)
      : dtype(dtype_index("q", given_q)) {
    check_inputs(given_q, given_k, given_v, options);
    for (const auto& [name, x] : {std::pair<const char*, const Tensor&>{"grad_out", given_grad}, {"out", given_out}}) {
      check_dtype(name, x, given_q.scalar_type());
      check_sizes(name, x, given_q.sizes());
    }
    check_dtype("lse", given_lse, torch::headeronly::ScalarType::Float);
    check_sizes("lse", given_lse, {std::initializer_list<int64_t>{given_q.size(1), given_q.size(0)}});
    q = lay(given_q);
    k = lay(given_k);
    v = lay(given_v);
    grad_out = lay(given_grad);
    out = lay(given_out);
    lse = rows_contiguous(given_lse);
    grad_q = new_output(q);
    grad_k = new_output(k);
    grad_v = new_output(v);
    params.shape = shape_of(q, k, v, options);
    params.grad_out = input(grad_out);
    params.out = input(out);
    params.lse = static_cast<const float*>(lse.const_data_ptr());
    params.lse_stride = lse.stride(0);
    params.grad_q = grad_q.mutable_data_ptr();
    params.grad_k = grad_k.mutable_data_ptr();
    params.grad_v = grad_v.mutable_data_ptr();
  }
};

}  // namespace fastlm
