#include "kernels/cuda/softmax.cuh"

namespace fastlm::cuda {

template void softmax_forward<BFloat16>(const SoftmaxForward&, Stream);
template void softmax_backward<BFloat16>(const SoftmaxBackward&, Stream);

}  // namespace fastlm::cuda
