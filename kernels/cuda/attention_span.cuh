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
inline constexpr Span kNoRows{INT32_MAX, 0, 0, 0};  // of rows of no sequence, behind all others

FASTLM_DEVICE unsigned length_of(const Span& span) {
  return span.begin < span.end ? static_cast<unsigned>(span.end - span.begin) : 0u;
}

enum class Side { kQueries, kKeys };  // of the rows that own the spans

struct SequenceBounds {
  int begin_q, end_q, begin_k, end_k;
};

// The sequence that a row belongs to: the number of sequences that end before or at it, which is from `low` to `high`.
FASTLM_DEVICE int sequence_of(Global<const int32_t> cu_seqlens, int low, int high, int row) {
  while (low < high) {
    const int middle = low + (high - low) / 2;
    if (load(cu_seqlens + (middle + 1)) <= row) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

// The same for two rows by a whole warp, in few loads after one another: lanes 0 to 15 have the sequence of the first,
// the others that of the second.
FASTLM_DEVICE int sequence_of_two(Global<const int32_t> cu_seqlens, int sequences, int first, int second) {
  const int lane = lane_index() % 16, half = lane_index() / 16, row = half == 0 ? first : second;
  int low = 0, high = sequences;
  while (any_lane(low < high)) {
    const int step = (high - low + 15) / 16, probe = low + (lane + 1) * step;  // sequences that end there or before
    const bool ends_before = step > 0 && probe <= high && load(cu_seqlens + probe) <= row;
    const int steps = bit_count(lanes_where(ends_before) >> 16 * half & 0xFFFFu);
    const int next = low + (steps + 1) * step - 1;
    low += steps * step;
    if (step > 0 && next < high) high = next;
  }
  return low;
}

template <Side kSide>
FASTLM_DEVICE Span span_of(const AttentionShape& shape, int sequence, int row) {
  const auto starts_q = Global<const int32_t>(shape.cu_seqlens_q), starts_k = Global<const int32_t>(shape.cu_seqlens_k);
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

  // Of rows from first_row on, those from `rows` on not counted; each warp finds 16. A barrier has to follow.
  template <Side kSide>
  FASTLM_DEVICE void find(const AttentionShape& shape, int first_row, int rows) const {
    const auto starts = Global<const int32_t>(kSide == Side::kQueries ? shape.cu_seqlens_q : shape.cu_seqlens_k);
    const int sequences = static_cast<int>(shape.sequences);
    const int own_row = warp_index() * 16, first = first_row + own_row;
    const int found = sequence_of_two(starts, sequences, first, first + 15);
    const int low = shuffle(found, 0), high = shuffle(found, 16);
    if (lane_index() >= 16) return;
    const int row = first + lane_index(), sequence = sequence_of(starts, low, high, row);
    const Span span = row < rows && sequence < sequences ? span_of<kSide>(shape, sequence, row) : kNoRows;
    const Shared<int> place = memory + (own_row + lane_index());
    store(place, span.begin);
    store(place + kRows, span.end);
    store(place + 2 * kRows, span.key_start);
    store(place + 3 * kRows, span.seen);
  }
  FASTLM_DEVICE int begin_of(int row) const { return load(memory + row); }
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
    return {smallest_lane(begin), -smallest_lane(-end), 0, 0};
  }
};

}  // namespace fastlm::cuda
