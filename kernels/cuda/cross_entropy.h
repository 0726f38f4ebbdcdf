// Cross-entropy on a GPU: what csrc asks for.
#pragma once

#include "kernels/params.h"

namespace fastlm::cuda {

template <class T>
void cross_entropy_forward(const CrossEntropyForward& params, void* stream);
template <class T>
void cross_entropy_backward(const CrossEntropyBackward& params, void* stream);

}  // namespace fastlm::cuda
