// LayerNorm closing a residual sum: x = residual + dropout(branch), y = norm(x), in one pass over memory each way. A
// row is read several times, but from the first-level cache.
#pragma once

#include "kernels/cpu/cursor.h"
#include "kernels/cpu/dropout.h"
#include "kernels/cpu/reduce.h"

namespace fastlm::cpu::FASTLM_ISA {

// Dropout of the columns of a row, in two forms.
struct KeepWhole {
  template <class Lanes>
  Vec operator()(int64_t, Lanes, Vec value) const {
    return value;
  }
};
struct DropColumns {
  const uint32_t* words;
  uint32_t limit;
  float keep_scale;
  template <class Lanes>
  Vec operator()(int64_t i, Lanes, Vec value) const {
    return select(at_least(words + i, limit), value * splat(keep_scale), splat(0.0f));
  }
};

// run(drop) with the row's dropout, drawn into `words`.
template <class Run>
inline __attribute__((always_inline)) void with_dropout(const Dropout& dropout, int64_t row, int64_t cols,
                                                        uint32_t* words, Run&& run) {
  if (dropout.threshold == 0) return run(KeepWhole{});
  draw_columns(dropout.seed, row, cols, words);
  run(DropColumns{words, limit_of(dropout.threshold), dropout.keep_scale});
}

struct Moments {
  float mean, rstd;
};

// Centred before squaring: a row may lie far from zero.
template <class R>
inline Moments moments_of(const R* x, int64_t n, float eps) {
  Sum sum, squares;
  for_each_vector(n, [&](int64_t i, auto lanes, int slot) { sum.slots[slot] = sum.slots[slot] + load(x + i, lanes); });
  const float mean = sum.total() / static_cast<float>(n);
  for_each_vector(n, [&](int64_t i, auto lanes, int slot) {
    const Vec centred = only(load(x + i, lanes) - splat(mean), lanes, 0.0f);
    squares.slots[slot] = fma(centred, centred, squares.slots[slot]);
  });
  return {mean, 1.0f / __builtin_sqrtf(squares.total() / static_cast<float>(n) + eps)};
}

template <class R, class T, class Drop>
inline void write_normalised(const R* x, Moments moments, const R* weight, const R* bias, T* y, int64_t n, bool stream,
                             Drop drop) {
  const Vec mean = splat(moments.mean), rstd = splat(moments.rstd);
  for_each_vector_to(y, n, stream, [&](int64_t i, auto lanes, int) {
    const Vec normalised = (load(x + i, read(lanes)) - mean) * rstd;
    const Vec scaled = fma(normalised, load(weight + i, read(lanes)), load(bias + i, read(lanes)));
    store(y + i, drop(i, read(lanes), scaled), lanes);
  });
}

template <class R, class T>
void layer_norm_forward(const LayerNormForward& p, int64_t begin, int64_t end, float* scratch) {
  const int64_t n = p.cols;
  const R *const weight = static_cast<const R*>(p.weight), *const bias = static_cast<const R*>(p.bias);
  auto* const words = reinterpret_cast<uint32_t*>(scratch + whole_blocks(n));
  RowCursor residual_row(p.residual_rows, begin), branch_row(p.branch_rows, begin);
  for (int64_t row = begin; row < end; ++row, residual_row.next(), branch_row.next()) {
    const R* const residual = static_cast<const R*>(p.residual) + residual_row.offset();
    T* const y = static_cast<T*>(p.y) + row * n;
    Moments moments;
    if (p.branch == nullptr) {
      moments = moments_of(residual, n, p.eps);
      with_dropout(p.dropout, row, n, words,
                   [&](auto drop) { write_normalised(residual, moments, weight, bias, y, n, p.stream_y, drop); });
    } else {
      const T* const branch = static_cast<const T*>(p.branch) + branch_row.offset();
      R* const out = static_cast<R*>(p.x) + row * n;
      R* const x = p.stream_x ? reinterpret_cast<R*>(scratch) : out;
      with_dropout(p.dropout, row, n, words, [&](auto drop) {
        for_each_vector(n, [&](int64_t i, auto lanes, int) {
          store(x + i, load(residual + i, lanes) + drop(i, lanes, load(branch + i, lanes)), lanes);
        });
      });
      moments = moments_of(x, n, p.eps);
      write_normalised(x, moments, weight, bias, y, n, p.stream_y, KeepWhole{});
      if (p.stream_x)
        for_each_vector_to(out, n, true,
                           [&](int64_t i, auto lanes, int) { store(out + i, load(x + i, read(lanes)), lanes); });
    }
    p.mean[row] = moments.mean;
    p.rstd[row] = moments.rstd;
  }
  if (p.stream_x || p.stream_y) end_stream();
}

// One row of the backward pass, and where its parts lie.
template <class R, class T>
struct NormRow {
  const T* grad_y;
  const R* grad_x;  // may be nullptr
  const R* x;
  const R* weight;
  Vec mean, rstd;
};

// The means over the row of g and of g times the normalised row, where g = weight * grad_y.
struct NormMeans {
  float g, along;
};

template <class R, class T, class Drop>
inline NormMeans add_to_sums(const NormRow<R, T>& row, int64_t n, float* sums, Drop drop) {
  Sum g_sum, along_sum;
  for_each_vector(n, [&](int64_t i, auto lanes, int slot) {
    const Vec grad = drop(i, lanes, load(row.grad_y + i, lanes));
    const Vec normalised = (load(row.x + i, lanes) - row.mean) * row.rstd;
    const Vec g = grad * load(row.weight + i, lanes);
    g_sum.slots[slot] = g_sum.slots[slot] + g;
    along_sum.slots[slot] = fma(g, normalised, along_sum.slots[slot]);
    store(sums + i, fma(grad, normalised, load(sums + i, lanes)), lanes);
    store(sums + n + i, load(sums + n + i, lanes) + grad, lanes);
  });
  return {g_sum.total() / static_cast<float>(n), along_sum.total() / static_cast<float>(n)};
}

// grad_x + rstd (g - mean(g) - normalised mean(g normalised)), which is the residual's gradient; kept(i, lanes, value)
// sees it unrounded.
template <class R, class T, class Drop, class Kept>
inline void write_gradient(const NormRow<R, T>& row, NormMeans means, R* out, int64_t n, bool stream, Drop drop,
                           Kept&& kept) {
  for_each_vector_to(out, n, stream, [&](int64_t i, auto lanes, int) {
    const auto whole = read(lanes);
    const Vec normalised = (load(row.x + i, whole) - row.mean) * row.rstd;
    const Vec g = drop(i, whole, load(row.grad_y + i, whole)) * load(row.weight + i, whole);
    Vec grad = (g - splat(means.g) - normalised * splat(means.along)) * row.rstd;
    if (row.grad_x != nullptr) grad = grad + load(row.grad_x + i, whole);
    store(out + i, grad, lanes);
    kept(i, whole, grad);
  });
}

template <class R, class T>
inline void layer_norm_backward_row(const LayerNormBackward& p, const NormRow<R, T>& row, int64_t index, float* sums,
                                    float* scratch) {
  const int64_t n = p.cols;
  auto* const words = reinterpret_cast<uint32_t*>(scratch + whole_blocks(n));
  R* const grad_residual = static_cast<R*>(p.grad_residual) + index * n;
  if (p.grad_branch == nullptr) {
    with_dropout(p.dropout, index, n, words, [&](auto drop) {
      const NormMeans means = add_to_sums(row, n, sums, drop);
      write_gradient(row, means, grad_residual, n, p.stream_residual, drop, [](int64_t, auto, Vec) {});
    });
    return;
  }
  const NormMeans means = add_to_sums(row, n, sums, KeepWhole{});
  write_gradient(row, means, grad_residual, n, p.stream_residual, KeepWhole{},
                 [&](int64_t i, auto lanes, Vec grad) { store(scratch + i, grad, lanes); });
  T* const grad_branch = static_cast<T*>(p.grad_branch) + index * n;
  with_dropout(p.dropout, index, n, words, [&](auto drop) {
    for_each_vector_to(grad_branch, n, p.stream_branch, [&](int64_t i, auto lanes, int) {
      store(grad_branch + i, drop(i, read(lanes), load(scratch + i, read(lanes))), lanes);
    });
  });
}

template <class R, class T>
void layer_norm_backward(const LayerNormBackward& p, int64_t begin, int64_t end, float* scratch) {
  const int64_t n = p.cols;
  const int64_t last = end * kNormBlock < p.rows ? end * kNormBlock : p.rows;
  RowCursor grad_y_row(p.grad_y_rows, begin * kNormBlock), grad_x_row(p.grad_x_rows, begin * kNormBlock),
      x_row(p.x_rows, begin * kNormBlock);
  for (int64_t row = begin * kNormBlock; row < last; ++row, grad_y_row.next(), grad_x_row.next(), x_row.next()) {
    float* const sums = p.sums + row / kNormBlock * 2 * n;
    if (row % kNormBlock == 0) std::memset(sums, 0, static_cast<size_t>(2 * n) * sizeof(float));
    const NormRow<R, T> parts{static_cast<const T*>(p.grad_y) + grad_y_row.offset(),
                              p.grad_x == nullptr ? nullptr : static_cast<const R*>(p.grad_x) + grad_x_row.offset(),
                              static_cast<const R*>(p.x) + x_row.offset(),
                              static_cast<const R*>(p.weight),
                              splat(p.mean[row]),
                              splat(p.rstd[row])};
    layer_norm_backward_row(p, parts, row, sums, scratch);
  }
  if (p.stream_residual || p.stream_branch) end_stream();
}

template <class R>
void layer_norm_sums(const LayerNormSums& p, int64_t begin, int64_t end, float*) {
  R* const outs[] = {static_cast<R*>(p.grad_weight), static_cast<R*>(p.grad_bias)};
  for (int part = 0; part < 2; ++part) {
    for_each_vector_from(begin, end, [&](int64_t i, auto lanes, int) {
      Vec total = splat(0.0f);
      for (int64_t block = 0; block < p.blocks; ++block)
        total = total + load(p.sums + (2 * block + part) * p.cols + i, lanes);
      store(outs[part] + i, total, lanes);
    });
  }
}

}  // namespace fastlm::cpu::FASTLM_ISA
