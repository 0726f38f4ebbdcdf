// fastlm::layer_norm_forward and fastlm::layer_norm_backward on the CPU; schemas in fastlm/ops/layer_norm.py.
#include <torch/csrc/stable/library.h>

#include <optional>
#include <tuple>

#include "csrc/cpu/run.h"

namespace fastlm {
namespace {

using torch::headeronly::ScalarType;
using Optional = std::optional<Tensor>;

template <class Params>
void set_shape(Params& params, const Tensor& x) {
  STD_TORCH_CHECK(x.dim() >= 1 && x.size(x.dim() - 1) > 0, "x: shape ", to_string(x.sizes()), " has no columns");
  params.rows = 1;
  for (int64_t d = 0; d + 1 < x.dim(); ++d) params.rows *= x.size(d);
  params.cols = x.size(x.dim() - 1);
}

Tensor checked(const char* name, const Tensor& tensor, ScalarType dtype, const Tensor& like) {
  check_dtype(name, tensor, dtype);
  check_sizes(name, tensor, like.sizes());
  return rows_contiguous(tensor);
}

Tensor checked_vector(const char* name, const Tensor& tensor, const Tensor& x) {
  check_dtype(name, tensor, x.scalar_type());
  const int64_t cols = x.size(x.dim() - 1);
  check_sizes(name, tensor, {&cols, 1});
  return torch::stable::contiguous(tensor);
}

Tensor checked_rows(const char* name, const Tensor& tensor, const Tensor& x) {
  check_dtype(name, tensor, ScalarType::Float);
  check_sizes(name, tensor, {x.sizes().data(), static_cast<size_t>(x.dim() - 1)});
  return torch::stable::contiguous(tensor);
}

template <class Kernel>
Kernel require(Kernel kernel) {
  STD_TORCH_CHECK(kernel != nullptr, "y: its dtype must be x's, where that is not float32");
  return kernel;
}

std::tuple<Tensor, Tensor, Tensor, Tensor> layer_norm_forward(const Tensor& given, const Optional& given_branch,
                                                              const Tensor& given_weight, const Tensor& given_bias,
                                                              double eps, double dropout_p, int64_t dropout_seed,
                                                              ScalarType dtype) {
  LayerNormForward params{};
  set_shape(params, given);
  Tensor residual = rows_contiguous(given), branch;
  const Tensor weight = checked_vector("weight", given_weight, residual);
  const Tensor bias = checked_vector("bias", given_bias, residual);
  const torch::headeronly::IntHeaderOnlyArrayRef rows(residual.sizes().data(), residual.dim() - 1);
  Tensor y = new_output(residual, dtype);
  Tensor x = given_branch ? new_output(residual) : torch::stable::new_empty(residual, {0});
  Tensor mean = torch::stable::new_empty(residual, rows, ScalarType::Float);
  Tensor rstd = torch::stable::new_empty(residual, rows, ScalarType::Float);
  const auto kernel = kernels().layer_norm_forward[dtype_index("x", residual)][dtype_index("y", y)];
  params.residual_rows = row_layout(residual);
  params.residual = residual.const_data_ptr();
  if (given_branch) {
    branch = checked("branch", *given_branch, dtype, residual);
    params.branch_rows = row_layout(branch);
    params.branch = branch.const_data_ptr();
    params.x = x.mutable_data_ptr();
  }
  params.weight = weight.const_data_ptr();
  params.bias = bias.const_data_ptr();
  params.eps = static_cast<float>(eps);
  params.dropout = make_dropout(dropout_p, dropout_seed);
  params.y = y.mutable_data_ptr();
  params.mean = static_cast<float*>(mean.mutable_data_ptr());
  params.rstd = static_cast<float*>(rstd.mutable_data_ptr());
  params.stream_x = should_stream(x);
  params.stream_y = should_stream(y);
  cpu::for_rows(parallel_for, require(kernel), params);
  return {y, x, mean, rstd};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> layer_norm_backward(const Tensor& given_grad_y, const Optional& given_grad_x,
                                                               const Tensor& given_x, const Tensor& given_weight,
                                                               const Tensor& given_mean, const Tensor& given_rstd,
                                                               double dropout_p, int64_t dropout_seed,
                                                               bool has_branch) {
  LayerNormBackward params{};
  set_shape(params, given_x);
  Tensor x = rows_contiguous(given_x), grad_x;
  Tensor grad_y = checked("grad_y", given_grad_y, given_grad_y.scalar_type(), x);
  const Tensor weight = checked_vector("weight", given_weight, x);
  const Tensor mean = checked_rows("mean", given_mean, x), rstd = checked_rows("rstd", given_rstd, x);
  const int dtype = dtype_index("x", x);
  const auto kernel = kernels().layer_norm_backward[dtype][dtype_index("grad_y", grad_y)];
  const int64_t blocks = cpu::norm_blocks(params.rows);
  Tensor grad_residual = new_output(x);
  Tensor grad_branch = has_branch ? new_output(x, grad_y.scalar_type()) : torch::stable::new_empty(x, {0});
  Tensor grad_weight = torch::stable::new_empty(weight, weight.sizes());
  Tensor grad_bias = torch::stable::new_empty(weight, weight.sizes());
  Tensor sums = torch::stable::new_empty(x, {blocks, 2, params.cols}, ScalarType::Float);
  params.grad_y_rows = row_layout(grad_y);
  params.grad_y = grad_y.const_data_ptr();
  if (given_grad_x) {
    grad_x = checked("grad_x", *given_grad_x, x.scalar_type(), x);
    params.grad_x_rows = row_layout(grad_x);
    params.grad_x = grad_x.const_data_ptr();
  }
  params.x_rows = row_layout(x);
  params.x = x.const_data_ptr();
  params.weight = weight.const_data_ptr();
  params.mean = static_cast<const float*>(mean.const_data_ptr());
  params.rstd = static_cast<const float*>(rstd.const_data_ptr());
  params.dropout = make_dropout(dropout_p, dropout_seed);
  params.grad_residual = grad_residual.mutable_data_ptr();
  params.grad_branch = has_branch ? grad_branch.mutable_data_ptr() : nullptr;
  params.sums = static_cast<float*>(sums.mutable_data_ptr());
  params.stream_residual = should_stream(grad_residual);
  params.stream_branch = should_stream(grad_branch);
  cpu::for_units(parallel_for, require(kernel), params, blocks, kNormBlock * params.cols);
  const LayerNormSums totals{blocks, params.cols, params.sums, grad_weight.mutable_data_ptr(),
                             grad_bias.mutable_data_ptr()};
  cpu::for_units(parallel_for, kernels().layer_norm_sums[dtype], totals, params.cols, std::max<int64_t>(1, 2 * blocks));
  return {grad_residual, grad_branch, grad_weight, grad_bias};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(fastlm, CPU, m) {
  m.impl("layer_norm_forward", TORCH_BOX(&layer_norm_forward));
  m.impl("layer_norm_backward", TORCH_BOX(&layer_norm_backward));
}

}  // namespace fastlm
