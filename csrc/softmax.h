// What softmax's kernels are asked to do, from tensors: the same on every device.
#pragma once

#include <optional>
#include <vector>

#include "csrc/tensors.h"

namespace fastlm {

struct RowsAndColumns {
  int64_t rows, cols;
};

inline RowsAndColumns rows_and_columns(const Tensor& x) {
  STD_TORCH_CHECK(x.dim() >= 1, "x: a 0-dimensional tensor has no last dimension");
  int64_t rows = 1;
  for (int64_t d = 0; d + 1 < x.dim(); ++d) rows *= x.size(d);
  return {rows, x.size(x.dim() - 1)};
}

// A mask seen through x's shape: dimensions that it lacks or repeats have stride 0, and nothing is materialised.
struct BroadcastMask {
  Tensor mask;
  std::vector<int64_t> strides;

  BroadcastMask(const Tensor& given, const Tensor& x) : mask(given), strides(x.dim(), 0) {
    check_dtype("mask", mask, torch::headeronly::ScalarType::Bool);
    const int64_t missing = x.dim() - mask.dim();
    STD_TORCH_CHECK(missing >= 0, "mask: shape ", to_string(mask.sizes()), " does not broadcast to x's ",
                    to_string(x.sizes()));
    const int64_t last = mask.dim() - 1;
    if (last >= 0 && mask.size(last) > 1 && mask.stride(last) > 1) mask = torch::stable::contiguous(mask);
    for (int64_t d = 0; d < mask.dim(); ++d) {
      STD_TORCH_CHECK(mask.size(d) == 1 || mask.size(d) == x.size(missing + d), "mask: shape ", to_string(mask.sizes()),
                      " does not broadcast to x's ", to_string(x.sizes()));
      strides[missing + d] = mask.size(d) == 1 ? 0 : mask.stride(d);
    }
  }
};

inline void set_mask(SoftmaxForward& params, const BroadcastMask& view, const Tensor& x) {
  params.mask = static_cast<const uint8_t*>(view.mask.const_data_ptr());
  params.mask_per_row = view.strides.back() == 0;
  STD_TORCH_CHECK(
      make_row_layout(static_cast<int>(x.dim()) - 1, x.sizes().data(), view.strides.data(), &params.mask_rows),
      "mask: more than ", kMaxRowDims, " separately strided dimensions; pass mask.contiguous()");
}

// These own what their params point to.
struct SoftmaxForwardCall {
  int dtype;
  Tensor x, out;
  std::optional<BroadcastMask> view;
  SoftmaxForward params{};

  SoftmaxForwardCall(const Tensor& given, const std::optional<Tensor>& mask, double scale)
      : dtype(dtype_index("x", given)), x(rows_contiguous(given)), out(new_output(x)) {
    const auto [rows, cols] = rows_and_columns(x);
    params.rows = rows;
    params.cols = cols;
    params.x_rows = row_layout(x);
    params.x = x.const_data_ptr();
    if (mask) set_mask(params, view.emplace(*mask, x), x);
    params.scale = static_cast<float>(scale);
    params.out = out.mutable_data_ptr();
    params.stream = should_stream(out);
  }
};

struct SoftmaxBackwardCall {
  int dtype;
  Tensor grad, y, out;
  SoftmaxBackward params{};

  SoftmaxBackwardCall(const Tensor& given_grad, const Tensor& given_y, double scale)
      : dtype(dtype_index("output", given_y)),
        grad(rows_contiguous(given_grad)),
        y(rows_contiguous(given_y)),
        out(new_output(y)) {
    check_dtype("grad_output", grad, y.scalar_type());
    check_sizes("grad_output", grad, y.sizes());
    const auto [rows, cols] = rows_and_columns(y);
    params.rows = rows;
    params.cols = cols;
    params.grad_y_rows = row_layout(grad);
    params.y_rows = row_layout(y);
    params.grad_y = grad.const_data_ptr();
    params.y = y.const_data_ptr();
    params.scale = static_cast<float>(scale);
    params.grad_x = out.mutable_data_ptr();
    params.stream = should_stream(out);
  }
};

}  // namespace fastlm
