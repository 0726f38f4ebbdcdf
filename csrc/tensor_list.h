// From lists of tensors to the kernels' chunks.
#pragma once

#include <vector>

#include "csrc/cpu/run.h"

namespace fastlm {

// Owns what a TensorList points to.
struct ChunkedList {
  std::vector<int64_t> sizes, first_chunk{0};

  explicit ChunkedList(const std::vector<Tensor>& tensors) {
    for (const Tensor& tensor : tensors) {
      sizes.push_back(tensor.numel());
      first_chunk.push_back(first_chunk.back() + (sizes.back() + kTensorChunk - 1) / kTensorChunk);
    }
  }
  TensorList view() const { return {static_cast<int64_t>(sizes.size()), sizes.data(), first_chunk.data()}; }
  int64_t chunks() const { return first_chunk.back(); }
};

// "params[3]", for errors.
inline std::string item(const char* list, size_t i) { return std::string(list) + "[" + std::to_string(i) + "]"; }

}  // namespace fastlm
