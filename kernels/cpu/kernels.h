// What the CPU kernels look like from outside: one table of functions per instruction set.
//
// The same kernel source (softmax.h, attention.h, ...) is compiled once per instruction set, each time in a namespace
// of its own (isa_*.cpp); callers see only this file. Every kernel works on a range of rows, or of heads of sequences,
// and never looks outside it, so the result does not depend on how they are dealt to threads.
#pragma once

#include "kernels/params.h"

namespace fastlm::cpu {

// Computes items [begin, end), item = sequence * heads + head; scratch holds as many floats as the table's
// attention_*_scratch tells and belongs to this call alone.
template <class Params>
using HeadsKernel = void (*)(const Params& params, int64_t begin, int64_t end, float* scratch);

// Computes rows [begin, end), or blocks, chunks or columns; scratch holds scratch_floats(params) floats, aligned to a
// cache line, and belongs to this call alone.
template <class Params>
using RowsKernel = void (*)(const Params& params, int64_t begin, int64_t end, float* scratch);

// A row is worked through in chunks that stay in the first-level cache.
inline constexpr int64_t kChunk = 2048;

// Dropout is drawn for this many columns at a time.
inline constexpr int64_t kDropoutBlock = 64;

// One float per column and one per chunk.
template <class Params>
int64_t scratch_floats(const Params& params) {
  return params.cols + (params.cols + kChunk - 1) / kChunk;
}
// Two rows of exponentials, the first up to a whole cache line.
inline int64_t scratch_floats(const SoftmaxForward& params) {
  return 2 * (params.cols + (params.cols + kChunk - 1) / kChunk) + 16;
}
// A row and its dropout, each up to a whole block.
inline int64_t scratch_floats(const LayerNormForward& params) { return 2 * (params.cols + kDropoutBlock - 1); }
inline int64_t scratch_floats(const LayerNormBackward& params) { return 2 * (params.cols + kDropoutBlock - 1); }
inline int64_t scratch_floats(const LayerNormSums&) { return 0; }
inline int64_t scratch_floats(const AddMatrix&) { return 0; }
inline int64_t scratch_floats(const ScaleMatrix&) { return 0; }
inline int64_t scratch_floats(const Adam&) { return 0; }
inline int64_t scratch_floats(const Squares&) { return 0; }

struct KernelTable {
  const char* isa;
  RowsKernel<SoftmaxForward> softmax_forward[kDTypes];
  RowsKernel<SoftmaxBackward> softmax_backward[kDTypes];
  RowsKernel<CrossEntropyForward> cross_entropy_forward[kDTypes];
  RowsKernel<CrossEntropyBackward> cross_entropy_backward[kDTypes];
  HeadsKernel<AttentionForward> attention_forward[kDTypes];
  HeadsKernel<AttentionBackward> attention_backward[kDTypes];
  int64_t (*attention_forward_scratch)(const AttentionShape& shape);
  int64_t (*attention_backward_scratch)(const AttentionShape& shape);
  // By the types of residual and branch. Only a float residual takes a branch of another type; the rest is nullptr.
  RowsKernel<LayerNormForward> layer_norm_forward[kDTypes][kDTypes];
  RowsKernel<LayerNormBackward> layer_norm_backward[kDTypes][kDTypes];
  RowsKernel<LayerNormSums> layer_norm_sums[kDTypes];
  RowsKernel<LogitsChunk> logits_chunk[kDTypes];
  RowsKernel<AddMatrix> add_matrix[kDTypes];
  RowsKernel<ScaleMatrix> scale_matrix[kDTypes][kDTypes];  // x's dtype, out's
  RowsKernel<AddColumns> add_columns[kDTypes];
  RowsKernel<Adam> adam;
  RowsKernel<Squares> squares;
  // The exponentials that the kernels of each type use, so that their error can be measured.
  void (*exp[kDTypes])(const float* x, float* y, int64_t n);
  void (*exp2[kDTypes])(const float* t, float* y, int64_t n);
};

}  // namespace fastlm::cpu
