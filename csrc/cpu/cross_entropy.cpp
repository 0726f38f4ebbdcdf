// fastlm::cross_entropy_forward and fastlm::cross_entropy_backward on the CPU; schemas in fastlm/ops/cross_entropy.py.
#include <torch/csrc/stable/library.h>

#include <tuple>

#include "csrc/dispatch.h"

namespace fastlm {
namespace {

using torch::headeronly::ScalarType;

// What forward and backward have in common. The tensor must outlive the params.
template <class Params>
Params rows_and_targets(const Tensor& logits, const Tensor& targets, int64_t ignore_index, double label_smoothing) {
  Params params{};
  params.rows = logits.size(0);
  params.cols = logits.size(1);
  params.logits = logits.const_data_ptr();
  params.row_stride = logits.stride(0);
  params.targets = {static_cast<const int64_t*>(targets.const_data_ptr()), targets.stride(0), ignore_index};
  params.label_smoothing = static_cast<float>(label_smoothing);
  return params;
}

void check(const Tensor& logits, const Tensor& targets) {
  STD_TORCH_CHECK(logits.dim() == 2, "logits: shape ", to_string(logits.sizes()), ", expected (N, V)");
  STD_TORCH_CHECK(logits.size(1) > 0, "logits: shape ", to_string(logits.sizes()), " has no classes");
  check_dtype("targets", targets, ScalarType::Long);
  check_sizes("targets", targets, {logits.sizes().data(), 1});
}

std::tuple<Tensor, Tensor> cross_entropy_forward(const Tensor& given, const Tensor& targets, int64_t ignore_index,
                                                 double label_smoothing) {
  const int dtype = dtype_index("logits", given);
  check(given, targets);
  const Tensor logits = rows_contiguous(given);
  Tensor row_loss = torch::stable::new_empty(logits, {logits.sizes().data(), 1}, ScalarType::Float);
  Tensor lse = torch::stable::new_empty(logits, {logits.sizes().data(), 1}, ScalarType::Double);
  auto params = rows_and_targets<cpu::CrossEntropyForward>(logits, targets, ignore_index, label_smoothing);
  params.row_loss = static_cast<float*>(row_loss.mutable_data_ptr());
  params.lse = static_cast<double*>(lse.mutable_data_ptr());
  cpu::for_rows(parallel_for, kernels().cross_entropy_forward[dtype], params);
  return {row_loss, lse};
}

Tensor cross_entropy_backward(const Tensor& grad_row_loss, const Tensor& given, const Tensor& targets,
                              const Tensor& lse, int64_t ignore_index, double label_smoothing) {
  const int dtype = dtype_index("logits", given);
  check(given, targets);
  check_dtype("grad_row_loss", grad_row_loss, ScalarType::Float);
  check_sizes("grad_row_loss", grad_row_loss, {given.sizes().data(), 1});
  check_dtype("lse", lse, ScalarType::Double);
  check_sizes("lse", lse, {given.sizes().data(), 1});
  const Tensor logits = rows_contiguous(given);
  Tensor grad = new_output(logits);
  auto params = rows_and_targets<cpu::CrossEntropyBackward>(logits, targets, ignore_index, label_smoothing);
  params.grad_row_loss = static_cast<const float*>(grad_row_loss.const_data_ptr());
  params.grad_row_loss_stride = grad_row_loss.stride(0);
  params.lse = static_cast<const double*>(lse.const_data_ptr());
  params.lse_stride = lse.stride(0);
  params.grad_logits = grad.mutable_data_ptr();
  // Of 16-bit gradients the exponentials take as long as memory does, and stores around the caches add to them.
  params.stream = should_stream(grad) && grad.scalar_type() == ScalarType::Float;
  cpu::for_rows(parallel_for, kernels().cross_entropy_backward[dtype], params);
  return grad;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(fastlm, CPU, m) {
  m.impl("cross_entropy_forward", TORCH_BOX(&cross_entropy_forward));
  m.impl("cross_entropy_backward", TORCH_BOX(&cross_entropy_backward));
}

}  // namespace fastlm
