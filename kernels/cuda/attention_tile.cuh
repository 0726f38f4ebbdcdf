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

// Rows of the other side that are looked at together: as many as registers and shared memory allow.
template <class T, int kWidth>
inline constexpr int kOtherRows = (kWidth <= 64 ? 64 : 32) / (sizeof(T) == 4 ? 2 : 1);

template <class T>
inline constexpr int kVector = 16 / static_cast<int>(sizeof(T));

// Rows of one head.
template <class T>
struct HeadRows {
  Global<const T> memory;
  int64_t row_stride;
  int head_dim;

  FASTLM_DEVICE HeadRows(const AttentionInput& input, int head, int64_t head_dim)
      : memory(Global<const T>(input.data) + head * input.head_stride),
        row_stride(input.row_stride),
        head_dim(static_cast<int>(head_dim)) {}
};

// Begins to copy rows [first, first + kRows) into a tile; rows from `end` on and columns from head_dim on are 0.
template <class T, class AnyTile>
FASTLM_DEVICE void begin_to_load(const AnyTile& tile, const HeadRows<T>& from, int first, int end) {
  constexpr int kVectors = AnyTile::kColumns / kVector<T>;
  for (int i = thread_index(); i < AnyTile::kRows * kVectors; i += kBlockThreads) {
    const int row = i / kVectors, column = i % kVectors * kVector<T>;
    const bool present = first + row < end && column < from.head_dim;
    const int64_t offset = present ? (first + row) * from.row_stride + column : 0;
    copy_async_or_zero<kVector<T>>(tile.at(row, column), from.memory + offset, present);
  }
}

// Walks over the rows of the other side that a block meets, kStep at a time, in tiles that take turns:
// begin_to_load(turn, first) brings rows from `first` on, and each warp that meets any of them has its look(turn,
// first). Own rows whose copies were begun before are there at the first look, and nobody uses a tile any more at the
// end.
template <int kStep, class Load, class Look>
FASTLM_DEVICE void walk(const Span& block, const Span& warp, Load begin_to_load, Look look) {
  if (block.begin < block.end) begin_to_load(0, block.begin);
  commit_copies();
  int turn = 0;
  for (int first = block.begin; first < block.end; first += kStep, turn ^= 1) {
    wait_for_copies<0>();
    barrier();  // this tile is there, and nobody looks at the one before any more
    if (first + kStep < block.end) begin_to_load(turn ^ 1, first + kStep);
    commit_copies();
    if (first < warp.end && first + kStep > warp.begin) look(turn, first);
  }
  wait_for_copies<0>();
  barrier();
}

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
  warp_barrier();
  const auto memory = Global<T>(out);
  const int head_dim = static_cast<int>(shape.head_dim), vectors = head_dim / kVector<T>;
  for (int i = lane_index(); i < 16 * vectors; i += 32) {
    const int row = i / vectors, column = i % vectors * kVector<T>;
    if (first + row >= rows) continue;
    store_vector(memory + (((first + row) * shape.heads + head) * head_dim + column),
                 load_vector<kVector<T>>(tile.at(tile_row + row, column)));
  }
}

// Whether a warp's sums hold anything that is not finite.
template <int kCount>
FASTLM_DEVICE bool any_unfinite(const float (&sums)[kCount][4]) {
  float zero = 0.0f;
  FASTLM_UNROLL
  for (int n = 0; n < kCount; ++n) {
    FASTLM_UNROLL
    for (int i = 0; i < 4; ++i) zero = fused(sums[n][i], 0.0f, zero);
  }
  return any_lane(zero != 0.0f || zero != zero);
}

// 16 x 16 scores that a warp looks at, of its own 16 rows and rows [first, first + 16) of the other side.
FASTLM_DEVICE bool meets(const Span& around, int first) { return first < around.end && first + 16 > around.begin; }

// scores (16 x kColumns, by eights) of own rows against rows of the other tile, where the warp meets them; else 0.
template <class T, int kWidth, int kColumns, class OwnTile, class OtherTile>
FASTLM_DEVICE void multiply_by_transpose(float (&scores)[kColumns / 8][4], const OwnTile& own, int own_row,
                                         const OtherTile& other, const Span& around, int first) {
  FASTLM_UNROLL
  for (int n = 0; n < kColumns / 8; ++n) {
    FASTLM_UNROLL
    for (float& score : scores[n]) score = 0.0f;
  }
  FASTLM_UNROLL_4  // more would be loaded ahead than registers hold
      for (int k = 0; k < kWidth; k += 16) {
    const Left<T> left = load_left<T>(own, own_row, k);
    FASTLM_UNROLL
    for (int n = 0; n < kColumns / 8; n += 2) {
      if (!meets(around, first + n * 8)) continue;
      multiply_add(scores[n], scores[n + 1], left, load_right_of_transpose<T>(other, n * 8, k));
    }
  }
}

// sums (16 x kWidth, by eights) += weights (16 x kColumns) * the other tile.
template <class T, int kWidth, int kColumns, class AnyTile>
FASTLM_DEVICE void multiply_by(float (&sums)[kWidth / 8][4], const float (&weights)[kColumns / 8][4],
                               const AnyTile& other, const Span& around, int first) {
  FASTLM_UNROLL
  for (int k = 0; k < kColumns / 8; k += 2) {
    if (!meets(around, first + k * 8)) continue;
    const Left<T> left = as_left<T>(weights[k], weights[k + 1]);
    FASTLM_UNROLL
    for (int n = 0; n < kWidth / 8; n += 2)
      multiply_add(sums[n], sums[n + 1], left, load_right<T>(other, k * 8, n * 8));
  }
}

}  // namespace fastlm::cuda
