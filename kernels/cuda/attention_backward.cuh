// Attention over packed sequences, backward. A block owns 64 queries of a head and the 64 keys of the same rows: first
// it walks over the keys that its queries see, for their gradient, then over the queries that see its keys, for theirs
// and that of the values. Scores are computed twice, but in one kernel, without atomics and with nothing in memory but
// the gradients; what neighbours read again is still in the second-level cache.
//
// With P = exp(scale * Q K^T - lse), D = dropout's factors, W = D * (grad_out V^T), delta = sum of out * grad_out by
// row:
//   grad_v = (D * P)^T grad_out,  G = scale * P * (W - delta),  grad_q = G K,  grad_k = G^T Q
#pragma once

#include "kernels/cuda/attention_row.cuh"

namespace fastlm::cuda {

// Shared memory: two tiles of the own side, two of the other that take turns, and numbers by row.
template <class T, int kWidth, int kOtherRows>
struct BackwardTiles {
  static constexpr int kOther = kOtherRows;
  using Own = Tile<T, kOwnRows, kWidth>;
  using Other = Tile<T, kOther, kWidth>;
  static constexpr int64_t kOtherAt = 2 * Own::kBytes;
  static constexpr int64_t kSpansAt = kOtherAt + 4 * Other::kBytes;
  static constexpr int64_t kDeltaAt = kSpansAt + Spans<kOwnRows>::kBytes;
  static constexpr int64_t kBytes = kDeltaAt + 2 * kOwnRows * sizeof(float);

  FASTLM_DEVICE static Own own(int which) { return Own(which * Own::kBytes); }
  FASTLM_DEVICE static Other other(int turn, int which) { return Other(kOtherAt + (turn * 2 + which) * Other::kBytes); }
  FASTLM_DEVICE static Shared<float> deltas(int turn) { return shared_memory<float>(kDeltaAt) + turn * kOwnRows; }
};

// delta of kRows queries from `first` on, 0 from `end` on; two neighbouring threads a row.
template <class T, int kRows>
FASTLM_DEVICE void find_deltas(const AttentionBackward& p, int head, int first, int end, Shared<float> deltas) {
  if (thread_index() >= 2 * kRows) return;
  const int row = thread_index() / 2, query = first + row, head_dim = static_cast<int>(p.shape.head_dim);
  const HeadRows<T> out(p.out, head, head_dim), grad(p.grad_out, head, head_dim);
  float delta = 0.0f;
  if (query < end) {
    for (int column = thread_index() % 2 * kVector<T>; column < head_dim; column += 2 * kVector<T>) {
      const auto a = load_vector<kVector<T>>(out.memory + (query * out.row_stride + column));
      const auto b = load_vector<kVector<T>>(grad.memory + (query * grad.row_stride + column));
      FASTLM_UNROLL
      for (int e = 0; e < kVector<T>; ++e) delta = fused(to_float(a[e]), to_float(b[e]), delta);
    }
  }
  delta += shuffle_xor(delta, 1);
  if (thread_index() % 2 == 0) store(deltas + row, delta);
}

FASTLM_DEVICE float load_lse(const AttentionBackward& p, int head, int query) {
  return load(Global<const float>(p.lse) + (head * p.lse_stride + query));
}

template <class T, int kWidth, bool kDropout>
struct QueryGradient {
  using Tiles = BackwardTiles<T, kWidth, kOtherRows<T, kWidth>>;
  using Own = typename Tiles::Own;
  using Other = typename Tiles::Other;
  static constexpr int kKeys = Tiles::kOther;

  FASTLM_DEVICE static void run(const AttentionBackward& p, int head, int first_query) {
    const AttentionShape& shape = p.shape;
    const int own_row = warp_index() * 16;
    const int rows_q = static_cast<int>(shape.rows_q);
    const Own queries = Tiles::own(0), grads = Tiles::own(1);
    begin_to_load(queries, HeadRows<T>(shape.q, head, shape.head_dim), first_query, rows_q);
    begin_to_load(grads, HeadRows<T>(p.grad_out, head, shape.head_dim), first_query, rows_q);
    const Spans<kOwnRows> spans(Tiles::kSpansAt);
    spans.template find<Side::kQueries>(shape, first_query, rows_q);
    find_deltas<T, kOwnRows>(p, head, first_query, rows_q, Tiles::deltas(0));
    barrier();
    const Span block = spans.template around<kOwnRows>(0), warp = spans.template around<16>(own_row);
    Rows rows(p, head, spans, own_row, first_query);

    const HeadRows<T> k(shape.k, head, shape.head_dim), v(shape.v, head, shape.head_dim);
    const auto begin_to_load_keys = [&](int turn, int first) {
      begin_to_load(Tiles::other(turn, 0), k, first, block.end);
      begin_to_load(Tiles::other(turn, 1), v, first, block.end);
    };
    walk<kKeys>(block, warp, begin_to_load_keys, [&](int turn, int first) {
      rows.include(shape, head, queries, grads, Tiles::other(turn, 0), Tiles::other(turn, 1), warp, first);
    });
    if (any_unfinite(rows.grad_q)) {
      recompute(p, head, queries, spans, own_row, first_query);
    } else {
      const float factor[2] = {shape.scale, shape.scale};
      put_sums<T, kWidth>(rows.grad_q, factor, queries, own_row);
    }
    store_rows<T>(queries, own_row, p.grad_q, head, shape, first_query + own_row, rows_q);
  }

