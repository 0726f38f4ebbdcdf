// fastlm::attention_forward and fastlm::attention_backward on a GPU; schemas in fastlm/ops/attention.py.
#include "kernels/cuda/attention.h"

#include <tuple>

#include "csrc/attention.h"
#include "csrc/cuda/device.h"

namespace fastlm {
namespace {

// The tensor itself where every row of every head begins at a multiple of 16 bytes, and not too far from the next, else
// a copy.
Tensor aligned(const Tensor& given) {
  const auto multiple = [](int64_t bytes) { return bytes % 16 == 0; };
  const Tensor tensor = rows_contiguous(given);
  const auto size = static_cast<int64_t>(tensor.element_size());
  constexpr int64_t kFar = int64_t{1} << 31;
  const bool fits = tensor.stride(0) < kFar && multiple(reinterpret_cast<intptr_t>(tensor.const_data_ptr())) &&
                    multiple(tensor.stride(0) * size) && multiple(tensor.stride(1) * size);
  return fits ? tensor : torch::stable::clone(tensor);
}

// Calls with the narrowest width that kernels are compiled for and a head fits in.
template <class Body>
void by_width(int64_t head_dim, Body body) {
  STD_TORCH_CHECK(head_dim % 8 == 0 && head_dim <= cuda::kMostHeadDim, "q: head_dim ", head_dim,
                  " is not a multiple of 8 up to ", cuda::kMostHeadDim);
  if (head_dim <= 32) return body(std::integral_constant<int, 32>{});
  if (head_dim <= 64) return body(std::integral_constant<int, 64>{});
  if (head_dim <= 96) return body(std::integral_constant<int, 96>{});
  body(std::integral_constant<int, 128>{});
}

// The kernels count rows in 32 bits, as cu_seqlens do.
void check_rows(const AttentionShape& shape) {
  constexpr int64_t kMost = (int64_t{1} << 31) - 1024;
  STD_TORCH_CHECK(shape.rows_q <= kMost && shape.rows_k <= kMost, "q and k: more than ", kMost, " rows");
}

std::tuple<Tensor, Tensor> attention_forward(const Tensor& q, const Tensor& k, const Tensor& v,
                                             const Tensor& cu_seqlens_q, const Tensor& cu_seqlens_k,
                                             int64_t max_seqlen_q, int64_t max_seqlen_k, bool causal, double scale,
                                             double dropout_p, const Tensor& dropout_seed) {
  const AttentionOptions options{cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k,
                                 causal,       scale,        dropout_p,    dropout_seed};
  const AttentionForwardCall call(q, k, v, options, aligned);
  check_rows(call.params.shape);
  if (call.lse.numel() == 0) return {call.out, call.lse};
  Device device(call.q);
  device.reads("dropout_seed", dropout_seed);
  device.reads("cu_seqlens_q", cu_seqlens_q);
  device.reads("cu_seqlens_k", cu_seqlens_k);
  device.reads("q", call.q);
  device.reads("k", call.k);
  device.reads("v", call.v);
  device.writes("out", call.out);
  device.writes("lse", call.lse);
  by_dtype(call.dtype, [&](auto t) {
    by_width(call.params.shape.head_dim,
             [&](auto width) { cuda::attention_forward<decltype(t), width>(call.params, device.stream()); });
  });
  return {call.out, call.lse};
}

std::tuple<Tensor, Tensor, Tensor> attention_backward(const Tensor& grad_out, const Tensor& q, const Tensor& k,
                                                      const Tensor& v, const Tensor& out, const Tensor& lse,
                                                      const Tensor& cu_seqlens_q, const Tensor& cu_seqlens_k,
                                                      int64_t max_seqlen_q, int64_t max_seqlen_k, bool causal,
                                                      double scale, double dropout_p, const Tensor& dropout_seed) {
  const AttentionOptions options{cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k,
                                 causal,       scale,        dropout_p,    dropout_seed};
  AttentionBackwardCall call(grad_out, q, k, v, out, lse, options, aligned);
  check_rows(call.params.shape);
  if (call.grad_q.numel() == 0 && call.grad_k.numel() == 0) return {call.grad_q, call.grad_k, call.grad_v};
  const Tensor numbers =
      torch::stable::new_empty(call.q, {std::initializer_list<int64_t>{call.q.size(1), call.q.size(0), 2}},
                               torch::headeronly::ScalarType::Float);
  call.params.numbers = static_cast<float*>(numbers.mutable_data_ptr());
  Device device(call.q);
  device.reads("dropout_seed", dropout_seed);
  device.reads("cu_seqlens_q", cu_seqlens_q);
  device.reads("cu_seqlens_k", cu_seqlens_k);
  device.reads("q", call.q);
  device.reads("k", call.k);
  device.reads("v", call.v);
  device.writes("numbers", numbers);
  device.reads("grad_out", call.grad_out);
  device.reads("out", call.out);
  device.reads("lse", call.lse);
  device.writes("grad_q", call.grad_q);
  device.writes("grad_k", call.grad_k);
  device.writes("grad_v", call.grad_v);
  by_dtype(call.dtype, [&](auto t) {
    by_width(call.params.shape.head_dim,
             [&](auto width) { cuda::attention_backward<decltype(t), width>(call.params, device.stream()); });
  });
  return {call.grad_q, call.grad_k, call.grad_v};
}

}  // namespace

FASTLM_CUDA_LIBRARY(m) {
  m.impl("attention_forward", TORCH_BOX(&attention_forward));
  m.impl("attention_backward", TORCH_BOX(&attention_backward));
}

}  // namespace fastlm
