#include "kernels/cuda/cross_entropy.cuh"

namespace fastlm::cuda {

template void cross_entropy_forward<BFloat16>(const CrossEntropyForward&, Stream);
template void cross_entropy_backward<BFloat16>(const CrossEntropyBackward&, Stream);

}  // namespace fastlm::cuda
