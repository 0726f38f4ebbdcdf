#include "kernels/cuda/logits_chunk.cuh"

namespace fastlm::cuda {

template void logits_chunk<Half>(const LogitsChunk&, Stream);

}  // namespace fastlm::cuda
