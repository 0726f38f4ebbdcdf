// Rows of a matrix, shared out to a team in vectors of 16 bytes and held in its registers between two passes.
#pragma once

#include "kernels/cuda/common/team.cuh"

namespace fastlm::cuda {

template <class T>
inline constexpr int kWidth = 16 / static_cast<int>(sizeof(T));  // elements of a vector
template <class T>
using RowVector = Vector<T, kWidth<T>>;

// Where row r of a tensor begins, in elements.
FASTLM_DEVICE int64_t row_offset(const RowLayout& layout, int64_t row) {
  int64_t offset = 0;
  for (int d = layout.dims - 1; d > 0; --d) {
    offset += row % layout.sizes[d] * layout.strides[d];
    row /= layout.sizes[d];
  }
  return layout.dims == 0 ? 0 : offset + row * layout.strides[0];
}

// Columns of a row are counted in 32 bits, which saves registers (csrc/cuda/device.h refuses longer rows); rows are
// not.

// The elements [i, i + kWidth) of a row of n: in one access where they are all there and aligned, those beyond it as 0.
template <class T>
FASTLM_DEVICE RowVector<std::remove_const_t<T>> read(Global<T> row, int i, int n) {
  constexpr int kElements = kWidth<T>;
  if (i + kElements <= n && address(row + i) % 16 == 0) return load_vector<kElements>(row + i);
  RowVector<std::remove_const_t<T>> vector;
  FASTLM_UNROLL
  for (int e = 0; e < kElements; ++e)
    if (i + e < n) vector.set(e, load(row + (i + e)));
  return vector;
}
template <class T>
FASTLM_DEVICE void write(Global<T> row, int i, int n, const RowVector<T>& vector) {
  constexpr int kElements = kWidth<T>;
  if (i + kElements <= n && address(row + i) % 16 == 0) return store_vector(row + i, vector);
  FASTLM_UNROLL
  for (int e = 0; e < kElements; ++e)
    if (i + e < n) store(row + (i + e), vector[e]);
}

// How a team shares out a row of n elements, wherever it lies: the bits of a result do not depend on that. A team that
// holds a row has kVectors a thread; with kVectors = 0 the row is read again in every pass.
template <class T, class Team, int kVectors>
struct Share {
  int n;

  FASTLM_DEVICE explicit Share(int64_t columns) : n(static_cast<int>(columns)) {}

  // body(v, i): this thread's v-th vector begins at element i.
  template <class Body>
  FASTLM_DEVICE void each(Body body) const {
    constexpr int kStep = Team::kSize * kWidth<T>;
    const int first = Team::rank() * kWidth<T>;
    if constexpr (kVectors == 0) {
      FASTLM_UNROLL_4
      for (int i = first; i < n; i += kStep) body(0, i);
    } else {
      FASTLM_UNROLL
      for (int v = 0; v < kVectors; ++v)
        if (first + v * kStep < n) body(v, first + v * kStep);
    }
  }
  FASTLM_DEVICE bool holds(int element) const { return element < n; }
  // Whether this thread has an element of the row.
  FASTLM_DEVICE bool owns(int element) const { return element / kWidth<T> % Team::kSize == Team::rank(); }
};

// One value everywhere.
template <class T, class Team, int kVectors>
FASTLM_DEVICE void fill(const Share<T, Team, kVectors>& share, Global<T> row, float value) {
  RowVector<T> vector;
  FASTLM_UNROLL
  for (int e = 0; e < kWidth<T>; ++e) vector.set(e, from_float<T>(value));
  share.each([&](int, int i) { write(row, i, share.n, vector); });
}

// How a row is read: wherever it lies, or one that begins at a vector, ends with a whole one and is written, too.
template <class T>
struct AnyRow {
  using Element = const T;
  FASTLM_DEVICE static RowVector<T> read_vector(Global<Element> row, int i, int n) { return read(row, i, n); }
};
template <class T>
struct RowOfVectors {
  using Element = T;
  FASTLM_DEVICE static RowVector<T> read_vector(Global<Element> row, int i, int) {
    return load_vector<kWidth<T>>(row + i);
  }
};

// This thread's share of a row.
template <class T, class Team, int kVectors, class Access = AnyRow<T>>
class Row {
 public:
  using Memory = Global<typename Access::Element>;
  FASTLM_DEVICE Row(const Share<T, Team, kVectors>& share, Memory memory) : memory_(memory), n_(share.n) {
    if constexpr (kVectors > 0) share.each([&](int v, int i) { held_[v] = Access::read_vector(memory, i, n_); });
  }
  FASTLM_DEVICE RowVector<T> vector(int v, int i) const {
    if constexpr (kVectors > 0) return held_[v];
    return Access::read_vector(memory_, i, n_);
  }
  // Between two passes: see Vector::forget.
  FASTLM_DEVICE void forget() {
    if constexpr (kVectors > 0) {
      FASTLM_UNROLL
      for (RowVector<T>& vector : held_) vector.forget();
    }
  }

 private:
  Memory memory_;
  int n_;
  RowVector<T> held_[kVectors > 0 ? kVectors : 1];
};

// What runs a row of so many columns: the smallest team that can hold it, else one that reads it twice. Calls
// choice(team, vectors) with a value of the team's type and a std::integral_constant.
template <class T, int kMostVectors, class Choice>
void choose_team(int64_t columns, Choice choice) {
  const int64_t vectors = (columns + kWidth<T> - 1) / kWidth<T>;
  const auto held_by = [&](int64_t threads, int64_t per_thread) { return vectors <= threads * per_thread; };
  if (held_by(32, 1)) return choice(Warp{}, std::integral_constant<int, 1>{});
  if (held_by(32, 4)) return choice(Warp{}, std::integral_constant<int, 4>{});
  if (held_by(128, 4)) return choice(Block<128>{}, std::integral_constant<int, 4>{});
  if (held_by(512, 4)) return choice(Block<512>{}, std::integral_constant<int, 4>{});
  if constexpr (kMostVectors > 4)
    if (held_by(512, kMostVectors)) return choice(Block<512>{}, std::integral_constant<int, kMostVectors>{});
  if (held_by(1024, kMostVectors)) return choice(Block<1024>{}, std::integral_constant<int, kMostVectors>{});
  choice(Block<1024>{}, std::integral_constant<int, 0>{});
}

// The same for rows that are read once, in passing: a warp for short ones, else a block.
template <class Choice>
void choose_passing_team(int64_t columns, Choice choice) {
  if (columns <= 1024) return choice(Warp{});
  choice(Block<512>{});
}

template <class Team>
int64_t blocks_for(int64_t rows) {
  return (rows + Team::kRows - 1) / Team::kRows;
}

}  // namespace fastlm::cuda
