// Softmax on a GPU: what csrc asks for.
#pragma once

#include "kernels/params.h"

namespace fastlm::cuda {

template <class T>
void softmax_forward(const SoftmaxForward& params, void* stream);
template <class T>
void softmax_backward(const SoftmaxBackward& params, void* stream);

}  // namespace fastlm::cuda
