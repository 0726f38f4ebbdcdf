// Vectors, the same on a GPU and in lockstep. Included by both vocabularies.
#pragma once

namespace fastlm::cuda {

// Elements side by side in registers, four bytes to a word: what one access moves.
template <class T, int N>
struct Vector {
  static constexpr int kWords = N * static_cast<int>(sizeof(T)) / 4;
  uint32_t words[kWords] = {};

  FASTLM_DEVICE T operator[](int i) const {
    if constexpr (sizeof(T) == 4) return word_as<T>(words[i]);
    if constexpr (sizeof(T) == 2) return T{static_cast<uint16_t>(words[i / 2] >> i % 2 * 16)};
  }
  FASTLM_DEVICE void set(int i, T value) {
    if constexpr (sizeof(T) == 4) {
      words[i] = word_of(value);
    } else {
      const int shift = i % 2 * 16;
      words[i / 2] = (words[i / 2] & ~(0xFFFFu << shift)) | static_cast<uint32_t>(value.bits) << shift;
    }
  }
  // Keeps the compiler from keeping what it has computed from these words, which would take more registers than they.
  FASTLM_DEVICE void forget() {
    FASTLM_UNROLL
    for (uint32_t& word : words) forget_word(word);
  }
};

}  // namespace fastlm::cuda
