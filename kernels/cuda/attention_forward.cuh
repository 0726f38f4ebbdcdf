// Attention over packed sequences, forward. A block owns 64 queries of one head and walks over the keys that any of
// them sees, with the online softmax of Dao et al., "FlashAttention" (2022). Of sentences, one tile holds all that 64
// queries see, and each warp looks only at those that its own 16 do, most often in one chunk.
#pragma once

#include "kernels/cuda/attention_row.cuh"

namespace fastlm::cuda {

template <class T, int kWidth, bool kDropout>
struct AttentionForwardKernel {
  static constexpr int kThreads = kBlockThreads;
  static constexpr int kKeys = kOtherRows<T, kWidth>;
  static constexpr int kMostBlocks = sizeof(T) == 4 ? 1 : 2;  // of 16 keys, in registers
  // Where ptxas makes less of registers, a block fewer, lest they spill.
  static constexpr int kBlocks = sizeof(T) == 4 ? 2 : (kWidth <= 64 ? 5 : kWidth <= 96 ? 4 : 3) - (kHopper ? 0 : 1);
  using Queries = Tile<T, kOwnRows, kWidth>;
  using Keys = Tile<T, kKeys, kWidth>;
  // Shared memory: queries, which the output replaces, keys and values, then the queries' spans.
  static constexpr int64_t kKeysAt = Queries::kBytes;
  static constexpr int64_t kSpansAt = kKeysAt + 2 * Keys::kBytes;
  static constexpr int64_t kSharedBytes = kSpansAt + Spans<kOwnRows>::kBytes;

  FASTLM_DEVICE static void run(const AttentionForward& p) {
    const AttentionShape& shape = p.shape;
    const Task task = task_of(shape);
    const int own_row = warp_index() * 16;  // the warp's first, in the tile
    const int rows_q = static_cast<int>(shape.rows_q);
    const Queries queries(0);
    const HeadRows<T> q(shape.q, task.head, shape.head_dim);
    begin_to_load(kOwnRows, rows_q - task.row, q.head_dim, Copies(queries, q, task.row));
    const Spans<kOwnRows> spans(kSpansAt);
    spans.template find<Side::kQueries>(shape, task.row, rows_q);
    barrier();
    const Span block = spans.template around<kOwnRows>(0), warp = spans.template around<16>(own_row);
    Rows rows(p, task, spans, own_row);

    const HeadRows<T> k(shape.k, task.head, shape.head_dim), v(shape.v, task.head, shape.head_dim);
    const Keys keys(kKeysAt), values(kKeysAt + Keys::kBytes);
    const auto load_keys = [&](int first, int count) {
      begin_to_load(count, block.end - first, k.head_dim, Copies(keys, k, first), Copies(values, v, first));
    };
    walk<kKeys>(block, load_keys, [&](int first) {
      each_chunk<kKeys, kMostBlocks>(warp, first, [&](int blocks, int row) {
        with_count<kMostBlocks>(blocks,
                                [&](auto count) { rows.template include<count>(queries, keys, values, row, first); });
      });
    });
    rows.finish(queries);
  }

 private:
  // The two queries of a thread, lane / 4 and that + 8 of its warp's 16, with its share of their columns.
  struct Rows {
    const AttentionForward& p;
    const Spans<kOwnRows>& all;
    int head, own_row, first_query;  // of the warp, in the tile and in the tensor
    Span spans[2];
    bool begun = false;
    float largest[2] = {-INFINITY, -INFINITY};  // of scores, in units of power<T>
    float sum[2] = {};                          // of the lane's own columns
    float out[kWidth / 8][4] = {};

    FASTLM_DEVICE Rows(const AttentionForward& p, const Task& task, const Spans<kOwnRows>& all, int own_row)
        : p(p), all(all), head(task.head), own_row(own_row), first_query(task.row + own_row) {
      FASTLM_UNROLL
      for (int below = 0; below < 2; ++below) spans[below] = all.of(own_row + lane_index() / 4 + 8 * below);
    }

