// fastlm::layer_norm_forward and fastlm::layer_norm_backward on the CPU; schemas in fastlm/ops/layer_norm.py.
#include "csrc/layer_norm.h"

#include <torch/csrc/stable/library.h>

#include "csrc/cpu/run.h"

namespace fastlm {
namespace {

using layer_norm::Optional;
using torch::headeronly::ScalarType;

std::tuple<Tensor, Tensor, Tensor, Tensor> layer_norm_forward(const Tensor& residual, const Optional& branch,
                                                              const Tensor& weight, const Tensor& bias, double eps,
                                                              double dropout_p, const Tensor& dropout_seed,
                                                              ScalarType dtype) {
  const LayerNormForwardCall call(residual, branch, weight, bias, eps, dropout_p, dropout_seed, dtype);
  cpu::for_rows(parallel_for, kernels().layer_norm_forward[call.dtype][call.y_dtype], call.params);
  return call.outputs();
}

std::tuple<Tensor, Tensor, Tensor, Tensor> layer_norm_backward(const Tensor& grad_y, const Optional& grad_x,
                                                               const Tensor& x, const Tensor& weight,
                                                               const Tensor& mean, const Tensor& rstd, double dropout_p,
                                                               const Tensor& dropout_seed, bool has_branch) {
  const LayerNormBackwardCall call(grad_y, grad_x, x, weight, mean, rstd, dropout_p, dropout_seed, has_branch,
                                   kNormBlock);
  const int64_t blocks = call.totals.blocks;
  cpu::for_units(parallel_for, kernels().layer_norm_backward[call.dtype][call.y_dtype], call.params, blocks,
                 kNormBlock * call.params.cols);
  cpu::for_units(parallel_for, kernels().layer_norm_sums[call.dtype], call.totals, call.params.cols,
                 std::max<int64_t>(1, 2 * blocks));
  return call.outputs();
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(fastlm, CPU, m) {
  m.impl("layer_norm_forward", TORCH_BOX(&layer_norm_forward));
  m.impl("layer_norm_backward", TORCH_BOX(&layer_norm_backward));
}

}  // namespace fastlm
