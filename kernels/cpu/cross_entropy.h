// Cross-entropy of raw logits with integer targets: the loss and the log-sum-exp in one read, the gradient in one read
// and one write. Label smoothing as in Szegedy et al. 2016: the target distribution is (1 - s) one-hot + s / V.
#pragma once

#include "kernels/cpu/online_softmax.h"

namespace fastlm::cpu::FASTLM_ISA {

enum class RowKind { kScored, kIgnored, kOutOfRange };

inline int64_t target_of(const CrossEntropyTargets& targets, int64_t row) { return targets.data[row * targets.stride]; }

inline RowKind row_kind(const CrossEntropyTargets& targets, int64_t target, int64_t cols) {
  if (target == targets.ignore_index) return RowKind::kIgnored;
  return target < 0 || target >= cols ? RowKind::kOutOfRange : RowKind::kScored;
}

struct RowLoss {
  float loss;
  double lse;
  float maximum;
  double sum;  // of the exponentials relative to the maximum
};

template <class Source>
inline float value_at(Source x, int64_t i) {
  return reduce_add(load(x + i, Tail{1}));  // the absent lanes are 0
}

// What a chunk leaves beside the sum of its exponentials: the sum of its values where they are smoothed, and with kKeep
// the exponentials themselves.
template <bool kKeep>
struct LossChunk {
  bool smoothed;
  float* e;
  Sum values = {};
  template <class Lanes, class V>
  void operator()(int64_t i, Lanes lanes, int slot, V value, V exponential) {
    if (smoothed) values.add(slot, value);
    if constexpr (kKeep) store(e + i, exponential, lanes);
  }
};

// `maximum` is that of the row's first chunk, and becomes that of the next row's. With kKeep the exponentials go to e,
// and behind them each chunk's maximum, to which they are relative.
template <class T, bool kKeep = false, class Source>
inline RowLoss row_loss(const Columns<Source, KeepAll>& row, const Columns<Source, KeepAll>& next, float& maximum,
                        int64_t target, float smoothing, float* e = nullptr) {
  constexpr bool kInPairs = std::is_pointer_v<Source> && !kKeep;  // whose order of lanes is not that of memory
  double total = 0.0;
  const OnlineSum state = accumulate_row<T, kInPairs>(
      row, next, maximum, true, Unscaled{},
      [&](int64_t begin) { return LossChunk<kKeep>{smoothing != 0.0f, kKeep ? e + begin : nullptr}; },
      [&](int64_t begin, float highest, const LossChunk<kKeep>& chunk) {
        if constexpr (kKeep) e[row.n + begin / kChunk] = highest;
        total += chunk.values.total();
      });
  const double lse = state.maximum + std::log(state.sum);
  double loss = lse - value_at(row.x, target);
  if (smoothing != 0.0f) {
    const double uniform_loss = lse - total / static_cast<double>(row.n);
    loss = (1.0 - smoothing) * loss + smoothing * uniform_loss;
  }
  return {static_cast<float>(loss), lse, state.maximum, state.sum};
}

template <class T>
void cross_entropy_forward(const CrossEntropyForward& p, int64_t begin, int64_t end, float*) {
  using Row = Columns<const T*, KeepAll>;
  const auto row_at = [&](int64_t row) {
    return Row{static_cast<const T*>(p.logits) + row * p.row_stride, p.cols, {}};
  };
  const auto finish = [&](int64_t row, float loss, double lse) {
    p.row_loss[row] = loss;
    p.lse[row] = lse;
  };
  int64_t waiting = end;  // a row whose loss is computed when the next such row is known
  float maximum = 0.0f;
  const auto compute = [&](const Row& next) {
    const RowLoss result =
        row_loss<T>(row_at(waiting), next, maximum, target_of(p.targets, waiting), p.label_smoothing);
    finish(waiting, result.loss, result.lse);
  };
  for (int64_t row = begin; row < end; ++row) {
    switch (row_kind(p.targets, target_of(p.targets, row), p.cols)) {
      case RowKind::kScored:
        if (waiting == end) {
          maximum = chunk_maximum(row_at(row).chunk(0), Unscaled{});
        } else {
          compute(row_at(row));
        }
        waiting = row;
        break;
      case RowKind::kIgnored:
        finish(row, 0.0f, 0.0);
        break;
      case RowKind::kOutOfRange:
        finish(row, NAN, NAN);
        break;
    }
  }
  if (waiting != end) compute(Row{nullptr, 0, {}});
}

// -g times the target's distribution: uniformly s / classes, and 1 - s more at the target.
class MinusWanted {
 public:
  MinusWanted(int64_t target, float g, float smoothing, int64_t classes) : target_(target) {
    const double uniform = smoothing / static_cast<double>(classes);
    for (float& value : window_) value = static_cast<float>(-g * uniform);
    elsewhere = load(window_, Whole{});
    window_[kWidth] = static_cast<float>(g * (smoothing - 1.0 - uniform));
  }
  bool is_near(int64_t i, int64_t columns) const {
    return static_cast<uint64_t>(target_ - i) < static_cast<uint64_t>(columns);
  }
  // Correcting the target after the row was written would read a streamed line back from memory.
  Vec at(int64_t i) const { return is_near(i, kWidth) ? load(window_ + kWidth - (target_ - i), Whole{}) : elsewhere; }

