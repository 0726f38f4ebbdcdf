// fastlm::linear_cross_entropy_forward, _backward and _scaled on the CPU; schemas in
// fastlm/ops/linear_cross_entropy.py.
//
// The rows that count are taken a chunk at a time: torch multiplies them by the weight, one kernel turns the products,
// where they lie, into losses and into their own gradient, and torch multiplies that by the weight and by the rows.
// Forward and backward are the same walk; the forward's gradient is that of the sum of the losses.
#include <torch/csrc/inductor/aoti_torch/generated/c_shim_cpu.h>
#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <optional>
#include <tuple>
#include <vector>

#include "csrc/cpu/run.h"

namespace fastlm {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::narrow;

struct Head {
  Tensor hidden, weight;  // last dims contiguous
  std::optional<Tensor> bias;
  Tensor targets;
  int64_t ignore_index;
  double label_smoothing;
  int64_t chunk_logits;
};

struct Wanted {
  bool hidden, weight, bias;
  bool any() const { return hidden || weight || bias; }
};

struct Results {
  Tensor row_loss, row_correct;
  Tensor grad_hidden, grad_weight, grad_bias;  // (0,) where not wanted
};

// The rows whose target is not ignored; grads is the gradient of their losses.
struct Counted {
  std::vector<int64_t> rows, targets;
  std::vector<float> grads;
};

// ---- torch's matrix product ----------------------------------------------------------------------------------------
// AOTInductor's shim: as stable as the rest, below dispatcher, autograd and autocast; and the stable dispatcher call
// has no Scalar for addmm.
void multiply(const Tensor& a, const Tensor& b, const Tensor& out) {
  TORCH_ERROR_CODE_CHECK(aoti_torch_cpu_mm_out(out.get(), a.get(), b.get()));
}
void multiply_add(const Tensor& a, const Tensor& b, const Tensor& out) {
  TORCH_ERROR_CODE_CHECK(aoti_torch_cpu_addmm_out(out.get(), out.get(), a.get(), b.get(), 1.0, 1.0));
}
Tensor transposed(const Tensor& matrix) { return torch::stable::transpose(matrix, 0, 1); }

// ---- chunks --------------------------------------------------------------------------------------------------------
constexpr int64_t kLeastRows = 64;  // of a chunk: with fewer the products spend their time on the weight

// oneDNN, which multiplies 16-bit matrices, makes code for each new shape of a product (some milliseconds) and keeps it
// (2 MB for the three products of a new number of rows), so there are few: multiples of 16 rows, below that powers of
// two. Nothing is kept for shapes in fp32.
int64_t row_step(ScalarType dtype) { return dtype == ScalarType::Float ? 1 : 16; }

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

int64_t padded(int64_t rows, int64_t step) {
  while (step > rows) step /= 2;
  return ceil_div(rows, step) * step;
}

// Rows in a chunk: as many as have chunk_logits, but no fewer than kLeastRows, and about the same in every chunk.
int64_t rows_in_chunk(int64_t rows, int64_t step, int64_t classes, int64_t chunk_logits) {
  const int64_t most = std::max(kLeastRows, chunk_logits / classes / step * step);
  return padded(ceil_div(rows, ceil_div(rows, most)), step);
}

struct Chunk {
  Tensor hidden, logits, grad_hidden;
};

Chunk new_chunk(const Head& head, int64_t rows) {
  const ScalarType dtype = head.hidden.scalar_type();
  const int64_t width = head.hidden.size(1), classes = head.weight.size(0);
  return {new_output(head.hidden, {rows, width}, dtype), new_output(head.hidden, {rows, classes}, dtype),
          new_output(head.hidden, {rows, width}, dtype)};
}

Chunk first_rows(const Chunk& chunk, int64_t rows) {
  const auto first = [rows](Tensor tensor) { return narrow(tensor, 0, 0, rows); };
  return {first(chunk.hidden), first(chunk.logits), first(chunk.grad_hidden)};
}

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

// ---- one chunk -----------------------------------------------------------------------------------------------------
// Losses of rows [first, first + count) of `counted`; the chunk's logits become their gradient where one is wanted.
void losses(const Head& head, const Counted& counted, int64_t first, int64_t count, bool want_gradient,
            const Chunk& chunk, const Results& results) {
  const int64_t rows = chunk.logits.size(0);
  std::vector<int64_t> targets(rows, head.ignore_index);
  std::copy_n(&counted.targets[first], count, targets.begin());
  std::vector<float> grads(rows), row_loss(rows);
  std::copy_n(&counted.grads[first], count, grads.begin());
  const std::unique_ptr<bool[]> row_correct(new bool[rows]);
  LogitsChunk params{};
  params.rows = rows;
  params.cols = chunk.logits.size(1);
  params.logits = chunk.logits.mutable_data_ptr();
  params.bias = head.bias ? head.bias->const_data_ptr() : nullptr;
  params.targets = {targets.data(), 1, head.ignore_index};
  params.label_smoothing = static_cast<float>(head.label_smoothing);
  params.grad_row_loss = want_gradient ? grads.data() : nullptr;
  params.row_loss = row_loss.data();
  params.row_correct = row_correct.get();
  cpu::for_rows(parallel_for, kernels().logits_chunk[dtype_index("hidden", chunk.logits)], params);
  for (int64_t i = 0; i < count; ++i) {
    const int64_t row = counted.rows[first + i];
    static_cast<float*>(results.row_loss.mutable_data_ptr())[row] = row_loss[i];
    static_cast<bool*>(results.row_correct.mutable_data_ptr())[row] = row_correct[i];
  }
}

// sum (+)= d^T hidden in fp32. A product of bf16 is bf16, and is added from a buffer: as many classes at a time as stay
// in the last-level cache until then.
constexpr int64_t kProductBytes = int64_t{4} << 20;
void add_weight_gradient(const Chunk& chunk, bool is_first, const Tensor& sum) {
  Tensor d_t = transposed(chunk.logits);  // (V, rows)
  if (chunk.logits.scalar_type() == ScalarType::Float)
    return is_first ? multiply(d_t, chunk.hidden, sum) : multiply_add(d_t, chunk.hidden, sum);
  const int64_t classes = sum.size(0), width = sum.size(1);
  const int64_t parts = std::max<int64_t>(1, ceil_div(classes * row_bytes(chunk.hidden), kProductBytes));
  const int64_t most = ceil_div(classes, parts);
  Tensor buffer = new_output(chunk.hidden, {most, width});
  for (int64_t first = 0; first < classes; first += most) {
    const int64_t count = std::min(most, classes - first);
    const Tensor product = narrow(buffer, 0, 0, count);
    multiply(narrow(d_t, 0, first, count), chunk.hidden, product);
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

void add_bias_gradient(const Chunk& chunk, const Tensor& sums) {
  AddColumns params{};
  params.rows = chunk.logits.size(0);
  params.cols = chunk.logits.size(1);
  params.x = chunk.logits.const_data_ptr();
  params.sums = static_cast<float*>(sums.mutable_data_ptr());
  const auto kernel = kernels().add_columns[dtype_index("hidden", chunk.logits)];
  cpu::for_units(parallel_for, kernel, params, params.cols, params.rows);
}

// ---- all chunks ----------------------------------------------------------------------------------------------------
Counted counted_rows(const Head& head, const Tensor* grad_row_loss) {
  const auto* const targets = static_cast<const int64_t*>(head.targets.const_data_ptr());
  Counted counted;
  for (int64_t row = 0; row < head.targets.size(0); ++row) {
    const int64_t target = targets[row * head.targets.stride(0)];
    if (target == head.ignore_index) continue;
    counted.rows.push_back(row);
    counted.targets.push_back(target);
    counted.grads.push_back(grad_row_loss == nullptr ? 1.0f
                                                     : static_cast<const float*>(grad_row_loss->const_data_ptr())[row]);
  }
  return counted;
}

Results new_results(const Head& head, const Wanted& wanted, bool any_rows) {
  const Tensor& hidden = head.hidden;
  const auto zeros = [&](int64_t size, ScalarType dtype) {
    return torch::stable::new_zeros(hidden, {&size, 1}, dtype);
  };
  Results results{zeros(hidden.size(0), ScalarType::Float), zeros(hidden.size(0), ScalarType::Bool),
                  zeros(0, hidden.scalar_type()), zeros(0, ScalarType::Float),
                  zeros(wanted.bias ? head.weight.size(0) : 0, ScalarType::Float)};
  if (wanted.hidden) results.grad_hidden = torch::stable::new_zeros(hidden, hidden.sizes());
  if (wanted.weight) results.grad_weight = new_output(hidden, head.weight.sizes(), ScalarType::Float);
  if (wanted.weight && !any_rows) torch::stable::zero_(results.grad_weight);
  return results;
}

Results walk(const Head& head, const Wanted& wanted, const Tensor* grad_row_loss) {
  const Counted counted = counted_rows(head, grad_row_loss);
  const auto rows = static_cast<int64_t>(counted.rows.size());
  Results results = new_results(head, wanted, rows > 0);
  if (rows == 0) return results;
  const int64_t step = row_step(head.hidden.scalar_type());
  const int64_t size = rows_in_chunk(rows, step, head.weight.size(0), head.chunk_logits);
  const Chunk buffers = new_chunk(head, size);
  const Tensor weight_t = transposed(head.weight);
  for (int64_t first = 0; first < rows; first += size) {
    const int64_t count = std::min(size, rows - first);
    const Chunk chunk = first_rows(buffers, padded(count, step));
    gather(head.hidden, &counted.rows[first], count, chunk.hidden);
    multiply(chunk.hidden, weight_t, chunk.logits);
    losses(head, counted, first, count, wanted.any(), chunk, results);
    if (wanted.hidden) {
      multiply(chunk.logits, head.weight, chunk.grad_hidden);
      scatter(chunk.grad_hidden, &counted.rows[first], count, results.grad_hidden);
    }
    if (wanted.weight) add_weight_gradient(chunk, first == 0, results.grad_weight);
    if (wanted.bias) add_bias_gradient(chunk, results.grad_bias);
  }
  return results;
}

// oneDNN multiplies fp16 a hundred times slower than fp32 where the processor has no such instruction.
Results walk_in_supported_dtype(Head head, const Wanted& wanted, const Tensor* grad_row_loss) {
  if (head.hidden.scalar_type() != ScalarType::Half) return walk(head, wanted, grad_row_loss);
  head.hidden = torch::stable::to(head.hidden, ScalarType::Float);
  head.weight = torch::stable::to(head.weight, ScalarType::Float);
  if (head.bias) head.bias = torch::stable::to(*head.bias, ScalarType::Float);
  Results results = walk(head, wanted, grad_row_loss);
  results.grad_hidden = torch::stable::to(results.grad_hidden, ScalarType::Half);
  return results;
}

// ---- registered ----------------------------------------------------------------------------------------------------
Head checked(const Tensor& hidden, const Tensor& weight, const std::optional<Tensor>& bias, const Tensor& targets,
             int64_t ignore_index, double label_smoothing, int64_t chunk_logits) {
  dtype_index("hidden", hidden);
  STD_TORCH_CHECK(hidden.dim() == 2, "hidden: shape ", to_string(hidden.sizes()), ", expected (N, d)");
  STD_TORCH_CHECK(weight.dim() == 2 && weight.size(0) > 0 && weight.size(1) == hidden.size(1), "weight: shape ",
                  to_string(weight.sizes()), ", expected (V, ", hidden.size(1), ") with V > 0");
  check_dtype("weight", weight, hidden.scalar_type());
  if (bias) {
    check_dtype("bias", *bias, hidden.scalar_type());
    check_sizes("bias", *bias, {weight.sizes().data(), 1});
  }
  check_dtype("targets", targets, ScalarType::Long);
  check_sizes("targets", targets, {hidden.sizes().data(), 1});
  std::optional<Tensor> dense_bias;
  if (bias) dense_bias = torch::stable::contiguous(*bias);
  return {rows_contiguous(hidden),
          rows_contiguous(weight),
          dense_bias,
          targets,
          ignore_index,
          label_smoothing,
          chunk_logits};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> linear_cross_entropy_forward(
    const Tensor& hidden, const Tensor& weight, const std::optional<Tensor>& bias, const Tensor& targets,
    int64_t ignore_index, double label_smoothing, int64_t chunk_logits, bool want_hidden, bool want_weight,
    bool want_bias) {
  const Head head = checked(hidden, weight, bias, targets, ignore_index, label_smoothing, chunk_logits);
  Results results = walk_in_supported_dtype(head, {want_hidden, want_weight, want_bias}, nullptr);
  return {results.row_loss, results.row_correct, results.grad_hidden, results.grad_weight, results.grad_bias};
}

std::tuple<Tensor, Tensor, Tensor> linear_cross_entropy_backward(const Tensor& grad_row_loss, const Tensor& hidden,
                                                                 const Tensor& weight,
                                                                 const std::optional<Tensor>& bias,
                                                                 const Tensor& targets, int64_t ignore_index,
                                                                 double label_smoothing, int64_t chunk_logits,
                                                                 bool want_hidden, bool want_weight, bool want_bias) {
  const Head head = checked(hidden, weight, bias, targets, ignore_index, label_smoothing, chunk_logits);
  check_dtype("grad_row_loss", grad_row_loss, ScalarType::Float);
  check_sizes("grad_row_loss", grad_row_loss, {hidden.sizes().data(), 1});
  const Tensor dense_grad = torch::stable::contiguous(grad_row_loss);
  Results results = walk_in_supported_dtype(head, {want_hidden, want_weight, want_bias}, &dense_grad);
  return {results.grad_hidden, results.grad_weight, results.grad_bias};
}

Tensor linear_cross_entropy_scaled(const Tensor& given, const Tensor& factor, ScalarType dtype) {
  check_dtype("factor", factor, ScalarType::Float);
  STD_TORCH_CHECK(factor.dim() == 0, "factor: shape ", to_string(factor.sizes()), ", expected a scalar");
  const Tensor x = torch::stable::contiguous(given);
  Tensor out = new_output(x, dtype);
  const int64_t cols = std::max<int64_t>(x.dim() == 0 ? 1 : x.size(x.dim() - 1), 1);
  ScaleMatrix params{};
  params.rows = x.numel() / cols;
  params.cols = cols;
  params.x = x.const_data_ptr();
  params.factor = *static_cast<const float*>(factor.const_data_ptr());
  params.out = out.mutable_data_ptr();
  params.stream = should_stream(out);
  const auto kernel = kernels().scale_matrix[dtype_index("x", x)][dtype_index("dtype", out)];
  cpu::for_rows(parallel_for, kernel, params);
  return out;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(fastlm, CPU, m) {
  m.impl("linear_cross_entropy_forward", TORCH_BOX(&linear_cross_entropy_forward));
  m.impl("linear_cross_entropy_backward", TORCH_BOX(&linear_cross_entropy_backward));
  m.impl("linear_cross_entropy_scaled", TORCH_BOX(&linear_cross_entropy_scaled));
}

}  // namespace fastlm
