// The squares of a list of tensors, summed chunk by chunk, so that the sum does not depend on who computed which.
#pragma once

#include "kernels/cpu/reduce.h"
#include "kernels/cpu/tensor_list.h"

namespace fastlm::cpu::FASTLM_ISA {

inline void squares(const Squares& p, int64_t begin, int64_t end, float*) {
  for_each_chunk(p.list, begin, end, [&](int64_t tensor, int64_t first, int64_t n, int64_t chunk) {
    const float* const x = p.tensors[tensor] + first;
    Sum sum;
    for_each_vector(n, [&](int64_t i, auto lanes, int slot) {
      const Vec value = load(x + i, lanes);
      sum.slots[slot] = fma(value, value, sum.slots[slot]);
    });
    p.sums[chunk] = sum.total();
  });
}

}  // namespace fastlm::cpu::FASTLM_ISA
