// fastlm::linear_cross_entropy_forward, _backward and _scaled on the CPU, which multiplies the rows that count alone;
// csrc/linear_cross_entropy.h has what is not of a CPU.
#include "csrc/linear_cross_entropy.h"

#include <torch/csrc/inductor/aoti_torch/generated/c_shim_cpu.h>
#include <torch/csrc/stable/library.h>

#include <cstring>
#include <memory>
#include <vector>

#include "csrc/cpu/run.h"

namespace fastlm {
namespace {

using torch::headeronly::ScalarType;

int64_t row_bytes(const Tensor& tensor) { return tensor.size(1) * static_cast<int64_t>(tensor.element_size()); }

// The rows `rows` of a tensor into the first ones of a contiguous one, and 0 into its others.
void gather(const Tensor& from, const int64_t* rows, int64_t count, const Tensor& to) {
  const int64_t bytes = row_bytes(to), pitch = from.stride(0) * static_cast<int64_t>(from.element_size());
  const char* const source = static_cast<const char*>(from.const_data_ptr());
  char* const target = static_cast<char*>(to.mutable_data_ptr());
  for (int64_t i = 0; i < count; ++i) std::memcpy(target + i * bytes, source + rows[i] * pitch, bytes);
  std::memset(target + count * bytes, 0, (to.size(0) - count) * bytes);
}

// The first rows of a tensor to the rows `rows` of another; both are contiguous.
void scatter(const Tensor& from, const int64_t* rows, int64_t count, const Tensor& to) {
  const int64_t bytes = row_bytes(to);
  const char* const source = static_cast<const char*>(from.const_data_ptr());
  char* const target = static_cast<char*>(to.mutable_data_ptr());
  for (int64_t i = 0; i < count; ++i) std::memcpy(target + rows[i] * bytes, source + i * bytes, bytes);
}

// ---- the rows that count -------------------------------------------------------------------------------------------
constexpr int64_t kProductBytes = int64_t{4} << 20;  // of the weight's gradient, that stay in the last-level cache

class CpuRows {
 public:
  static constexpr bool kEveryRow = false;
  struct Chunk {
    Tensor hidden, logits, grad_hidden;
  };

  CpuRows(const Head& head, const Tensor* grad_row_loss) : head_(head) {
    const auto* const targets = static_cast<const int64_t*>(head.targets.const_data_ptr());
    for (int64_t row = 0; row < head.targets.size(0); ++row) {
      const int64_t target = targets[row * head.targets.stride(0)];
      if (target == head.ignore_index) continue;
      rows_.push_back(row);
      targets_.push_back(target);
      if (grad_row_loss != nullptr) grads_.push_back(static_cast<const float*>(grad_row_loss->const_data_ptr())[row]);
    }
  }

  int64_t count() const { return static_cast<int64_t>(rows_.size()); }

  // oneDNN, which multiplies 16-bit matrices, makes code for each new shape of a product (some milliseconds) and keeps
  // it (2 MB for the three products of a new number of rows), so there are few. Nothing is kept for shapes in fp32.
  static int64_t row_step(ScalarType dtype) { return dtype == ScalarType::Float ? 1 : 16; }

  Chunk new_chunk(int64_t rows) const {
    const int64_t width = head_.hidden.size(1), classes = head_.weight.size(0);
    return {new_output(head_.hidden, {rows, width}), new_output(head_.hidden, {rows, classes}),
            new_output(head_.hidden, {rows, width})};
  }

  Chunk take(const Chunk& buffers, int64_t first, int64_t count) const {
    const int64_t rows = padded(count, row_step(head_.hidden.scalar_type()));
    const Chunk chunk{some_rows(buffers.hidden, 0, rows), some_rows(buffers.logits, 0, rows),
                      some_rows(buffers.grad_hidden, 0, rows)};
    gather(head_.hidden, &rows_[first], count, chunk.hidden);
    return chunk;
  }

  // AOTInductor's shim: as stable as the rest, below dispatcher, autograd and autocast; and the stable dispatcher call
  // has no Scalar for addmm.
  static void multiply(const Tensor& a, const Tensor& b, const Tensor& out) {
    TORCH_ERROR_CODE_CHECK(aoti_torch_cpu_mm_out(out.get(), a.get(), b.get()));
  }
  static void multiply_add(const Tensor& a, const Tensor& b, const Tensor& out) {
    TORCH_ERROR_CODE_CHECK(aoti_torch_cpu_addmm_out(out.get(), out.get(), a.get(), b.get(), 1.0, 1.0));
  }

