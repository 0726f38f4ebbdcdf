// fastlm::attention_forward and fastlm::attention_backward on the CPU; schemas in fastlm/ops/attention.py.
#include <torch/csrc/stable/library.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <tuple>

#include "csrc/cpu/run.h"

namespace fastlm {
namespace {

using torch::headeronly::ScalarType;

// What decides the result beside the tensors, in the schema's order.
struct Options {
  const Tensor& cu_seqlens_q;
  const Tensor& cu_seqlens_k;
  int64_t max_seqlen_q, max_seqlen_k;
  bool causal;
  double scale, dropout_p;
  int64_t dropout_seed;
};

void check_seqlens(const char* name, const Tensor& cu_seqlens, int64_t rows, int64_t max_seqlen) {
  check_dtype(name, cu_seqlens, ScalarType::Int);
  STD_TORCH_CHECK(cu_seqlens.dim() == 1 && cu_seqlens.size(0) >= 1 && cu_seqlens.stride(0) == 1, name, ": shape ",
                  to_string(cu_seqlens.sizes()), ", expected contiguous (B+1,)");
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

void check_inputs(const Tensor& q, const Tensor& k, const Tensor& v, const Options& options) {
  STD_TORCH_CHECK(q.dim() == 3, "q: shape ", to_string(q.sizes()), ", expected (T_q, H, D)");
  STD_TORCH_CHECK(k.dim() == 3, "k: shape ", to_string(k.sizes()), ", expected (T_k, H, D)");
  check_dtype("k", k, q.scalar_type());
  check_dtype("v", v, q.scalar_type());
  check_sizes("k", k, {std::initializer_list<int64_t>{k.size(0), q.size(1), q.size(2)}});
  check_sizes("v", v, k.sizes());
  check_seqlens("cu_seqlens_q", options.cu_seqlens_q, q.size(0), options.max_seqlen_q);
  check_seqlens("cu_seqlens_k", options.cu_seqlens_k, k.size(0), options.max_seqlen_k);
  check_sizes("cu_seqlens_k", options.cu_seqlens_k, options.cu_seqlens_q.sizes());
}

AttentionInput input(const Tensor& x) { return {x.const_data_ptr(), x.stride(0), x.stride(1)}; }

AttentionShape shape_of(const Tensor& q, const Tensor& k, const Tensor& v, const Options& options) {
  AttentionShape shape{};
  shape.sequences = options.cu_seqlens_q.size(0) - 1;
  shape.heads = q.size(1);
  shape.head_dim = q.size(2);
  shape.cu_seqlens_q = static_cast<const int32_t*>(options.cu_seqlens_q.const_data_ptr());
  shape.cu_seqlens_k = static_cast<const int32_t*>(options.cu_seqlens_k.const_data_ptr());
  shape.max_seqlen_q = options.max_seqlen_q;
  shape.max_seqlen_k = options.max_seqlen_k;
  shape.q = input(q);
  shape.k = input(k);
  shape.v = input(v);
  shape.causal = options.causal;
  shape.scale = static_cast<float>(options.scale);
  const Dropout dropout = make_dropout(options.dropout_p, options.dropout_seed);
  shape.dropout_threshold = dropout.threshold;
  shape.keep_scale = dropout.keep_scale;
  shape.dropout_seed = dropout.seed;
  return shape;
}

// Rows after the last sequence belong to none: the kernels leave them alone.
void zero_rows_beyond(Tensor& x, const Tensor& cu_seqlens) {
  const auto* starts = static_cast<const int32_t*>(cu_seqlens.const_data_ptr());
  const int64_t first = starts[cu_seqlens.size(0) - 1];
  const size_t row = static_cast<size_t>(x.size(1) * x.size(2)) * x.element_size();
  std::memset(static_cast<char*>(x.mutable_data_ptr()) + first * row, 0, (x.size(0) - first) * row);
}

std::tuple<Tensor, Tensor> attention_forward(const Tensor& q, const Tensor& k, const Tensor& v,
                                             const Tensor& cu_seqlens_q, const Tensor& cu_seqlens_k,
                                             int64_t max_seqlen_q, int64_t max_seqlen_k, bool causal, double scale,
                                             double dropout_p, int64_t dropout_seed) {
  const Options options{cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, causal, scale, dropout_p, dropout_seed};
  const int dtype = dtype_index("q", q);
  check_inputs(q, k, v, options);
  const Tensor own_q = rows_contiguous(q), own_k = rows_contiguous(k), own_v = rows_contiguous(v);
  Tensor out = new_output(q);
  Tensor lse = torch::stable::new_empty(q, {std::initializer_list<int64_t>{q.size(1), q.size(0)}}, ScalarType::Float);
  AttentionForward params{};
  params.shape = shape_of(own_q, own_k, own_v, options);
  params.out = out.mutable_data_ptr();
  params.lse = static_cast<float*>(lse.mutable_data_ptr());
  params.lse_stride = lse.stride(0);
  cpu::for_heads(parallel_for, kernels().attention_forward[dtype], kernels().attention_forward_scratch(params.shape),
                 params);
  zero_rows_beyond(out, cu_seqlens_q);
  const int64_t rows = q.size(0), last = params.shape.cu_seqlens_q[params.shape.sequences];
  for (int64_t head = 0; head < q.size(1); ++head)
    std::fill(params.lse + head * rows + last, params.lse + (head + 1) * rows, -std::numeric_limits<float>::infinity());
  return {out, lse};
}

std::tuple<Tensor, Tensor, Tensor> attention_backward(const Tensor& grad_out, const Tensor& q, const Tensor& k,
                                                      const Tensor& v, const Tensor& out, const Tensor& lse,
                                                      const Tensor& cu_seqlens_q, const Tensor& cu_seqlens_k,
                                                      int64_t max_seqlen_q, int64_t max_seqlen_k, bool causal,
                                                      double scale, double dropout_p, int64_t dropout_seed) {
  const Options options{cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, causal, scale, dropout_p, dropout_seed};
  const int dtype = dtype_index("q", q);
  check_inputs(q, k, v, options);
  for (const auto& [name, x] : {std::pair<const char*, const Tensor&>{"grad_out", grad_out}, {"out", out}}) {
    check_dtype(name, x, q.scalar_type());
    check_sizes(name, x, q.sizes());
  }
  check_dtype("lse", lse, ScalarType::Float);
  check_sizes("lse", lse, {std::initializer_list<int64_t>{q.size(1), q.size(0)}});
  const Tensor own_q = rows_contiguous(q), own_k = rows_contiguous(k), own_v = rows_contiguous(v);
  const Tensor own_grad = rows_contiguous(grad_out), own_out = rows_contiguous(out), own_lse = rows_contiguous(lse);
  Tensor grad_q = new_output(q), grad_k = new_output(k), grad_v = new_output(v);
  AttentionBackward params{};
  params.shape = shape_of(own_q, own_k, own_v, options);
  params.grad_out = input(own_grad);
  params.out = input(own_out);
  params.lse = static_cast<const float*>(own_lse.const_data_ptr());
  params.lse_stride = own_lse.stride(0);
  params.grad_q = grad_q.mutable_data_ptr();
  params.grad_k = grad_k.mutable_data_ptr();
  params.grad_v = grad_v.mutable_data_ptr();
  cpu::for_heads(parallel_for, kernels().attention_backward[dtype], kernels().attention_backward_scratch(params.shape),
                 params);
  zero_rows_beyond(grad_q, cu_seqlens_q);
  zero_rows_beyond(grad_k, cu_seqlens_k);
  zero_rows_beyond(grad_v, cu_seqlens_k);
  return {grad_q, grad_k, grad_v};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(fastlm, CPU, m) {
  m.impl("attention_forward", TORCH_BOX(&attention_forward));
  m.impl("attention_backward", TORCH_BOX(&attention_backward));
}

}  // namespace fastlm
