#include "kernels/cuda/layer_norm.cuh"

namespace fastlm::cuda {

template void layer_norm_forward<float, Half>(const LayerNormForward&, Stream);
template void layer_norm_backward<float, Half>(const LayerNormBackward&, Stream);
template void layer_norm_forward<Half, Half>(const LayerNormForward&, Stream);
template void layer_norm_backward<Half, Half>(const LayerNormBackward&, Stream);
template void layer_norm_sums<Half>(const LayerNormSums&, Stream);

}  // namespace fastlm::cuda
