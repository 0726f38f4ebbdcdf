// What cross-entropy's kernels are asked to do, from tensors: the same on every device.
#pragma once

#include "csrc/tensors.h"

namespace fastlm {

// What forward and backward have in common. The tensors must outlive the params.
template <class Params>
Params rows_and_targets(const Tensor& logits, const Tensor& targets, int64_t ignore_index, double label_smoothing) {
  using torch::headeronly::ScalarType;
  STD_TORCH_CHECK(logits.dim() == 2, "logits: shape ", to_string(logits.sizes()), ", expected (N, V)");
  STD_TORCH_CHECK(logits.size(1) > 0, "logits: shape ", to_string(logits.sizes()), " has no classes");
  check_dtype("targets", targets, ScalarType::Long);
  check_sizes("targets", targets, {logits.sizes().data(), 1});
  Params params{};
  params.rows = logits.size(0);
  params.cols = logits.size(1);
  params.logits = logits.const_data_ptr();
  params.row_stride = logits.stride(0);
  params.targets = {static_cast<const int64_t*>(targets.const_data_ptr()), targets.stride(0), ignore_index};
  params.label_smoothing = static_cast<float>(label_smoothing);
  return params;
}

// These own what their params point to, but for the targets and what comes from the loss.
struct CrossEntropyForwardCall {
  int dtype;
  Tensor logits;
  CrossEntropyForward params;
  Tensor row_loss, lse;

  CrossEntropyForwardCall(const Tensor& given, const Tensor& targets, int64_t ignore_index, double label_smoothing)
      : dtype(dtype_index("logits", given)),
        logits(rows_contiguous(given)),
        params(rows_and_targets<CrossEntropyForward>(logits, targets, ignore_index, label_smoothing)),
        row_loss(torch::stable::new_empty(logits, {logits.sizes().data(), 1}, torch::headeronly::ScalarType::Float)),
        lse(torch::stable::new_empty(logits, {logits.sizes().data(), 1}, torch::headeronly::ScalarType::Double)) {
    params.row_loss = static_cast<float*>(row_loss.mutable_data_ptr());
    params.lse = static_cast<double*>(lse.mutable_data_ptr());
  }
};

struct CrossEntropyBackwardCall {
  int dtype;
  Tensor logits;
  CrossEntropyBackward params;
  Tensor grad;

  CrossEntropyBackwardCall(const Tensor& grad_row_loss, const Tensor& given, const Tensor& targets, const Tensor& lse,
                           int64_t ignore_index, double label_smoothing)
      : dtype(dtype_index("logits", given)),
        logits(rows_contiguous(given)),
        params(rows_and_targets<CrossEntropyBackward>(logits, targets, ignore_index, label_smoothing)),
        grad(new_output(logits)) {
    check_dtype("grad_row_loss", grad_row_loss, torch::headeronly::ScalarType::Float);
    check_sizes("grad_row_loss", grad_row_loss, {logits.sizes().data(), 1});
    check_dtype("lse", lse, torch::headeronly::ScalarType::Double);
    check_sizes("lse", lse, {logits.sizes().data(), 1});
    params.grad_row_loss = static_cast<const float*>(grad_row_loss.const_data_ptr());
    params.grad_row_loss_stride = grad_row_loss.stride(0);
    params.lse = static_cast<const double*>(lse.const_data_ptr());
    params.lse_stride = lse.stride(0);
    params.grad_logits = grad.mutable_data_ptr();
    // Of 16-bit gradients the exponentials take as long as memory does, and stores around the caches add to them.
    params.stream = should_stream(grad) && grad.scalar_type() == torch::headeronly::ScalarType::Float;
  }
};

}  // namespace fastlm
