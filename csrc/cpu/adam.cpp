// fastlm::adam_ on the CPU; schema in fastlm/ops/adam.py.
#include <torch/csrc/stable/library.h>

#include <cmath>
#include <vector>

#include "csrc/tensor_list.h"

namespace fastlm {
namespace {

using torch::headeronly::ScalarType;
using List = std::vector<Tensor>;

void check_count(const char* name, const List& list, const List& params) {
  STD_TORCH_CHECK(list.size() == params.size(), name, ": ", list.size(), " tensors, but params has ", params.size());
}

// Writable memory of a tensor that is updated where it lies.
float* in_place(const char* list, size_t i, const Tensor& tensor, const Tensor& param) {
  const std::string name = item(list, i);
  check_dtype(name.c_str(), tensor, ScalarType::Float);
  check_sizes(name.c_str(), tensor, param.sizes());
  STD_TORCH_CHECK(tensor.is_contiguous(), name, ": not contiguous, and is updated in place");
  return static_cast<float*>(tensor.mutable_data_ptr());
}

Tensor readable(size_t i, const Tensor& grad, const Tensor& param) {
  const std::string name = item("grads", i);
  check_dtype(name.c_str(), grad, ScalarType::Float);
  check_sizes(name.c_str(), grad, param.sizes());
  return torch::stable::contiguous(grad);
}

float* counter(size_t i, const Tensor& step) {
  const std::string name = item("steps", i);
  check_dtype(name.c_str(), step, ScalarType::Float);
  STD_TORCH_CHECK(step.numel() == 1, name, ": shape ", to_string(step.sizes()), ", expected one element");
  return static_cast<float*>(step.mutable_data_ptr());
}

void adam_(List params, List grads, List exp_avgs, List exp_avg_sqs, List steps, double lr, double beta1, double beta2,
           double eps, double weight_decay, bool decoupled_weight_decay, double grad_scale) {
  check_count("grads", grads, params);
  check_count("exp_avgs", exp_avgs, params);
  check_count("exp_avg_sqs", exp_avg_sqs, params);
  check_count("steps", steps, params);
  const ChunkedList list(params);
  std::vector<AdamTensor> tensors;
  std::vector<float*> counters;
  for (size_t i = 0; i < params.size(); ++i) {
    grads[i] = readable(i, grads[i], params[i]);
    counters.push_back(counter(i, steps[i]));
    const double step = double{*counters[i]} + 1.0;
    tensors.push_back(
        {in_place("params", i, params[i], params[i]), static_cast<const float*>(grads[i].const_data_ptr()),
         in_place("exp_avgs", i, exp_avgs[i], params[i]), in_place("exp_avg_sqs", i, exp_avg_sqs[i], params[i]),
         static_cast<float>(lr / (1.0 - std::pow(beta1, step))),
         static_cast<float>(1.0 / std::sqrt(1.0 - std::pow(beta2, step)))});
  }
  for (float* const count : counters) *count += 1.0f;  // after every check
  Adam update{};
  update.list = list.view();
  update.tensors = tensors.data();
  update.grad_factor = static_cast<float>(1.0 / grad_scale);
  update.l2_decay = decoupled_weight_decay ? 0.0f : static_cast<float>(weight_decay);
  update.kept = decoupled_weight_decay ? static_cast<float>(1.0 - lr * weight_decay) : 1.0f;
  update.share1 = static_cast<float>(1.0 - beta1);
  update.beta2 = static_cast<float>(beta2);
  update.share2 = static_cast<float>(1.0 - beta2);
  update.eps = static_cast<float>(eps);
  cpu::for_units(parallel_for, kernels().adam, update, list.chunks(), kTensorChunk);
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(fastlm, CPU, m) { m.impl("adam_", TORCH_BOX(&adam_)); }

}  // namespace fastlm
