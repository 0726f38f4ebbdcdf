// torch's matrix products on a GPU, by AOTInductor's shim: as stable as the rest, and below dispatcher, autograd and
// autocast. In lockstep the CPU's.
#pragma once

#include "csrc/tensors.h"
#ifdef FASTLM_LOCKSTEP
#include <torch/csrc/inductor/aoti_torch/generated/c_shim_cpu.h>
#define FASTLM_PRODUCT(name) aoti_torch_cpu_##name
#else
#include <torch/csrc/inductor/aoti_torch/generated/c_shim_cuda.h>
#define FASTLM_PRODUCT(name) aoti_torch_cuda_##name
#endif

namespace fastlm {

inline void multiply(const Tensor& a, const Tensor& b, const Tensor& out) {
  TORCH_ERROR_CODE_CHECK(FASTLM_PRODUCT(mm_out)(out.get(), a.get(), b.get()));
}
inline void multiply_add(const Tensor& a, const Tensor& b, const Tensor& out) {
  TORCH_ERROR_CODE_CHECK(FASTLM_PRODUCT(addmm_out)(out.get(), out.get(), a.get(), b.get(), 1.0, 1.0));
}

// out = a b in fp32, of 16-bit a and b.
inline void multiply_to_float(const Tensor& a, const Tensor& b, const Tensor& out) {
  using torch::headeronly::ScalarType;
#ifdef FASTLM_LOCKSTEP
  multiply(torch::stable::to(a, ScalarType::Float), torch::stable::to(b, ScalarType::Float), out);
#else
  TORCH_ERROR_CODE_CHECK(aoti_torch_cuda_mm_dtype_out(out.get(), a.get(), b.get(), aoti_torch_dtype_float32()));
#endif
}

}  // namespace fastlm
