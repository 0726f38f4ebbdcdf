// Attention over packed sequences, forward. A block owns 64 queries of one head and walks over the keys that any of
// them sees, with the online softmax of Dao et al., "FlashAttention" (2022). Of sentences, a few tiles of keys hold all
// that 64 queries see, and each warp looks only at those that its own 16 do.
#pragma once

#include "kernels/cuda/attention_row.cuh"

namespace fastlm::cuda {

template <class T, int kWidth, bool kDropout>
struct AttentionForwardKernel {
  static constexpr int kThreads = kBlockThreads;
  static constexpr int kKeys = kOtherRows<T, kWidth>;
  using Queries = Tile<T, kOwnRows, kWidth>;
  using Keys = Tile<T, kKeys, kWidth>;
  // Shared memory: queries, then two tiles of keys and of values that take turns, then the queries' spans.
  static constexpr int64_t kKeysAt = Queries::kBytes;
  static constexpr int64_t kSpansAt = kKeysAt + 4 * Keys::kBytes;
  static constexpr int64_t kSharedBytes = kSpansAt + Spans<kOwnRows>::kBytes;

  FASTLM_DEVICE static void run(const AttentionForward& p) {
    const AttentionShape& shape = p.shape;
    const int head = static_cast<int>(block_y()), first_query = static_cast<int>(block_x()) * kOwnRows;
    const int own_row = warp_index() * 16;  // the warp's first, in the tile
    const int rows_q = static_cast<int>(shape.rows_q);
    const Queries queries(0);
    begin_to_load(queries, HeadRows<T>(shape.q, head, shape.head_dim), first_query, rows_q);
    const Spans<kOwnRows> spans(kSpansAt);
    spans.template find<Side::kQueries>(shape, first_query, rows_q);
    barrier();
    const Span block = spans.template around<kOwnRows>(0), warp = spans.template around<16>(own_row);
    Rows rows(spans, own_row, first_query);

    const HeadRows<T> k(shape.k, head, shape.head_dim), v(shape.v, head, shape.head_dim);
    const auto keys_of = [](int turn) { return Keys(kKeysAt + turn * 2 * Keys::kBytes); };
    const auto values_of = [](int turn) { return Keys(kKeysAt + (turn * 2 + 1) * Keys::kBytes); };
    const auto begin_to_load_keys = [&](int turn, int first) {
      begin_to_load(keys_of(turn), k, first, block.end);
      begin_to_load(values_of(turn), v, first, block.end);
    };
    walk<kKeys>(block, warp, begin_to_load_keys, [&](int turn, int first) {
      rows.include(p, head, queries, keys_of(turn), values_of(turn), warp, first);
    });
    rows.finish(p, head, queries, spans);
  }

 private:
  // The two queries of a thread, lane / 4 and that + 8 of its warp's 16, with its share of their columns.
  struct Rows {
    int own_row, first_query;  // of the warp, in the tile and in the tensor
    Span spans[2];
    float largest[2] = {-INFINITY, -INFINITY};
    float sum[2] = {};  // of the lane's own columns
    float out[kWidth / 8][4] = {};

    FASTLM_DEVICE Rows(const Spans<kOwnRows>& all, int own_row, int first_query)
        : own_row(own_row), first_query(first_query + own_row) {
      FASTLM_UNROLL
      for (int below = 0; below < 2; ++below) spans[below] = all.of(own_row + lane_index() / 4 + 8 * below);
    }

