#include "kernels/cuda/attention_backward.cuh"
#include "kernels/cuda/attention_forward.cuh"

namespace fastlm::cuda {

template void attention_forward<Half, 128>(const AttentionForward&, Stream);
template void attention_backward<Half, 128>(const AttentionBackward&, Stream);

}  // namespace fastlm::cuda
