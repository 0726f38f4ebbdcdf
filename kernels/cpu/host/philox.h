// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011): a counter-based generator.
// The counter says what the draw is for, so every draw can be made alone, in any order and on any thread.
#pragma once

#include <array>
#include <cstdint>

namespace fastlm::host {

using Draw = std::array<uint32_t, 4>;

// What a draw is for. The values are the specification's (fastlm/data/philox.py): changing one changes every run.
enum class Stream : uint32_t { kToken = 0, kSentence = 1, kOrder = 2, kSplit = 3 };

inline Draw philox4x32(Draw counter, uint32_t key0, uint32_t key1) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t even = uint64_t{0xD2511F53} * counter[0];
    const uint64_t odd = uint64_t{0xCD9E8D57} * counter[2];
    counter = {static_cast<uint32_t>(odd >> 32) ^ counter[1] ^ key0, static_cast<uint32_t>(odd),
               static_cast<uint32_t>(even >> 32) ^ counter[3] ^ key1, static_cast<uint32_t>(even)};
    key0 += 0x9E3779B9;
    key1 += 0xBB67AE85;
  }
  return counter;
}

// Counter layout: position | sentence (low 32) | epoch | stream (8 bits) and sentence (high 24 bits). Key: the seed.
inline Draw draw(uint64_t seed, uint32_t epoch, Stream stream, uint64_t sentence, uint32_t position) {
  const auto high = static_cast<uint32_t>(sentence >> 32) & 0xFFFFFF;
  return philox4x32({position, static_cast<uint32_t>(sentence), epoch, static_cast<uint32_t>(stream) << 24 | high},
                    static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32));
}

}  // namespace fastlm::host
