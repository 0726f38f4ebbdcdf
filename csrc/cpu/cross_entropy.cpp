// fastlm::cross_entropy_forward and fastlm::cross_entropy_backward on the CPU; schemas in fastlm/ops/cross_entropy.py.
#include "csrc/cross_entropy.h"

#include <torch/csrc/stable/library.h>

#include <tuple>

#include "csrc/cpu/run.h"

namespace fastlm {
namespace {

std::tuple<Tensor, Tensor> cross_entropy_forward(const Tensor& logits, const Tensor& targets, int64_t ignore_index,
                                                 double label_smoothing) {
  const CrossEntropyForwardCall call(logits, targets, ignore_index, label_smoothing);
  cpu::for_rows(parallel_for, kernels().cross_entropy_forward[call.dtype], call.params);
  return {call.row_loss, call.lse};
}

Tensor cross_entropy_backward(const Tensor& grad_row_loss, const Tensor& logits, const Tensor& targets,
                              const Tensor& lse, int64_t ignore_index, double label_smoothing) {
  const CrossEntropyBackwardCall call(grad_row_loss, logits, targets, lse, ignore_index, label_smoothing);
  cpu::for_rows(parallel_for, kernels().cross_entropy_backward[call.dtype], call.params);
  return call.grad;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(fastlm, CPU, m) {
  m.impl("cross_entropy_forward", TORCH_BOX(&cross_entropy_forward));
  m.impl("cross_entropy_backward", TORCH_BOX(&cross_entropy_backward));
}

}  // namespace fastlm