 private:
  FASTLM_DEVICE static void recompute(const AttentionBackward& p, int head, const Own& queries,
                                      const Spans<kOwnRows>& spans, int own_row, int first_query) {
    const AttentionShape& shape = p.shape;
    const HeadRows<T> q(shape.q, head, shape.head_dim), grads(p.grad_out, head, shape.head_dim);
    const HeadRows<T> k(shape.k, head, shape.head_dim), v(shape.v, head, shape.head_dim);
    for (int row = own_row; row < own_row + 16 && first_query + row < shape.rows_q; ++row) {
      const int query = first_query + row;
      const Span span = spans.of(row);
      const float lse = load_lse(p, head, query), delta = load(Tiles::deltas(0) + row);
      const Spread<kWidth> q_row = load_row<kWidth>(q, query), grad_row = load_row<kWidth>(grads, query);
      Spread<kWidth> sum;
      for (int key = span.begin; key < span.end; ++key) {
        const Spread<kWidth> k_row = load_row<kWidth>(k, key);
        const ScoreGradient gradient =
            score_gradient<T, kDropout>(shape, head, query, key - span.key_start, sees_one_key(shape, span, query), lse,
                                        delta, q_row, k_row, grad_row, load_row<kWidth>(v, key));
        sum.add(k_row, gradient.score * shape.scale);
      }
      put_row<T>(sum, queries, row);
    }
  }

  // The two queries of a thread, with its share of their columns.
  struct Rows {
    int own_row, first_query;
    Span spans[2];
    float lse[2], delta[2];
    float grad_q[kWidth / 8][4] = {};

    FASTLM_DEVICE Rows(const AttentionBackward& p, int head, const Spans<kOwnRows>& all, int own_row, int first_query)
        : own_row(own_row), first_query(first_query + own_row) {
      FASTLM_UNROLL
      for (int below = 0; below < 2; ++below) {
        const int row = own_row + lane_index() / 4 + 8 * below, query = first_query + row;
        spans[below] = all.of(row);
        lse[below] = query < p.shape.rows_q ? load_lse(p, head, query) : 0.0f;
        delta[below] = load(Tiles::deltas(0) + row);
      }
    }

    FASTLM_DEVICE void include(const AttentionShape& shape, int head, const Own& queries, const Own& grads,
                               const Other& keys, const Other& values, const Span& warp, int first) {
      float scores[kKeys / 8][4], weights[kKeys / 8][4];
      multiply_by_transpose<T, kWidth, kKeys>(scores, queries, own_row, keys, warp, first);
      multiply_by_transpose<T, kWidth, kKeys>(weights, grads, own_row, values, warp, first);
      FASTLM_UNROLL
      for (int n = 0; n < kKeys / 8; ++n) {
        if (!meets(warp, first + n / 2 * 16)) continue;
        FASTLM_UNROLL
        for (int below = 0; below < 2; ++below) {
          const Span& span = spans[below];
          const int key = first + n * 8 + lane_index() % 4 * 2, query = first_query + lane_index() / 4 + 8 * below;
          KeptPair kept{true, true};
          if constexpr (kDropout)
            kept = kept_keys(seed_of(shape.dropout), shape.dropout.threshold, head, query, key - span.key_start);
          FASTLM_UNROLL
          for (int e = 0; e < 2; ++e) {
            float& score = scores[n][2 * below + e];
            const bool counts = key + e >= span.begin && key + e < span.end && !sees_one_key(shape, span, query);
            const float p = relative_exp<T>(score * shape.scale, lse[below]);
            const float weight =
                (e == 0 ? kept.first : kept.second) ? weights[n][2 * below + e] * shape.dropout.keep_scale : 0.0f;
            score = counts ? p * (weight - delta[below]) : 0.0f;
          }
        }
      }
      multiply_by<T, kWidth, kKeys>(grad_q, scores, keys, warp, first);
    }
  };
};

// Both gradients need the scores. Where registers do not hold the two, they are found one after the other.
enum class Gradients { kBoth, kOfKeys, kOfValues };

template <class T, int kWidth, bool kDropout, Gradients kWanted>
struct KeyGradient {
  static constexpr bool kKeysToo = kWanted != Gradients::kOfValues, kValuesToo = kWanted != Gradients::kOfKeys;
  // Dropout's words take registers, too.
  using Tiles = BackwardTiles<T, kWidth, kOtherRows<T, kWidth> / (kDropout && sizeof(T) == 2 ? 2 : 1)>;
  using Own = typename Tiles::Own;
  using Other = typename Tiles::Other;
  static constexpr int kQueries = Tiles::kOther;

