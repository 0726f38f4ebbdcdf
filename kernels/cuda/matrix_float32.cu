#include "kernels/cuda/matrix.cuh"

namespace fastlm::cuda {

template void counted_rows<float>(const CountedRows&, Stream);
template void add_columns<float>(const AddColumns&, Stream);
template void scale_matrix<float, float>(const ScaleMatrix&, Stream);
template void scale_matrix<float, BFloat16>(const ScaleMatrix&, Stream);
template void scale_matrix<float, Half>(const ScaleMatrix&, Stream);

void add_array(const AddArray& params, Stream stream) {
  launch<AddArrayKernel>(ArrayShare::blocks(params.count), 1, 0, stream, params);
}

}  // namespace fastlm::cuda
