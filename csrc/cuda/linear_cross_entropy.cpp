// fastlm::linear_cross_entropy_forward, _backward and _scaled on a GPU; csrc/linear_cross_entropy.h has what is not of
// a GPU. All rows are multiplied: to leave out ignored ones, the host would have to wait for their number.
#include "csrc/linear_cross_entropy.h"

#include "csrc/cuda/device.h"
#include "csrc/cuda/products.h"
#include "kernels/cuda/logits_chunk.h"
#include "kernels/cuda/matrix.h"

namespace fastlm {
namespace {

using torch::headeronly::ScalarType;

class GpuRows {
 public:
  static constexpr bool kEveryRow = true;
  struct Chunk {
    Tensor hidden, logits;
    Tensor padded_logits;  // whose first columns logits are
  };

  GpuRows(const Head& head, const Tensor* grad_row_loss) : head_(head), grad_row_loss_(grad_row_loss) {
    if (!head.bias) return;
    const int64_t classes = head.weight.size(0);
    bias_ = torch::stable::pad(*head.bias, {0, whole_vectors(classes) - classes});
  }

  int64_t count() const { return head_.hidden.size(0); }
  static int64_t row_step(ScalarType) { return 1; }

  // Rows of logits begin at vectors, which kernels and products read at once whatever the number of classes.
  Chunk new_chunk(int64_t rows) const {
    const Tensor& hidden = head_.hidden;
    const int64_t classes = head_.weight.size(0);
    Tensor padded = new_output(hidden, {rows, whole_vectors(classes)});
    return {new_output(hidden, {rows, hidden.size(1)}), torch::stable::narrow(padded, 1, 0, classes), padded};
  }

  // A copy with 0 where a row is ignored: 0 times what the caller has there may be NaN.
  Chunk take(const Chunk& buffers, int64_t first, int64_t count) const {
    const Chunk chunk{some_rows(buffers.hidden, 0, count), some_rows(buffers.logits, 0, count),
                      some_rows(buffers.padded_logits, 0, count)};
    if (chunk.hidden.numel() == 0) return chunk;
    const Tensor hidden = some_rows(head_.hidden, first, count), targets = some_rows(head_.targets, first, count);
    CountedRows params{};
    params.rows = count;
    params.cols = hidden.size(1);
    params.x = hidden.const_data_ptr();
    params.row_stride = hidden.stride(0);
    params.targets = view(targets);
    params.out = chunk.hidden.mutable_data_ptr();
    Device device(hidden);
    device.reads("hidden", hidden);
    device.reads("targets", targets);
    device.writes("counted_rows", chunk.hidden);
    by_dtype(dtype_index("hidden", hidden), [&](auto t) { cuda::counted_rows<decltype(t)>(params, device.stream()); });
    return chunk;
  }

  static void multiply(const Tensor& a, const Tensor& b, const Tensor& out) { fastlm::multiply(a, b, out); }
  static void multiply_add(const Tensor& a, const Tensor& b, const Tensor& out) { fastlm::multiply_add(a, b, out); }

  void losses(const Chunk& chunk, int64_t first, int64_t count, bool want_gradient, const Results& results) const {
    const Tensor targets = some_rows(head_.targets, first, count);
    const Tensor row_loss = some_rows(results.row_loss, first, count);
    const Tensor row_correct = some_rows(results.row_correct, first, count);
    Device device(chunk.logits);
    LogitsChunk params{};
    params.rows = count;
    params.cols = chunk.logits.size(1);
    params.logits = chunk.logits.mutable_data_ptr();
    params.row_stride = chunk.logits.stride(0);
    params.targets = view(targets);
    params.label_smoothing = static_cast<float>(head_.label_smoothing);
    params.want_gradient = want_gradient;
    params.row_loss = static_cast<float*>(row_loss.mutable_data_ptr());
    params.row_correct = static_cast<bool*>(row_correct.mutable_data_ptr());
    device.updates("logits", chunk.padded_logits);
    device.reads("targets", targets);
    device.writes("row_loss", row_loss);
    device.writes("row_correct", row_correct);
    if (bias_) {
      params.bias = bias_->const_data_ptr();
      device.reads("bias", *bias_);
    }
    if (grad_row_loss_ != nullptr) {
      const Tensor grads = some_rows(*grad_row_loss_, first, count);
      params.grad_row_loss = static_cast<const float*>(grads.const_data_ptr());
      device.reads("grad_row_loss", grads);
    }
    by_dtype(dtype_index("hidden", chunk.logits),
             [&](auto t) { cuda::logits_chunk<decltype(t)>(params, device.stream()); });
  }

