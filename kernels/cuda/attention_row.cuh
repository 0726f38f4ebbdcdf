// Attention of one row after another, each by a whole warp, which looks at nothing but the rows it meets.
//
// Tiles multiply rows of other sequences by 0, and 0 times NaN is NaN: a sentence gone bad would spoil its neighbours.
// So a warp whose sums are not finite computes them again like this. It is slow, and nobody waits for it twice.
#pragma once

#include "kernels/cuda/attention_tile.cuh"

namespace fastlm::cuda {

// A row, or sums over rows, spread over the lanes of a warp.
template <int kWidth>
struct Spread {
  float values[kWidth / 32] = {};

  FASTLM_DEVICE float dot(const Spread& other) const {
    float sum = 0.0f;
    FASTLM_UNROLL
    for (int i = 0; i < kWidth / 32; ++i) sum = fused(values[i], other.values[i], sum);
    return reduce_lanes(sum, Add{});
  }
  FASTLM_DEVICE void scale(float factor) {
    FASTLM_UNROLL
    for (float& value : values) value *= factor;
  }
  FASTLM_DEVICE void add(const Spread& other, float factor) {
    FASTLM_UNROLL
    for (int i = 0; i < kWidth / 32; ++i) values[i] = fused(other.values[i], factor, values[i]);
  }
};

template <int kWidth, class T>
FASTLM_DEVICE Spread<kWidth> load_row(const HeadRows<T>& rows, int row) {
  Spread<kWidth> spread;
  FASTLM_UNROLL
  for (int i = 0; i < kWidth / 32; ++i) {
    const int column = lane_index() + 32 * i;
    if (column < rows.head_dim) spread.values[i] = to_float(load(rows.at(row, column)));
  }
  return spread;
}

template <class T, int kWidth, class AnyTile>
FASTLM_DEVICE void put_row(const Spread<kWidth>& spread, const AnyTile& tile, int tile_row) {
  FASTLM_UNROLL
  for (int i = 0; i < kWidth / 32; ++i)
    store(tile.at(tile_row, lane_index() + 32 * i), from_float<T>(spread.values[i]));
}

template <bool kDropout>
FASTLM_DEVICE float keep_factor(const AttentionShape& shape, int head, int query, int position) {
  if constexpr (!kDropout) return 1.0f;
  const bool kept = kept_keys(shape.dropout, head, query, position) & 1u;
  return kept ? shape.dropout.keep_scale : 0.0f;
}

// What a query attends to.
template <class T, int kWidth, bool kDropout>
FASTLM_DEVICE Spread<kWidth> attend(const AttentionShape& shape, int head, int query, const Span& span) {
  const HeadRows<T> k(shape.k, head, shape.head_dim), v(shape.v, head, shape.head_dim);
  const Spread<kWidth> q_row = load_row<kWidth>(HeadRows<T>(shape.q, head, shape.head_dim), query);
  Spread<kWidth> out;
  float largest = -INFINITY, sum = 0.0f;
  for (int key = span.begin; key < span.end; ++key) {
    const float score = q_row.dot(load_row<kWidth>(k, key)) * shape.scale;
    const float next = maximum(largest, score), base = base_of(next);
    const float factor = relative_exp<T>(largest, base), p = relative_exp<T>(score, base);
    largest = next;
    sum = sum * factor + p;
    out.scale(factor);
    const float kept = keep_factor<kDropout>(shape, head, query, key - span.key_start);
    if (kept != 0.0f) out.add(load_row<kWidth>(v, key), p * kept);
  }
  out.scale(sum == 0.0f ? 0.0f : 1.0f / sum);
  return out;
}

// The gradients of one score: by its probability, and by itself.
struct ScoreGradient {
  float dropped_probability;  // with dropout's factor
  float score;                // without `scale`
};

// Of a query and a key that it sees, from their rows and those of grad_out and v. lse is in units of power<T>.
template <class T, bool kDropout, int kWidth>
FASTLM_DEVICE ScoreGradient score_gradient(const AttentionShape& shape, int head, int query, int position,
                                           bool only_key, float lse, float delta, const Spread<kWidth>& q,
                                           const Spread<kWidth>& k, const Spread<kWidth>& grad_out,
                                           const Spread<kWidth>& v) {
  const float p = power<T>(fused(q.dot(k), shape.scale * kToPower<T>, -lse));
  const float kept = keep_factor<kDropout>(shape, head, query, position), weight = grad_out.dot(v);
  return {p * kept, only_key ? 0.0f : p * ((kept == 0.0f ? 0.0f : weight * kept) - delta)};
}

}  // namespace fastlm::cuda
