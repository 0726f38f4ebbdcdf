// fastlm::linear_cross_entropy_forward, _backward and _scaled, as far as they are the same on every device; schemas in
// fastlm/ops/linear_cross_entropy.py.
//
// The rows are taken a chunk at a time: torch multiplies them by the weight, one kernel turns the products, where they
// lie, into losses and into their own gradient, and torch multiplies that by the weight and by the rows. Forward and
// backward are the same walk; the forward's gradient is that of the sum of the losses.
#pragma once

#include <algorithm>
#include <optional>
#include <tuple>

#include "csrc/tensors.h"

namespace fastlm {

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

inline Tensor transposed(const Tensor& matrix) { return torch::stable::transpose(matrix, 0, 1); }
inline Tensor some_rows(Tensor tensor, int64_t first, int64_t count) {
  return torch::stable::narrow(tensor, 0, first, count);
}
inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// ---- chunks --------------------------------------------------------------------------------------------------------
constexpr int64_t kLeastRows = 64;  // of a chunk: with fewer the products spend their time on the weight

// Rows that a product has where its numbers of rows are multiples of a step, or below that powers of two.
inline int64_t padded(int64_t rows, int64_t step) {
  while (step > rows) step /= 2;
  return ceil_div(rows, step) * step;
}

// Rows in a chunk: as many as have chunk_logits, but no fewer than kLeastRows, and about the same in every chunk.
inline int64_t rows_in_chunk(int64_t rows, int64_t step, int64_t classes, int64_t chunk_logits) {
  const int64_t most = std::max(kLeastRows, chunk_logits / classes / step * step);
  return padded(ceil_div(rows, ceil_div(rows, most)), step);
}

template <class Rows>
Results new_results(const Head& head, const Wanted& wanted, bool any_rows) {
  using torch::headeronly::ScalarType;
  const Tensor& hidden = head.hidden;
  const auto zeros = [&](int64_t size, ScalarType dtype) {
    return torch::stable::new_zeros(hidden, {&size, 1}, dtype);
  };
  const auto per_row = [&](torch::headeronly::IntHeaderOnlyArrayRef sizes, ScalarType dtype) {
    return Rows::kEveryRow ? torch::stable::new_empty(hidden, sizes, dtype)
                           : torch::stable::new_zeros(hidden, sizes, dtype);
  };
  Results results{per_row({hidden.sizes().data(), 1}, ScalarType::Float),
                  per_row({hidden.sizes().data(), 1}, ScalarType::Bool), zeros(0, hidden.scalar_type()),
                  zeros(0, ScalarType::Float), zeros(wanted.bias ? head.weight.size(0) : 0, ScalarType::Float)};
  if (wanted.hidden) results.grad_hidden = per_row(hidden.sizes(), hidden.scalar_type());
  if (wanted.weight) results.grad_weight = new_output(hidden, head.weight.sizes(), ScalarType::Float);
  if (wanted.weight && !any_rows) torch::stable::zero_(results.grad_weight);
  return results;
}

// sum (+)= d^T hidden in fp32.
template <class Rows, class Chunk>
void add_weight_gradient(const Chunk& chunk, bool is_first, const Tensor& sum) {
  const Tensor d_t = transposed(chunk.logits);  // (V, rows)
  if (chunk.logits.scalar_type() != torch::headeronly::ScalarType::Float)
    return Rows::add_product(d_t, chunk.hidden, is_first, sum);
  is_first ? Rows::multiply(d_t, chunk.hidden, sum) : Rows::multiply_add(d_t, chunk.hidden, sum);
}

// What a device does for the walk, Rows(head, grad_row_loss) of one call; grad_row_loss nullptr stands for 1:
//   kEveryRow                         whether all rows of hidden are taken, or only those that count
//   count()                           rows that are taken
//   row_step(dtype)                   of padded()
//   new_chunk(rows)                   a Chunk with hidden (rows, d) and logits (rows, V), uninitialised
//   take(chunk, first, count)         the part of it for rows [first, first + count), with their hidden states
//   multiply, multiply_add(a, b, out) out = a b, out += a b in the dtype of all three
//   losses(chunk, first, count, ...)  row losses, and the chunk's logits become their gradient where one is wanted
//   hidden_gradient(chunk, ...)       logits times weight, to these rows of the result
//   add_product(a, b, is_first, sum)  sum (+)= a b in fp32, of 16-bit a and b
//   add_columns(logits, sums)         sums += the columns' sums
template <class Rows>
Results walk(const Head& head, const Wanted& wanted, const Tensor* grad_row_loss) {
  const Rows rows(head, grad_row_loss);
  const int64_t total = rows.count();
  Results results = new_results<Rows>(head, wanted, total > 0);
  if (total == 0) return results;
  const int64_t step = Rows::row_step(head.hidden.scalar_type());
  const int64_t size = rows_in_chunk(total, step, head.weight.size(0), head.chunk_logits);
  const auto buffers = rows.new_chunk(size);
  const Tensor weight_t = transposed(head.weight);
  for (int64_t first = 0; first < total; first += size) {
    const int64_t count = std::min(size, total - first);
    const auto chunk = rows.take(buffers, first, count);
    Rows::multiply(chunk.hidden, weight_t, chunk.logits);
    rows.losses(chunk, first, count, wanted.any(), results);
    if (wanted.hidden) rows.hidden_gradient(chunk, first, count, results.grad_hidden);
    if (wanted.weight) add_weight_gradient<Rows>(chunk, first == 0, results.grad_weight);
    if (wanted.bias) Rows::add_columns(chunk.logits, results.grad_bias);
  }
  return results;
}

// ---- registered ----------------------------------------------------------------------------------------------------
inline Head checked_head(const Tensor& hidden, const Tensor& weight, const std::optional<Tensor>& bias,
                         const Tensor& targets, int64_t ignore_index, double label_smoothing, int64_t chunk_logits) {
  dtype_index("hidden", hidden);
  STD_TORCH_CHECK(hidden.dim() == 2, "hidden: shape ", to_string(hidden.sizes()), ", expected (N, d)");
  STD_TORCH_CHECK(weight.dim() == 2 && weight.size(0) > 0 && weight.size(1) == hidden.size(1), "weight: shape ",
                  to_string(weight.sizes()), ", expected (V, ", hidden.size(1), ") with V > 0");
  check_dtype("weight", weight, hidden.scalar_type());
  if (bias) {
    check_dtype("bias", *bias, hidden.scalar_type());
    check_sizes("bias", *bias, {weight.sizes().data(), 1});
  }
  check_dtype("targets", targets, torch::headeronly::ScalarType::Long);
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

// The ops, given a device's walk.
using Walk = Results (*)(const Head& head, const Wanted& wanted, const Tensor* grad_row_loss);

template <Walk device_walk>
std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> linear_cross_entropy_forward(
    const Tensor& hidden, const Tensor& weight, const std::optional<Tensor>& bias, const Tensor& targets,
    int64_t ignore_index, double label_smoothing, int64_t chunk_logits, bool want_hidden, bool want_weight,
    bool want_bias) {
  const Head head = checked_head(hidden, weight, bias, targets, ignore_index, label_smoothing, chunk_logits);
  const Results results = device_walk(head, {want_hidden, want_weight, want_bias}, nullptr);
  return {results.row_loss, results.row_correct, results.grad_hidden, results.grad_weight, results.grad_bias};
}

template <Walk device_walk>
std::tuple<Tensor, Tensor, Tensor> linear_cross_entropy_backward(const Tensor& grad_row_loss, const Tensor& hidden,
                                                                 const Tensor& weight,
                                                                 const std::optional<Tensor>& bias,
                                                                 const Tensor& targets, int64_t ignore_index,
                                                                 double label_smoothing, int64_t chunk_logits,
                                                                 bool want_hidden, bool want_weight, bool want_bias) {
  const Head head = checked_head(hidden, weight, bias, targets, ignore_index, label_smoothing, chunk_logits);
  check_dtype("grad_row_loss", grad_row_loss, torch::headeronly::ScalarType::Float);
  check_sizes("grad_row_loss", grad_row_loss, {hidden.sizes().data(), 1});
  const Tensor dense_grad = torch::stable::contiguous(grad_row_loss);
  const Results results = device_walk(head, {want_hidden, want_weight, want_bias}, &dense_grad);
  return {results.grad_hidden, results.grad_weight, results.grad_bias};
}

// Owns what the params point to.
struct ScaledCall {
  Tensor x, factor, out;
  int from, to;  // their dtypes
  ScaleMatrix params{};

  ScaledCall(const Tensor& given, const Tensor& factor, torch::headeronly::ScalarType dtype)
      : x(torch::stable::contiguous(given)),
        factor(factor),
        out(new_output(x, dtype)),
        from(dtype_index("x", x)),
        to(dtype_index("dtype", out)) {
    check_dtype("factor", factor, torch::headeronly::ScalarType::Float);
    STD_TORCH_CHECK(factor.dim() == 0, "factor: shape ", to_string(factor.sizes()), ", expected a scalar");
    params.cols = std::max<int64_t>(x.dim() == 0 ? 1 : x.size(x.dim() - 1), 1);
    params.rows = x.numel() / params.cols;
    params.x = x.const_data_ptr();
    params.factor = static_cast<const float*>(factor.const_data_ptr());
    params.out = out.mutable_data_ptr();
    params.stream = should_stream(out);
  }
};

}  // namespace fastlm
