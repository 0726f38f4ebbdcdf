// fastlm::attention_forward and fastlm::attention_backward on the CPU; schemas in fastlm/ops/attention.py.
#include "csrc/attention.h"

#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <tuple>

#include "csrc/cpu/run.h"

namespace fastlm {
namespace {

void check_seqlens(const char* name, const Tensor& cu_seqlens, int64_t rows, int64_t max_seqlen) {
  const auto* starts = static_cast<const int32_t*>(cu_seqlens.const_data_ptr());
  const int64_t sequences = cu_seqlens.size(0) - 1;
  int64_t shortest = 0, longest = 0;
  for (int64_t b = 0; b < sequences; ++b) {
    const int64_t length = int64_t{starts[b + 1]} - starts[b];
    shortest = std::min(shortest, length);
    longest = std::max(longest, length);
  }
  STD_TORCH_CHECK(starts[0] == 0 && shortest >= 0 && starts[sequences] <= rows, name, ": runs from ", starts[0], " to ",
                  starts[sequences], " over ", rows, " rows; it must start at 0, never fall, and end within the rows");
  STD_TORCH_CHECK(longest <= max_seqlen, "max_seqlen of ", name, ": ", max_seqlen, ", but the longest sequence has ",
                  longest, " rows");
}

void check_seqlens(const AttentionOptions& options, const AttentionShape& shape) {
  check_seqlens("cu_seqlens_q", options.cu_seqlens_q, shape.rows_q, options.max_seqlen_q);
  check_seqlens("cu_seqlens_k", options.cu_seqlens_k, shape.rows_k, options.max_seqlen_k);
}

// Rows after the last sequence belong to none: the kernels leave them alone.
void zero_rows_beyond(const Tensor& x, const Tensor& cu_seqlens) {
  const auto* starts = static_cast<const int32_t*>(cu_seqlens.const_data_ptr());
  const int64_t first = starts[cu_seqlens.size(0) - 1];
  const size_t row = static_cast<size_t>(x.size(1) * x.size(2)) * x.element_size();
  std::memset(static_cast<char*>(x.mutable_data_ptr()) + first * row, 0, (x.size(0) - first) * row);
}

std::tuple<Tensor, Tensor> attention_forward(const Tensor& q, const Tensor& k, const Tensor& v,
                                             const Tensor& cu_seqlens_q, const Tensor& cu_seqlens_k,
                                             int64_t max_seqlen_q, int64_t max_seqlen_k, bool causal, double scale,
                                             double dropout_p, const Tensor& dropout_seed) {
  const AttentionOptions options{cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k,
                                 causal,       scale,        dropout_p,    dropout_seed};
  const AttentionForwardCall call(q, k, v, options, rows_contiguous);
  const AttentionForward& params = call.params;
  check_seqlens(options, params.shape);
  cpu::for_heads(parallel_for, kernels().attention_forward[call.dtype],
                 kernels().attention_forward_scratch(params.shape), params);
  zero_rows_beyond(call.out, cu_seqlens_q);
  const int64_t rows = params.shape.rows_q, last = params.shape.cu_seqlens_q[params.shape.sequences];
  for (int64_t head = 0; head < params.shape.heads; ++head)
    std::fill(params.lse + head * rows + last, params.lse + (head + 1) * rows, -std::numeric_limits<float>::infinity());
  return {call.out, call.lse};
}

std::tuple<Tensor, Tensor, Tensor> attention_backward(const Tensor& grad_out, const Tensor& q, const Tensor& k,
                                                      const Tensor& v, const Tensor& out, const Tensor& lse,
                                                      const Tensor& cu_seqlens_q, const Tensor& cu_seqlens_k,
                                                      int64_t max_seqlen_q, int64_t max_seqlen_k, bool causal,
                                                      double scale, double dropout_p, const Tensor& dropout_seed) {
  const AttentionOptions options{cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k,
                                 causal,       scale,        dropout_p,    dropout_seed};
  const AttentionBackwardCall call(grad_out, q, k, v, out, lse, options, rows_contiguous);
  check_seqlens(options, call.params.shape);
  cpu::for_heads(parallel_for, kernels().attention_backward[call.dtype],
                 kernels().attention_backward_scratch(call.params.shape), call.params);
  zero_rows_beyond(call.grad_q, cu_seqlens_q);
  zero_rows_beyond(call.grad_k, cu_seqlens_k);
  zero_rows_beyond(call.grad_v, cu_seqlens_k);
  return {call.grad_q, call.grad_k, call.grad_v};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(fastlm, CPU, m) {
  m.impl("attention_forward", TORCH_BOX(&attention_forward));
  m.impl("attention_backward", TORCH_BOX(&attention_backward));
}

}  // namespace fastlm
