// Softmax over rows, forward and backward. A row that its team can hold is read once and written once.
#pragma once

#include "kernels/cuda/common/online_softmax.cuh"
#include "kernels/cuda/common/row.cuh"
#include "kernels/cuda/softmax.h"

namespace fastlm::cuda {

// Which columns of a row take part.
struct EveryColumn {
  static constexpr bool kMasked = false;
  FASTLM_DEVICE EveryColumn(const SoftmaxForward&, int64_t) {}
  FASTLM_DEVICE bool operator()(int) const { return true; }
};
struct MaskedColumns {
  static constexpr bool kMasked = true;
  Global<const uint8_t> mask;
  int stride;
  FASTLM_DEVICE MaskedColumns(const SoftmaxForward& p, int64_t row)
      : mask(Global<const uint8_t>(p.mask) + row_offset(p.mask_rows, row)), stride(p.mask_per_row ? 0 : 1) {}
  FASTLM_DEVICE bool operator()(int column) const { return load(mask + column * stride) != 0; }
};

template <class T, class RowTeam, int kVectors, class Columns>
struct SoftmaxForwardKernel {
  using Team = RowTeam;
  static constexpr int kThreads = Team::kThreads;

  FASTLM_DEVICE static void run(const SoftmaxForward& p) {
    const int64_t row = block_x() * Team::kRows + Team::row();
    if (row >= p.rows) return;
    const Global<const T> x = Global<const T>(p.x) + row_offset(p.x_rows, row);
    const Global<T> out = Global<T>(p.out) + row * p.cols;
    const Columns keep(p, row);
    const Share<T, Team, kVectors> share(p.cols);
    Row<T, Team, kVectors> held(share, x);
    // The scaled values of a vector; -infinity where a column takes no part.
    const auto scores = [&](int v, int i, float (&s)[kWidth<T>]) {
      const RowVector<T> vector = held.vector(v, i);
      FASTLM_UNROLL
      for (int e = 0; e < kWidth<T>; ++e)
        s[e] = share.holds(i + e) && keep(i + e) ? to_float(vector[e]) * p.scale : -INFINITY;
    };

    OnlineSoftmax<T> mine;
    bool any_kept = false;
    share.each([&](int v, int i) {
      float s[kWidth<T>];
      scores(v, i, s);
      mine.include(s);
      if constexpr (Columns::kMasked)
        for (int e = 0; e < kWidth<T>; ++e) any_kept = any_kept || (share.holds(i + e) && keep(i + e));
    });
    Team team;
    const OnlineSoftmax<T> all = mine.reduce(team);
    float inverse = 1.0f / all.sum;
    if constexpr (Columns::kMasked)
      if (team.reduce(any_kept ? 1.0f : 0.0f, Largest{}) == 0.0f) inverse = 0.0f;
    // Nothing above -infinity: a row that the mask empties is zero by definition, any other is 0 / 0 as elsewhere.
    const float base = base_of(all.largest);
    held.forget();
    share.each([&](int v, int i) {
      float s[kWidth<T>];
      scores(v, i, s);
      RowVector<T> vector;
      FASTLM_UNROLL
      for (int e = 0; e < kWidth<T>; ++e) vector.set(e, from_float<T>(relative_exp<T>(s[e], base) * inverse));
      write(out, i, share.n, vector);
    });
  }
};

template <class T, class RowTeam, int kVectors>
struct SoftmaxBackwardKernel {
  using Team = RowTeam;
  static constexpr int kThreads = Team::kThreads;

  FASTLM_DEVICE static void run(const SoftmaxBackward& p) {
    const int64_t row = block_x() * Team::kRows + Team::row();
    if (row >= p.rows) return;
    const Global<const T> y = Global<const T>(p.y) + row_offset(p.y_rows, row);
    const Global<const T> grad_y = Global<const T>(p.grad_y) + row_offset(p.grad_y_rows, row);
    const Global<T> grad_x = Global<T>(p.grad_x) + row * p.cols;
    const Share<T, Team, kVectors> share(p.cols);
    Row<T, Team, kVectors> held_y(share, y), held_grad(share, grad_y);

    float dot = 0.0f;
    share.each([&](int v, int i) {
      const RowVector<T> y_vector = held_y.vector(v, i), grad = held_grad.vector(v, i);
      FASTLM_UNROLL
      for (int e = 0; e < kWidth<T>; ++e) dot = fused(to_float(grad[e]), to_float(y_vector[e]), dot);
    });
    Team team;
    dot = team.reduce(dot, Add{});
    held_y.forget();
    held_grad.forget();
    share.each([&](int v, int i) {
      const RowVector<T> y_vector = held_y.vector(v, i), grad = held_grad.vector(v, i);
      RowVector<T> vector;
      FASTLM_UNROLL
      for (int e = 0; e < kWidth<T>; ++e)
        vector.set(e, from_float<T>((to_float(grad[e]) - dot) * to_float(y_vector[e]) * p.scale));
      write(grad_x, i, share.n, vector);
    });
  }
};

template <class T, int kMostVectors, class Columns>
void launch_softmax_forward(const SoftmaxForward& params, Stream stream) {
  choose_team<T, kMostVectors>(params.cols, [&](auto team, auto vectors) {
    using Team = decltype(team);
    launch<SoftmaxForwardKernel<T, Team, vectors, Columns>>(blocks_for<Team>(params.rows), 1, Team::kSharedBytes,
                                                            stream, params);
  });
}

// A mask takes registers, too.
template <class T>
void softmax_forward(const SoftmaxForward& params, Stream stream) {
  if (params.mask == nullptr) return launch_softmax_forward<T, 8, EveryColumn>(params, stream);
  launch_softmax_forward<T, 4, MaskedColumns>(params, stream);
}

template <class T>
void softmax_backward(const SoftmaxBackward& params, Stream stream) {
  choose_team<T, 4>(params.cols, [&](auto team, auto vectors) {
    using Team = decltype(team);
    launch<SoftmaxBackwardKernel<T, Team, vectors>>(blocks_for<Team>(params.rows), 1, Team::kSharedBytes, stream,
                                                    params);
  });
}

}  // namespace fastlm::cuda
