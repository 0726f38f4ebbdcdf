// Mask positions and replacements of packed sentences. The specification, in words and numpy, is
// fastlm/data/masking.py; the two are bit-equal, so everything here is integer arithmetic.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "philox.h"

namespace fastlm::host {

enum class MaskUnit { kToken = 0, kWord = 1, kSpan = 2 };

struct MaskPolicy {
  uint64_t seed;
  uint32_t epoch;
  MaskUnit unit;
  // Probabilities as multiples of 2^-32, 2^32 being certainty.
  uint64_t rate;
  uint64_t keep;            // below it the token stays
  uint64_t keep_or_random;  // below it (and not below keep) a random token replaces it
  int64_t special_count;    // ids below are special: neither masked nor drawn
  int64_t vocab_size;
  int64_t mask_id;
  const bool* word_starts;    // (vocab_size,), read for words only
  const uint32_t* span_ends;  // span_count - 1 ascending bounds: the length is 1 + how many of them a draw has reached
  int span_count;
};

class Masker {
 public:
  explicit Masker(const MaskPolicy& policy) : policy_(policy) {}

  // Masks one sentence in place. `start` is the place in the stored sentence of this piece's first token; masked places
  // are appended to `rows` (ascending, counted from `first_row`) and their former ids to `targets`.
  void mask(int64_t* tokens, int64_t length, uint64_t sentence, uint32_t start, int64_t first_row,
            std::vector<int64_t>& rows, std::vector<int64_t>& targets) {
    collect(tokens, length, sentence, start);
    const Draw dice = draw(policy_.seed, policy_.epoch, Stream::kSentence, sentence, start);
    chosen_.assign(places_.size(), 0);
    switch (policy_.unit) {
      case MaskUnit::kToken:
        choose_tokens(dice);
        break;
      case MaskUnit::kWord:
        choose_words(tokens, dice);
        break;
      case MaskUnit::kSpan:
        choose_spans(dice);
        break;
    }
    for (size_t i = 0; i < places_.size(); ++i) {
      if (!chosen_[i]) continue;
      int64_t& token = tokens[places_[i]];
      rows.push_back(first_row + places_[i]);
      targets.push_back(token);
      token = replacement(token, draws_[i]);
    }
  }

 private:
  // Maskable places of the sentence and one draw for each: [0] order, [1] keep / random / mask, [2] which random token,
  // [3] length of a span.
  void collect(const int64_t* tokens, int64_t length, uint64_t sentence, uint32_t start) {
    places_.clear();
    draws_.clear();
    for (int64_t i = 0; i < length; ++i) {
      if (tokens[i] < policy_.special_count) continue;
      places_.push_back(i);
      draws_.push_back(draw(policy_.seed, policy_.epoch, Stream::kToken, sentence, start + static_cast<uint32_t>(i)));
    }
  }

  int64_t replacement(int64_t token, const Draw& dice) const {
    if (dice[1] < policy_.keep) return token;
    if (dice[1] >= policy_.keep_or_random) return policy_.mask_id;
    const auto choices = static_cast<uint64_t>(policy_.vocab_size - policy_.special_count);
    return policy_.special_count + static_cast<int64_t>(dice[2] * choices >> 32);
  }

  // Ties of the 32-bit draw go to the earlier place.
  static uint64_t sort_key(const Draw& dice, size_t index) { return uint64_t{dice[0]} << 32 | index; }
  static size_t key_index(uint64_t key) { return key & 0xFFFFFFFF; }

  // floor(rate * count + u)
  uint64_t share_of(size_t count, const Draw& dice) const { return (policy_.rate * count + dice[0]) >> 32; }

  void move_lowest_first(uint64_t count) {
    if (count < keys_.size()) {
      std::nth_element(keys_.begin(), keys_.begin() + static_cast<std::ptrdiff_t>(count), keys_.end());
    }
  }

  void choose_tokens(const Draw& dice) {
    fill_keys();
    const uint64_t budget = share_of(keys_.size(), dice);
    move_lowest_first(budget);
    for (size_t i = 0; i < budget; ++i) chosen_[key_index(keys_[i])] = 1;
  }

  void choose_words(const int64_t* tokens, const Draw& dice) {
    words_.clear();
    keys_.clear();
    for (size_t i = 0; i < places_.size(); ++i) {
      const bool begins = i == 0 || places_[i] != places_[i - 1] + 1 || policy_.word_starts[tokens[places_[i]]];
      if (!begins) continue;
      keys_.push_back(sort_key(draws_[i], words_.size()));
      words_.push_back(i);
    }
    const uint64_t budget = share_of(words_.size(), dice);
    words_.push_back(places_.size());
    move_lowest_first(budget);
    for (size_t i = 0; i < budget; ++i) {
      const size_t word = key_index(keys_[i]);
      for (size_t place = words_[word]; place < words_[word + 1]; ++place) chosen_[place] = 1;
    }
  }

  void choose_spans(const Draw& dice) {
    uint64_t budget = share_of(places_.size(), dice);
    if (budget == 0) return;
    fill_keys();
    std::sort(keys_.begin(), keys_.end());
    const uint32_t* ends = policy_.span_ends;
    for (uint64_t key : keys_) {
      const size_t begin = key_index(key);
      if (chosen_[begin]) continue;
      const auto length = 1 + (std::upper_bound(ends, ends + policy_.span_count - 1, draws_[begin][3]) - ends);
      const size_t end = std::min(chosen_.size(), begin + static_cast<size_t>(length));
      for (size_t i = begin; i < end; ++i) {
        if (chosen_[i]) continue;
        chosen_[i] = 1;
        if (--budget == 0) return;
      }
    }
  }

  void fill_keys() {
    keys_.resize(places_.size());
    for (size_t i = 0; i < keys_.size(); ++i) keys_[i] = sort_key(draws_[i], i);
  }

  MaskPolicy policy_;
  std::vector<int64_t> places_;
  std::vector<Draw> draws_;
  std::vector<uint64_t> keys_;
  std::vector<size_t> words_;
  std::vector<uint8_t> chosen_;
};

}  // namespace fastlm::host
