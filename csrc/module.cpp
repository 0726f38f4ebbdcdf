// What the library says about itself, and the choice of its instruction set.
#include <torch/csrc/stable/library.h>

#include <atomic>
#include <cstdlib>
#include <string>

#include "csrc/cpu/run.h"

namespace fastlm {
namespace {

std::string names(bool supported_only) {
  std::string text;
  for (const cpu::Isa* isa = cpu::begin_isas(); isa != cpu::end_isas(); ++isa)
    if (!supported_only || isa->supported()) text += (text.empty() ? "" : " ") + std::string(isa->table->isa);
  return text;
}

const cpu::KernelTable* require(const std::string& name) {
  const cpu::KernelTable* table = cpu::find_kernels(name.c_str());
  STD_TORCH_CHECK(table != nullptr, "FASTLM_CPU_ISA: '", name, "' is not available; this build and processor have ",
                  names(true));
  return table;
}

const cpu::KernelTable* from_environment() {
  const char* wanted = std::getenv("FASTLM_CPU_ISA");
  return wanted == nullptr || *wanted == '\0' ? cpu::best_kernels() : require(wanted);
}

std::atomic<const cpu::KernelTable*> chosen{nullptr};

std::string cpu_isa() { return kernels().isa; }
std::string cpu_isas_built() { return names(false); }
std::string cpu_isas_supported() { return names(true); }
void set_cpu_isa(std::string name) { chosen = name.empty() ? from_environment() : require(name); }

}  // namespace

const cpu::KernelTable& kernels() {
  if (chosen.load(std::memory_order_acquire) == nullptr) chosen = from_environment();
  return *chosen.load(std::memory_order_acquire);
}

STABLE_TORCH_LIBRARY_FRAGMENT(fastlm, m) {
  m.def("cpu_isa() -> str");             // the one in use
  m.def("cpu_isas_built() -> str");      // compiled, from the most portable to the fastest, by spaces
  m.def("cpu_isas_supported() -> str");  // of those, what this machine runs
  m.def("set_cpu_isa(str name) -> ()");  // for tests and benchmarks; "" returns to FASTLM_CPU_ISA or the fastest
}

STABLE_TORCH_LIBRARY_IMPL(fastlm, CompositeExplicitAutograd, m) {
  m.impl("cpu_isa", TORCH_BOX(&cpu_isa));
  m.impl("cpu_isas_built", TORCH_BOX(&cpu_isas_built));
  m.impl("cpu_isas_supported", TORCH_BOX(&cpu_isas_supported));
  m.impl("set_cpu_isa", TORCH_BOX(&set_cpu_isa));
}

}  // namespace fastlm
