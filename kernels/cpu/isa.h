// The instruction sets that the kernels were compiled for, and the choice between them at run time.
#pragma once

#include "kernels/cpu/kernels.h"

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define FASTLM_X86 1
#else
#define FASTLM_X86 0
#endif

namespace fastlm::cpu {

namespace portable {
extern const KernelTable kTable;
}
#if FASTLM_X86
namespace avx2 {
extern const KernelTable kTable;
}
namespace avx512 {
extern const KernelTable kTable;
}
namespace avx512_bf16 {
extern const KernelTable kTable;
}
#endif

struct Isa {
  const KernelTable* table;
  bool (*supported)();
};

// From the most portable to the fastest.
const Isa* begin_isas();
const Isa* end_isas();

// The fastest that this processor and operating system support.
const KernelTable* best_kernels();

// The named one; nullptr where it is unknown, was not compiled or is not supported here.
const KernelTable* find_kernels(const char* name);

}  // namespace fastlm::cpu
