#include "kernels/cuda/cross_entropy.cuh"

namespace fastlm::cuda {

template void cross_entropy_forward<float>(const CrossEntropyForward&, Stream);
template void cross_entropy_backward<float>(const CrossEntropyBackward&, Stream);

}  // namespace fastlm::cuda
