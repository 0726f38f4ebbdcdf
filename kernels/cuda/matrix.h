// Copies and sums of matrices on a GPU: what csrc asks for beside products.
#pragma once

#include "kernels/params.h"

namespace fastlm::cuda {

template <class T>
void counted_rows(const CountedRows& params, void* stream);
template <class T>
void add_columns(const AddColumns& params, void* stream);
template <class From, class To>
void scale_matrix(const ScaleMatrix& params, void* stream);
void add_array(const AddArray& params, void* stream);

}  // namespace fastlm::cuda
