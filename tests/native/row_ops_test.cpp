// The row ops' CUDA kernels alone, without torch, in lockstep: a warp's and a block's of each, compared with double
// precision. Prints the first fault, or nothing. Compiled with changed kernels by test_mutations.py.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "kernels/cuda/cross_entropy.cuh"
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

template <class Team>
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
  launch<CrossEntropyForwardKernel<float, Team>>(blocks, 1, Team::kSharedBytes, nullptr, forward);
  Regions of_backward;
  of_backward.add({"lse", lse, 8, {kRows}, {1}, false}, false);
  grad.add_to(of_backward, "grad_logits", true);
  const CrossEntropyBackward backward{kRows, cols, x.data.data(),    x.stride, where, kSmoothing, grad_loss, 1,
                                      lse,   1,    grad.data.data(), false};
  launch<CrossEntropyBackwardKernel<float, Team>>(blocks, 1, Team::kSharedBytes, nullptr, backward);
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

}  // namespace
}  // namespace fastlm::cuda

int main() {
  using namespace fastlm::cuda;
  try {
    check_softmax<Warp, 1>(70);
    check_softmax<Block<128>, 4>(600);
    check_cross_entropy<Warp>(70);
    check_cross_entropy<Block<512>>(600);
  } catch (const lockstep::Fault& fault) {
    std::puts(fault.what());
  }
}
