// Cross-entropy of raw logits with integer targets: loss and log-sum-exp in one read, the gradient in one read and one
// write. Label smoothing as in Szegedy et al. 2016: the target distribution is (1 - s) one-hot + s / V.
#pragma once

#include "kernels/cuda/common/online_softmax.cuh"
#include "kernels/cuda/common/row.cuh"
#include "kernels/cuda/cross_entropy.h"

namespace fastlm::cuda {

enum class RowKind { kScored, kIgnored, kOutOfRange };

FASTLM_DEVICE int64_t target_of(const CrossEntropyTargets& targets, int64_t row) {
  return load(Global<const int64_t>(targets.data) + row * targets.stride);
}
FASTLM_DEVICE RowKind row_kind(const CrossEntropyTargets& targets, int64_t target, int64_t cols) {
  if (target == targets.ignore_index) return RowKind::kIgnored;
  return target < 0 || target >= cols ? RowKind::kOutOfRange : RowKind::kScored;
}

// Of a row with this mean.
FASTLM_DEVICE float smoothed_loss(double lse, float at_target, double mean, float smoothing) {
  const double loss = lse - at_target;
  return static_cast<float>(smoothing == 0.0f ? loss : (1.0 - smoothing) * loss + smoothing * (lse - mean));
}

// -g times the target's distribution.
struct MinusWanted {
  float elsewhere, at_target;
  FASTLM_DEVICE MinusWanted(float g, float smoothing, int64_t cols) {
    const float uniform = smoothing / static_cast<float>(cols);
    elsewhere = -g * uniform;
    at_target = g * (smoothing - 1.0f - uniform);
  }
};

template <class T, class RowTeam, int kVectors>
struct CrossEntropyForwardKernel {
  using Team = RowTeam;
  static constexpr int kThreads = Team::kThreads;
  static constexpr int kBlocks = 1024 / kThreads;  // one row arrives while another is computed

  FASTLM_DEVICE static void run(const CrossEntropyForward& p) {
    const int64_t row = block_x() * Team::kRows + Team::row();
    if (row >= p.rows) return;
    const int64_t target = target_of(p.targets, row);
    double lse = NAN;
    float loss = NAN;
    switch (row_kind(p.targets, target, p.cols)) {
      case RowKind::kScored:
        loss = scored(p, row, target, &lse);
        break;
      case RowKind::kIgnored:
        lse = 0.0;
        loss = 0.0f;
        break;
      case RowKind::kOutOfRange:
        break;
    }
    if (Team::rank() == 0) {
      store(Global<float>(p.row_loss) + row, loss);
      store(Global<double>(p.lse) + row, lse);
    }
  }

 private:
  FASTLM_DEVICE static float scored(const CrossEntropyForward& p, int64_t row, int64_t target, double* lse) {
    const Global<const T> logits = Global<const T>(p.logits) + row * p.row_stride;
    const Share<T, Team, kVectors> share(p.cols);
    const Row<T, Team, kVectors> held(share, logits);
    OnlineSoftmax<T> mine;
    float total = 0.0f;
    share.each([&](int v, int i) {
      const RowVector<T> vector = held.vector(v, i);
      float x[kWidth<T>];
      FASTLM_UNROLL
      for (int e = 0; e < kWidth<T>; ++e) x[e] = to_float(vector[e]);  // outside the row it is 0
      if (p.label_smoothing != 0.0f) {
        FASTLM_UNROLL
        for (int e = 0; e < kWidth<T>; ++e) total += x[e];
      }
      if (i + kWidth<T> > share.n) {
        FASTLM_UNROLL
        for (int e = 0; e < kWidth<T>; ++e)
          if (!share.holds(i + e)) x[e] = -INFINITY;
      }
      mine.include(x);
    });
    Team team;
    const OnlineSoftmax<T> all = mine.reduce(team);
    *lse = all.largest + log(static_cast<double>(all.sum));
    if (p.label_smoothing != 0.0f) total = team.reduce(total, Add{});
    return smoothed_loss(*lse, to_float(load(logits + target)), static_cast<double>(total) / p.cols, p.label_smoothing);
  }
};

template <class T, class RowTeam, int kVectors>
struct CrossEntropyBackwardKernel {
  using Team = RowTeam;
  static constexpr int kThreads = Team::kThreads;
  static constexpr int kBlocks = 1024 / kThreads;

  FASTLM_DEVICE static void run(const CrossEntropyBackward& p) {
    const int64_t row = block_x() * Team::kRows + Team::row();
    if (row >= p.rows) return;
    const int64_t target = target_of(p.targets, row);
    const Global<T> grad = Global<T>(p.grad_logits) + row * p.cols;
    switch (row_kind(p.targets, target, p.cols)) {
      case RowKind::kScored:
        return scored(p, row, static_cast<int>(target), grad);
      case RowKind::kIgnored:
        return fill(Share<T, Team, kVectors>(p.cols), grad, 0.0f);
      case RowKind::kOutOfRange:
        return fill(Share<T, Team, kVectors>(p.cols), grad, NAN);
    }
  }

 private:
  // A probability is exp(x - lse). lse is subtracted as two floats: rounded to one, a large lse would scale every
  // probability of the row.
  FASTLM_DEVICE static void scored(const CrossEntropyBackward& p, int64_t row, int target, Global<T> grad) {
    const Global<const T> logits = Global<const T>(p.logits) + row * p.row_stride;
    const float g = load(Global<const float>(p.grad_row_loss) + row * p.grad_row_loss_stride);
    const double lse = load(Global<const double>(p.lse) + row * p.lse_stride);
    const float high = static_cast<float>(lse), low = static_cast<float>(lse - high);
    const MinusWanted minus(g, p.label_smoothing, p.cols);
    const Share<T, Team, kVectors> share(p.cols);
    const Row<T, Team, kVectors> held(share, logits);
    const auto slope = [&](T x, float minus_wanted) {
      return from_float<T>(fused(relative_exp<T>(to_float(x) - high, low), g, minus_wanted));
    };
    share.each([&](int v, int i) {
      const RowVector<T> x = held.vector(v, i);
      RowVector<T> out;
      FASTLM_UNROLL
      for (int e = 0; e < kWidth<T>; ++e) out.set(e, slope(x[e], minus.elsewhere));
      write(grad, i, share.n, out);
    });
    if (share.owns(target)) store(grad + target, slope(load(logits + target), minus.at_target));
  }
};

// What a thread holds, it has asked for at once. A row is needed once, so that one nobody can hold costs no more.
template <class T>
inline constexpr int kMostHeld = sizeof(T) == 4 ? 4 : 8;

template <class T>
void cross_entropy_forward(const CrossEntropyForward& params, Stream stream) {
  choose_team<T, kMostHeld<T>>(params.cols, [&](auto team, auto vectors) {
    using Team = decltype(team);
    launch<CrossEntropyForwardKernel<T, Team, vectors>>(blocks_for<Team>(params.rows), 1, Team::kSharedBytes, stream,
                                                        params);
  });
}

template <class T>
void cross_entropy_backward(const CrossEntropyBackward& params, Stream stream) {
  choose_team<T, kMostHeld<T>>(params.cols, [&](auto team, auto vectors) {
    using Team = decltype(team);
    launch<CrossEntropyBackwardKernel<T, Team, vectors>>(blocks_for<Team>(params.rows), 1, Team::kSharedBytes, stream,
                                                         params);
  });
}

}  // namespace fastlm::cuda
