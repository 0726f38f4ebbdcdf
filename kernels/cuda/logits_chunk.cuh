// What lies between the matrix products of an output layer with cross-entropy: a row of products gives loss and
// accuracy and is replaced by its gradient. A row that its team can hold is read once and written once.
#pragma once

#include "kernels/cuda/cross_entropy.cuh"
#include "kernels/cuda/logits_chunk.h"

namespace fastlm::cuda {

// What is added to the products.
template <class T>
struct NoBias {
  static constexpr bool kAdded = false;
  FASTLM_DEVICE explicit NoBias(const LogitsChunk&) {}
  FASTLM_DEVICE float at(int) const { return 0.0f; }
  FASTLM_DEVICE void add_to(float (&)[kWidth<T>], int) const {}
};
template <class T>
struct ColumnBias {
  static constexpr bool kAdded = true;
  Global<const T> bias;
  FASTLM_DEVICE explicit ColumnBias(const LogitsChunk& p) : bias(Global<const T>(p.bias)) {}
  FASTLM_DEVICE float at(int column) const { return to_float(load(bias + column)); }
  FASTLM_DEVICE void add_to(float (&x)[kWidth<T>], int i) const {
    const RowVector<T> vector = load_vector<kWidth<T>>(bias + i);
    FASTLM_UNROLL
    for (int e = 0; e < kWidth<T>; ++e) x[e] += to_float(vector[e]);
  }
};

template <class T, class RowTeam, int kVectors, class Bias>
struct LogitsChunkKernel {
  using Team = RowTeam;
  static constexpr int kThreads = Team::kThreads;
  // One row arrives while another is computed. A bias takes more registers than that leaves.
  static constexpr int kBlocks = Bias::kAdded ? 1 : 1024 / kThreads;

  FASTLM_DEVICE static void run(const LogitsChunk& p) {
    const int64_t row = block_x() * Team::kRows + Team::row();
    if (row >= p.rows) return;
    const int64_t target = target_of(p.targets, row);
    const Global<T> logits = Global<T>(p.logits) + row * p.row_stride;
    switch (row_kind(p.targets, target, p.cols)) {
      case RowKind::kScored:
        return scored(p, row, static_cast<int>(target), logits);
      case RowKind::kIgnored:
        return unscored(p, row, logits, 0.0f);
      case RowKind::kOutOfRange:
        return unscored(p, row, logits, NAN);
    }
  }

 private:
  using RowShare = Share<T, Team, kVectors>;

  // The logits that a vector of products makes; behind the row they are anything.
  FASTLM_DEVICE static void values(const RowVector<T>& products, const Bias& bias, int i, float (&x)[kWidth<T>]) {
    FASTLM_UNROLL
    for (int e = 0; e < kWidth<T>; ++e) x[e] = to_float(products[e]);
    bias.add_to(x, i);
  }

  FASTLM_DEVICE static void report(const LogitsChunk& p, int64_t row, float loss, bool correct) {
    store(Global<float>(p.row_loss) + row, loss);
    store(Global<bool>(p.row_correct) + row, correct);
  }

  FASTLM_DEVICE static void unscored(const LogitsChunk& p, int64_t row, Global<T> logits, float value) {
    if (Team::rank() == 0) report(p, row, value, false);
    if (p.want_gradient) fill(RowShare(p.cols), logits, value);
  }

