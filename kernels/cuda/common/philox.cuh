// Philox4x32 with seven rounds, as fastlm/ops/philox.py specifies it.
#pragma once

#include "kernels/cuda/common/device.cuh"

namespace fastlm::cuda {

FASTLM_DEVICE uint64_t seed_of(const Dropout& dropout) {
  if (dropout.seed_on_device == nullptr) return dropout.seed;
  return static_cast<uint64_t>(load(Global<const int64_t>(dropout.seed_on_device)));
}

struct PhiloxWords {
  uint32_t words[4];
};

FASTLM_DEVICE PhiloxWords philox(uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3, uint64_t seed) {
  uint32_t key0 = static_cast<uint32_t>(seed), key1 = static_cast<uint32_t>(seed >> 32);
  FASTLM_UNROLL
  for (int round = 0; round < 7; ++round) {
    const uint64_t product0 = uint64_t{0xD2511F53u} * c0, product1 = uint64_t{0xCD9E8D57u} * c2;
    c0 = static_cast<uint32_t>(product1 >> 32) ^ c1 ^ key0;
    c2 = static_cast<uint32_t>(product0 >> 32) ^ c3 ^ key1;
    c1 = static_cast<uint32_t>(product1);
    c3 = static_cast<uint32_t>(product0);
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}

// ---- attention's dropout --------------------------------------------------------------------------------------------
// The words of keys [4 group, 4 group + 4).
FASTLM_DEVICE PhiloxWords key_words(uint64_t seed, int head, int query, int group) {
  return philox(static_cast<uint32_t>(group), static_cast<uint32_t>(query), static_cast<uint32_t>(head), 0, seed);
}

// Bit i: whether a query's probability at key position `first + i` is kept, for 16 keys; higher bits mean nothing, nor
// do those of positions below 0. The threshold is not 0.
FASTLM_DEVICE uint32_t kept_keys(const Dropout& dropout, int head, int query, int first) {
  const uint64_t seed = seed_of(dropout);
  const auto below = static_cast<uint32_t>(dropout.threshold - 1);
  uint32_t kept = 0;
  FASTLM_UNROLL
  for (int i = 0; i < 5; ++i) {
    const PhiloxWords drawn = key_words(seed, head, query, (first >> 2) + i);
    FASTLM_UNROLL
    for (int w = 0; w < 4; ++w)
      if (drawn.words[w] > below) kept |= 1u << (4 * i + w);
  }
  return kept >> (first & 3);
}

// ---- dropout of hidden states ---------------------------------------------------------------------------------------
// Word w decides column `column + 16 w` of a row; column % 64 is below 16.
FASTLM_DEVICE PhiloxWords column_words(uint64_t seed, int64_t row, int column) {
  const auto counter = static_cast<uint32_t>(column / 64 * 16 + column % 64);
  return philox(counter, static_cast<uint32_t>(row), static_cast<uint32_t>(row >> 32), 1, seed);
}

}  // namespace fastlm::cuda
