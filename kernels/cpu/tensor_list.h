// Walks the chunks of a list of tensors.
#pragma once

#include "kernels/cpu/kernels.h"

namespace fastlm::cpu::FASTLM_ISA {

// body(tensor, first, n, chunk) for the chunks [begin, end): each is elements [first, first + n) of one tensor.
template <class Body>
inline __attribute__((always_inline)) void for_each_chunk(const TensorList& list, int64_t begin, int64_t end,
                                                          Body&& body) {
  int64_t tensor = 0;
  for (int64_t chunk = begin; chunk < end; ++chunk) {
    while (list.first_chunk[tensor + 1] <= chunk) ++tensor;
    const int64_t first = (chunk - list.first_chunk[tensor]) * kTensorChunk;
    const int64_t rest = list.sizes[tensor] - first;
    body(tensor, first, rest < kTensorChunk ? rest : kTensorChunk, chunk);
  }
}

}  // namespace fastlm::cpu::FASTLM_ISA
