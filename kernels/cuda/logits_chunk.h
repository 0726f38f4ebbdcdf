// The loss pass over a chunk of logits on a GPU: what csrc asks for.
#pragma once

#include "kernels/params.h"

namespace fastlm::cuda {

template <class T>
void logits_chunk(const LogitsChunk& params, void* stream);

}  // namespace fastlm::cuda
