#include "kernels/cuda/cross_entropy.cuh"

namespace fastlm::cuda {

template void cross_entropy_forward<Half>(const CrossEntropyForward&, Stream);
template void cross_entropy_backward<Half>(const CrossEntropyBackward&, Stream);

}  // namespace fastlm::cuda
