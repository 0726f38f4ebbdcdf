// Tiles in shared memory, and the fragments that a warp takes from them for its tensor cores: 16 rows by 16 columns on
// the left (Left), 16 by 16 on the right (Right), 16 by 8 sums (float[4]).
//
// All go through mma.sync.m16n8k16. A float is cut into three bf16 of eight bits, which are all that it has, each
// rounded to nearest, and six of their nine products are added; the others are beyond its last bit (Henry, Tang and
// Heinecke, "Leveraging the bfloat16 artificial intelligence datatype for higher-precision computations", 2019). Tensor
// cores round towards zero as they add up, so their sums of 16 products begin at zero and are added outside (Ootomo and
// Yokota, "Recovering single precision accuracy from tensor cores while surpassing the FP32 theoretical peak
// performance", 2022).
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
// The same, before two neighbours are packed into a word.
template <>
struct Left<float> {
  float pairs[4][2];
};
template <>
struct Right<float> {
  float pairs[4][2];
};

template <class T, class Tile>
FASTLM_DEVICE Left<T> load_left(const Tile& tile, int row, int column) {
  const int lane = lane_index();
  Left<T> left;
  if constexpr (std::is_same_v<T, float>) {
    FASTLM_UNROLL
    for (int i = 0; i < 4; ++i) {
      const auto pair = load_vector<2>(tile.at(row + lane / 4 + i % 2 * 8, column + i / 2 * 8 + lane % 4 * 2));
      left.pairs[i][0] = pair[0];
      left.pairs[i][1] = pair[1];
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
    for (int i = 0; i < 4; ++i) {
      const auto pair = load_vector<2>(tile.at(row + i / 2 * 8 + lane / 4, column + i % 2 * 8 + lane % 4 * 2));
      right.pairs[i][0] = pair[0];
      right.pairs[i][1] = pair[1];
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
    for (int i = 0; i < 4; ++i) {
      const int from = row + i % 2 * 8 + lane % 4 * 2, place = column + i / 2 * 8 + lane / 4;
      right.pairs[i][0] = load(tile.at(from, place));
      right.pairs[i][1] = load(tile.at(from + 1, place));
    }
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
    return {{{first[0], first[1]}, {first[2], first[3]}, {second[0], second[1]}, {second[2], second[3]}}};
  } else {
    return {{pack<T>(first[0], first[1]), pack<T>(first[2], first[3]), pack<T>(second[0], second[1]),
             pack<T>(second[2], second[3])}};
  }
}

// The three parts of a fragment of floats, in words of two bf16.
struct Parts {
  uint32_t words[3][4];
};
FASTLM_DEVICE Parts cut(const float (&pairs)[4][2]) {
  Parts parts;
  FASTLM_UNROLL
  for (int i = 0; i < 4; ++i) {
    float low = pairs[i][0], high = pairs[i][1];
    FASTLM_UNROLL
    for (int part = 0; part < 3; ++part) {
      const uint32_t word = pack<BFloat16>(low, high);
      parts.words[part][i] = word;
      low -= word_as<float>(word << 16);
      high -= word_as<float>(word & 0xFFFF0000u);
    }
  }
  return parts;
}

// sums += left * right, eight columns from the two words of `right` that begin at word `from`.
FASTLM_DEVICE void multiply_add_parts(float (&sums)[4], const Parts& left, const Parts& right, int from) {
  float part_sums[4] = {};
  FASTLM_UNROLL
  for (int order = 2; order >= 0; --order) {  // the smallest products first
    FASTLM_UNROLL
    for (int part = 0; part <= order; ++part) {
      const uint32_t words[2] = {right.words[order - part][from], right.words[order - part][from + 1]};
      mma<BFloat16>(part_sums, left.words[part], words);
    }
  }
  FASTLM_UNROLL
  for (int i = 0; i < 4; ++i) sums[i] += part_sums[i];
}

// The 16 x 16 sums += left * right, as two of eight columns.
template <class T>
FASTLM_DEVICE void multiply_add(float (&first)[4], float (&second)[4], const Left<T>& left, const Right<T>& right) {
  if constexpr (std::is_same_v<T, float>) {
    const Parts a = cut(left.pairs), b = cut(right.pairs);
    multiply_add_parts(first, a, b, 0);
    multiply_add_parts(second, a, b, 2);
  } else {
    const uint32_t low[2] = {right.words[0], right.words[1]}, high[2] = {right.words[2], right.words[3]};
    mma<T>(first, left.words, low);
    mma<T>(second, left.words, high);
  }
}

}  // namespace fastlm::cuda
