// fastlm::softmax_forward and fastlm::softmax_backward on a GPU; schemas in fastlm/ops/softmax.py.
#include "kernels/cuda/softmax.h"

#include "csrc/cuda/device.h"
#include "csrc/softmax.h"

namespace fastlm {
namespace {

Tensor softmax_forward(const Tensor& x, const std::optional<Tensor>& mask, double scale) {
  const SoftmaxForwardCall call(x, mask, scale);
  if (call.out.numel() == 0) return call.out;
  check_columns("x", call.params.cols);
  Device device(call.x);
  device.reads("x", call.x);
  if (call.view) device.reads("mask", call.view->mask);
  device.writes("out", call.out);
  by_dtype(call.dtype, [&](auto t) { cuda::softmax_forward<decltype(t)>(call.params, device.stream()); });
  return call.out;
}

Tensor softmax_backward(const Tensor& grad, const Tensor& y, double scale) {
  const SoftmaxBackwardCall call(grad, y, scale);
  if (call.out.numel() == 0) return call.out;
  check_columns("output", call.params.cols);
  Device device(call.y);
  device.reads("grad_output", call.grad);
  device.reads("output", call.y);
  device.writes("grad_x", call.out);
  by_dtype(call.dtype, [&](auto t) { cuda::softmax_backward<decltype(t)>(call.params, device.stream()); });
  return call.out;
}

}  // namespace

FASTLM_CUDA_LIBRARY(m) {
  m.impl("softmax_forward", TORCH_BOX(&softmax_forward));
  m.impl("softmax_backward", TORCH_BOX(&softmax_backward));
}

}  // namespace fastlm
