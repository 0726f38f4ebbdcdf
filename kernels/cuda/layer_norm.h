// LayerNorm closing a residual sum, on a GPU: what csrc asks for. R is the type of residual, weight, bias and x, T that
// of branch and y.
#pragma once

#include "kernels/params.h"

namespace fastlm::cuda {

// Rows whose sums for weight and bias are added before they are written: few enough that many blocks share the work,
// enough that their bytes are few beside the rows'.
inline constexpr int64_t kNormSlice = 32;

template <class R, class T>
void layer_norm_forward(const LayerNormForward& params, void* stream);
// params.sums is of slices of kNormSlice rows.
template <class R, class T>
void layer_norm_backward(const LayerNormBackward& params, void* stream);
template <class R>
void layer_norm_sums(const LayerNormSums& params, void* stream);

}  // namespace fastlm::cuda
