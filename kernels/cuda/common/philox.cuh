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
    const uint32_t high0 = multiply_high(c0, 0xD2511F53u), low0 = c0 * 0xD2511F53u;
    const uint32_t high1 = multiply_high(c2, 0xCD9E8D57u), low1 = c2 * 0xCD9E8D57u;
    c0 = high1 ^ c1 ^ key0;
    c2 = high0 ^ c3 ^ key1;
    c1 = low1;
    c3 = low0;
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}

// ---- attention's dropout --------------------------------------------------------------------------------------------
// The words of four keys, from a position that 4 divides.
FASTLM_DEVICE PhiloxWords key_words(uint64_t seed, int head, int query, int position) {
  return philox(static_cast<uint32_t>(position) / 4, static_cast<uint32_t>(query), static_cast<uint32_t>(head), 0,
                seed);
}

// ---- dropout of hidden states ---------------------------------------------------------------------------------------
// Word w decides column `column + 16 w` of a row; column % 64 is below 16.
FASTLM_DEVICE PhiloxWords column_words(uint64_t seed, int64_t row, int column) {
  const auto counter = static_cast<uint32_t>(column / 64 * 16 + column % 64);
  return philox(counter, static_cast<uint32_t>(row), static_cast<uint32_t>(row >> 32), 1, seed);
}

// Word i, without an index into registers.
FASTLM_DEVICE uint32_t word(const PhiloxWords& drawn, int i) {
  const uint32_t low = i % 2 == 0 ? drawn.words[0] : drawn.words[1];
  const uint32_t high = i % 2 == 0 ? drawn.words[2] : drawn.words[3];
  return i < 2 ? low : high;
}

// Whether a query's probability at the key of this position is kept.
FASTLM_DEVICE bool kept_key(uint64_t seed, uint64_t threshold, int head, int query, int position) {
  return word(key_words(seed, head, query, position), position % 4) >= threshold;
}

// The same for this position and the next; the first may be -1, where its answer means nothing.
struct KeptPair {
  bool first, second;
};
FASTLM_DEVICE KeptPair kept_keys(uint64_t seed, uint64_t threshold, int head, int query, int position) {
  const PhiloxWords drawn = key_words(seed, head, query, position);
  const int place = position & 3;
  const uint32_t second = place < 3 ? word(drawn, place + 1) : key_words(seed, head, query, position + 1).words[0];
  return {word(drawn, place) >= threshold, second >= threshold};
}

}  // namespace fastlm::cuda
