#include "kernels/cuda/softmax.cuh"

namespace fastlm::cuda {

template void softmax_forward<Half>(const SoftmaxForward&, Stream);
template void softmax_backward<Half>(const SoftmaxBackward&, Stream);

}  // namespace fastlm::cuda
