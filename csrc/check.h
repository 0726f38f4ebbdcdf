// The last line of defence of the registered ops: fastlm.ops has checked shapes and dtypes with friendlier words.
#pragma once

#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/util/Exception.h>

#include <string>

namespace fastlm {

using torch::stable::Tensor;

inline std::string to_string(torch::headeronly::IntHeaderOnlyArrayRef sizes) {
  std::string text = "(";
  for (size_t i = 0; i < sizes.size(); ++i) text += (i ? ", " : "") + std::to_string(sizes[i]);
  return text + ")";
}

inline void check_sizes(const char* name, const Tensor& tensor, torch::headeronly::IntHeaderOnlyArrayRef sizes) {
  bool same = tensor.dim() == static_cast<int64_t>(sizes.size());
  for (size_t i = 0; same && i < sizes.size(); ++i) same = tensor.size(static_cast<int64_t>(i)) == sizes[i];
  STD_TORCH_CHECK(same, name, ": shape ", to_string(tensor.sizes()), ", expected ", to_string(sizes));
}

inline void check_dtype(const char* name, const Tensor& tensor, torch::headeronly::ScalarType dtype) {
  STD_TORCH_CHECK(tensor.scalar_type() == dtype, name, ": dtype ", torch::headeronly::toString(tensor.scalar_type()),
                  ", expected ", torch::headeronly::toString(dtype));
}

}  // namespace fastlm
