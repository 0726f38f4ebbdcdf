// The table of one instruction set; included last by each isa_*.cpp.
#pragma once

#include "kernels/cpu/adam.h"
#include "kernels/cpu/attention.h"
#include "kernels/cpu/layer_norm.h"
#include "kernels/cpu/linear_cross_entropy.h"
#include "kernels/cpu/softmax.h"
#include "kernels/cpu/total_norm.h"

namespace fastlm::cpu::FASTLM_ISA {

template <class T>
void exp_array(const float* x, float* y, int64_t n) {
  for_each_vector(n, [&](int64_t i, auto lanes, int) { store(y + i, exp<T>(load(x + i, lanes)), lanes); });
}

template <class T>
void exp2_array(const float* t, float* y, int64_t n) {
  for_each_vector(n, [&](int64_t i, auto lanes, int) { store(y + i, exp2<T>(load(t + i, lanes)), lanes); });
}

#define FASTLM_STRING_(name) #name
#define FASTLM_STRING(name) FASTLM_STRING_(name)
#define FASTLM_PER_DTYPE(kernel) {&kernel<float>, &kernel<BFloat16>, &kernel<Half>}
#define FASTLM_PER_DTYPES(kernel)                                            \
  {                                                                          \
    {&kernel<float, float>, &kernel<float, BFloat16>, &kernel<float, Half>}, \
        {nullptr, &kernel<BFloat16, BFloat16>, nullptr}, {                   \
      nullptr, nullptr, &kernel<Half, Half>                                  \
    }                                                                        \
  }

extern const KernelTable kTable;
const KernelTable kTable = {
    FASTLM_STRING(FASTLM_ISA),
    FASTLM_PER_DTYPE(softmax_forward),
    FASTLM_PER_DTYPE(softmax_backward),
    FASTLM_PER_DTYPE(cross_entropy_forward),
    FASTLM_PER_DTYPE(cross_entropy_backward),
    FASTLM_PER_DTYPE(attention_forward),
    FASTLM_PER_DTYPE(attention_backward),
    &attention_forward_scratch,
    &attention_backward_scratch,
    FASTLM_PER_DTYPES(layer_norm_forward),
    FASTLM_PER_DTYPES(layer_norm_backward),
    FASTLM_PER_DTYPE(layer_norm_sums),
    FASTLM_PER_DTYPE(logits_chunk),
    FASTLM_PER_DTYPE(add_matrix),
    {FASTLM_PER_DTYPE(ScaleFrom<float>::matrix), FASTLM_PER_DTYPE(ScaleFrom<BFloat16>::matrix),
     FASTLM_PER_DTYPE(ScaleFrom<Half>::matrix)},
    FASTLM_PER_DTYPE(add_columns),
    &adam,
    &squares,
    FASTLM_PER_DTYPE(exp_array),
    FASTLM_PER_DTYPE(exp2_array),
};

}  // namespace fastlm::cpu::FASTLM_ISA
