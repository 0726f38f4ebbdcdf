// What attention's kernels have in common: how a block moves rows of a head between tensors and tiles, and what of a
// tile of scores its warps must look at.
#pragma once

#include "kernels/cuda/attention.h"
#include "kernels/cuda/attention_span.cuh"
#include "kernels/cuda/common/online_softmax.cuh"
#include "kernels/cuda/common/philox.cuh"
#include "kernels/cuda/common/tile.cuh"

namespace fastlm::cuda {

// Four warps of 16 rows each own the rows of a block.
inline constexpr int kBlockThreads = 128;
inline constexpr int kOwnRows = 64;

// Rows of the other side that shared memory holds at once: so many that four blocks or more share a multiprocessor, and
// one computes while the others wait for memory. Most blocks of short sentences need no second tile.
template <class T, int kWidth>
inline constexpr int kOtherRows = sizeof(T) == 4 ? (kWidth <= 64 ? 64 : 32)
                                                 : (kWidth <= 64   ? 112
                                                    : kWidth <= 96 ? 96
                                                                   : 64);

template <class T>
inline constexpr int kVector = 16 / static_cast<int>(sizeof(T));

// Rows of one head. Between two there are less than 2**31 elements (csrc/cuda/attention.cpp), which is one product
// less.
template <class T>
struct HeadRows {
  Global<const T> memory;
  int row_stride, head_dim;

  FASTLM_DEVICE HeadRows(const AttentionInput& input, int head, int64_t head_dim)
      : memory(Global<const T>(input.data) + head * input.head_stride),
        row_stride(static_cast<int>(input.row_stride)),
        head_dim(static_cast<int>(head_dim)) {}
  FASTLM_DEVICE Global<const T> at(int row, int column) const { return memory + (int64_t{row} * row_stride + column); }
};

// What a block works on: rows from `row` on of a head. Blocks that run side by side have the heads of the same rows,
// which lie next to each other in memory.
struct Task {
  int head, row;
};
FASTLM_DEVICE Task task_of(const AttentionShape& shape) {
  const int block = static_cast<int>(block_x()), heads = static_cast<int>(shape.heads);
  return {block % heads, block / heads * kOwnRows};
}
inline int64_t blocks_of(int64_t rows, const AttentionShape& shape) {
  return (rows + kOwnRows - 1) / kOwnRows * shape.heads;
}

// Rows that threads bring from memory into a tile, 16 bytes each: kRowsAtOnce rows together, then the next.
template <class T, class AnyTile>
struct Copies {
  static constexpr int kVectors = AnyTile::kColumns / kVector<T>, kRowsAtOnce = kBlockThreads / kVectors;
  AnyTile tile;
  Global<const T> memory;  // of the thread's column in the tile's row 0
  int64_t row_stride;

  FASTLM_DEVICE Copies(const AnyTile& tile, const HeadRows<T>& from, int first)
      : tile(tile), memory(from.at(first + own_row(), own_column())), row_stride(from.row_stride) {}
  FASTLM_DEVICE static int own_row() { return thread_index() / kVectors; }
  FASTLM_DEVICE static int own_column() { return thread_index() % kVectors * kVector<T>; }
  FASTLM_DEVICE void begin(int row, bool present) {
    copy_async_or_zero<kVector<T>>(tile.at(row, own_column()), memory, present);
    memory = memory + kRowsAtOnce * row_stride;
  }
};

// Begins to copy the first `rows` rows of each tile; those from `end` on and columns from head_dim on are 0.
template <class T, class AnyTile, class... Others>
FASTLM_DEVICE void begin_to_load(int rows, int end, int head_dim, Copies<T, AnyTile> copies, Others... others) {
  using Shares = Copies<T, AnyTile>;
  const int row = Shares::own_row();
  if (row >= Shares::kRowsAtOnce) return;
  const bool present = Shares::own_column() < head_dim;
  FASTLM_UNROLL_2
  for (int begin = 0; begin < AnyTile::kRows; begin += Shares::kRowsAtOnce) {
    const int i = begin + row;
    if (i >= rows) return;
    copies.begin(i, present && i < end);
    (others.begin(i, present && i < end), ...);
  }
}

// Walks over the rows of the other side that a block meets, a tile of kRows at a time: load(first, rows) begins to
// bring them and what a chunk of 16 may take too many, and each warp has its look(first) at the tile. Own rows whose
// copies were begun before are there at the first look, and a warp may overwrite its own in the end. One tile at a
// time: other blocks of the multiprocessor compute meanwhile.
template <int kRows, class Load, class Look>
FASTLM_DEVICE void walk(const Span& block, Load load, Look look) {
  int first = block.begin < block.end ? block.begin : 0;
  while (true) {
    const int rows = block.end - first + 15;
    load(first, rows < kRows ? rows : kRows);
    commit_copies();
    wait_for_copies<0>();
    barrier();
    look(first);
    if (block.end - first <= kRows) break;
    first += kRows;
    barrier();  // nobody looks at this tile any more
  }
  warp_barrier();
}

// Calls body(std::integral_constant<int, count>{}), for counts from 1 to kMost.
template <int kMost, class Body>
FASTLM_DEVICE void with_count(int count, Body body) {
  if constexpr (kMost > 1) {
    if (count < kMost) return with_count<kMost - 1>(count, body);
  }
  body(std::integral_constant<int, kMost>{});
}

// Cuts what a warp meets of a tile of kRows rows, which begins at row `first`, into chunks of up to kMost times 16
// rows: look(blocks, row) has the number of 16 rows and the row of the tile where they begin. Chunks may hold rows that
// nobody here sees.
template <int kRows, int kMost, class Look>
FASTLM_DEVICE void each_chunk(const Span& warp, int first, Look look) {
  const int begin = warp.begin > first ? warp.begin - first : 0;
  const int end = warp.end - first < kRows ? warp.end - first : kRows;
  if (begin >= end) return;
  int blocks = (end - begin + 15) / 16;
  int row = begin < kRows - 16 * blocks ? begin : kRows - 16 * blocks;  // not beyond the tile
  for (; blocks > 0; blocks -= kMost, row += 16 * kMost) look(blocks < kMost ? blocks : kMost, row);
}

// Columns of a chunk that begins at row `first` of the other side: which of a lane's it is that an own row meets.
struct Inside {
  int offset;  // of the lane's first column from the span's first
  unsigned length;