  Vec elsewhere;

 private:
  int64_t target_;
  float window_[2 * kWidth];  // around the target
};

// A probability is exp(x - lse). lse is subtracted as two floats: rounded to one, a large lse would scale every
// probability of the row.
template <class T>
inline void gradient_row(const T* x, T* grad, int64_t n, int64_t target, float g, double lse, float smoothing,
                         bool stream) {
  const float high = static_cast<float>(lse);
  const Vec lse_high = splat(high), lse_low = splat(-kLog2E * static_cast<float>(lse - high));
  const MinusWanted minus_wanted(target, g, smoothing, n);
  const auto write = [&](int64_t i, auto lanes, Vec minus) {
    const auto probability = exp2<T>(fma(load(x + i, read(lanes)) - lse_high, splat(kLog2E), lse_low));
    store(grad + i, fma(probability, splat(g), minus), lanes);
  };
  for_each_pair_to(grad, n, stream, [&](int64_t i, auto lanes, int) {
    prefetch(x + i + kChunk);
    if constexpr (std::is_same_v<decltype(read(lanes)), Paired>) {
      if (!minus_wanted.is_near(i, 2 * kWidth)) return write(i, lanes, minus_wanted.elsewhere);
      write(i, single(lanes), minus_wanted.at(i));
      write(i + kWidth, single(lanes), minus_wanted.at(i + kWidth));
    } else {
      write(i, lanes, minus_wanted.at(i));
    }
  });
}

template <class T>
inline void fill_row(T* out, int64_t n, float value) {
  for_each_vector(n, [&](int64_t i, auto lanes, int) { store(out + i, splat(value), lanes); });
}

template <class T>
void cross_entropy_backward(const CrossEntropyBackward& p, int64_t begin, int64_t end, float*) {
  for (int64_t row = begin; row < end; ++row) {
    const int64_t target = target_of(p.targets, row);
    T* const grad = static_cast<T*>(p.grad_logits) + row * p.cols;
    switch (row_kind(p.targets, target, p.cols)) {
      case RowKind::kScored:
        gradient_row(static_cast<const T*>(p.logits) + row * p.row_stride, grad, p.cols, target,
                     p.grad_row_loss[row * p.grad_row_loss_stride], p.lse[row * p.lse_stride], p.label_smoothing,
                     p.stream);
        break;
      case RowKind::kIgnored:
        fill_row(grad, p.cols, 0.0f);
        break;
      case RowKind::kOutOfRange:
        fill_row(grad, p.cols, NAN);
        break;
    }
  }
  if (p.stream) end_stream();
}

}  // namespace fastlm::cpu::FASTLM_ISA
