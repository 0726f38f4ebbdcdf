#include "kernels/cuda/matrix.cuh"

namespace fastlm::cuda {

template void counted_rows<BFloat16>(const CountedRows&, Stream);
template void add_columns<BFloat16>(const AddColumns&, Stream);
template void scale_matrix<BFloat16, float>(const ScaleMatrix&, Stream);
template void scale_matrix<BFloat16, BFloat16>(const ScaleMatrix&, Stream);
template void scale_matrix<BFloat16, Half>(const ScaleMatrix&, Stream);

}  // namespace fastlm::cuda
