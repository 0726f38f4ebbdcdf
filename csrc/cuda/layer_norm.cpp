// fastlm::layer_norm_forward and fastlm::layer_norm_backward on a GPU; schemas in fastlm/ops/layer_norm.py.
#include "csrc/layer_norm.h"

#include "csrc/cuda/device.h"
#include "kernels/cuda/layer_norm.h"

namespace fastlm {
namespace {

using layer_norm::Optional;
using torch::headeronly::ScalarType;

// Calls with values of x's element type and of y's, which layer_norm::check_pair has let pass.
template <class Body>
void by_dtypes(int x, int y, Body body) {
  by_dtype(y, [&](auto t) {
    if (x == y) return body(t, t);
    body(float{}, t);
  });
}

std::tuple<Tensor, Tensor, Tensor, Tensor> layer_norm_forward(const Tensor& residual, const Optional& branch,
                                                              const Tensor& weight, const Tensor& bias, double eps,
                                                              double dropout_p, const Tensor& dropout_seed,
                                                              ScalarType dtype) {
  const LayerNormForwardCall call(residual, branch, weight, bias, eps, dropout_p, dropout_seed, dtype);
  if (call.params.rows == 0) return call.outputs();
  check_columns("residual", call.params.cols);
  Device device(call.residual);
  device.reads("dropout_seed", dropout_seed);
  device.reads("residual", call.residual);
  device.reads("weight", call.weight);
  device.reads("bias", call.bias);
  if (branch) {
    device.reads("branch", call.branch);
    device.writes("x", call.x);
  }
  device.writes("y", call.y);
  device.writes("mean", call.mean);
  device.writes("rstd", call.rstd);
  by_dtypes(call.dtype, call.y_dtype,
            [&](auto r, auto t) { cuda::layer_norm_forward<decltype(r), decltype(t)>(call.params, device.stream()); });
  return call.outputs();
}

std::tuple<Tensor, Tensor, Tensor, Tensor> layer_norm_backward(const Tensor& grad_y, const Optional& grad_x,
                                                               const Tensor& x, const Tensor& weight,
                                                               const Tensor& mean, const Tensor& rstd, double dropout_p,
                                                               const Tensor& dropout_seed, bool has_branch) {
  const LayerNormBackwardCall call(grad_y, grad_x, x, weight, mean, rstd, dropout_p, dropout_seed, has_branch,
                                   cuda::kNormSlice);
  check_columns("x", call.params.cols);
  Device device(call.x);
  device.reads("dropout_seed", dropout_seed);
  device.reads("grad_y", call.grad_y);
  if (grad_x) device.reads("grad_x", call.grad_x);
  device.reads("x", call.x);
  device.reads("weight", call.weight);
  device.reads("mean", call.mean);
  device.reads("rstd", call.rstd);
  device.writes("grad_residual", call.grad_residual);
  if (has_branch) device.writes("grad_branch", call.grad_branch);
  device.writes("sums", call.sums);
  device.writes("grad_weight", call.grad_weight);
  device.writes("grad_bias", call.grad_bias);
  if (call.params.rows > 0) {
    by_dtypes(call.dtype, call.y_dtype, [&](auto r, auto t) {
      cuda::layer_norm_backward<decltype(r), decltype(t)>(call.params, device.stream());
    });
  }
  by_dtype(call.dtype, [&](auto r) { cuda::layer_norm_sums<decltype(r)>(call.totals, device.stream()); });
  return call.outputs();
}

}  // namespace

FASTLM_CUDA_LIBRARY(m) {
  m.impl("layer_norm_forward", TORCH_BOX(&layer_norm_forward));
  m.impl("layer_norm_backward", TORCH_BOX(&layer_norm_backward));
}

}  // namespace fastlm
