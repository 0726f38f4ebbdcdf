#include "kernels/cuda/softmax.cuh"

namespace fastlm::cuda {

template void softmax_forward<float>(const SoftmaxForward&, Stream);
template void softmax_backward<float>(const SoftmaxBackward&, Stream);

}  // namespace fastlm::cuda
