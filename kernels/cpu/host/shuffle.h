// The order of an epoch: indices sorted by a counter-based 64-bit key (specification: fastlm/data/philox.py).
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "philox.h"

namespace fastlm::host {

// order = a permutation of 0..n-1, a pure function of (seed, epoch, n). Equal keys keep their index order.
inline void shuffled(uint64_t seed, uint32_t epoch, int64_t n, int64_t* order) {
  struct Item {
    uint64_t key;
    int64_t index;
  };
  std::vector<Item> items(static_cast<size_t>(n)), sorted(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) {
    const Draw dice = draw(seed, epoch, Stream::kOrder, static_cast<uint64_t>(i), 0);
    items[static_cast<size_t>(i)] = {uint64_t{dice[0]} << 32 | dice[1], i};
  }
  // Stable radix sort: linear, and several times faster than a comparison sort of random keys.
  constexpr int kBits = 16;
  constexpr size_t kBuckets = size_t{1} << kBits;
  std::vector<size_t> starts(kBuckets);
  for (int shift = 0; shift < 64; shift += kBits) {
    starts.assign(kBuckets, 0);
    for (const Item& item : items) ++starts[item.key >> shift & (kBuckets - 1)];
    size_t total = 0;
    for (size_t& start : starts) total += std::exchange(start, total);
    for (const Item& item : items) sorted[starts[item.key >> shift & (kBuckets - 1)]++] = item;
    items.swap(sorted);
  }
  for (size_t i = 0; i < items.size(); ++i) order[i] = items[i].index;
}

}  // namespace fastlm::host
