#include "kernels/cpu/isa.h"

#include <cstring>

namespace fastlm::cpu {
namespace {

// __builtin_cpu_supports also asks whether the operating system saves the wide registers.
const Isa kIsas[] = {
    {&portable::kTable, [] { return true; }},
#if FASTLM_X86
    {&avx2::kTable,
     [] { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c"); }},
    {&avx512::kTable,
     [] {
       return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
              __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
     }},
    {&avx512_bf16::kTable,
     [] {
       return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
              __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
              __builtin_cpu_supports("avx512bf16");
     }},
#endif
};

}  // namespace

const Isa* begin_isas() { return kIsas; }
const Isa* end_isas() { return kIsas + sizeof(kIsas) / sizeof(kIsas[0]); }

const KernelTable* best_kernels() {
  const Isa* isa = end_isas() - 1;
  while (!isa->supported()) --isa;
  return isa->table;
}

const KernelTable* find_kernels(const char* name) {
  for (const Isa* isa = begin_isas(); isa != end_isas(); ++isa)
    if (std::strcmp(isa->table->isa, name) == 0) return isa->supported() ? isa->table : nullptr;
  return nullptr;
}

}  // namespace fastlm::cpu