    // A tile of keys that begins at row `first` of k.
    FASTLM_DEVICE void include(const AttentionForward& p, int head, const Queries& queries, const Keys& keys,
                               const Keys& values, const Span& warp, int first) {
      float scores[kKeys / 8][4];
      multiply_by_transpose<T, kWidth, kKeys>(scores, queries, own_row, keys, warp, first);
      const int column = first + lane_index() % 4 * 2;
      FASTLM_UNROLL
      for (int below = 0; below < 2; ++below) {
        const Span& span = spans[below];
        float next = largest[below];
        FASTLM_UNROLL
        for (int n = 0; n < kKeys / 8; ++n) {
          if (!meets(warp, first + n / 2 * 16)) continue;
          FASTLM_UNROLL
          for (int e = 0; e < 2; ++e) {
            float& score = scores[n][2 * below + e];
            const int key = column + n * 8 + e;
            score = key >= span.begin && key < span.end ? score * p.shape.scale : -INFINITY;
            next = maximum(next, score);
          }
        }
        next = maximum(next, shuffle_xor(next, 1));
        next = maximum(next, shuffle_xor(next, 2));
        const float base = base_of(next), factor = relative_exp<T>(largest[below], base);
        largest[below] = next;
        sum[below] *= factor;
        FASTLM_UNROLL
        for (int n = 0; n < kWidth / 8; ++n) {
          out[n][2 * below] *= factor;
          out[n][2 * below + 1] *= factor;
        }
        FASTLM_UNROLL
        for (int n = 0; n < kKeys / 8; ++n) {
          if (!meets(warp, first + n / 2 * 16)) continue;
          FASTLM_UNROLL
          for (int e = 0; e < 2; ++e) {
            float& score = scores[n][2 * below + e];
            score = relative_exp<T>(score, base);
            sum[below] += score;
          }
        }
      }
      if constexpr (kDropout) drop(p.shape, head, scores, warp, first);
      multiply_by<T, kWidth, kKeys>(out, scores, values, warp, first);
    }

    FASTLM_DEVICE void drop(const AttentionShape& shape, int head, float (&probabilities)[kKeys / 8][4],
                            const Span& warp, int first) {
      const int column = first + lane_index() % 4 * 2;
      FASTLM_UNROLL
      for (int n = 0; n < kKeys / 8; ++n) {
        if (!meets(warp, first + n / 2 * 16)) continue;
        FASTLM_UNROLL
        for (int below = 0; below < 2; ++below) {
          const int query = first_query + lane_index() / 4 + 8 * below;
          const KeptPair kept = kept_keys(seed_of(shape.dropout), shape.dropout.threshold, head, query,
                                          column + n * 8 - spans[below].key_start);
          if (!kept.first) probabilities[n][2 * below] = 0.0f;
          if (!kept.second) probabilities[n][2 * below + 1] = 0.0f;
        }
      }
    }

    FASTLM_DEVICE void finish(const AttentionForward& p, int head, const Queries& queries, const Spans<kOwnRows>& all) {
      const int rows = static_cast<int>(p.shape.rows_q);
      float factor[2];
      FASTLM_UNROLL
      for (int below = 0; below < 2; ++below) {
        sum[below] += shuffle_xor(sum[below], 1);
        sum[below] += shuffle_xor(sum[below], 2);
        factor[below] = sum[below] == 0.0f ? 0.0f : p.shape.dropout.keep_scale / sum[below];
        const int query = first_query + lane_index() / 4 + 8 * below;
        if (lane_index() % 4 == 0 && query < rows)
          store(Global<float>(p.lse) + (head * p.lse_stride + query), largest[below] + log(sum[below]));
      }
      if (any_unfinite(out)) {
        recompute(p, head, queries, all);
      } else {
        put_sums<T, kWidth>(out, factor, queries, own_row);
      }
      store_rows<T>(queries, own_row, p.out, head, p.shape, first_query, rows);
    }

    FASTLM_DEVICE void recompute(const AttentionForward& p, int head, const Queries& queries,
                                 const Spans<kOwnRows>& spans) const {
      const int rows = static_cast<int>(p.shape.rows_q);
      for (int row = 0; row < 16 && first_query + row < rows; ++row) {
        const Span span = spans.of(own_row + row);
        const auto attended = attend<T, kWidth, kDropout>(p.shape, head, first_query + row, span);
        put_row<T>(attended, queries, own_row + row);
      }
    }
  };
};

template <class T, int kWidth>
void attention_forward(const AttentionForward& params, Stream stream) {
  const int64_t tiles = (params.shape.rows_q + kOwnRows - 1) / kOwnRows;
  const auto run = [&](auto kernel) {
    using Kernel = decltype(kernel);
    launch<Kernel>(tiles, params.shape.heads, Kernel::kSharedBytes, stream, params);
  };
  if (params.shape.dropout.threshold == 0) return run(AttentionForwardKernel<T, kWidth, false>{});
  run(AttentionForwardKernel<T, kWidth, true>{});
}

}  // namespace fastlm::cuda
