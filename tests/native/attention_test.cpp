// Attention's CUDA kernels alone, without torch, in lockstep: packed sentences of a few tiles, compared with double
// precision. Prints the first fault, or nothing. Compiled with changed kernels by test_mutations.py.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "kernels/cuda/attention_backward.cuh"
#include "kernels/cuda/attention_forward.cuh"

namespace fastlm::cuda {
namespace {

constexpr int kWidth = 32;
constexpr int64_t kHeads = 2, kRows = 175;
constexpr int32_t kStarts[] = {0, 3, 143, 143, 175};  // short, more than a tile, empty, middling from a warp's last row
constexpr int64_t kSequences = 4;

struct Rows {
  std::vector<Half> data;
  explicit Rows(int seed) : data(kRows * kHeads * kWidth) {
    for (size_t i = 0; i < data.size(); ++i)
      data[i] = from_float<Half>(static_cast<float>((i * 37 + i / kWidth * 11 + seed) % 29) / 16 - 0.875f);
  }
  double at(int64_t row, int64_t head, int64_t d) const { return to_float(data[(row * kHeads + head) * kWidth + d]); }
  AttentionInput input() const { return {data.data(), kHeads * kWidth, kWidth}; }
  void add_to(lockstep::Regions& regions, const char* name, bool writable) {
    regions.add({name, data.data(), 2, {kRows, kHeads, kWidth}, {kHeads * kWidth, kWidth, 1}, writable}, writable);
  }
};

double dot(const Rows& a, int64_t i, const Rows& b, int64_t j, int64_t head) {
  double sum = 0;
  for (int64_t d = 0; d < kWidth; ++d) sum += a.at(i, head, d) * b.at(j, head, d);
  return sum;
}

// A sentence's probabilities in one head, or what they are multiplied by in the backward.
struct Square {
  int64_t first, end;
  std::vector<double> values;
  Square(int64_t first, int64_t end) : first(first), end(end), values((end - first) * (end - first)) {}
  double& at(int64_t i, int64_t j) { return values[(i - first) * (end - first) + j - first]; }
};

// Row i of `ours` is the sum over j of weight(i, j) times row j of `rows`.
template <class Weight>
void check(const char* what, const Rows& ours, const Rows& rows, int64_t head, int64_t first, int64_t end,
           Weight weight) {
  for (int64_t i = first; i < end; ++i) {
    for (int64_t d = 0; d < kWidth; ++d) {
      double want = 0;
      for (int64_t j = first; j < end; ++j) want += weight(i, j) * rows.at(j, head, d);
      const double got = ours.at(i, head, d);
      if (std::fabs(got - want) <= 2e-3 * (1 + std::fabs(want))) continue;
      std::printf("wrong: %s, row %d, head %d, column %d is %g, not %g\n", what, static_cast<int>(i),
                  static_cast<int>(head), static_cast<int>(d), got, want);
      std::exit(0);
    }
  }
}

struct Results {
  const Rows &out, &grad_q, &grad_k, &grad_v;
};

void check(const Rows& q, const Rows& k, const Rows& v, const Rows& grad, const Results& ours, int64_t head,
           int64_t first, int64_t end) {
  Square p(first, end), slope(first, end);
  for (int64_t i = first; i < end; ++i) {
    double sum = 0, delta = 0;
    for (int64_t j = first; j < end; ++j) sum += p.at(i, j) = std::exp(dot(q, i, k, j, head));
    for (int64_t j = first; j < end; ++j) delta += (p.at(i, j) /= sum) * dot(grad, i, v, j, head);
    for (int64_t j = first; j < end; ++j) slope.at(i, j) = p.at(i, j) * (dot(grad, i, v, j, head) - delta);
  }
  check("out", ours.out, v, head, first, end, [&](int64_t i, int64_t j) { return p.at(i, j); });
  check("grad_q", ours.grad_q, k, head, first, end, [&](int64_t i, int64_t j) { return slope.at(i, j); });
  check("grad_k", ours.grad_k, q, head, first, end, [&](int64_t j, int64_t i) { return slope.at(i, j); });
  check("grad_v", ours.grad_v, grad, head, first, end, [&](int64_t j, int64_t i) { return p.at(i, j); });
}

void run() {
  Rows q(0), k(5), v(9), grad(3), out(0), grad_q(0), grad_k(0), grad_v(0);
  int32_t starts[kSequences + 1];
  std::copy(std::begin(kStarts), std::end(kStarts), starts);
  std::vector<float> lse(kHeads * kRows);
  lockstep::Regions regions;
  q.add_to(regions, "q", false);
  k.add_to(regions, "k", false);
  v.add_to(regions, "v", false);
  regions.add({"cu_seqlens", starts, 4, {kSequences + 1}, {1}, false}, false);
  out.add_to(regions, "out", true);
  regions.add({"lse", lse.data(), 4, {kHeads, kRows}, {kRows, 1}, true}, true);
  AttentionForward params{};
  AttentionShape& shape = params.shape;
  shape.sequences = kSequences, shape.heads = kHeads, shape.head_dim = kWidth;
  shape.cu_seqlens_q = shape.cu_seqlens_k = starts, shape.max_seqlen_q = shape.max_seqlen_k = 140;
  shape.rows_q = shape.rows_k = kRows;
  shape.q = q.input(), shape.k = k.input(), shape.v = v.input();
  shape.scale = 1.0f, shape.dropout.keep_scale = 1.0f;
  params.out = out.data.data(), params.lse = lse.data(), params.lse_stride = kRows;
  attention_forward<Half, kWidth>(params, nullptr);
  grad.add_to(regions, "grad_out", false);
  grad_q.add_to(regions, "grad_q", true);
  grad_k.add_to(regions, "grad_k", true);
  grad_v.add_to(regions, "grad_v", true);
  std::vector<float> numbers(kHeads * kRows * kNumbers);
  regions.add({"numbers", numbers.data(), 4, {kHeads, kRows, kNumbers}, {kRows * kNumbers, kNumbers, 1}, true}, true);
  const AttentionBackward backward{shape,         grad.input(),       out.input(),        lse.data(),
                                   kRows,         grad_q.data.data(), grad_k.data.data(), grad_v.data.data(),
                                   numbers.data()};
  attention_backward<Half, kWidth>(backward, nullptr);
  const Results results{out, grad_q, grad_k, grad_v};
  for (int64_t b = 0; b < kSequences; ++b)
    for (int64_t head = 0; head < kHeads; ++head) check(q, k, v, grad, results, head, starts[b], starts[b + 1]);
}

}  // namespace
}  // namespace fastlm::cuda

int main() {
  try {
    fastlm::cuda::run();
  } catch (const fastlm::cuda::lockstep::Fault& fault) {
    std::puts(fault.what());
  }
}
