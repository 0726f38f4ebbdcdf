// fastlm::softmax_forward and fastlm::softmax_backward on the CPU; schemas in fastlm/ops/softmax.py.
#include "csrc/softmax.h"

#include <torch/csrc/stable/library.h>

#include "csrc/cpu/run.h"

namespace fastlm {
namespace {

Tensor softmax_forward(const Tensor& x, const std::optional<Tensor>& mask, double scale) {
  const SoftmaxForwardCall call(x, mask, scale);
  cpu::for_rows(parallel_for, kernels().softmax_forward[call.dtype], call.params);
  return call.out;
}

Tensor softmax_backward(const Tensor& grad, const Tensor& y, double scale) {
  const SoftmaxBackwardCall call(grad, y, scale);
  cpu::for_rows(parallel_for, kernels().softmax_backward[call.dtype], call.params);
  return call.out;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(fastlm, CPU, m) {
  m.impl("softmax_forward", TORCH_BOX(&softmax_forward));
  m.impl("softmax_backward", TORCH_BOX(&softmax_backward));
}

}  // namespace fastlm