  FASTLM_DEVICE static void run(const AttentionBackward& p, int head, int first_key) {
    const AttentionShape& shape = p.shape;
    const int own_row = warp_index() * 16;
    const int rows_k = static_cast<int>(shape.rows_k);
    const Own keys = Tiles::own(0), values = Tiles::own(1);
    begin_to_load(keys, HeadRows<T>(shape.k, head, shape.head_dim), first_key, rows_k);
    begin_to_load(values, HeadRows<T>(shape.v, head, shape.head_dim), first_key, rows_k);
    const Spans<kOwnRows> spans(Tiles::kSpansAt);
    spans.template find<Side::kKeys>(shape, first_key, rows_k);
    barrier();
    const Span block = spans.template around<kOwnRows>(0), warp = spans.template around<16>(own_row);
    Rows rows(spans, own_row, first_key);

    const HeadRows<T> q(shape.q, head, shape.head_dim), grad_out(p.grad_out, head, shape.head_dim);
    const auto begin_to_load_queries = [&](int turn, int first) {
      begin_to_load(Tiles::other(turn, 0), q, first, block.end);
      begin_to_load(Tiles::other(turn, 1), grad_out, first, block.end);
      find_deltas<T, kQueries>(p, head, first, block.end, Tiles::deltas(turn));
    };
    walk<kQueries>(block, warp, begin_to_load_queries,
                   [&](int turn, int first) { rows.include(p, head, keys, values, turn, warp, first); });
    if ((kKeysToo && any_unfinite(rows.grad_k)) || (kValuesToo && any_unfinite(rows.grad_v))) {
      recompute(p, head, keys, values, spans, own_row, first_key);
    } else {
      const float k_factor[2] = {shape.scale, shape.scale},
                  v_factor[2] = {shape.dropout.keep_scale, shape.dropout.keep_scale};
      if constexpr (kKeysToo) put_sums<T, kWidth>(rows.grad_k, k_factor, keys, own_row);
      if constexpr (kValuesToo) put_sums<T, kWidth>(rows.grad_v, v_factor, values, own_row);
    }
    if constexpr (kKeysToo) store_rows<T>(keys, own_row, p.grad_k, head, shape, first_key + own_row, rows_k);
    if constexpr (kValuesToo) store_rows<T>(values, own_row, p.grad_v, head, shape, first_key + own_row, rows_k);
  }

 private:
  // By the whole warp.
  FASTLM_DEVICE static float delta_of(const AttentionBackward& p, int head, int query) {
    const HeadRows<T> out(p.out, head, p.shape.head_dim), grads(p.grad_out, head, p.shape.head_dim);
    return load_row<kWidth>(out, query).dot(load_row<kWidth>(grads, query));
  }

  FASTLM_DEVICE static void recompute(const AttentionBackward& p, int head, const Own& keys, const Own& values,
                                      const Spans<kOwnRows>& spans, int own_row, int first_key) {
    const AttentionShape& shape = p.shape;
    const HeadRows<T> q(shape.q, head, shape.head_dim), grads(p.grad_out, head, shape.head_dim);
    const HeadRows<T> k(shape.k, head, shape.head_dim), v(shape.v, head, shape.head_dim);
    for (int row = own_row; row < own_row + 16 && first_key + row < shape.rows_k; ++row) {
      const int key = first_key + row;
      const Span span = spans.of(row);
      const Spread<kWidth> k_row = load_row<kWidth>(k, key), v_row = load_row<kWidth>(v, key);
      Spread<kWidth> sum_k, sum_v;
      for (int query = span.begin; query < span.end; ++query) {
        const float lse = load_lse(p, head, query), delta = delta_of(p, head, query);
        const Spread<kWidth> q_row = load_row<kWidth>(q, query), grad_row = load_row<kWidth>(grads, query);
        const ScoreGradient gradient =
            score_gradient<T, kDropout>(shape, head, query, key - span.key_start, sees_one_key(shape, span, query), lse,
                                        delta, q_row, k_row, grad_row, v_row);
        sum_k.add(q_row, gradient.score * shape.scale);
        sum_v.add(grad_row, gradient.dropped_probability);
      }
      put_row<T>(sum_k, keys, row);
      put_row<T>(sum_v, values, row);
    }
  }

