#include "kernels/cuda/matrix.cuh"

namespace fastlm::cuda {

template void counted_rows<Half>(const CountedRows&, Stream);
template void add_columns<Half>(const AddColumns&, Stream);
template void scale_matrix<Half, float>(const ScaleMatrix&, Stream);
template void scale_matrix<Half, BFloat16>(const ScaleMatrix&, Stream);
template void scale_matrix<Half, Half>(const ScaleMatrix&, Stream);

}  // namespace fastlm::cuda