  void losses(const Chunk& chunk, int64_t first, int64_t count, bool want_gradient, const Results& results) const {
    const int64_t rows = chunk.logits.size(0);
    std::vector<int64_t> targets(rows, head_.ignore_index);  // of the rows that only pad, too
    std::copy_n(&targets_[first], count, targets.begin());
    std::vector<float> grads(rows), row_loss(rows);
    if (!grads_.empty()) std::copy_n(&grads_[first], count, grads.begin());
    const std::unique_ptr<bool[]> row_correct(new bool[rows]);
    LogitsChunk params{};
    params.rows = rows;
    params.cols = chunk.logits.size(1);
    params.logits = chunk.logits.mutable_data_ptr();
    params.row_stride = params.cols;
    params.bias = head_.bias ? head_.bias->const_data_ptr() : nullptr;
    params.targets = {targets.data(), 1, head_.ignore_index};
    params.label_smoothing = static_cast<float>(head_.label_smoothing);
    params.want_gradient = want_gradient;
    params.grad_row_loss = grads_.empty() ? nullptr : grads.data();
    params.row_loss = row_loss.data();
    params.row_correct = row_correct.get();
    cpu::for_rows(parallel_for, kernels().logits_chunk[dtype_index("hidden", chunk.logits)], params);
    for (int64_t i = 0; i < count; ++i) {
      const int64_t row = rows_[first + i];
      static_cast<float*>(results.row_loss.mutable_data_ptr())[row] = row_loss[i];
      static_cast<bool*>(results.row_correct.mutable_data_ptr())[row] = row_correct[i];
    }
  }

  void hidden_gradient(const Chunk& chunk, int64_t first, int64_t count, const Tensor& grad_hidden) const {
    multiply(chunk.logits, head_.weight, chunk.grad_hidden);
    scatter(chunk.grad_hidden, &rows_[first], count, grad_hidden);
  }

  // A product of bf16 is bf16, and is added from a buffer: as many of its rows at a time as stay in the cache.
  static void add_product(const Tensor& a, const Tensor& b, bool is_first, const Tensor& sum) {
    const int64_t rows = sum.size(0), width = sum.size(1);
    const int64_t parts = std::max<int64_t>(1, ceil_div(rows * row_bytes(b), kProductBytes));
    const int64_t most = ceil_div(rows, parts);
    const Tensor buffer = new_output(b, {most, width});
    for (int64_t first = 0; first < rows; first += most) {
      const int64_t count = std::min(most, rows - first);
      const Tensor product = some_rows(buffer, 0, count);
      multiply(some_rows(a, first, count), b, product);
      AddMatrix params{};
      params.rows = count;
      params.cols = width;
      params.x = product.const_data_ptr();
      params.sum = static_cast<float*>(sum.mutable_data_ptr()) + first * width;
      params.first = is_first;
      params.stream = is_first && should_stream(sum);
      cpu::for_rows(parallel_for, kernels().add_matrix[dtype_index("hidden", product)], params);
    }
  }

  static void add_columns(const Tensor& logits, const Tensor& sums) {
    AddColumns params{};
    params.rows = logits.size(0);
    params.cols = logits.size(1);
    params.x = logits.const_data_ptr();
    params.row_stride = params.cols;
    params.sums = static_cast<float*>(sums.mutable_data_ptr());
    const auto kernel = kernels().add_columns[dtype_index("hidden", logits)];
    cpu::for_units(parallel_for, kernel, params, params.cols, params.rows);
  }

 private:
  const Head& head_;
  std::vector<int64_t> rows_, targets_;
  std::vector<float> grads_;  // of the row losses; empty: all 1
};

// oneDNN multiplies fp16 a hundred times slower than fp32 where the processor has no such instruction.
Results walk_in_supported_dtype(const Head& given, const Wanted& wanted, const Tensor* grad_row_loss) {
  if (given.hidden.scalar_type() != ScalarType::Half) return walk<CpuRows>(given, wanted, grad_row_loss);
  Head head = given;
  head.hidden = torch::stable::to(head.hidden, ScalarType::Float);
  head.weight = torch::stable::to(head.weight, ScalarType::Float);
  if (head.bias) head.bias = torch::stable::to(*head.bias, ScalarType::Float);
  Results results = walk<CpuRows>(head, wanted, grad_row_loss);
  results.grad_hidden = torch::stable::to(results.grad_hidden, ScalarType::Half);
  return results;
}

Tensor linear_cross_entropy_scaled(const Tensor& x, const Tensor& factor, ScalarType dtype) {
  const ScaledCall call(x, factor, dtype);
  cpu::for_rows(parallel_for, kernels().scale_matrix[call.from][call.to], call.params);
  return call.out;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(fastlm, CPU, m) {
  m.impl("linear_cross_entropy_forward", TORCH_BOX(&linear_cross_entropy_forward<walk_in_supported_dtype>));
  m.impl("linear_cross_entropy_backward", TORCH_BOX(&linear_cross_entropy_backward<walk_in_supported_dtype>));
  m.impl("linear_cross_entropy_scaled", TORCH_BOX(&linear_cross_entropy_scaled));
}

}  // namespace fastlm
