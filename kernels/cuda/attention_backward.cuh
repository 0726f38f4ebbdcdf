// Attention over packed sequences, backward: first a kernel that owns queries, for their gradient and for delta, the
// sum over each row of out * grad_out; then one that owns keys, for theirs and that of the values. No atomics, nothing
// but delta in memory between them.
//
// With P = exp(scale * Q K^T - lse), D = dropout's factors and W = D * (grad_out V^T):
//   grad_v = (D * P)^T grad_out,  G = scale * P * (W - delta),  grad_q = G K,  grad_k = G^T Q
#pragma once

#include "kernels/cuda/attention_row.cuh"

namespace fastlm::cuda {

// What both kernels need.
struct BackwardCall {
  AttentionBackward p;
  float* delta;  // (heads, rows_q)
};

// The products of two tiles of a side that come in turns with two of the other: scores and W, as 16 own rows by kOther.
template <class T, int kWidth, int kOtherRows>
struct BackwardTiles {
  static constexpr int kOther = kOtherRows;
  using Own = Tile<T, kOwnRows, kWidth>;
  using Other = Tile<T, kOther, kWidth>;
  // Shared memory: two tiles of the own side, twice two of the other, then the own rows' spans.
  static constexpr int64_t kOtherAt = 2 * Own::kBytes;
  static constexpr int64_t kSpansAt = kOtherAt + 4 * Other::kBytes;
  static constexpr int64_t kFreeAt = kSpansAt + Spans<kOwnRows>::kBytes;

  FASTLM_DEVICE static Own own(int which) { return Own(which * Own::kBytes); }
  FASTLM_DEVICE static Other other(int turn, int which) { return Other(kOtherAt + (turn * 2 + which) * Other::kBytes); }
};

template <class T, int kWidth, bool kDropout>
struct AttentionQueryGradientKernel {
  static constexpr int kThreads = kBlockThreads;
  using Tiles = BackwardTiles<T, kWidth, kOtherRows<T, kWidth>>;
  using Own = typename Tiles::Own;
  using Other = typename Tiles::Other;
  static constexpr int kKeys = Tiles::kOther;
  static constexpr int64_t kDeltaAt = Tiles::kFreeAt;
  static constexpr int64_t kSharedBytes = kDeltaAt + kOwnRows * sizeof(float);

  FASTLM_DEVICE static void run(const BackwardCall& call) {
    const AttentionBackward& p = call.p;
    const AttentionShape& shape = p.shape;
    const int head = static_cast<int>(block_y()), first_query = static_cast<int>(block_x()) * kOwnRows;
    const int own_row = warp_index() * 16;
    const int rows_q = static_cast<int>(shape.rows_q), rows_k = static_cast<int>(shape.rows_k);
    const Own queries = Tiles::own(0), grads = Tiles::own(1);
    begin_to_load(queries, HeadRows<T>(shape.q, head, shape.head_dim), first_query, rows_q);
    begin_to_load(grads, HeadRows<T>(p.grad_out, head, shape.head_dim), first_query, rows_q);
    const Spans<kOwnRows> spans(Tiles::kSpansAt);
    spans.template find<Side::kQueries>(shape, first_query, rows_q);
    find_delta(call, head, first_query);
    barrier();
    const Span block = spans.template around<kOwnRows>(0), warp = spans.template around<16>(own_row);
    Rows rows(p, head, spans, own_row, first_query);

    const HeadRows<T> k(shape.k, head, shape.head_dim), v(shape.v, head, shape.head_dim);
    const auto begin_to_load_keys = [&](int turn, int first) {
      begin_to_load(Tiles::other(turn, 0), k, first, rows_k);
      begin_to_load(Tiles::other(turn, 1), v, first, rows_k);
      commit_copies();
    };
    if (block.begin < block.end) begin_to_load_keys(0, block.begin);
    int turn = 0;
    for (int first = block.begin; first < block.end; first += kKeys, turn ^= 1) {
      wait_for_copies<0>();
      barrier();
      if (first + kKeys < block.end) begin_to_load_keys(turn ^ 1, first + kKeys);
      if (first < warp.end && first + kKeys > warp.begin)
        rows.include(shape, head, queries, grads, Tiles::other(turn, 0), Tiles::other(turn, 1), warp, first);
    }
    commit_copies();  // those of the own rows, where there was nothing else
    wait_for_copies<0>();
    barrier();  // their tiles are free
    if (any_unfinite(rows.grad_q)) {
      recompute(p, head, queries, spans, own_row, first_query);
    } else {
      const float factor[2] = {shape.scale, shape.scale};
      put_sums<T, kWidth>(rows.grad_q, factor, queries, own_row);
    }
    store_rows<T>(queries, own_row, p.grad_q, head, shape, first_query + own_row, rows_q);
  }

