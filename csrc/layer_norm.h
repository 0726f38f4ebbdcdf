// What LayerNorm's kernels are asked to do, from tensors: the same on every device.
#pragma once

#include <optional>
#include <tuple>

#include "csrc/tensors.h"

namespace fastlm {

namespace layer_norm {

using torch::headeronly::ScalarType;
using Optional = std::optional<Tensor>;

template <class Params>
void set_shape(Params& params, const Tensor& x) {
  STD_TORCH_CHECK(x.dim() >= 1 && x.size(x.dim() - 1) > 0, "x: shape ", to_string(x.sizes()), " has no columns");
  params.rows = 1;
  for (int64_t d = 0; d + 1 < x.dim(); ++d) params.rows *= x.size(d);
  params.cols = x.size(x.dim() - 1);
}

inline Tensor checked(const char* name, const Tensor& tensor, ScalarType dtype, const Tensor& like) {
  check_dtype(name, tensor, dtype);
  check_sizes(name, tensor, like.sizes());
  return rows_contiguous(tensor);
}

inline Tensor checked_vector(const char* name, const Tensor& tensor, const Tensor& x) {
  check_dtype(name, tensor, x.scalar_type());
  const int64_t cols = x.size(x.dim() - 1);
  check_sizes(name, tensor, {&cols, 1});
  return torch::stable::contiguous(tensor);
}

inline Tensor checked_rows(const char* name, const Tensor& tensor, const Tensor& x) {
  check_dtype(name, tensor, ScalarType::Float);
  check_sizes(name, tensor, {x.sizes().data(), static_cast<size_t>(x.dim() - 1)});
  return torch::stable::contiguous(tensor);
}

// A number for every row of x.
inline Tensor new_rows(const Tensor& x) {
  const torch::headeronly::IntHeaderOnlyArrayRef rows(x.sizes().data(), x.dim() - 1);
  return torch::stable::new_empty(x, rows, ScalarType::Float);
}

// Refuses a pair of types that no kernel takes: x's, and that of branch and y.
inline void check_pair(int x, int y) {
  constexpr int kFloat = static_cast<int>(DType::kFloat32);
  STD_TORCH_CHECK(x == kFloat || x == y, "y: its dtype must be x's, where that is not float32");
}

}  // namespace layer_norm

// These own what their params point to.
struct LayerNormForwardCall {
  using Optional = layer_norm::Optional;
  Tensor residual, branch, weight, bias, y, x, mean, rstd;
  int dtype, y_dtype;
  LayerNormForward params{};

  LayerNormForwardCall(const Tensor& given, const Optional& given_branch, const Tensor& given_weight,
                       const Tensor& given_bias, double eps, double dropout_p, const Tensor& dropout_seed,
                       layer_norm::ScalarType dtype_of_y)
      : residual(rows_contiguous(given)) {
    layer_norm::set_shape(params, given);
    weight = layer_norm::checked_vector("weight", given_weight, residual);
    bias = layer_norm::checked_vector("bias", given_bias, residual);
    y = new_output(residual, dtype_of_y);
    x = given_branch ? new_output(residual) : torch::stable::new_empty(residual, {0});
    mean = layer_norm::new_rows(residual);
    rstd = layer_norm::new_rows(residual);
    dtype = dtype_index("x", residual);
    y_dtype = dtype_index("y", y);
    layer_norm::check_pair(dtype, y_dtype);
    params.residual_rows = row_layout(residual);
    params.residual = residual.const_data_ptr();
    if (given_branch) {
      branch = layer_norm::checked("branch", *given_branch, dtype_of_y, residual);
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
  }
  std::tuple<Tensor, Tensor, Tensor, Tensor> outputs() const { return {y, x, mean, rstd}; }
};

struct LayerNormBackwardCall {
  using Optional = layer_norm::Optional;
  Tensor grad_y, grad_x, x, weight, mean, rstd, grad_residual, grad_branch, grad_weight, grad_bias, sums;
  int dtype, y_dtype;
  LayerNormBackward params{};
  LayerNormSums totals{};

  // `block` rows share their sums for weight and bias.
  LayerNormBackwardCall(const Tensor& given_grad_y, const Optional& given_grad_x, const Tensor& given_x,
                        const Tensor& given_weight, const Tensor& given_mean, const Tensor& given_rstd,
                        double dropout_p, const Tensor& dropout_seed, bool has_branch, int64_t block)
      : x(rows_contiguous(given_x)) {
    layer_norm::set_shape(params, given_x);
    grad_y = layer_norm::checked("grad_y", given_grad_y, given_grad_y.scalar_type(), x);
    weight = layer_norm::checked_vector("weight", given_weight, x);
    mean = layer_norm::checked_rows("mean", given_mean, x);
    rstd = layer_norm::checked_rows("rstd", given_rstd, x);
    dtype = dtype_index("x", x);
    y_dtype = dtype_index("grad_y", grad_y);
    layer_norm::check_pair(dtype, y_dtype);
    const int64_t blocks = (params.rows + block - 1) / block;
    grad_residual = new_output(x);
    grad_branch = has_branch ? new_output(x, grad_y.scalar_type()) : torch::stable::new_empty(x, {0});
    grad_weight = torch::stable::new_empty(weight, weight.sizes());
    grad_bias = torch::stable::new_empty(weight, weight.sizes());
    sums = torch::stable::new_empty(x, {blocks, 2, params.cols}, layer_norm::ScalarType::Float);
    params.grad_y_rows = row_layout(grad_y);
    params.grad_y = grad_y.const_data_ptr();
    if (given_grad_x) {
      grad_x = layer_norm::checked("grad_x", *given_grad_x, x.scalar_type(), x);
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
    totals = {blocks, params.cols, params.sums, grad_weight.mutable_data_ptr(), grad_bias.mutable_data_ptr()};
  }
  std::tuple<Tensor, Tensor, Tensor, Tensor> outputs() const {
    return {grad_residual, grad_branch, grad_weight, grad_bias};
  }
};

}  // namespace fastlm
