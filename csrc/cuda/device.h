// Where the CUDA kernels run: on the current stream of their tensors' GPU. Compiled with FASTLM_LOCKSTEP, which tests
// do, the same ops run on CPU tensors in kernels/cuda/lockstep, under a namespace of their own.
#pragma once

#include <torch/csrc/stable/library.h>

#include "csrc/tensors.h"

#ifdef FASTLM_LOCKSTEP
#include "kernels/cuda/lockstep/memory.h"
#define FASTLM_CUDA_LIBRARY(m) STABLE_TORCH_LIBRARY_IMPL(fastlm_lockstep, CPU, m)
#else
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>
#define FASTLM_CUDA_LIBRARY(m) STABLE_TORCH_LIBRARY_IMPL(fastlm, CUDA, m)
#endif

namespace fastlm {

// Makes the tensors' GPU the current one while it lives. Lockstep lets kernels touch nothing but the tensors that are
// named to it.
class Device {
 public:
#ifdef FASTLM_LOCKSTEP
  explicit Device(const Tensor&) {}
  void reads(const char* name, const Tensor& tensor) { add(name, tensor, false, false); }
  void writes(const char* name, const Tensor& tensor) { add(name, tensor, true, true); }
  void updates(const char* name, const Tensor& tensor) { add(name, tensor, true, false); }
  void* stream() const { return nullptr; }

 private:
  void add(const char* name, const Tensor& tensor, bool writable, bool poison) {
    const auto sizes = tensor.sizes(), strides = tensor.strides();
    regions_.add({name,
                  const_cast<void*>(tensor.const_data_ptr()),
                  static_cast<int64_t>(tensor.element_size()),
                  {sizes.begin(), sizes.end()},
                  {strides.begin(), strides.end()},
                  writable},
                 poison);
  }
  cuda::lockstep::Regions regions_;
#else
  explicit Device(const Tensor& tensor) : index_(tensor.get_device_index()), guard_(index_) {}
  void reads(const char*, const Tensor&) {}
  void writes(const char*, const Tensor&) {}
  void updates(const char*, const Tensor&) {}
  void* stream() const {
    void* stream = nullptr;
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(index_, &stream));
    return stream;
  }

 private:
  int32_t index_;
  torch::stable::accelerator::DeviceGuard guard_;
#endif
};

// Calls with a value of the kernels' element type.
template <class Body>
void by_dtype(int dtype, Body body) {
  switch (static_cast<DType>(dtype)) {
    case DType::kFloat32:
      return body(float{});
    case DType::kBFloat16:
      return body(BFloat16{});
    case DType::kHalf:
      return body(Half{});
  }
}

// The kernels count columns in 32 bits.
inline void check_columns(const char* name, int64_t columns) {
  constexpr int64_t kMost = int64_t{1} << 30;
  STD_TORCH_CHECK(columns <= kMost, name, ": rows of ", columns, " elements are more than the ", kMost,
                  " that CUDA kernels take");
}

}  // namespace fastlm
