// The CPU kernels in use, and the threads that they run on.
#pragma once

#include "csrc/tensors.h"
#include "kernels/cpu/isa.h"
#include "kernels/cpu/parallel.h"

namespace fastlm {

// The kernels in use: FASTLM_CPU_ISA's choice, else the fastest here. Throws where FASTLM_CPU_ISA cannot be met.
const cpu::KernelTable& kernels();

// torch's thread pool.
inline void parallel_for(int64_t begin, int64_t end, int64_t grain, void (*body)(int64_t, int64_t, void*),
                         void* context) {
  torch::stable::parallel_for(begin, end, grain, [&](int64_t b, int64_t e) { body(b, e, context); });
}

}  // namespace fastlm
