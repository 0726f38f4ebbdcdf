// Finding repeats among 128-bit hashes, and the groups that shared hashes tie together.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace fastlm::host {

// first[i] = the smallest j with hashes[j] == hashes[i]; hashes are `n` rows of two words, already well mixed.
inline void first_occurrences(const uint64_t* hashes, int64_t n, int64_t* first) {
  size_t capacity = 16;
  while (capacity < static_cast<size_t>(n) * 2) capacity *= 2;
  std::vector<int64_t> slots(capacity, -1);
  for (int64_t i = 0; i < n; ++i) {
    size_t slot = hashes[2 * i] & (capacity - 1);
    for (;; slot = (slot + 1) & (capacity - 1)) {
      const int64_t seen = slots[slot];
      if (seen < 0) {
        slots[slot] = first[i] = i;
        break;
      }
      if (hashes[2 * seen] == hashes[2 * i] && hashes[2 * seen + 1] == hashes[2 * i + 1]) {
        first[i] = seen;
        break;
      }
    }
  }
}

// root[v] = the smallest vertex connected to v by the edges (left[e], right[e]); root has `vertices` entries.
inline void components(int64_t vertices, const int64_t* left, const int64_t* right, int64_t edges, int64_t* root) {
  for (int64_t v = 0; v < vertices; ++v) root[v] = v;
  const auto find = [root](int64_t v) {
    while (root[v] != v) v = root[v] = root[root[v]];
    return v;
  };
  for (int64_t e = 0; e < edges; ++e) {
    int64_t a = find(left[e]), b = find(right[e]);
    if (a > b) std::swap(a, b);
    root[b] = a;
  }
  for (int64_t v = 0; v < vertices; ++v) root[v] = root[root[v]];
}

}  // namespace fastlm::host
