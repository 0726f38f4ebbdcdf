// The row ops' CUDA kernels alone, without torch, in lockstep: a warp's and a block's of each, compared with double
// precision. Prints the first fault, or nothing. Compiled with changed kernels by test_mutations.py.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "kernels/cuda/cross_entropy.cuh"
#include "kernels/cuda/layer_norm.cuh"
#include "kernels/cuda/logits_chunk.cuh"
#include "kernels/cuda/softmax.cuh"

namespace fastlm::cuda {
namespace {

using lockstep::Regions;

constexpr int64_t kRows = 5;  // a warp's block has room for 8

void require(double got, double want, const char* what, int64_t row, int64_t column) {
  if (std::fabs(got - want) <= 1e-6 * (1 + std::fabs(want))) return;
  std::printf("wrong: %s (%d, %d) is %g, not %g\n", what, static_cast<int>(row), static_cast<int>(column), got, want);
  std::exit(0);
}

// Rows with a gap between them; in `inputs` every other row is misaligned for vectors.
struct Matrix {
  int64_t cols, stride;
  std::vector<float> data;
  Matrix(int64_t cols, int64_t stride) : cols(cols), stride(stride), data((kRows - 1) * stride + cols) {}
  float& at(int64_t row, int64_t column) { return data[row * stride + column]; }
  RowLayout layout() const {
    RowLayout layout;
    layout.dims = 1, layout.sizes[0] = kRows, layout.strides[0] = stride;
    return layout;
  }
  void add_to(Regions& regions, const char* name, bool writable) {
    regions.add({name, data.data(), 4, {kRows, cols}, {stride, 1}, writable}, writable);
  }
};
Matrix inputs(int64_t cols) {
  Matrix x(cols, cols / 4 * 4 + 6);
  for (int64_t r = 0; r < kRows; ++r)
    for (int64_t i = 0; i < cols; ++i) x.at(r, i) = static_cast<float>((r * 31 + i * 17) % 64) / 16 - 2;
  return x;
}

struct Exact {
  double lse, total = 0;
  Exact(Matrix& x, int64_t row) {
    double sum = 0;
    for (int64_t i = 0; i < x.cols; ++i) sum += std::exp(x.at(row, i)), total += x.at(row, i);
    lse = std::log(sum);
  }
};

template <class Team, int kVectors>
void check_softmax(int64_t cols) {
  Matrix x = inputs(cols), y(cols, cols), grad(cols, cols);
  Regions regions;
  x.add_to(regions, "x", false);
  y.add_to(regions, "y", true);
  grad.add_to(regions, "grad", true);
  SoftmaxForward forward{};
  forward.rows = kRows, forward.cols = cols, forward.x = x.data.data(), forward.x_rows = x.layout();
  forward.scale = 1.0f, forward.out = y.data.data();
  SoftmaxBackward backward{};
  backward.rows = kRows, backward.cols = cols, backward.grad_y = x.data.data(), backward.grad_y_rows = x.layout();
  backward.y = y.data.data(), backward.y_rows = y.layout(), backward.scale = 1.0f, backward.grad_x = grad.data.data();
  const int64_t blocks = blocks_for<Team>(kRows);
  launch<SoftmaxForwardKernel<float, Team, kVectors, EveryColumn>>(blocks, 1, Team::kSharedBytes, nullptr, forward);
  launch<SoftmaxBackwardKernel<float, Team, kVectors>>(blocks, 1, Team::kSharedBytes, nullptr, backward);
  for (int64_t r = 0; r < kRows; ++r) {
    const Exact exact(x, r);
    const auto probability = [&](int64_t i) { return std::exp(x.at(r, i) - exact.lse); };
    double dot = 0;
    for (int64_t i = 0; i < cols; ++i) dot += probability(i) * x.at(r, i);
    for (int64_t i = 0; i < cols; ++i) {
      require(y.at(r, i), probability(i), "softmax", r, i);
      require(grad.at(r, i), probability(i) * (x.at(r, i) - dot), "softmax's gradient", r, i);
    }
  }
}

template <class Team, int kVectors>
void check_cross_entropy(int64_t cols) {
  constexpr float kSmoothing = 0.25f;
  Matrix x = inputs(cols), grad(cols, cols);
  int64_t targets[kRows] = {0, cols - 1, -100, 3, 1};
  float loss[kRows], grad_loss[kRows] = {1, 2, 3, 4, 5};
  double lse[kRows];
  Regions regions;
  x.add_to(regions, "logits", false);
  regions.add({"targets", targets, 8, {kRows}, {1}, false}, false);
  regions.add({"grad_row_loss", grad_loss, 4, {kRows}, {1}, false}, false);
  regions.add({"row_loss", loss, 4, {kRows}, {1}, true}, true);
  regions.add({"lse", lse, 8, {kRows}, {1}, true}, true);
  const CrossEntropyTargets where{targets, 1, -100};
  const CrossEntropyForward forward{kRows, cols, x.data.data(), x.stride, where, kSmoothing, loss, lse};
  const int64_t blocks = blocks_for<Team>(kRows);
  launch<CrossEntropyForwardKernel<float, Team, kVectors>>(blocks, 1, Team::kSharedBytes, nullptr, forward);
  Regions of_backward;
  of_backward.add({"lse", lse, 8, {kRows}, {1}, false}, false);
  grad.add_to(of_backward, "grad_logits", true);
  const CrossEntropyBackward backward{kRows, cols, x.data.data(),    x.stride, where, kSmoothing, grad_loss, 1,
                                      lse,   1,    grad.data.data(), false};
  launch<CrossEntropyBackwardKernel<float, Team, kVectors>>(blocks, 1, Team::kSharedBytes, nullptr, backward);
  for (int64_t r = 0; r < kRows; ++r) {
    const Exact exact(x, r);
    const bool ignored = targets[r] == where.ignore_index;
    const double uniform = exact.lse - exact.total / static_cast<double>(cols);
    require(loss[r], ignored ? 0 : (1 - kSmoothing) * (exact.lse - x.at(r, targets[r])) + kSmoothing * uniform, "loss",
            r, 0);
    for (int64_t i = 0; i < cols; ++i) {
      const double target = kSmoothing / static_cast<double>(cols) + (i == targets[r] ? 1 - kSmoothing : 0);
      const double slope = std::exp(x.at(r, i) - exact.lse) - target;
      require(grad.at(r, i), ignored ? 0 : grad_loss[r] * slope, "cross-entropy's gradient", r, i);
    }
  }
}

// Products that become their gradient where they lie, in rows of whole vectors.
template <class Team, int kVectors>
void check_logits_chunk(int64_t cols) {
  constexpr float kSmoothing = 0.25f;
  const int64_t whole = (cols + 3) / 4 * 4;
  Matrix given = inputs(cols), logits(whole, whole);
  std::vector<float> bias(whole);
  for (int64_t i = 0; i < whole; ++i) bias[i] = static_cast<float>(i % 7) / 8;
  for (int64_t r = 0; r < kRows; ++r)
    for (int64_t i = 0; i < cols; ++i) logits.at(r, i) = given.at(r, i), given.at(r, i) += bias[i];
  int64_t targets[kRows] = {0, cols - 1, -100, 3, 1};
  float loss[kRows], grad_loss[kRows] = {1, 2, 3, 4, 5};
  bool correct[kRows];
  for (int64_t r : {1, 3}) {  // two rows that are right
    float largest = -INFINITY;
    for (int64_t i = 0; i < cols; ++i) largest = std::fmax(largest, given.at(r, i));
    for (targets[r] = 0; given.at(r, targets[r]) < largest;) ++targets[r];
  }
  Regions regions;
  regions.add({"logits", logits.data.data(), 4, {kRows, whole}, {whole, 1}, true}, false);
  regions.add({"bias", bias.data(), 4, {whole}, {1}, false}, false);
  regions.add({"targets", targets, 8, {kRows}, {1}, false}, false);
  regions.add({"grad_row_loss", grad_loss, 4, {kRows}, {1}, false}, false);
  regions.add({"row_loss", loss, 4, {kRows}, {1}, true}, true);
  regions.add({"row_correct", correct, 1, {kRows}, {1}, true}, true);
  const CrossEntropyTargets where{targets, 1, -100};
  const LogitsChunk params{kRows,      cols, logits.data.data(), whole, bias.data(), where,
                           kSmoothing, true, grad_loss,          loss,  correct};
  using Kernel = LogitsChunkKernel<float, Team, kVectors, ColumnBias<float>>;
  launch<Kernel>(blocks_for<Team>(kRows), 1, Team::kSharedBytes, nullptr, params);
  for (int64_t r = 0; r < kRows; ++r) {
    const Exact exact(given, r);
    const bool ignored = targets[r] == where.ignore_index;
    const double uniform = exact.lse - exact.total / static_cast<double>(cols);
    require(loss[r], ignored ? 0 : (1 - kSmoothing) * (exact.lse - given.at(r, targets[r])) + kSmoothing * uniform,
            "loss of products", r, 0);
    require(correct[r], r == 1 || r == 3, "accuracy", r, 0);
    for (int64_t i = 0; i < cols; ++i) {
      const double target = kSmoothing / static_cast<double>(cols) + (i == targets[r] ? 1 - kSmoothing : 0);
      const double slope = std::exp(given.at(r, i) - exact.lse) - target;
      require(logits.at(r, i), ignored ? 0 : grad_loss[r] * slope, "gradient of products", r, i);
    }
  }
}

// x = residual + branch, its norm, and their gradients where y's gradient is the residual and x's the branch. Dropout
// of threshold 1 drops next to nothing: its words are checked against the reference's (tests/ops).
template <class Team, bool kHeld>
void check_layer_norm(int64_t cols) {
  Matrix residual = inputs(cols), branch(cols, cols), x(cols, cols), y(cols, cols), grad_x(cols, cols);
  Matrix grad_residual(cols, cols), grad_branch(cols, cols);
  std::vector<float> weight(cols), bias(cols), sums(2 * cols), grad_weight(cols), grad_bias(cols);
  float mean[kRows], rstd[kRows];
  for (int64_t i = 0; i < cols; ++i) {
    weight[i] = static_cast<float>(i % 5 + 1) / 4, bias[i] = static_cast<float>(i % 3) / 2;
    for (int64_t r = 0; r < kRows; ++r) {
      branch.at(r, i) = static_cast<float>((r * 7 + i * 5) % 32) / 16;
      grad_x.at(r, i) = static_cast<float>((r * 3 + i * 11) % 16) / 8;
    }
  }
  const Dropout dropout{1, 1.0f, 3, nullptr};
  const auto vector = [&](Regions& regions, const char* name, std::vector<float>& data, bool writable) {
    regions.add({name, data.data(), 4, {static_cast<int64_t>(data.size())}, {1}, writable}, writable);
  };
  Regions regions;
  residual.add_to(regions, "residual", false);
  branch.add_to(regions, "branch", false);
  x.add_to(regions, "x", true);
  y.add_to(regions, "y", true);
  vector(regions, "weight", weight, false);
  vector(regions, "bias", bias, false);
  regions.add({"mean", mean, 4, {kRows}, {1}, true}, true);
  regions.add({"rstd", rstd, 4, {kRows}, {1}, true}, true);
  LayerNormForward forward{};
  forward.rows = kRows, forward.cols = cols, forward.dropout = dropout, forward.eps = 1e-5f;
  forward.residual = residual.data.data(), forward.residual_rows = residual.layout();
  forward.branch = branch.data.data(), forward.branch_rows = branch.layout();
  forward.weight = weight.data(), forward.bias = bias.data();
  forward.x = x.data.data(), forward.y = y.data.data(), forward.mean = mean, forward.rstd = rstd;
  launch<LayerNormForwardKernel<float, float, Team, kHeld>>(blocks_for<Team>(kRows), 1, Team::kSharedBytes, nullptr,
                                                            forward);
  grad_x.add_to(regions, "grad_x", false);
  grad_residual.add_to(regions, "grad_residual", true);
  grad_branch.add_to(regions, "grad_branch", true);
  vector(regions, "sums", sums, true);
  vector(regions, "grad_weight", grad_weight, true);
  vector(regions, "grad_bias", grad_bias, true);
  LayerNormBackward backward{};
  backward.rows = kRows, backward.cols = cols, backward.dropout = dropout;
  backward.grad_y = residual.data.data(), backward.grad_y_rows = residual.layout();
  backward.grad_x = grad_x.data.data(), backward.grad_x_rows = grad_x.layout();
  backward.x = x.data.data(), backward.x_rows = x.layout(), backward.weight = weight.data();
  backward.mean = mean, backward.rstd = rstd, backward.sums = sums.data();
  backward.grad_residual = grad_residual.data.data(), backward.grad_branch = grad_branch.data.data();
  using Kernel = LayerNormBackwardKernel<float, float, Team, kHeld>;
  launch<Kernel>(1, 1, Kernel::Sums::shared_bytes(cols), nullptr, backward);
  const LayerNormSums totals{1, cols, sums.data(), grad_weight.data(), grad_bias.data()};
  launch<LayerNormSumsKernel<float>>((cols + 31) / 32, 2, LayerNormSumsKernel<float>::kSharedBytes, nullptr, totals);

  const auto n = static_cast<double>(cols);
  std::vector<double> weight_sums(cols), bias_sums(cols);
  for (int64_t r = 0; r < kRows; ++r) {
    const auto sum = [&](int64_t i) { return double{residual.at(r, i)} + branch.at(r, i); };
    double exact_mean = 0, variance = 0, g_mean = 0, along = 0;
    for (int64_t i = 0; i < cols; ++i) exact_mean += sum(i) / n;
    for (int64_t i = 0; i < cols; ++i) variance += (sum(i) - exact_mean) * (sum(i) - exact_mean) / n;
    const double exact_rstd = 1 / std::sqrt(variance + forward.eps);
    const auto normalised = [&](int64_t i) { return (sum(i) - exact_mean) * exact_rstd; };
    for (int64_t i = 0; i < cols; ++i) {
      g_mean += double{weight[i]} * residual.at(r, i) / n;
      along += double{weight[i]} * residual.at(r, i) * normalised(i) / n;
      weight_sums[i] += residual.at(r, i) * normalised(i), bias_sums[i] += residual.at(r, i);
    }
    for (int64_t i = 0; i < cols; ++i) {
      const double slope = double{weight[i]} * residual.at(r, i) - g_mean - normalised(i) * along;
      require(x.at(r, i), sum(i), "sum", r, i);
      require(y.at(r, i), normalised(i) * weight[i] + bias[i], "norm", r, i);
      require(grad_residual.at(r, i), slope * exact_rstd + grad_x.at(r, i), "norm's gradient", r, i);
      require(grad_branch.at(r, i), slope * exact_rstd + grad_x.at(r, i), "branch's gradient", r, i);
    }
  }
  for (int64_t i = 0; i < cols; ++i) {
    require(grad_weight[i], weight_sums[i], "weight's gradient", 0, i);
    require(grad_bias[i], bias_sums[i], "bias's gradient", 0, i);
  }
}

}  // namespace
}  // namespace fastlm::cuda

int main() {
  using namespace fastlm::cuda;
  try {
    check_softmax<Warp, 1>(70);
    check_softmax<Block<128>, 4>(600);
    check_cross_entropy<Warp, 1>(70);
    check_cross_entropy<Block<512>, 0>(600);
    check_logits_chunk<Warp, 1>(70);
    check_logits_chunk<Block<128>, 4>(600);
    check_layer_norm<Warp, true>(70);
    check_layer_norm<Block<64>, true>(600);
    check_layer_norm<Block<64>, false>(1100);
  } catch (const lockstep::Fault& fault) {
    std::puts(fault.what());
  }
}