 private:
  // Two neighbouring threads a row.
  FASTLM_DEVICE static void find_delta(const BackwardCall& call, int head, int first_query) {
    const AttentionShape& shape = call.p.shape;
    const int row = thread_index() / 2, query = first_query + row;
    const HeadRows<T> out(call.p.out, head, shape.head_dim), grad(call.p.grad_out, head, shape.head_dim);
    float delta = 0.0f;
    if (query < shape.rows_q) {
      for (int column = thread_index() % 2 * kVector<T>; column < shape.head_dim; column += 2 * kVector<T>) {
        const auto a = load_vector<kVector<T>>(out.memory + (query * out.row_stride + column));
        const auto b = load_vector<kVector<T>>(grad.memory + (query * grad.row_stride + column));
        FASTLM_UNROLL
        for (int e = 0; e < kVector<T>; ++e) delta = fused(to_float(a[e]), to_float(b[e]), delta);
      }
    }
    delta += shuffle_xor(delta, 1);
    if (thread_index() % 2 != 0) return;
    store(shared_memory<float>(kDeltaAt) + row, delta);
    if (query < shape.rows_q) store(Global<float>(call.delta) + (head * shape.rows_q + query), delta);
  }

  FASTLM_DEVICE static void recompute(const AttentionBackward& p, int head, const Own& queries,
                                      const Spans<kOwnRows>& spans, int own_row, int first_query) {
    const AttentionShape& shape = p.shape;
    const HeadRows<T> q(shape.q, head, shape.head_dim), grads(p.grad_out, head, shape.head_dim);
    const HeadRows<T> k(shape.k, head, shape.head_dim), v(shape.v, head, shape.head_dim);
    for (int row = own_row; row < own_row + 16 && first_query + row < shape.rows_q; ++row) {
      const int query = first_query + row;
      const Span span = spans.of(row);
      const float lse = load(Global<const float>(p.lse) + (head * p.lse_stride + query));
      const float delta = load(shared_memory<float>(kDeltaAt) + row);
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
        lse[below] = query < p.shape.rows_q ? load(Global<const float>(p.lse) + (head * p.lse_stride + query)) : 0.0f;
        delta[below] = load(shared_memory<float>(kDeltaAt) + row);
      }
    }

    FASTLM_DEVICE void include(const AttentionShape& shape, int head, const Own& queries, const Own& grads,
                               const Other& keys, const Other& values, const Span& warp, int first) {
      float scores[kKeys / 8][4], weights[kKeys / 8][4];
      const auto query_of = [&](int column) { return load_left<T>(queries, own_row, column); };
      const auto grad_of = [&](int column) { return load_left<T>(grads, own_row, column); };
      multiply_by_transpose<T, kWidth, kKeys>(scores, query_of, keys, warp, first);
      multiply_by_transpose<T, kWidth, kKeys>(weights, grad_of, values, warp, first);
      FASTLM_UNROLL
      for (int n = 0; n < kKeys / 8; ++n) {
        FASTLM_UNROLL
        for (int below = 0; below < 2; ++below) {
          const Span& span = spans[below];
          const int key = first + n * 8 + lane_index() % 4 * 2, query = first_query + lane_index() / 4 + 8 * below;
          KeptPair kept{true, true};
          if constexpr (kDropout)
            kept = kept_keys(shape.dropout_seed, shape.dropout_threshold, head, query, key - span.key_start);
          FASTLM_UNROLL
          for (int e = 0; e < 2; ++e) {
            float& score = scores[n][2 * below + e];
            const bool counts = key + e >= span.begin && key + e < span.end && !sees_one_key(shape, span, query);
            const float p = relative_exp<T>(score * shape.scale, lse[below]);
            const float weight =
                (e == 0 ? kept.first : kept.second) ? weights[n][2 * below + e] * shape.keep_scale : 0.0f;
            score = counts ? p * (weight - delta[below]) : 0.0f;
          }
        }
      }
      multiply_by<T, kWidth, kKeys>(grad_q, scores, keys, warp, first);
    }
  };
};

