// fastlm::total_norm on the CPU; schema in fastlm/ops/total_norm.py.
#include <torch/csrc/stable/library.h>

#include <cmath>
#include <numeric>
#include <vector>

#include "csrc/tensor_list.h"

namespace fastlm {
namespace {

using torch::headeronly::ScalarType;

Tensor total_norm(std::vector<Tensor> tensors) {
  STD_TORCH_CHECK(!tensors.empty(), "tensors: the list is empty");
  std::vector<const float*> data;
  for (size_t i = 0; i < tensors.size(); ++i) {
    check_dtype(item("tensors", i).c_str(), tensors[i], ScalarType::Float);
    tensors[i] = torch::stable::contiguous(tensors[i]);
    data.push_back(static_cast<const float*>(tensors[i].const_data_ptr()));
  }
  const ChunkedList list(tensors);
  std::vector<double> sums(list.chunks());
  const Squares params{list.view(), data.data(), sums.data()};
  cpu::for_units(parallel_for, kernels().squares, params, list.chunks(), kTensorChunk);
  Tensor norm = torch::stable::new_empty(tensors[0], {});
  *static_cast<float*>(norm.mutable_data_ptr()) =
      static_cast<float>(std::sqrt(std::accumulate(sums.begin(), sums.end(), 0.0)));
  return norm;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(fastlm, CPU, m) { m.impl("total_norm", TORCH_BOX(&total_norm)); }

}  // namespace fastlm
