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

// out[i] = factor * e[i]; meanwhile the next row is fetched, which leaves memory no idle time.
template <class T>
inline void write_scaled(const float* e, float factor, T* out, const T* next, int64_t n, bool stream) {
  for_each_vector_to(out, n, stream, [&](int64_t i, auto lanes, int) {
    prefetch(next + i);
    store(out + i, load(e + i, read(lanes)) * splat(factor), lanes);
  });
}

// Exponentials go to scratch relative to the maximum known at their chunk; the second pass rescales chunk by chunk.
template <class T, class Scaling, class Filter>
inline void softmax_row(const T* x, const T* next, T* out, int64_t n, Scaling scaling, Filter keep, bool stream,
                        float* scratch) {
  float* const maxima = scratch + n;  // one per chunk
  OnlineSum state;
  for (int64_t begin = 0, chunk = 0; begin < n; begin += kChunk, ++chunk) {
    float* const e = scratch + begin;
    state = accumulate<T>(state, x + begin, n - begin < kChunk ? n - begin : kChunk, scaling, keep.from(begin),
                          [&](int64_t i, auto lanes, int, Vec, Vec value) { store(e + i, value, lanes); });
    maxima[chunk] = state.maximum;
  }
  // Nothing above -infinity: a row that the mask empties is zero by definition, any other is 0 / 0 as elsewhere.
  const bool empty = state.maximum == -INFINITY && !any_kept(keep, n);
  const float inverse = empty ? 0.0f : static_cast<float>(1.0 / state.sum);
  for (int64_t begin = 0, chunk = 0; begin < n; begin += kChunk, ++chunk) {
    const float factor = inverse * rescale(maxima[chunk], state.maximum, scaling);
    write_scaled(scratch + begin, factor, out + begin, next + begin, n - begin < kChunk ? n - begin : kChunk, stream);
  }
}

template <class T, class Scaling>
inline void softmax_rows(const SoftmaxForward& p, Scaling scaling, int64_t begin, int64_t end, float* scratch) {
  RowCursor x_row(p.x_rows, begin), mask_row(p.mask_rows, begin);
  const T* x = static_cast<const T*>(p.x) + x_row.offset();
  const T* next = x;
  for (int64_t row = begin; row < end; ++row, x = next, mask_row.next()) {
    x_row.next();
    if (row + 1 < end) next = static_cast<const T*>(p.x) + x_row.offset();
    T* const out = static_cast<T*>(p.out) + row * p.cols;
    const uint8_t* const mask = p.mask == nullptr ? nullptr : p.mask + mask_row.offset();
    if (mask == nullptr || (p.mask_per_row && *mask)) {
      softmax_row(x, next, out, p.cols, scaling, KeepAll{}, p.stream, scratch);
    } else if (p.mask_per_row) {
      std::memset(out, 0, static_cast<size_t>(p.cols) * sizeof(T));
    } else {
      softmax_row(x, next, out, p.cols, scaling, KeepMasked{mask}, p.stream, scratch);
    }
  }
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
    for_each_vector(p.cols, [&](int64_t i, auto lanes, int slot) {
      dot.slots[slot] = fma(load(grad + i, lanes), load(y + i, lanes), dot.slots[slot]);
    });
    const Vec shift = splat(dot.total());
    for_each_vector_to(out, p.cols, p.stream, [&](int64_t i, auto lanes, int) {
      const Vec centred = load(grad + i, read(lanes)) - shift;
      store(out + i, centred * load(y + i, read(lanes)) * splat(p.scale), lanes);
    });
  }
  if (p.stream) end_stream();
}

}  // namespace fastlm::cpu::FASTLM_ISA
