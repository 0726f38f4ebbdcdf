// fastlm::cross_entropy_forward and fastlm::cross_entropy_backward on a GPU; schemas in fastlm/ops/cross_entropy.py.
#include "kernels/cuda/cross_entropy.h"

#include <tuple>

#include "csrc/cross_entropy.h"
#include "csrc/cuda/device.h"

namespace fastlm {
namespace {

std::tuple<Tensor, Tensor> cross_entropy_forward(const Tensor& logits, const Tensor& targets, int64_t ignore_index,
                                                 double label_smoothing) {
  const CrossEntropyForwardCall call(logits, targets, ignore_index, label_smoothing);
  if (call.params.rows == 0) return {call.row_loss, call.lse};
  check_columns("logits", call.params.cols);
  Device device(call.logits);
  device.reads("logits", call.logits);
  device.reads("targets", targets);
  device.writes("row_loss", call.row_loss);
  device.writes("lse", call.lse);
  by_dtype(call.dtype, [&](auto t) { cuda::cross_entropy_forward<decltype(t)>(call.params, device.stream()); });
  return {call.row_loss, call.lse};
}

Tensor cross_entropy_backward(const Tensor& grad_row_loss, const Tensor& logits, const Tensor& targets,
                              const Tensor& lse, int64_t ignore_index, double label_smoothing) {
  const CrossEntropyBackwardCall call(grad_row_loss, logits, targets, lse, ignore_index, label_smoothing);
  if (call.params.rows == 0) return call.grad;
  check_columns("logits", call.params.cols);
  Device device(call.logits);
  device.reads("grad_row_loss", grad_row_loss);
  device.reads("logits", call.logits);
  device.reads("targets", targets);
  device.reads("lse", lse);
  device.writes("grad_logits", call.grad);
  by_dtype(call.dtype, [&](auto t) { cuda::cross_entropy_backward<decltype(t)>(call.params, device.stream()); });
  return call.grad;
}

}  // namespace

FASTLM_CUDA_LIBRARY(m) {
  m.impl("cross_entropy_forward", TORCH_BOX(&cross_entropy_forward));
  m.impl("cross_entropy_backward", TORCH_BOX(&cross_entropy_backward));
}

}  // namespace fastlm
