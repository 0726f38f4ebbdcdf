#include "kernels/cuda/layer_norm.cuh"

namespace fastlm::cuda {

template void layer_norm_forward<float, BFloat16>(const LayerNormForward&, Stream);
template void layer_norm_backward<float, BFloat16>(const LayerNormBackward&, Stream);
template void layer_norm_forward<BFloat16, BFloat16>(const LayerNormForward&, Stream);
template void layer_norm_backward<BFloat16, BFloat16>(const LayerNormBackward&, Stream);
template void layer_norm_sums<BFloat16>(const LayerNormSums&, Stream);

}  // namespace fastlm::cuda