  FASTLM_DEVICE static void scored(const LogitsChunk& p, int64_t row, int target, Global<T> logits) {
    const RowShare share(p.cols);
    const Bias bias(p);
    Row<T, Team, kVectors, RowOfVectors<T>> held(share, logits);
    const float at_target = to_float(load(logits + target)) + bias.at(target);

    OnlineSoftmax<T> mine;
    float total = 0.0f, before_target = -INFINITY;
    share.each([&](int v, int i) {
      float x[kWidth<T>];
      values(held.vector(v, i), bias, i, x);
      if (i + kWidth<T> > share.n) {
        FASTLM_UNROLL
        for (int e = 0; e < kWidth<T>; ++e)
          if (!share.holds(i + e)) x[e] = -INFINITY;
      }
      if (p.label_smoothing != 0.0f) {
        FASTLM_UNROLL
        for (int e = 0; e < kWidth<T>; ++e)
          if (share.holds(i + e)) total += x[e];
      }
      if (i < target && target < i + kWidth<T>) {
        before_target = mine.largest;
        FASTLM_UNROLL
        for (int e = 0; e < kWidth<T>; ++e)
          if (i + e < target) before_target = maximum(before_target, x[e]);
      }
      mine.include(x);
      if (i + kWidth<T> <= target) before_target = mine.largest;
    });
    Team team;
    const OnlineSoftmax<T> all = mine.reduce(team);
    if (p.label_smoothing != 0.0f) total = team.reduce(total, Add{});
    // An argmax is the first of the largest logits, or the first NaN.
    bool correct = at_target == all.largest && (target == 0 || team.reduce(before_target, Largest{}) < all.largest);
    if (all.sum != all.sum) {  // a NaN, or infinities
      const int first = first_nan(team, logits, bias, share.n);
      if (first < share.n) correct = first == target;
    }
    if (p.want_gradient) {
      const float g = p.grad_row_loss == nullptr ? 1.0f : load(Global<const float>(p.grad_row_loss) + row);
      const MinusWanted minus(g, p.label_smoothing, p.cols);
      const float base = base_of(all.largest), scale = g / all.sum;
      Team::order_memory();  // the logit of the target, which every thread has read, is overwritten
      held.forget();
      share.each([&](int v, int i) {
        float x[kWidth<T>];
        values(held.vector(v, i), bias, i, x);
        RowVector<T> grad;
        FASTLM_UNROLL
        for (int e = 0; e < kWidth<T>; ++e)
          grad.set(e, from_float<T>(fused(relative_exp<T>(x[e], base), scale, minus.elsewhere)));
        store_vector(logits + i, grad);
      });
      if (share.owns(target))
        store(logits + target, from_float<T>(fused(relative_exp<T>(at_target, base), scale, minus.at_target)));
    }
    if (Team::rank() == 0) {
      const double lse = all.largest + log(static_cast<double>(all.sum)), mean = static_cast<double>(total) / p.cols;
      report(p, row, smoothed_loss(lse, at_target, mean, p.label_smoothing), correct);
    }
  }

  // Where the row's first NaN is; its length where it has none. Read from memory: rows with one are rare, and what they
  // would hold in registers, all would.
  FASTLM_DEVICE static int first_nan(Team& team, Global<T> logits, const Bias& bias, int n) {
    int first = n;
    Share<T, Team, 0>(n).each([&](int, int i) {
      float x[kWidth<T>];
      values(load_vector<kWidth<T>>(logits + i), bias, i, x);
      FASTLM_UNROLL
      for (int e = 0; e < kWidth<T>; ++e)
        if (x[e] != x[e] && i + e < first) first = i + e;
    });
    return team.reduce(first, Smallest{});
  }
};

template <class T, int kMostVectors, class Bias>
void launch_logits_chunk(const LogitsChunk& params, Stream stream) {
  choose_team<T, kMostVectors>(params.cols, [&](auto team, auto vectors) {
    using Team = decltype(team);
    launch<LogitsChunkKernel<T, Team, vectors, Bias>>(blocks_for<Team>(params.rows), 1, Team::kSharedBytes, stream,
                                                      params);
  });
}

template <class T>
void logits_chunk(const LogitsChunk& params, Stream stream) {
  if (params.bias == nullptr) return launch_logits_chunk<T, 8, NoBias<T>>(params, stream);
  launch_logits_chunk<T, 4, ColumnBias<T>>(params, stream);
}

}  // namespace fastlm::cuda
