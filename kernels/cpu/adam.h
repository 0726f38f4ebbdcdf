// Adam's update of all parameters in one pass over memory: four reads and three writes an element, whatever clips the
// gradients.
#pragma once

#include "kernels/cpu/reduce.h"
#include "kernels/cpu/tensor_list.h"

namespace fastlm::cpu::FASTLM_ISA {

inline void adam(const Adam& p, int64_t begin, int64_t end, float*) {
  const Vec grad_factor = splat(p.grad_factor), l2_decay = splat(p.l2_decay), kept = splat(p.kept);
  const Vec share1 = splat(p.share1), beta2 = splat(p.beta2), share2 = splat(p.share2), eps = splat(p.eps);
  for_each_chunk(p.list, begin, end, [&](int64_t tensor, int64_t first, int64_t n, int64_t) {
    const AdamTensor& t = p.tensors[tensor];
    float* const param = t.param + first;
    float* const exp_avg = t.exp_avg + first;
    float* const exp_avg_sq = t.exp_avg_sq + first;
    const float* const grad = t.grad + first;
    const Vec rate = splat(t.rate), root_factor = splat(t.root_factor);
    for_each_vector(n, [&](int64_t i, auto lanes, int) {
      const Vec weight = load(param + i, lanes);
      const Vec g = fma(weight, l2_decay, load(grad + i, lanes) * grad_factor);
      const Vec mean = load(exp_avg + i, lanes);
      const Vec m = fma(g - mean, share1, mean);
      const Vec v = fma(load(exp_avg_sq + i, lanes), beta2, g * g * share2);
      store(exp_avg + i, m, lanes);
      store(exp_avg_sq + i, v, lanes);
      const Vec step = rate * m / fma(sqrt(v), root_factor, eps);
      store(param + i, weight * kept - step, lanes);
    });
  });
}

}  // namespace fastlm::cpu::FASTLM_ISA