// Both gradients need the scores. Where registers do not hold the two, a kernel finds one.
enum class Gradients { kBoth, kOfKeys, kOfValues };

template <class T, int kWidth, bool kDropout, Gradients kWanted>
struct AttentionKeyGradientKernel {
  static constexpr int kThreads = kBlockThreads;
  static constexpr bool kKeysToo = kWanted != Gradients::kOfValues, kValuesToo = kWanted != Gradients::kOfKeys;
  // Dropout's words take registers, too.
  using Tiles = BackwardTiles<T, kWidth, kOtherRows<T, kWidth> / (kDropout && sizeof(T) == 2 ? 2 : 1)>;
  using Own = typename Tiles::Own;
  using Other = typename Tiles::Other;
  static constexpr int kQueries = Tiles::kOther;
  static constexpr int64_t kSharedBytes = Tiles::kFreeAt;

  FASTLM_DEVICE static void run(const BackwardCall& call) {
    const AttentionBackward& p = call.p;
    const AttentionShape& shape = p.shape;
    const int head = static_cast<int>(block_y()), first_key = static_cast<int>(block_x()) * kOwnRows;
    const int own_row = warp_index() * 16;
    const int rows_q = static_cast<int>(shape.rows_q), rows_k = static_cast<int>(shape.rows_k);
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
      begin_to_load(Tiles::other(turn, 0), q, first, rows_q);
      begin_to_load(Tiles::other(turn, 1), grad_out, first, rows_q);
      commit_copies();
    };
    if (block.begin < block.end) begin_to_load_queries(0, block.begin);
    int turn = 0;
    for (int first = block.begin; first < block.end; first += kQueries, turn ^= 1) {
      wait_for_copies<0>();
      barrier();
      if (first + kQueries < block.end) begin_to_load_queries(turn ^ 1, first + kQueries);
      if (first < warp.end && first + kQueries > warp.begin)
        rows.include(call, head, keys, values, Tiles::other(turn, 0), Tiles::other(turn, 1), warp, first);
    }
    commit_copies();  // those of the own rows, where there was nothing else
    wait_for_copies<0>();
    barrier();  // their tiles are free
    if ((kKeysToo && any_unfinite(rows.grad_k)) || (kValuesToo && any_unfinite(rows.grad_v))) {
      recompute(call, head, keys, values, spans, own_row, first_key);
    } else {
      const float k_factor[2] = {shape.scale, shape.scale}, v_factor[2] = {shape.keep_scale, shape.keep_scale};
      if constexpr (kKeysToo) put_sums<T, kWidth>(rows.grad_k, k_factor, keys, own_row);
      if constexpr (kValuesToo) put_sums<T, kWidth>(rows.grad_v, v_factor, values, own_row);
    }
    if constexpr (kKeysToo) store_rows<T>(keys, own_row, p.grad_k, head, shape, first_key + own_row, rows_k);
    if constexpr (kValuesToo) store_rows<T>(values, own_row, p.grad_v, head, shape, first_key + own_row, rows_k);
  }

 private:
  FASTLM_DEVICE static void recompute(const BackwardCall& call, int head, const Own& keys, const Own& values,
                                      const Spans<kOwnRows>& spans, int own_row, int first_key) {
    const AttentionShape& shape = call.p.shape;
    const HeadRows<T> q(shape.q, head, shape.head_dim), grads(call.p.grad_out, head, shape.head_dim);
    const HeadRows<T> k(shape.k, head, shape.head_dim), v(shape.v, head, shape.head_dim);
    for (int row = own_row; row < own_row + 16 && first_key + row < shape.rows_k; ++row) {
      const int key = first_key + row;
      const Span span = spans.of(row);
      const Spread<kWidth> k_row = load_row<kWidth>(k, key), v_row = load_row<kWidth>(v, key);
      Spread<kWidth> sum_k, sum_v;
      for (int query = span.begin; query < span.end; ++query) {
        const float lse = load(Global<const float>(call.p.lse) + (head * call.p.lse_stride + query));
        const float delta = load(Global<const float>(call.delta) + (head * shape.rows_q + query));
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

    FASTLM_DEVICE void include(const BackwardCall& call, int head, const Own& keys, const Own& values,
                               const Other& queries, const Other& grads, const Span& warp, int first) {
      const AttentionShape& shape = call.p.shape;
      float scores[kQueries / 8][4], weights[kQueries / 8][4];  // transposed: own keys by queries
      const auto key_of = [&](int column) { return load_left<T>(keys, own_row, column); };
      const auto value_of = [&](int column) { return load_left<T>(values, own_row, column); };
      multiply_by_transpose<T, kWidth, kQueries>(scores, key_of, queries, warp, first);
      multiply_by_transpose<T, kWidth, kQueries>(weights, value_of, grads, warp, first);
      FASTLM_UNROLL
      for (int n = 0; n < kQueries / 8; ++n) {
        FASTLM_UNROLL
        for (int e = 0; e < 2; ++e) {
          const int query = first + n * 8 + lane_index() % 4 * 2 + e;
          const bool present = query < shape.rows_q;
          const float lse = present ? load(Global<const float>(call.p.lse) + (head * call.p.lse_stride + query)) : 0.0f;
          const float delta = present ? load(Global<const float>(call.delta) + (head * shape.rows_q + query)) : 0.0f;
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
            weight = counts ? probability * ((kept ? weight * shape.keep_scale : 0.0f) - delta) : 0.0f;
          }
        }
      }
      if constexpr (kValuesToo) multiply_by<T, kWidth, kQueries>(grad_v, scores, grads, warp, first);
      if constexpr (kKeysToo) multiply_by<T, kWidth, kQueries>(grad_k, weights, queries, warp, first);
    }

    FASTLM_DEVICE bool keeps(const AttentionShape& shape, int head, int query, int below) const {
      const int position = first_key + lane_index() / 4 + 8 * below - spans[below].key_start;
      return kept_key(shape.dropout_seed, shape.dropout_threshold, head, query, position);
    }
  };
};

