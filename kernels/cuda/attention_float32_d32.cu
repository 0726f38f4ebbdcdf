#include "kernels/cuda/attention_backward.cuh"
#include "kernels/cuda/attention_forward.cuh"

namespace fastlm::cuda {

template void attention_forward<float, 32>(const AttentionForward&, Stream);
template void attention_backward<float, 32>(const AttentionBackward&, Stream);

}  // namespace fastlm::cuda
