// What kernels are asked to do, on a CPU or a GPU: plain structs, no torch.
#pragma once

#include <cstdint>

namespace fastlm {

struct BFloat16 {
  uint16_t bits;
};
struct Half {
  uint16_t bits;
};

enum class DType : int { kFloat32 = 0, kBFloat16 = 1, kHalf = 2 };
inline constexpr int kDTypes = 3;

// Where the rows of a tensor lie: the leading dimensions, merged where memory allows. Strides are in elements.
inline constexpr int kMaxRowDims = 8;
struct RowLayout {
  int dims = 0;
  int64_t sizes[kMaxRowDims] = {};
  int64_t strides[kMaxRowDims] = {};
};

// out = softmax(scale * x) over kept columns; out is contiguous. A row that the mask empties becomes zeros.
struct SoftmaxForward {
  int64_t rows, cols;
  const void* x;
  RowLayout x_rows;
  const uint8_t* mask;  // nullptr: keep everything; else nonzero = keep
  RowLayout mask_rows;
  bool mask_per_row;  // one mask byte decides about the whole row (last stride 0)
  float scale;
  void* out;
  bool stream;  // write around the caches: the output will not fit them anyway
};

// grad_x = scale * y * (grad_y - sum(grad_y * y)); grad_x is contiguous.
struct SoftmaxBackward {
  int64_t rows, cols;
  const void* grad_y;
  RowLayout grad_y_rows;
  const void* y;
  RowLayout y_rows;
  float scale;
  void* grad_x;
  bool stream;
};

struct CrossEntropyTargets {
  const int64_t* data;
  int64_t stride;
  int64_t ignore_index;
};

// Per row: log-sum-exp of the logits, and the loss. Ignored rows: loss 0. Targets outside [0, cols): loss NaN.
struct CrossEntropyForward {
  int64_t rows, cols;
  const void* logits;
  int64_t row_stride;
  CrossEntropyTargets targets;
  float label_smoothing;
  float* row_loss;  // (rows,)
  double* lse;      // (rows,)
};

// grad_logits = grad_row_loss * (softmax(logits) - smoothed one-hot target); grad_logits is contiguous.
struct CrossEntropyBackward {
  int64_t rows, cols;
  const void* logits;
  int64_t row_stride;
  CrossEntropyTargets targets;
  float label_smoothing;
  const float* grad_row_loss;
  int64_t grad_row_loss_stride;
  const double* lse;
  int64_t lse_stride;
  void* grad_logits;
  bool stream;
};

// (rows, heads, head_dim) with a contiguous last dimension; strides are in elements.
struct AttentionInput {
  const void* data;
  int64_t row_stride, head_stride;
};

// A number is dropped where its word of fastlm/ops/philox.py is below the threshold (0: none is), and the others are
// multiplied by keep_scale.
struct Dropout {
  uint64_t threshold;
  float keep_scale;
  uint64_t seed;
  const int64_t* seed_on_device;  // where a GPU finds the seed instead, which may change between runs; or nullptr
};

// What forward and backward have in common. Sequence b is rows [cu_seqlens[b], cu_seqlens[b + 1]), queries and keys
// each. Causal: query i of L_q sees the keys up to i + L_k - L_q. Dropout falls on the probabilities.
struct AttentionShape {
  int64_t sequences, heads, head_dim;
  int64_t rows_q, rows_k;  // those of no sequence included
  const int32_t *cu_seqlens_q, *cu_seqlens_k;
  int64_t max_seqlen_q, max_seqlen_k;
  AttentionInput q, k, v;
  bool causal;
  float scale;
  Dropout dropout;
};

// out (rows, heads, head_dim) is contiguous; lse (heads, rows) is that of the scaled scores, -infinity where a query
// sees no key, whose out is 0. Rows of no sequence are not written.
struct AttentionForward {
  AttentionShape shape;
  void* out;
  float* lse;
  int64_t lse_stride;
};

// grad_q, grad_k and grad_v are contiguous; rows of no sequence are not written. A GPU's kernels hand each other two
// numbers a query in `numbers` (heads, rows_q, 2).
struct AttentionBackward {
  AttentionShape shape;
  AttentionInput grad_out, out;
  const float* lse;
  int64_t lse_stride;
  void *grad_q, *grad_k, *grad_v;
  float* numbers;
};

// With a branch: x = residual + dropout(branch), y = norm(x). Without: x = residual, y = dropout(norm(x)).
// norm(x) = (x - mean) * rstd * weight + bias, with rstd = 1 / sqrt(variance + eps). Residual, weight, bias and x have
// one type, branch and y the other.
struct LayerNormForward {
  int64_t rows, cols;
  const void* residual;
  RowLayout residual_rows;
  const void* branch;  // nullptr: none
  RowLayout branch_rows;
  const void* weight;
  const void* bias;
  float eps;
  Dropout dropout;
  void* x;  // contiguous; with a branch only
  void* y;  // contiguous
  float* mean;
  float* rstd;
  bool stream_x, stream_y;
};

// Works on blocks of kNormBlock rows: their columns' sums for weight and bias are a block's own, so that the gradients
// do not depend on how blocks are dealt to threads.
inline constexpr int64_t kNormBlock = 64;
struct LayerNormBackward {
  int64_t rows, cols;
  const void* grad_y;
  RowLayout grad_y_rows;
  const void* grad_x;  // nullptr: nobody used x
  RowLayout grad_x_rows;
  const void* x;
  RowLayout x_rows;
  const void* weight;
  const float* mean;
  const float* rstd;
  Dropout dropout;
  void* grad_residual;  // contiguous
  void* grad_branch;    // contiguous; nullptr: there was none
  float* sums;          // (blocks, 2, cols): of grad_y * (x - mean) * rstd, and of grad_y
  bool stream_residual, stream_branch;
};

// The blocks' sums, added in their order, for a range of columns.
struct LayerNormSums {
  int64_t blocks, cols;
  const float* sums;
  void* grad_weight;
  void* grad_bias;
};

// Cross-entropy of one chunk of an output layer's products, which become their own gradient where they lie:
// logits = logits + bias; row_loss as above; row_correct: the target is the first of the largest logits (NaN is larger
// than all), false for ignored rows and targets outside [0, cols); then, where wanted, logits = grad_row_loss *
// (softmax(logits) - smoothed one-hot target), 0 in ignored rows, NaN for targets outside [0, cols). A GPU takes rows
// and bias in whole vectors: they begin at multiples of 16 bytes, and it reads and writes behind their ends up to one.
struct LogitsChunk {
  int64_t rows, cols;
  void* logits;
  int64_t row_stride;
  const void* bias;  // (cols,) or nullptr
  CrossEntropyTargets targets;
  float label_smoothing;
  bool want_gradient;
  const float* grad_row_loss;  // (rows,), or nullptr: all 1
  float* row_loss;             // (rows,)
  bool* row_correct;           // (rows,)
};

// out = x, but 0 in ignored rows, which are not read. out is contiguous.
struct CountedRows {
  int64_t rows, cols;
  const void* x;
  int64_t row_stride;
  CrossEntropyTargets targets;
  void* out;
};

// sum = x, or sum += x. Both are contiguous.
struct AddMatrix {
  int64_t rows, cols;
  const void* x;
  float* sum;
  bool first;   // sum holds nothing yet
  bool stream;  // only where first
};

// sum += x, both contiguous.
struct AddArray {
  int64_t count;
  const float* x;
  float* sum;
};

// out = factor * x, computed in fp32. Both are contiguous.
struct ScaleMatrix {
  int64_t rows, cols;
  const void* x;
  const float* factor;  // one, where x is: a host that reads a GPU's would wait for it
  void* out;
  bool stream;
};

// sums[c] += x[0, c] + x[1, c] + ... for a range of columns. A GPU sums slices of kColumnSlice rows, then the slices.
inline constexpr int64_t kColumnSlice = 256;
struct AddColumns {
  int64_t rows, cols;
  const void* x;
  int64_t row_stride;
  float* sums;
  float* slices;  // (slices, cols), on a GPU
};

// A list of tensors, cut into chunks of kTensorChunk elements; the last of a tensor may be shorter, an empty one has
// none. Tensor i has the chunks [first_chunk[i], first_chunk[i + 1]).
inline constexpr int64_t kTensorChunk = 4096;
struct TensorList {
  int64_t count;
  const int64_t* sizes;
  const int64_t* first_chunk;  // (count + 1,)
};

// One parameter with its state; all are contiguous.
struct AdamTensor {
  float* param;
  const float* grad;
  float* exp_avg;
  float* exp_avg_sq;
  float rate;         // lr / (1 - beta1^step)
  float root_factor;  // 1 / sqrt(1 - beta2^step)
};

// With g = grad_factor * grad + l2_decay * param:
//   exp_avg += share1 * (g - exp_avg)
//   exp_avg_sq = beta2 * exp_avg_sq + share2 * g^2
//   param = kept * param - rate * exp_avg / (root_factor * sqrt(exp_avg_sq) + eps)
// L2 decay has kept = 1, decoupled decay l2_decay = 0.
struct Adam {
  TensorList list;
  const AdamTensor* tensors;
  float grad_factor, l2_decay, kept;
  float share1, beta2, share2, eps;  // share1 = 1 - beta1, share2 = 1 - beta2
};

// sums[k] = the sum of the squares of chunk k.
struct Squares {
  TensorList list;
  const float* const* tensors;  // contiguous
  double* sums;                 // (chunks,)
};

}  // namespace fastlm
