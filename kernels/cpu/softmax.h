// Softmax over rows, forward and backward: one read of the input, one write of the output.
#pragma once

#include "kernels/cpu/cursor.h"
#include "kernels/cpu/online_softmax.h"

namespace fastlm::cpu::FASTLM_ISA {

inline bool any_kept(const KeepAll&, int64_t) { return true; }
inline bool any_kept(const KeepMasked& keep, int64_t n) {
  for (int64_t i = 0; i < n; ++i)
    if (keep.mask[i]) return true;
  return false;
}

// A row of exponentials that wait to be divided by their sum, chunk by chunk.
template <class T>
struct WaitingRow {
  T* out = nullptr;
  float* e = nullptr;
  float* factors = nullptr;
};

struct Nothing {
  template <class Lanes>
  void operator()(int64_t, Lanes) const {}
};

// Writes a waiting row vector by vector. With kStream its vectors have to be aligned.
template <class T, bool kStream>
struct WriteAlongside {
  const WaitingRow<T>& row;
  template <class Lanes>
  void operator()(int64_t i, Lanes lanes) const {
    const Vec value = load(row.e + i, lanes) * splat(row.factors[i / kChunk]);
    if constexpr (kStream && std::is_same_v<Lanes, Whole>) return store(row.out + i, value, Streamed{});
    store(row.out + i, value, lanes);
  }
};

template <class T>
inline void write_row(const WaitingRow<T>& row, int64_t n, bool stream) {
  for (int64_t begin = 0; begin < n; begin += kChunk) {
    const Vec factor = splat(row.factors[begin / kChunk]);
    const float* const e = row.e + begin;
    T* const out = row.out + begin;
    for_each_vector_to(out, n - begin < kChunk ? n - begin : kChunk, stream,
                       [&](int64_t i, auto lanes, int) { store(out + i, load(e + i, read(lanes)) * factor, lanes); });
  }
}

// The exponentials of x, relative to the maximum known at their chunk, and what they are then multiplied by. Meanwhile
// alongside(i, lanes) is called for every vector.
template <class T, class Scaling, class Filter, class Alongside>
inline void exponentials(const T* x, int64_t n, Scaling scaling, Filter keep, const WaitingRow<T>& row,
                         Alongside alongside) {
  OnlineSum state;
  for (int64_t begin = 0; begin < n; begin += kChunk) {
    float* const e = row.e + begin;
    state = accumulate<T>(state, x + begin, n - begin < kChunk ? n - begin : kChunk, scaling, keep.from(begin),
                          [&](int64_t i, auto lanes, int, Vec, Vec value) {
                            store(e + i, value, lanes);
                            alongside(begin + i, lanes);
                          });
    row.factors[begin / kChunk] = state.maximum;
  }
  // Nothing above -infinity: a row that the mask empties is zero by definition, any other is 0 / 0 as elsewhere.
  const bool empty = state.maximum == -INFINITY && !any_kept(keep, n);
  const float inverse = empty ? 0.0f : static_cast<float>(1.0 / state.sum);
  for (int64_t chunk = 0; chunk * kChunk < n; ++chunk)
    row.factors[chunk] = inverse * rescale(row.factors[chunk], state.maximum, scaling);
}

// Each row is written while the exponentials of the next are computed: arithmetic and memory work at the same time.
template <class T, class Scaling>
inline void softmax_rows(const SoftmaxForward& p, Scaling scaling, int64_t begin, int64_t end, float* scratch) {
  const int64_t n = p.cols, chunks = (n + kChunk - 1) / kChunk;
  WaitingRow<T> waiting, row;
  waiting.e = scratch, row.e = scratch + (n + kWidth - 1) / kWidth * kWidth;
  waiting.factors = row.e + n, row.factors = waiting.factors + chunks;
  const auto misaligned = [](auto bytes) { return bytes % (kWidth * sizeof(T)) != 0; };
  const bool apart = p.stream && (misaligned(reinterpret_cast<uintptr_t>(p.out)) || misaligned(n * sizeof(T)));

  const auto finish = [&] {
    if (waiting.out != nullptr) write_row(waiting, n, p.stream);
    waiting.out = nullptr;
  };
  const auto add_row = [&](const T* x, T* out, auto keep) {
    if (apart) finish();
    row.out = out;
    if (waiting.out == nullptr) {
      exponentials(x, n, scaling, keep, row, Nothing{});
    } else if (p.stream) {
      exponentials(x, n, scaling, keep, row, WriteAlongside<T, true>{waiting});
    } else {
      exponentials(x, n, scaling, keep, row, WriteAlongside<T, false>{waiting});
    }
    const WaitingRow<T> written = waiting;
    waiting = row, row = written;
  };

  RowCursor x_row(p.x_rows, begin), mask_row(p.mask_rows, begin);
  for (int64_t r = begin; r < end; ++r, x_row.next(), mask_row.next()) {
    const T* const x = static_cast<const T*>(p.x) + x_row.offset();
    T* const out = static_cast<T*>(p.out) + r * n;
    const uint8_t* const mask = p.mask == nullptr ? nullptr : p.mask + mask_row.offset();
    if (mask == nullptr || (p.mask_per_row && *mask)) {
      add_row(x, out, KeepAll{});
    } else if (p.mask_per_row) {
      std::memset(out, 0, static_cast<size_t>(n) * sizeof(T));
    } else {
      add_row(x, out, KeepMasked{mask});
    }
  }
  finish();
  if (p.stream) end_stream();
}

template <class T>
void softmax_forward(const SoftmaxForward& p, int64_t begin, int64_t end, float* scratch) {
  if (p.scale == 1.0f) return softmax_rows<T>(p, Unscaled{}, begin, end, scratch);
  softmax_rows<T>(p, Scaled{p.scale}, begin, end, scratch);
}

template <class T>
void softmax_backward(const SoftmaxBackward& p, int64_t begin, int64_t end, float*) {
  RowCursor grad_row(p.grad_y_rows, begin), y_row(p.y_rows, begin);
  for (int64_t row = begin; row < end; ++row, grad_row.next(), y_row.next()) {
    const T* const grad = static_cast<const T*>(p.grad_y) + grad_row.offset();
    const T* const y = static_cast<const T*>(p.y) + y_row.offset();
    T* const out = static_cast<T*>(p.grad_x) + row * p.cols;
    Sum dot;
    for_each_pair_from<T>(0, p.cols, [&](int64_t i, auto lanes, int slot) {
      dot.add_product(slot, load(grad + i, lanes), load(y + i, lanes));
    });
    const Vec shift = splat(dot.total());
    for_each_pair_to(out, p.cols, p.stream, [&](int64_t i, auto lanes, int) {
      const auto centred = load(grad + i, read(lanes)) - shift;
      store(out + i, centred * load(y + i, read(lanes)) * splat(p.scale), lanes);
    });
  }
  if (p.stream) end_stream();
}

}  // namespace fastlm::cpu::FASTLM_ISA