  // The two keys of a thread, with its share of their columns.
  struct Rows {
    int own_row, first_key;
    Span spans[2];
    float grad_k[kKeysToo ? kWidth / 8 : 1][4] = {}, grad_v[kValuesToo ? kWidth / 8 : 1][4] = {};

    FASTLM_DEVICE Rows(const Spans<kOwnRows>& all, int own_row, int first_key)
        : own_row(own_row), first_key(first_key + own_row) {
      FASTLM_UNROLL
      for (int below = 0; below < 2; ++below) spans[below] = all.of(own_row + lane_index() / 4 + 8 * below);
    }

    FASTLM_DEVICE void include(const AttentionBackward& p, int head, const Own& keys, const Own& values, int turn,
                               const Span& warp, int first) {
      const AttentionShape& shape = p.shape;
      const Other queries = Tiles::other(turn, 0), grads = Tiles::other(turn, 1);
      float scores[kQueries / 8][4], weights[kQueries / 8][4];  // transposed: own keys by queries
      multiply_by_transpose<T, kWidth, kQueries>(scores, keys, own_row, queries, warp, first);
      multiply_by_transpose<T, kWidth, kQueries>(weights, values, own_row, grads, warp, first);
      FASTLM_UNROLL
      for (int n = 0; n < kQueries / 8; ++n) {
        if (!meets(warp, first + n / 2 * 16)) continue;
        FASTLM_UNROLL
        for (int e = 0; e < 2; ++e) {
          const int query = first + n * 8 + lane_index() % 4 * 2 + e;
          const float lse = query < shape.rows_q ? load_lse(p, head, query) : 0.0f;
          const float delta = load(Tiles::deltas(turn) + (query - first));
          FASTLM_UNROLL
          for (int below = 0; below < 2; ++below) {
            const Span& span = spans[below];
            float& score = scores[n][2 * below + e];
            float& weight = weights[n][2 * below + e];
            const bool sees = query >= span.begin && query < span.end;
            const float probability = sees ? relative_exp<T>(score * shape.scale, lse) : 0.0f;
            const bool kept = !kDropout || keeps(shape, head, query, below);
            score = kept ? probability : 0.0f;
            const bool counts = sees && !sees_one_key(shape, span, query);
            weight = counts ? probability * ((kept ? weight * shape.dropout.keep_scale : 0.0f) - delta) : 0.0f;
          }
        }
      }
      if constexpr (kValuesToo) multiply_by<T, kWidth, kQueries>(grad_v, scores, grads, warp, first);
      if constexpr (kKeysToo) multiply_by<T, kWidth, kQueries>(grad_k, weights, queries, warp, first);
    }

    FASTLM_DEVICE bool keeps(const AttentionShape& shape, int head, int query, int below) const {
      const int position = first_key + lane_index() / 4 + 8 * below - spans[below].key_start;
      return kept_key(seed_of(shape.dropout), shape.dropout.threshold, head, query, position);
    }
  };
};

template <class T, int kWidth, bool kDropout>
struct AttentionBackwardKernel {
  static constexpr int kThreads = kBlockThreads;
  static constexpr bool kApart = sizeof(T) == 4 && kWidth > 64;
  static constexpr int64_t kSharedBytes = QueryGradient<T, kWidth, kDropout>::Tiles::kBytes;

  FASTLM_DEVICE static void run(const AttentionBackward& p) {
    const int head = static_cast<int>(block_y()), first_row = static_cast<int>(block_x()) * kOwnRows;
    if (first_row < p.shape.rows_q) QueryGradient<T, kWidth, kDropout>::run(p, head, first_row);
    if (first_row >= p.shape.rows_k) return;
    barrier();
    if constexpr (kApart) {
      KeyGradient<T, kWidth, kDropout, Gradients::kOfKeys>::run(p, head, first_row);
      barrier();
      KeyGradient<T, kWidth, kDropout, Gradients::kOfValues>::run(p, head, first_row);
    } else {
      KeyGradient<T, kWidth, kDropout, Gradients::kBoth>::run(p, head, first_row);
    }
  }
};

template <class T, int kWidth>
void attention_backward(const AttentionBackward& params, Stream stream) {
  const AttentionShape& shape = params.shape;
  const int64_t rows = shape.rows_q > shape.rows_k ? shape.rows_q : shape.rows_k;
  const auto run = [&](auto kernel) {
    using Kernel = decltype(kernel);
    launch<Kernel>((rows + kOwnRows - 1) / kOwnRows, shape.heads, Kernel::kSharedBytes, stream, params);
  };
  if (shape.dropout.threshold == 0) return run(AttentionBackwardKernel<T, kWidth, false>{});
  run(AttentionBackwardKernel<T, kWidth, true>{});
}

}  // namespace fastlm::cuda
