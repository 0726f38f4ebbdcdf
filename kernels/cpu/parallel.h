// Rows dealt to threads by whoever calls: the kernels know no thread pool.
#pragma once

#include <algorithm>
#include <memory>

#include "kernels/cpu/kernels.h"

namespace fastlm::cpu {

// Calls body(b, e, context) for ranges that cover [begin, end), none shorter than grain but the last.
using ParallelFor = void (*)(int64_t begin, int64_t end, int64_t grain, void (*body)(int64_t, int64_t, void*),
                             void* context);

// Elements that are worth a thread.
inline constexpr int64_t kGrain = 32768;

template <class Params>
void for_rows(ParallelFor parallel_for, RowsKernel<Params> kernel, const Params& params) {
  if (params.rows == 0 || params.cols == 0) return;
  struct Context {
    RowsKernel<Params> kernel;
    const Params& params;
  } context{kernel, params};
  const auto body = [](int64_t begin, int64_t end, void* opaque) {
    const auto& [kernel, params] = *static_cast<Context*>(opaque);
    const std::unique_ptr<float[]> scratch(new float[scratch_floats(params.cols)]);
    kernel(params, begin, end, scratch.get());
  };
  parallel_for(0, params.rows, std::max<int64_t>(1, kGrain / params.cols), body, &context);
}

}  // namespace fastlm::cpu