    // 16 kCount keys from `row` on of a tile that begins at row `first` of k.
    template <int kCount>
    FASTLM_DEVICE void include(const Queries& queries, const Keys& keys, const Keys& values, int row, int first) {
      float scores[2 * kCount][4];
      multiply_by_transpose<T, kWidth, kCount>(scores, queries, own_row, keys, row);
      const float unit = p.shape.scale * kToPower<T>;
      FASTLM_UNROLL
      for (int below = 0; below < 2; ++below) {
        const Inside inside(spans[below], first + row);
        float next = largest[below];
        FASTLM_UNROLL
        for (int n = 0; n < 2 * kCount; ++n) {
          FASTLM_UNROLL
          for (int e = 0; e < 2; ++e) {
            float& score = scores[n][2 * below + e];
            score = inside(n, e) ? score * unit : -INFINITY;
            next = maximum(next, score);
          }
        }
        next = maximum(next, shuffle_xor(next, 1));
        next = maximum(next, shuffle_xor(next, 2));
        const float base = base_of(next);
        if (begun) {
          const float factor = power<T>(largest[below] - base);
          sum[below] *= factor;
          FASTLM_UNROLL
          for (int n = 0; n < kWidth / 8; ++n) {
            out[n][2 * below] *= factor;
            out[n][2 * below + 1] *= factor;
          }
        }
        largest[below] = next;
        FASTLM_UNROLL
        for (int n = 0; n < 2 * kCount; ++n) {
          FASTLM_UNROLL
          for (int e = 0; e < 2; ++e) {
            float& score = scores[n][2 * below + e];
            score = power<T>(score - base);
            sum[below] += score;
          }
        }
      }
      begun = true;
      if constexpr (kDropout) drop<kCount>(scores, first + row);
      multiply_by<T, kWidth, kCount>(out, scores, values, row);
    }

    // Lanes draw for one query each, 16 for one block of keys and 16 for the next.
    template <int kCount>
    FASTLM_DEVICE void drop(float (&probabilities)[2 * kCount][4], int first_key) const {
      const int drawn_start = all.of(own_row + lane_index() % 16).key_start;
      FASTLM_UNROLL
      for (int block = 0; block < kCount; block += 2) {
        const uint32_t mine = kept_keys(p.shape.dropout, head, first_query + lane_index() % 16,
                                        first_key + 16 * (block + lane_index() / 16) - drawn_start);
        FASTLM_UNROLL
        for (int b = block; b < block + 2 && b < kCount; ++b) {
          FASTLM_UNROLL
          for (int below = 0; below < 2; ++below) {
            const uint32_t kept =
                shuffle(mine, lane_index() / 4 + 8 * below + 16 * (b - block)) >> lane_index() % 4 * 2;
            FASTLM_UNROLL
            for (int i = 0; i < 4; ++i) {
              const int n = i / 2, e = i % 2;
              if ((kept >> (8 * n + e) & 1u) == 0) probabilities[2 * b + n][2 * below + e] = 0.0f;
            }
          }
        }
      }
    }

    FASTLM_DEVICE void finish(const Queries& queries) {
      const int rows = static_cast<int>(p.shape.rows_q);
      float factor[2];
      FASTLM_UNROLL
      for (int below = 0; below < 2; ++below) {
        sum[below] += shuffle_xor(sum[below], 1);
        sum[below] += shuffle_xor(sum[below], 2);
        factor[below] = sum[below] == 0.0f ? 0.0f : p.shape.dropout.keep_scale / sum[below];
        const int query = first_query + lane_index() / 4 + 8 * below;
        if (lane_index() % 4 == 0 && query < rows)
          store(Global<float>(p.lse) + (head * p.lse_stride + query), log_of_power<T>(largest[below], sum[below]));
      }
      if (any_unfinite(out)) {
        recompute(queries);
      } else {
        put_sums<T, kWidth>(out, factor, queries, own_row);
      }
      store_rows<T>(queries, own_row, p.out, head, p.shape, first_query, rows);
    }

    FASTLM_DEVICE void recompute(const Queries& queries) const {
      const int rows = static_cast<int>(p.shape.rows_q);
      for (int row = 0; row < 16 && first_query + row < rows; ++row) {
        const auto attended = attend<T, kWidth, kDropout>(p.shape, head, first_query + row, all.of(own_row + row));
        put_row<T>(attended, queries, own_row + row);
      }
    }
  };
};

template <class T, int kWidth>
void attention_forward(const AttentionForward& params, Stream stream) {
  const auto run = [&](auto kernel) {
    using Kernel = decltype(kernel);
    launch<Kernel>(blocks_of(params.shape.rows_q, params.shape), 1, Kernel::kSharedBytes, stream, params);
  };
  if (params.shape.dropout.threshold == 0) return run(AttentionForwardKernel<T, kWidth, false>{});
  run(AttentionForwardKernel<T, kWidth, true>{});
}

}  // namespace fastlm::cuda
