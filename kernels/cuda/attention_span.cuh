// Which rows of the other side a row of packed attention meets: keys of a query, or queries of a key.
#pragma once

#include "kernels/cuda/common/team.cuh"
#include "kernels/params.h"

namespace fastlm::cuda {

// Rows [begin, end) of the other side. Key positions, which dropout counts by, begin at row key_start of k. Query i of
// the sequence sees `seen` keys, causal: seen + i (counted over all of q, and none below 0).
struct Span {
  int begin, end, key_start, seen;
};

enum class Side { kQueries, kKeys };  // of the rows that own the spans

struct SequenceBounds {
  int begin_q, end_q, begin_k, end_k;
};

// The sequence that a row belongs to: the number of sequences that end before or at it.
FASTLM_DEVICE int64_t sequence_of(Global<const int32_t> cu_seqlens, int64_t sequences, int row) {
  int64_t low = 0, high = sequences;
  while (low < high) {
    const int64_t middle = (low + high) / 2;
    if (load(cu_seqlens + (middle + 1)) <= row) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

template <Side kSide>
FASTLM_DEVICE Span span_of(const AttentionShape& shape, int row) {
  const auto starts_q = Global<const int32_t>(shape.cu_seqlens_q), starts_k = Global<const int32_t>(shape.cu_seqlens_k);
  const int64_t sequence = sequence_of(kSide == Side::kQueries ? starts_q : starts_k, shape.sequences, row);
  if (sequence == shape.sequences) return {0, 0, 0, 0};
  const int begin_q = load(starts_q + sequence), end_q = load(starts_q + (sequence + 1));
  const int begin_k = load(starts_k + sequence), end_k = load(starts_k + (sequence + 1));
  // Causal: the last query sees the last key, so query i of L_q the keys up to i + L_k - L_q.
  const int shift = (end_k - begin_k) - (end_q - begin_q);
  const int seen = shape.causal ? shift + 1 - begin_q : end_k - begin_k;
  if constexpr (kSide == Side::kQueries) {
    const int keys = shape.causal ? seen + row : seen;
    return {begin_k, begin_k + (keys > 0 ? keys : 0), begin_k, seen};
  } else {
    const int first = shape.causal ? row - begin_k - shift : 0;
    return {begin_q + (first > 0 ? first : 0), end_q, begin_k, seen};
  }
}

// A query that sees one key gives it all its weight, whatever the score: its gradient is 0, and that exactly.
FASTLM_DEVICE bool sees_one_key(const AttentionShape& shape, const Span& span, int query) {
  return (shape.causal ? span.seen + query : span.seen) == 1;
}

// The spans of a block's rows, in its shared memory: four words a row.
template <int kRows>
struct Spans {
  static constexpr int64_t kBytes = int64_t{4} * kRows * sizeof(int);
  Shared<int> memory;

  FASTLM_DEVICE explicit Spans(int64_t offset) : memory(shared_memory<int>(offset)) {}

  // By one thread a row; a barrier has to follow.
  template <Side kSide>
  FASTLM_DEVICE void find(const AttentionShape& shape, int first_row, int rows) const {
    if (thread_index() >= kRows) return;
    const int row = first_row + thread_index();
    const Span span = row < rows ? span_of<kSide>(shape, row) : Span{0, 0, 0, 0};
    store(memory + thread_index(), span.begin);
    store(memory + (kRows + thread_index()), span.end);
    store(memory + (2 * kRows + thread_index()), span.key_start);
    store(memory + (3 * kRows + thread_index()), span.seen);
  }
  FASTLM_DEVICE Span of(int row) const {
    return {load(memory + row), load(memory + (kRows + row)), load(memory + (2 * kRows + row)),
            load(memory + (3 * kRows + row))};
  }
  // What rows [first, first + kCount) meet together; every lane of a warp asks at once.
  template <int kCount>
  FASTLM_DEVICE Span around(int first) const {
    int begin = INT32_MAX, end = 0;
    FASTLM_UNROLL
    for (int row = 0; row < kCount; row += 32) {
      const Span span = of(first + row + lane_index() % (kCount < 32 ? kCount : 32));
      if (span.begin >= span.end) continue;
      begin = span.begin < begin ? span.begin : begin;
      end = span.end > end ? span.end : end;
    }
    return {reduce_lanes(begin, Smallest{}), -reduce_lanes(-end, Smallest{}), 0, 0};
  }
};

}  // namespace fastlm::cuda
