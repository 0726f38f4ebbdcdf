#include "kernels/cuda/logits_chunk.cuh"

namespace fastlm::cuda {

template void logits_chunk<BFloat16>(const LogitsChunk&, Stream);

}  // namespace fastlm::cuda
