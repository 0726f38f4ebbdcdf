#include "kernels/cuda/layer_norm.cuh"

namespace fastlm::cuda {

template void layer_norm_forward<float, float>(const LayerNormForward&, Stream);
template void layer_norm_backward<float, float>(const LayerNormBackward&, Stream);
template void layer_norm_sums<float>(const LayerNormSums&, Stream);

}  // namespace fastlm::cuda
