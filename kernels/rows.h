// From a row number to its place in memory.
#pragma once

#include "kernels/params.h"

namespace fastlm {

// Merges neighbouring dimensions that one stride describes and drops those of size 1. False: still too many of them.
inline bool make_row_layout(int dims, const int64_t* sizes, const int64_t* strides, RowLayout* layout) {
  *layout = RowLayout{};
  for (int d = 0; d < dims; ++d) {
    if (sizes[d] == 1) continue;
    const int last = layout->dims - 1;
    if (last >= 0 && layout->strides[last] == sizes[d] * strides[d]) {
      layout->sizes[last] *= sizes[d];
      layout->strides[last] = strides[d];
      continue;
    }
    if (layout->dims == kMaxRowDims) return false;
    layout->sizes[layout->dims] = sizes[d];
    layout->strides[layout->dims] = strides[d];
    ++layout->dims;
  }
  return true;
}

}  // namespace fastlm
