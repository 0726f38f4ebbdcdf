// Tiles in shared memory, and the fragments that a warp takes from them for its tensor cores: 16 rows by 16 columns on
// the left (Left), 16 by 16 on the right (Right), 16 by 8 sums (float[4]).
//
// bf16 and fp16 go through mma.sync.m16n8k16. fp32 goes through m16n8k8 of tf32, three times: x = high + low, each of
// 11 bits, and high * high + high * low + low * high misses x * y by 2^-22 of it.
#pragma once

#include "kernels/cuda/common/device.cuh"

namespace fastlm::cuda {

// Rows are padded so that eight of them begin in different banks.
template <class T, int kTileRows, int kTileColumns>
struct Tile {
  static constexpr int kRows = kTileRows;
  static constexpr int kColumns = kTileColumns;
  static constexpr int kPitch = kTileColumns + 8;
  static constexpr int64_t kBytes = int64_t{kTileRows} * kPitch * sizeof(T);

  Shared<T> memory;

  FASTLM_DEVICE explicit Tile(int64_t offset) : memory(shared_memory<T>(offset)) {}
  FASTLM_DEVICE Shared<T> at(int row, int column) const { return memory + (row * kPitch + column); }
};

// ---- fragments
// -------------------------------------------------------------------------------------------------------
template <class T>
struct Left {
  uint32_t words[4];
};
template <class T>
struct Right {
  uint32_t words[4];  // columns 0 to 7 in the first two
};
// Columns k and k + 1 where the tensor core's order has k and k + 4, on both sides: a sum does not mind, and so sums
// are left fragments as they are, and neighbours are loaded together.
template <>
struct Left<float> {
  float values[2][4];  // by eight columns
};
template <>
struct Right<float> {
  float values[2][2][2];  // by eight columns, eight rows
};

template <class T, class Tile>
FASTLM_DEVICE Left<T> load_left(const Tile& tile, int row, int column) {
  const int lane = lane_index();
  Left<T> left;
  if constexpr (std::is_same_v<T, float>) {
    FASTLM_UNROLL
    for (int half = 0; half < 2; ++half) {
      FASTLM_UNROLL
      for (int below = 0; below < 2; ++below) {
        const auto pair = load_vector<2>(tile.at(row + lane / 4 + below * 8, column + half * 8 + lane % 4 * 2));
        left.values[half][below] = pair[0];
        left.values[half][below + 2] = pair[1];
      }
    }
  } else {
    load_matrices<false>(left.words, tile.at(row + lane % 16, column + lane / 16 * 8));
  }
  return left;
}

// The right side of a product with the tile's transpose: its rows [row, row + 16) are the product's columns.
template <class T, class Tile>
FASTLM_DEVICE Right<T> load_right_of_transpose(const Tile& tile, int row, int column) {
  const int lane = lane_index();
  Right<T> right;
  if constexpr (std::is_same_v<T, float>) {
    FASTLM_UNROLL
    for (int n = 0; n < 2; ++n) {
      FASTLM_UNROLL
      for (int half = 0; half < 2; ++half) {
        const auto pair = load_vector<2>(tile.at(row + n * 8 + lane / 4, column + half * 8 + lane % 4 * 2));
        right.values[n][half][0] = pair[0];
        right.values[n][half][1] = pair[1];
      }
    }
  } else {
    load_matrices<false>(right.words, tile.at(row + lane / 16 * 8 + lane % 8, column + lane / 8 % 2 * 8));
  }
  return right;
}

// The right side of a product with the tile: its rows [row, row + 16) are summed over.
template <class T, class Tile>
FASTLM_DEVICE Right<T> load_right(const Tile& tile, int row, int column) {
  const int lane = lane_index();
  Right<T> right;
  if constexpr (std::is_same_v<T, float>) {
    FASTLM_UNROLL
    for (int n = 0; n < 2; ++n) FASTLM_UNROLL
    for (int half = 0; half < 2; ++half) FASTLM_UNROLL
    for (int next = 0; next < 2; ++next)
      right.values[n][half][next] = load(tile.at(row + half * 8 + lane % 4 * 2 + next, column + n * 8 + lane / 4));
  } else {
    load_matrices<true>(right.words, tile.at(row + lane % 16, column + lane / 16 * 8));
  }
  return right;
}

template <class T>
FASTLM_DEVICE uint32_t pack(float low, float high) {
  return uint32_t{from_float<T>(low).bits} | uint32_t{from_float<T>(high).bits} << 16;
}

// Sixteen columns of sums as the left side of the next product, rounded to T.
template <class T>
FASTLM_DEVICE Left<T> as_left(const float (&first)[4], const float (&second)[4]) {
  if constexpr (std::is_same_v<T, float>) {
    return {{{first[0], first[2], first[1], first[3]}, {second[0], second[2], second[1], second[3]}}};
  } else {
    return {{pack<T>(first[0], first[1]), pack<T>(first[2], first[3]), pack<T>(second[0], second[1]),
             pack<T>(second[2], second[3])}};
  }
}

template <int kCount>
FASTLM_DEVICE void split(const float (&x)[kCount], float (&high)[kCount], float (&low)[kCount]) {
  FASTLM_UNROLL
  for (int i = 0; i < kCount; ++i) {
    high[i] = to_tf32(x[i]);
    low[i] = to_tf32(x[i] - high[i]);
  }
}

// The 16 x 16 sums += left * right, as two of eight columns.
template <class T>
FASTLM_DEVICE void multiply_add(float (&first)[4], float (&second)[4], const Left<T>& left, const Right<T>& right) {
  if constexpr (std::is_same_v<T, float>) {
    FASTLM_UNROLL
    for (int half = 0; half < 2; ++half) {
      float left_high[4], left_low[4];
      split(left.values[half], left_high, left_low);
      FASTLM_UNROLL
      for (int n = 0; n < 2; ++n) {
        float right_high[2], right_low[2];
        split(right.values[n][half], right_high, right_low);
        float (&sum)[4] = n == 0 ? first : second;
        mma_tf32(sum, left_low, right_high);
        mma_tf32(sum, left_high, right_low);
        mma_tf32(sum, left_high, right_high);
      }
    }
  } else {
    const uint32_t low[2] = {right.words[0], right.words[1]}, high[2] = {right.words[2], right.words[3]};
    mma<T>(first, left.words, low);
    mma<T>(second, left.words, high);
  }
}

}  // namespace fastlm::cuda
