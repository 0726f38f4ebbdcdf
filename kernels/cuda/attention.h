// Attention over packed sequences on a GPU: what csrc asks for.
#pragma once

#include "kernels/params.h"

namespace fastlm::cuda {

// The largest head_dim; any multiple of 8 up to it is taken.
inline constexpr int64_t kMostHeadDim = 128;

// Unlike the CPU's kernels these write every row: 0 (log-sum-exp -infinity) where it belongs to no sequence. Inputs are
// aligned to 16 bytes, row by row and head by head. Made for head dims up to kWidth.
template <class T, int kWidth>
void attention_forward(const AttentionForward& params, void* stream);

template <class T, int kWidth>
void attention_backward(const AttentionBackward& params, void* stream);

}  // namespace fastlm::cuda
