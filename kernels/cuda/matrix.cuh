// Copies and sums of matrices. None is worth more than its bytes; sums have one order, whatever runs first.
#pragma once

#include "kernels/cuda/cross_entropy.cuh"
#include "kernels/cuda/matrix.h"

namespace fastlm::cuda {

template <class T, class RowTeam>
struct CountedRowsKernel {
  using Team = RowTeam;
  static constexpr int kThreads = Team::kThreads;

  FASTLM_DEVICE static void run(const CountedRows& p) {
    const int64_t row = block_x() * Team::kRows + Team::row();
    if (row >= p.rows) return;
    const Share<T, Team, 0> share(p.cols);
    const Global<T> out = Global<T>(p.out) + row * p.cols;
    if (target_of(p.targets, row) == p.targets.ignore_index) return fill(share, out, 0.0f);
    const Global<const T> x = Global<const T>(p.x) + row * p.row_stride;
    share.each([&](int, int i) { write(out, i, share.n, read(x, i, share.n)); });
  }
};

template <class T>
void counted_rows(const CountedRows& params, Stream stream) {
  choose_passing_team(params.cols, [&](auto team) {
    using Team = decltype(team);
    launch<CountedRowsKernel<T, Team>>(blocks_for<Team>(params.rows), 1, Team::kSharedBytes, stream, params);
  });
}

// ---- sums of columns -----------------------------------------------------------------------------------------------
template <class T>
struct SliceSumsKernel {
  static constexpr int kThreads = 128;

  FASTLM_DEVICE static void run(const AddColumns& p) {
    const int n = static_cast<int>(p.cols), i = static_cast<int>(block_x() * kThreads + thread_index()) * kWidth<T>;
    const int64_t first = block_y() * kColumnSlice;
    const int64_t last = first + kColumnSlice < p.rows ? first + kColumnSlice : p.rows;
    if (i >= n) return;
    const Global<const T> x = Global<const T>(p.x);
    float sums[kWidth<T>] = {};
    FASTLM_UNROLL_4
    for (int64_t row = first; row < last; ++row) {
      const RowVector<T> vector = read(x + row * p.row_stride, i, n);
      FASTLM_UNROLL
      for (int e = 0; e < kWidth<T>; ++e) sums[e] += to_float(vector[e]);
    }
    const Global<float> slice = Global<float>(p.slices) + block_y() * p.cols;
    FASTLM_UNROLL
    for (int e = 0; e < kWidth<T>; ++e)
      if (i + e < n) store(slice + (i + e), sums[e]);
  }
};

struct AddSlicesKernel {
  static constexpr int kThreads = 256;

  FASTLM_DEVICE static void run(const AddColumns& p) {
    const int64_t column = block_x() * kThreads + thread_index();
    if (column >= p.cols) return;
    const Global<const float> slices = Global<const float>(p.slices);
    float sum = 0.0f;
    FASTLM_UNROLL_4
    for (int64_t first = 0, slice = 0; first < p.rows; first += kColumnSlice, ++slice)
      sum += load(slices + (slice * p.cols + column));
    const Global<float> total = Global<float>(p.sums) + column;
    store(total, load(total) + sum);
  }
};

template <class T>
void add_columns(const AddColumns& params, Stream stream) {
  constexpr int64_t kColumns = SliceSumsKernel<T>::kThreads * kWidth<T>;
  const int64_t slices = (params.rows + kColumnSlice - 1) / kColumnSlice;
  launch<SliceSumsKernel<T>>((params.cols + kColumns - 1) / kColumns, slices, 0, stream, params);
  constexpr int64_t kThreads = AddSlicesKernel::kThreads;
  launch<AddSlicesKernel>((params.cols + kThreads - 1) / kThreads, 1, 0, stream, params);
}

// ---- element by element --------------------------------------------------------------------------------------------
// A thread's share of an array: kCount elements, as many as the widest vector holds.
struct ArrayShare {
  static constexpr int kThreads = 256;
  static constexpr int kCount = 8;
  int64_t begin;  // of the block
  int n, i;       // elements of the block, and where the thread's begin

  FASTLM_DEVICE explicit ArrayShare(int64_t count)
      : begin(block_x() * kThreads * kCount),
        n(static_cast<int>(count - begin < kThreads * kCount ? count - begin : kThreads * kCount)),
        i(thread_index() * kCount) {}
  static int64_t blocks(int64_t count) { return (count + kThreads * kCount - 1) / (kThreads * kCount); }

  template <class T>
  FASTLM_DEVICE void load_floats(Global<T> array, float (&x)[kCount]) const {
    using Value = std::remove_const_t<T>;
    FASTLM_UNROLL
    for (int k = 0; k < kCount; k += kWidth<Value>) {
      const RowVector<Value> vector = read(array + begin, i + k, n);
      FASTLM_UNROLL
      for (int e = 0; e < kWidth<Value>; ++e) x[k + e] = to_float(vector[e]);
    }
  }
  template <class T>
  FASTLM_DEVICE void store_floats(Global<T> array, const float (&x)[kCount]) const {
    FASTLM_UNROLL
    for (int k = 0; k < kCount; k += kWidth<T>) {
      RowVector<T> vector;
      FASTLM_UNROLL
      for (int e = 0; e < kWidth<T>; ++e) vector.set(e, from_float<T>(x[k + e]));
      write(array + begin, i + k, n, vector);
    }
  }
};

template <class From, class To>
struct ScaleMatrixKernel {
  static constexpr int kThreads = ArrayShare::kThreads;

  FASTLM_DEVICE static void run(const ScaleMatrix& p) {
    const ArrayShare share(p.rows * p.cols);
    const float factor = load(Global<const float>(p.factor));
    float x[ArrayShare::kCount];
    share.load_floats(Global<const From>(p.x), x);
    FASTLM_UNROLL
    for (float& value : x) value *= factor;
    share.store_floats(Global<To>(p.out), x);
  }
};

template <class From, class To>
void scale_matrix(const ScaleMatrix& params, Stream stream) {
  launch<ScaleMatrixKernel<From, To>>(ArrayShare::blocks(params.rows * params.cols), 1, 0, stream, params);
}

struct AddArrayKernel {
  static constexpr int kThreads = ArrayShare::kThreads;

  FASTLM_DEVICE static void run(const AddArray& p) {
    const ArrayShare share(p.count);
    const Global<float> sum = Global<float>(p.sum);
    float x[ArrayShare::kCount], total[ArrayShare::kCount];
    share.load_floats(Global<const float>(p.x), x);
    share.load_floats(sum, total);
    FASTLM_UNROLL
    for (int e = 0; e < ArrayShare::kCount; ++e) total[e] += x[e];
    share.store_floats(sum, total);
  }
};

}  // namespace fastlm::cuda
