#include "kernels/cuda/logits_chunk.cuh"

namespace fastlm::cuda {

template void logits_chunk<float>(const LogitsChunk&, Stream);

}  // namespace fastlm::cuda
