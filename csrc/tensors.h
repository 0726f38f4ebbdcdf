// From torch tensors to the kernels' plain structs.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <cmath>
#include <optional>
#ifdef __linux__
#include <sys/mman.h>
#endif

#include "csrc/check.h"
#include "kernels/rows.h"

namespace fastlm {

inline int dtype_index(const char* name, const Tensor& tensor) {
  using torch::headeronly::ScalarType;
  switch (tensor.scalar_type()) {
    case ScalarType::Float:
      return static_cast<int>(DType::kFloat32);
    case ScalarType::BFloat16:
      return static_cast<int>(DType::kBFloat16);
    case ScalarType::Half:
      return static_cast<int>(DType::kHalf);
    default:
      STD_TORCH_CHECK(false, name, ": dtype ", torch::headeronly::toString(tensor.scalar_type()),
                      " is not supported; use float32, bfloat16 or float16");
  }
}

// The tensor itself where its last dimension is contiguous, else a contiguous copy.
inline Tensor rows_contiguous(const Tensor& tensor) {
  const int64_t last = tensor.dim() - 1;
  const bool contiguous = last < 0 || tensor.size(last) <= 1 || tensor.stride(last) == 1;
  return contiguous ? tensor : torch::stable::contiguous(tensor);
}

// Where the rows (all dimensions but the last) of `tensor` lie; replaces it by a contiguous copy in the rare case that
// more dimensions remain than a layout holds.
inline RowLayout row_layout(Tensor& tensor) {
  RowLayout layout;
  const int dims = static_cast<int>(tensor.dim()) - 1;
  if (!make_row_layout(dims, tensor.sizes().data(), tensor.strides().data(), &layout)) {
    tensor = torch::stable::contiguous(tensor);
    make_row_layout(dims, tensor.sizes().data(), tensor.strides().data(), &layout);
  }
  return layout;
}

// Whether the host may read a tensor. In lockstep it leaves that to the kernels, as it must for a GPU's tensors.
inline bool on_host(const Tensor& tensor) {
#ifdef FASTLM_LOCKSTEP
  return false;
#else
  return tensor.is_cpu();
#endif
}

// Words of Philox below round(p 2^32) drop, and the others are divided by the exact share that is kept.
// The seed is () int64, on the CPU or where the kernels run.
inline Dropout make_dropout(double p, const Tensor& seed) {
  STD_TORCH_CHECK(p >= 0.0 && p <= 1.0, "dropout_p: ", p, " is outside [0, 1]");
  const double threshold = std::nearbyint(p * 0x1p32), kept = 1.0 - threshold * 0x1p-32;
  check_dtype("dropout_seed", seed, torch::headeronly::ScalarType::Long);
  check_sizes("dropout_seed", seed, {});
  const auto* at = static_cast<const int64_t*>(seed.const_data_ptr());
  const bool readable = on_host(seed);
  return {static_cast<uint64_t>(threshold), kept > 0.0 ? static_cast<float>(1.0 / kept) : 0.0f,
          readable ? static_cast<uint64_t>(*at) : 0, readable ? nullptr : at};
}

// Outputs beyond this size leave the caches before anything reads them, and are written around them.
inline constexpr int64_t kStreamBytes = int64_t{8} << 20;
inline bool should_stream(const Tensor& out) {
  return out.numel() * static_cast<int64_t>(out.element_size()) >= kStreamBytes;
}

// An uninitialised contiguous tensor of like's device, and its dtype unless another is given. A CPU's allocator takes a
// large one fresh from the system, and touching it in 4 KiB pages costs several times what writing it does: huge pages
// are asked for where there are any.
inline Tensor new_output(const Tensor& like, torch::headeronly::IntHeaderOnlyArrayRef sizes,
                         std::optional<torch::headeronly::ScalarType> dtype = std::nullopt) {
  Tensor out = torch::stable::new_empty(like, sizes, dtype);
#ifdef __linux__
  if (out.is_cpu() && should_stream(out)) {
    constexpr uintptr_t kPage = 4096;
    const auto begin = (reinterpret_cast<uintptr_t>(out.mutable_data_ptr()) + kPage - 1) / kPage * kPage;
    const auto end = reinterpret_cast<uintptr_t>(out.mutable_data_ptr()) + out.numel() * out.element_size();
    madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
  }
#endif
  return out;
}
// The same of like's shape.
inline Tensor new_output(const Tensor& like, std::optional<torch::headeronly::ScalarType> dtype = std::nullopt) {
  return new_output(like, like.sizes(), dtype);
}

}  // namespace fastlm