  void hidden_gradient(const Chunk& chunk, int64_t first, int64_t count, const Tensor& grad_hidden) const {
    multiply(chunk.logits, head_.weight, some_rows(grad_hidden, first, count));
  }

  static void add_product(const Tensor& a, const Tensor& b, bool is_first, const Tensor& sum) {
    if (is_first) return multiply_to_float(a, b, sum);
    const Tensor product = new_output(sum);
    multiply_to_float(a, b, product);
    if (sum.numel() == 0) return;
    AddArray params{};
    params.count = sum.numel();
    params.x = static_cast<const float*>(product.const_data_ptr());
    params.sum = static_cast<float*>(sum.mutable_data_ptr());
    Device device(sum);
    device.reads("product", product);
    device.updates("sum", sum);
    cuda::add_array(params, device.stream());
  }

  static void add_columns(const Tensor& logits, const Tensor& sums) {
    const int64_t rows = logits.size(0), cols = logits.size(1);
    const Tensor slices = new_output(sums, {ceil_div(rows, kColumnSlice), cols});
    AddColumns params{};
    params.rows = rows;
    params.cols = cols;
    params.x = logits.const_data_ptr();
    params.row_stride = logits.stride(0);
    params.sums = static_cast<float*>(sums.mutable_data_ptr());
    params.slices = static_cast<float*>(slices.mutable_data_ptr());
    Device device(logits);
    device.reads("logits", logits);
    device.updates("sums", sums);
    device.writes("slices", slices);
    by_dtype(dtype_index("hidden", logits), [&](auto t) { cuda::add_columns<decltype(t)>(params, device.stream()); });
  }

 private:
  CrossEntropyTargets view(const Tensor& targets) const {
    return {static_cast<const int64_t*>(targets.const_data_ptr()), targets.stride(0), head_.ignore_index};
  }

  int64_t whole_vectors(int64_t elements) const {
    const int64_t vector = 16 / static_cast<int64_t>(head_.hidden.element_size());
    return ceil_div(elements, vector) * vector;
  }

  const Head& head_;
  const Tensor* grad_row_loss_;
  std::optional<Tensor> bias_;
};

Results walk_on_gpu(const Head& head, const Wanted& wanted, const Tensor* grad_row_loss) {
  check_columns("weight", head.weight.size(0));
  check_columns("hidden", head.hidden.size(1));
  return walk<GpuRows>(head, wanted, grad_row_loss);
}

Tensor linear_cross_entropy_scaled(const Tensor& x, const Tensor& factor, ScalarType dtype) {
  const ScaledCall call(x, factor, dtype);
  if (call.out.numel() == 0) return call.out;
  Device device(call.x);
  device.reads("x", call.x);
  device.reads("factor", call.factor);
  device.writes("out", call.out);
  by_dtype(call.from, [&](auto from) {
    by_dtype(call.to, [&](auto to) { cuda::scale_matrix<decltype(from), decltype(to)>(call.params, device.stream()); });
  });
  return call.out;
}

}  // namespace

FASTLM_CUDA_LIBRARY(m) {
  m.impl("linear_cross_entropy_forward", TORCH_BOX(&linear_cross_entropy_forward<walk_on_gpu>));
  m.impl("linear_cross_entropy_backward", TORCH_BOX(&linear_cross_entropy_backward<walk_on_gpu>));
  m.impl("linear_cross_entropy_scaled", TORCH_BOX(&linear_cross_entropy_scaled));
}

}  // namespace fastlm