  FASTLM_DEVICE Inside(const Span& span, int first)
      : offset(first + lane_index() % 4 * 2 - span.begin), length(length_of(span)) {}
  // Of the lane's column e in eight n.
  FASTLM_DEVICE bool operator()(int n, int e) const { return static_cast<unsigned>(offset + 8 * n + e) < length; }
};

// A warp's sums, 16 rows of kWidth columns, times `factor` of each row, into rows of a tile that only this warp uses.
template <class T, int kWidth, class AnyTile>
FASTLM_DEVICE void put_sums(const float (&sums)[kWidth / 8][4], const float (&factor)[2], const AnyTile& tile,
                            int tile_row) {
  FASTLM_UNROLL
  for (int n = 0; n < kWidth / 8; ++n) {
    FASTLM_UNROLL
    for (int below = 0; below < 2; ++below) {
      Vector<T, 2> pair;
      pair.set(0, from_float<T>(sums[n][2 * below] * factor[below]));
      pair.set(1, from_float<T>(sums[n][2 * below + 1] * factor[below]));
      store_vector(tile.at(tile_row + lane_index() / 4 + 8 * below, n * 8 + lane_index() % 4 * 2), pair);
    }
  }
}

// 16 rows of a tile as rows [first, first + 16) of a contiguous tensor (rows, heads, head_dim), by the warp that put
// them there.
template <class T, class AnyTile>
FASTLM_DEVICE void store_rows(const AnyTile& tile, int tile_row, void* out, int head, const AttentionShape& shape,
                              int first, int rows) {
  constexpr int kVectors = AnyTile::kColumns / kVector<T>, kRowsAtOnce = 32 / kVectors;
  static_assert(kVectors <= 32);
  warp_barrier();
  const int row = lane_index() / kVectors, column = lane_index() % kVectors * kVector<T>;
  const int head_dim = static_cast<int>(shape.head_dim);
  const int64_t row_stride = shape.heads * head_dim;
  Global<T> memory = Global<T>(out) + ((first + row) * row_stride + head * head_dim + column);
  FASTLM_UNROLL
  for (int begin = 0; begin < 16; begin += kRowsAtOnce) {
    const int i = begin + row;
    if (row < kRowsAtOnce && i < 16 && first + i < rows && column < head_dim)
      store_vector(memory, load_vector<kVector<T>>(tile.at(tile_row + i, column)));
    memory = memory + kRowsAtOnce * row_stride;
  }
}

// Whether a warp's sums hold anything that is not finite.
template <int kCount>
FASTLM_DEVICE bool any_unfinite(const float (&sums)[kCount][4]) {
  float zeros[4] = {};
  FASTLM_UNROLL
  for (int n = 0; n < kCount; ++n) {
    FASTLM_UNROLL
    for (int i = 0; i < 4; ++i) zeros[i] = fused(sums[n][i], 0.0f, zeros[i]);
  }
  const float zero = zeros[0] + zeros[1] + zeros[2] + zeros[3];
  return any_lane(zero != 0.0f || zero != zero);
}

// scores (16 x 16 kCount, by eights) of own rows against rows of the other tile from `row` on.
template <class T, int kWidth, int kCount, class OwnTile, class OtherTile>
FASTLM_DEVICE void multiply_by_transpose(float (&scores)[2 * kCount][4], const OwnTile& own, int own_row,
                                         const OtherTile& other, int row) {
  FASTLM_UNROLL
  for (int n = 0; n < 2 * kCount; ++n) {
    FASTLM_UNROLL
    for (float& score : scores[n]) score = 0.0f;
  }
  FASTLM_UNROLL_4  // more would be loaded ahead than registers hold
      for (int k = 0; k < kWidth; k += 16) {
    const Left<T> left = load_left<T>(own, own_row, k);
    FASTLM_UNROLL
    for (int n = 0; n < 2 * kCount; n += 2)
      multiply_add(scores[n], scores[n + 1], left, load_right_of_transpose<T>(other, row + n * 8, k));
  }
}

// sums (16 x kWidth, by eights) += weights (16 x 16 kCount) * rows of the other tile from `row` on.
template <class T, int kWidth, int kCount, class AnyTile>
FASTLM_DEVICE void multiply_by(float (&sums)[kWidth / 8][4], const float (&weights)[2 * kCount][4],
                               const AnyTile& other, int row) {
  FASTLM_UNROLL
  for (int k = 0; k < 2 * kCount; k += 2) {
    const Left<T> left = as_left<T>(weights[k], weights[k + 1]);
    FASTLM_UNROLL
    for (int n = 0; n < kWidth / 8; n += 2)
      multiply_add(sums[n], sums[n + 1], left, load_right<T>(other, row + k * 8, n * 8));
  }
}

}  // namespace fastlm::cuda
