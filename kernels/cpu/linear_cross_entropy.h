// What lies between the matrix products of an output layer with cross-entropy: a row of products is read from memory
// once, gives loss and accuracy, and is replaced by its gradient, its exponentials waiting in the second-level cache.
#pragma once

#include "kernels/cpu/cross_entropy.h"

namespace fastlm::cpu::FASTLM_ISA {

// A row of logits that are nowhere in memory: products, and the bias to add as they are read.
template <class T>
struct Biased {
  const T* x;
  const T* bias;
  Biased operator+(int64_t i) const { return {x + i, bias + i}; }
};
template <class T, class Lanes>
inline Vec load(Biased<T> row, Lanes lanes) {
  return load(row.x, lanes) + load(row.bias, lanes);
}

template <class T>
inline const T* address(Biased<T> row) {
  return row.x;
}

inline bool is_nan(double a) { return a != a; }  // std::isnan would be a symbol outside this namespace

// Whether an argmax gives the target: the first of the largest values, or the first NaN. A row without NaN is read
// again only up to its target, and only where that is a largest value.
template <class Source>
inline bool is_argmax(Source x, int64_t n, int64_t target, const RowLoss& row) {
  if (is_nan(row.lse)) {  // a NaN, or infinities
    for (int64_t i = 0; i < n; ++i)
      if (is_nan(value_at(x, i))) return i == target;
  }
  return value_at(x, target) == row.maximum && (target == 0 || largest(x, target) < row.maximum);
}

// The gradient from the exponentials that row_loss kept. Their sum is made of them, so that a probability near 1, all
// but alone in it, is nearly exact.
template <class T>
inline void kept_gradient(const float* e, T* grad, int64_t n, int64_t target, float g, const RowLoss& row,
                          float smoothing) {
  const float inverse = static_cast<float>(1.0 / row.sum);
  const MinusWanted minus_wanted(target, g, smoothing, n);
  for (int64_t begin = 0, chunk = 0; begin < n; begin += kChunk, ++chunk) {
    const Vec factor = splat(inverse * rescale(e[n + chunk], row.maximum, Unscaled{}));
    for_each_vector(n - begin < kChunk ? n - begin : kChunk, [&](int64_t i, auto lanes, int) {
      const Vec probability = load(e + begin + i, lanes) * factor;
      store(grad + begin + i, fma(probability, splat(g), minus_wanted.at(begin + i)), lanes);
    });
  }
}

template <class T, class SourceOf>
inline void logits_rows(const LogitsChunk& p, SourceOf source_of, int64_t begin, int64_t end, float* scratch) {
  for (int64_t row = begin; row < end; ++row) {
    T* const logits = static_cast<T*>(p.logits) + row * p.row_stride;
    const auto x = source_of(logits);
    const int64_t target = target_of(p.targets, row);
    const RowKind kind = row_kind(p.targets, target, p.cols);
    if (kind != RowKind::kScored) {
      const float value = kind == RowKind::kIgnored ? 0.0f : NAN;
      p.row_loss[row] = value;
      p.row_correct[row] = false;
      if (p.want_gradient) fill_row(logits, p.cols, value);
      continue;
    }
    const Columns<std::decay_t<decltype(x)>, KeepAll> columns{x, p.cols, {}}, none{x, 0, {}};
    float maximum = chunk_maximum(columns.chunk(0), Unscaled{});
    const RowLoss result = p.want_gradient
                               ? row_loss<T, true>(columns, none, maximum, target, p.label_smoothing, scratch)
                               : row_loss<T>(columns, none, maximum, target, p.label_smoothing);
    p.row_loss[row] = result.loss;
    p.row_correct[row] = is_argmax(x, p.cols, target, result);
    if (!p.want_gradient) continue;
    const float g = p.grad_row_loss == nullptr ? 1.0f : p.grad_row_loss[row];
    kept_gradient(scratch, logits, p.cols, target, g, result, p.label_smoothing);
  }
}

template <class T>
void logits_chunk(const LogitsChunk& p, int64_t begin, int64_t end, float* scratch) {
  const T* const bias = static_cast<const T*>(p.bias);
  if (bias == nullptr) return logits_rows<T>(p, [](const T* row) { return row; }, begin, end, scratch);
  logits_rows<T>(p, [bias](const T* row) { return Biased<T>{row, bias}; }, begin, end, scratch);
}

template <class T>
void add_matrix(const AddMatrix& p, int64_t begin, int64_t end, float*) {
  const T* const x = static_cast<const T*>(p.x) + begin * p.cols;
  float* const sum = p.sum + begin * p.cols;
  const int64_t n = (end - begin) * p.cols;
  if (!p.first)
    return for_each_vector(
        n, [&](int64_t i, auto lanes, int) { store(sum + i, load(sum + i, lanes) + load(x + i, lanes), lanes); });
  for_each_vector_to(sum, n, p.stream,
                     [&](int64_t i, auto lanes, int) { store(sum + i, load(x + i, read(lanes)), lanes); });
  if (p.stream) end_stream();
}

template <class From>
struct ScaleFrom {
  template <class To>
  static void matrix(const ScaleMatrix& p, int64_t begin, int64_t end, float*) {
    const From* const x = static_cast<const From*>(p.x) + begin * p.cols;
    To* const out = static_cast<To*>(p.out) + begin * p.cols;
    const Vec factor = splat(*p.factor);
    for_each_vector_to(out, (end - begin) * p.cols, p.stream,
                       [&](int64_t i, auto lanes, int) { store(out + i, load(x + i, read(lanes)) * factor, lanes); });
    if (p.stream) end_stream();
  }
};

// As many columns at a time as are summed in the first-level cache, rows in their order.
template <class T>
void add_columns(const AddColumns& p, int64_t begin, int64_t end, float* scratch) {
  for (int64_t first = begin; first < end; first += kChunk) {
    const int64_t n = end - first < kChunk ? end - first : kChunk;
    fill_row(scratch, n, 0.0f);
    for (int64_t row = 0; row < p.rows; ++row) {
      const T* const x = static_cast<const T*>(p.x) + row * p.row_stride + first;
      for_each_vector(n, [&](int64_t i, auto lanes, int) {
        store(scratch + i, load(scratch + i, lanes) + load(x + i, lanes), lanes);
      });
    }
    float* const sums = p.sums + first;
    for_each_vector(n, [&](int64_t i, auto lanes, int) {
      store(sums + i, load(sums + i, lanes) + load(scratch + i, lanes), lanes);
    });
  }
}

}  // namespace fastlm::cpu::FASTLM_ISA