template <class T, int kWidth, bool kDropout>
void launch_attention_backward(const BackwardCall& call, Stream stream) {
  const auto run = [&](auto kernel, int64_t rows) {
    using Kernel = decltype(kernel);
    const int64_t blocks = (rows + kOwnRows - 1) / kOwnRows;
    if (blocks > 0) launch<Kernel>(blocks, call.p.shape.heads, Kernel::kSharedBytes, stream, call);
  };
  run(AttentionQueryGradientKernel<T, kWidth, kDropout>{}, call.p.shape.rows_q);
  if constexpr (sizeof(T) == 4 && kWidth > 64) {
    run(AttentionKeyGradientKernel<T, kWidth, kDropout, Gradients::kOfKeys>{}, call.p.shape.rows_k);
    run(AttentionKeyGradientKernel<T, kWidth, kDropout, Gradients::kOfValues>{}, call.p.shape.rows_k);
  } else {
    run(AttentionKeyGradientKernel<T, kWidth, kDropout, Gradients::kBoth>{}, call.p.shape.rows_k);
  }
}

template <class T, int kWidth>
void attention_backward(const AttentionBackward& params, float* delta, Stream stream) {
  const BackwardCall call{params, delta};
  if (params.shape.dropout_threshold == 0) return launch_attention_backward<T, kWidth, false>(call, stream);
  launch_attention_backward<T, kWidth, true>(call, stream);
}

}  // namespace fastlm::cuda
