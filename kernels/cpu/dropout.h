// The random words of dropout; generator and counter layouts are specified in fastlm/ops/philox.py.
#pragma once

#include "kernels/cpu/kernels.h"

namespace fastlm::cpu::FASTLM_ISA {

// Words below it drop. A threshold of 2^32 drops all but one word in 2^32, and that is scaled by 0.
inline uint32_t limit_of(uint64_t threshold) {
  return threshold > 0xffffffffu ? 0xffffffffu : static_cast<uint32_t>(threshold);
}

// Philox4x32-7: turns kWidth counters into their words.
inline __attribute__((always_inline)) void philox(Words& c0, Words& c1, Words& c2, Words& c3, uint64_t seed) {
  uint32_t key0 = static_cast<uint32_t>(seed), key1 = static_cast<uint32_t>(seed >> 32);
#pragma GCC unroll 7
  for (int round = 0; round < 7; ++round) {
    Words high0, high1;
    const Words low0 = multiply_wide(c0, 0xD2511F53, &high0), low1 = multiply_wide(c2, 0xCD9E8D57, &high1);
    c0 = exclusive_or(exclusive_or(high1, c1), splat_words(key0));
    c2 = exclusive_or(exclusive_or(high0, c3), splat_words(key1));
    c1 = low1;
    c3 = low0;
    key0 += 0x9E3779B9;
    key1 += 0xBB67AE85;
  }
}

// Attention: words[4 i + w] = word w at the counter (block[i], row[i], head, 0), for kWidth counters.
inline void draw_keys(Words block, Words row, uint32_t head, uint64_t seed, uint32_t* words) {
  Words c0 = block, c1 = row, c2 = splat_words(head), c3 = splat_words(0);
  philox(c0, c1, c2, c3, seed);
  store_interleaved(words, c0, c1, c2, c3);
}

// words[r * stride + j] decides row first_row + r and key first_key + j, for rows [0, rows) and j in [0, keys).
// first_key is a multiple of 4, and keys may be exceeded by up to 3. Where a row fills no vector, rows share one.
inline void draw_words(uint64_t seed, uint32_t head, int64_t first_row, int64_t rows, int64_t first_key, int64_t keys,
                       uint32_t* words, int64_t stride) {
  const int64_t all = (keys + 3) / 4, whole = all / kWidth * kWidth, blocks = all - whole, draws = rows * blocks;
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t b = 0; b < whole; b += kWidth)
      draw_keys(count_from(static_cast<uint32_t>(first_key / 4 + b)), splat_words(static_cast<uint32_t>(first_row + r)),
                head, seed, words + r * stride + 4 * b);
  words += 4 * whole;
  first_key += 4 * whole;
  uint32_t block[kWidth], row[kWidth], drawn[4 * kWidth];
  int64_t r = 0, b = 0;
  for (int64_t first = 0; first < draws; first += kWidth) {
    uint32_t* to[kWidth];
    for (int i = 0; i < kWidth; ++i) {
      block[i] = static_cast<uint32_t>(first_key / 4 + b);
      row[i] = static_cast<uint32_t>(first_row + r);
      to[i] = words + r * stride + 4 * b;
      if (++b == blocks) {
        b = 0;
        ++r;
      }
    }
    draw_keys(load_words(block), load_words(row), head, seed, drawn);
    const int count = static_cast<int>(draws - first < kWidth ? draws - first : kWidth);
    for (int i = 0; i < count; ++i) std::memcpy(to[i], drawn + 4 * i, 4 * sizeof(uint32_t));
  }
}

// Columns up to a whole block.
inline int64_t whole_blocks(int64_t cols) { return (cols + kDropoutBlock - 1) / kDropoutBlock * kDropoutBlock; }

// Hidden states: words[j] decides column j of the row, for whole blocks.
inline void draw_columns(uint64_t seed, int64_t row, int64_t cols, uint32_t* words) {
  constexpr int64_t kColumns = kDropoutBlock / 4;  // neighbours that take one word each of as many counters
  const auto low = static_cast<uint32_t>(row), high = static_cast<uint32_t>(row >> 32);
  for (int64_t block = 0; block < cols; block += kDropoutBlock) {
    for (int64_t lane = 0; lane < kColumns; lane += kWidth) {
      Words c0 = count_from(static_cast<uint32_t>(block / 4 + lane));
      Words c1 = splat_words(low), c2 = splat_words(high), c3 = splat_words(1);
      philox(c0, c1, c2, c3, seed);
      uint32_t* const to = words + block + lane;
      store_words(to, c0);
      store_words(to + kColumns, c1);
      store_words(to + 2 * kColumns, c2);
      store_words(to + 3 * kColumns, c3);
    }
  }
}

}  // namespace fastlm::cpu::FASTLM_ISA
