// Attention over packed sequences, backward, in two kernels: a block of the first owns 64 queries of a head and walks
// over the keys that they see, for their gradient; a block of the second owns 64 keys and walks over the queries that
// see them, for that of keys and values. Scores are computed twice, but without atomics, and with nothing in memory but
// the gradients and two numbers a query.
//
// With P = exp(scale * Q K^T - lse), D = dropout's factors, W = D * (grad_out V^T), delta = sum of out * grad_out by
// row:
//   grad_v = (D * P)^T grad_out,  G = scale * P * (W - delta),  grad_q = G K,  grad_k = G^T Q
#pragma once

#include "kernels/cuda/attention_row.cuh"

namespace fastlm::cuda {

// What the backward knows of a query: its lse in units of power<T>, and its delta.
inline constexpr int kNumbers = 2;

// ---- queries --------------------------------------------------------------------------------------------------------
template <class T, int kWidth, bool kDropout>
struct QueryGradientKernel {
  static constexpr int kThreads = kBlockThreads;
  static constexpr int kBlocks = sizeof(T) == 4 ? 1 : kWidth <= 64 ? 4 : kWidth <= 96 ? 3 : 2;
  static constexpr int kKeys = kOtherRows<T, kWidth>;
  static constexpr int kMostBlocks = sizeof(T) == 4 ? 1 : 2;  // of 16 keys, in registers
  using Own = Tile<T, kOwnRows, kWidth>;
  using Other = Tile<T, kKeys, kWidth>;
  // Shared memory: queries, which their gradient replaces, and grad_out; keys and values; spans and numbers by query.
  static constexpr int64_t kOtherAt = 2 * Own::kBytes;
  static constexpr int64_t kSpansAt = kOtherAt + 2 * Other::kBytes;
  static constexpr int64_t kNumbersAt = kSpansAt + Spans<kOwnRows>::kBytes;
  static constexpr int64_t kSharedBytes = kNumbersAt + kNumbers * kOwnRows * sizeof(float);

  FASTLM_DEVICE static void run(const AttentionBackward& p) {
    const AttentionShape& shape = p.shape;
    const Task task = task_of(shape);
    const int own_row = warp_index() * 16;
    const int rows_q = static_cast<int>(shape.rows_q);
    const Own queries(0), grads(Own::kBytes);
    const HeadRows<T> q(shape.q, task.head, shape.head_dim), grad_out(p.grad_out, task.head, shape.head_dim);
    begin_to_load(kOwnRows, rows_q - task.row, q.head_dim, Copies(queries, q, task.row),
                  Copies(grads, grad_out, task.row));
    const HalfRow mine(p, grad_out, task, rows_q);
    const Spans<kOwnRows> spans(kSpansAt);
    spans.template find<Side::kQueries>(shape, task.row, rows_q);
    mine.find_numbers(p, task.head, rows_q);
    barrier();
    const Span block = spans.template around<kOwnRows>(0), warp = spans.template around<16>(own_row);
    Rows rows(p, task, spans, own_row);

    const HeadRows<T> k(shape.k, task.head, shape.head_dim), v(shape.v, task.head, shape.head_dim);
    const Other keys(kOtherAt), values(kOtherAt + Other::kBytes);
    const auto load_keys = [&](int first, int count) {
      begin_to_load(count, block.end - first, k.head_dim, Copies(keys, k, first), Copies(values, v, first));
    };
    walk<kKeys>(block, load_keys, [&](int first) {
      each_chunk<kKeys, kMostBlocks>(warp, first, [&](int blocks, int row) {
        with_count<kMostBlocks>(
            blocks, [&](auto count) { rows.template include<count>(queries, grads, keys, values, row, first); });
      });
    });
    if (any_unfinite(rows.grad_q)) {
      recompute(p, task.head, queries, spans, own_row, task.row);
    } else {
      const float factor[2] = {shape.scale, shape.scale};
      put_sums<T, kWidth>(rows.grad_q, factor, queries, own_row);
    }
    store_rows<T>(queries, own_row, p.grad_q, task.head, shape, task.row + own_row, rows_q);
  }

 private:
  FASTLM_DEVICE static Shared<float> numbers(int row) { return shared_memory<float>(kNumbersAt) + kNumbers * row; }

  // Half of a query's rows of out and grad_out, read before anything that waits; the neighbouring thread has the other.
  struct HalfRow {
    static constexpr int kVectors = kWidth / kVector<T> / 2;
    static_assert(kBlockThreads == 2 * kOwnRows);
    int query;
    float lse = 0.0f;
    Vector<T, kVector<T>> out[kVectors], grad[kVectors];  // 0 behind the last query and the head's last column

    FASTLM_DEVICE HalfRow(const AttentionBackward& p, const HeadRows<T>& grad_out, const Task& task, int rows_q)
        : query(task.row + thread_index() / 2) {
      const HeadRows<T> all(p.out, task.head, p.shape.head_dim);
      if (query >= rows_q) return;
      lse = load(Global<const float>(p.lse) + (task.head * p.lse_stride + query));
      FASTLM_UNROLL
      for (int i = 0; i < kVectors; ++i) {
        const int column = (2 * i + thread_index() % 2) * kVector<T>;
        if (column >= all.head_dim) continue;
        out[i] = load_vector<kVector<T>>(all.at(query, column));
        grad[i] = load_vector<kVector<T>>(grad_out.at(query, column));
      }
    }

    // For this kernel and for the second.
    FASTLM_DEVICE void find_numbers(const AttentionBackward& p, int head, int rows_q) const {
      float delta = 0.0f;
      FASTLM_UNROLL
      for (int i = 0; i < kVectors; ++i) {
        FASTLM_UNROLL
        for (int e = 0; e < kVector<T>; ++e) delta = fused(to_float(out[i][e]), to_float(grad[i][e]), delta);
      }
      delta += shuffle_xor(delta, 1);
      if (thread_index() % 2 != 0) return;
      Vector<float, kNumbers> found;
      found.set(0, lse * kToPower<T>);
      found.set(1, delta);
      store_vector(numbers(thread_index() / 2), found);
      if (query < rows_q) store_vector(Global<float>(p.numbers) + kNumbers * (head * p.shape.rows_q + query), found);
    }
  };

  FASTLM_DEVICE static void recompute(const AttentionBackward& p, int head, const Own& queries,
                                      const Spans<kOwnRows>& spans, int own_row, int first_query) {
    const AttentionShape& shape = p.shape;
    const HeadRows<T> q(shape.q, head, shape.head_dim), grads(p.grad_out, head, shape.head_dim);
    const HeadRows<T> k(shape.k, head, shape.head_dim), v(shape.v, head, shape.head_dim);
    for (int row = own_row; row < own_row + 16 && first_query + row < shape.rows_q; ++row) {
      const int query = first_query + row;
      const Span span = spans.of(row);
      const auto known = load_vector<kNumbers>(numbers(row));
      const Spread<kWidth> q_row = load_row<kWidth>(q, query), grad_row = load_row<kWidth>(grads, query);
      Spread<kWidth> sum;
      for (int key = span.begin; key < span.end; ++key) {
        const Spread<kWidth> k_row = load_row<kWidth>(k, key);
        const ScoreGradient gradient =
            score_gradient<T, kDropout>(shape, head, query, key - span.key_start, sees_one_key(shape, span, query),
                                        known[0], known[1], q_row, k_row, grad_row, load_row<kWidth>(v, key));
        sum.add(k_row, gradient.score * shape.scale);
      }
      put_row<T>(sum, queries, row);
    }
  }

  // The two queries of a thread, with its share of their columns.
  struct Rows {
    const AttentionBackward& p;
    const Spans<kOwnRows>& all;
    int head, own_row, first_query;
    Span spans[2];  // empty where the gradient is 0
    float lse[2], delta[2];
    float grad_q[kWidth / 8][4] = {};

    FASTLM_DEVICE Rows(const AttentionBackward& p, const Task& task, const Spans<kOwnRows>& all, int own_row)
        : p(p), all(all), head(task.head), own_row(own_row), first_query(task.row + own_row) {
      FASTLM_UNROLL
      for (int below = 0; below < 2; ++below) {
        const int row = own_row + lane_index() / 4 + 8 * below;
        spans[below] = all.of(row);
        if (sees_one_key(p.shape, spans[below], task.row + row)) spans[below] = kNoRows;
        const auto known = load_vector<kNumbers>(numbers(row));
        lse[below] = known[0];
        delta[below] = known[1];
      }
    }

    template <int kCount>
    FASTLM_DEVICE void include(const Own& queries, const Own& grads, const Other& keys, const Other& values, int row,
                               int first) {
      float scores[2 * kCount][4], weights[2 * kCount][4];
      multiply_by_transpose<T, kWidth, kCount>(scores, queries, own_row, keys, row);
      multiply_by_transpose<T, kWidth, kCount>(weights, grads, own_row, values, row);
      if constexpr (kDropout) {
        // Lanes draw for one query each, 16 for one block of keys and 16 for the next.
        const int drawn_start = all.of(own_row + lane_index() % 16).key_start;
        const uint32_t mine = kept_keys(p.shape.dropout, head, first_query + lane_index() % 16,
                                        first + row + 16 * (lane_index() / 16) - drawn_start);
        FASTLM_UNROLL
        for (int b = 0; b < kCount; ++b) {
          FASTLM_UNROLL
          for (int below = 0; below < 2; ++below) {
            const uint32_t kept = shuffle(mine, lane_index() / 4 + 8 * below + 16 * b) >> lane_index() % 4 * 2;
            FASTLM_UNROLL
            for (int i = 0; i < 4; ++i) {
              const int n = i / 2, e = i % 2;
              float& weight = weights[2 * b + n][2 * below + e];
              weight = (kept >> (8 * n + e) & 1u) != 0 ? weight * p.shape.dropout.keep_scale : 0.0f;
            }
          }
        }
      }
      const float unit = p.shape.scale * kToPower<T>;
      FASTLM_UNROLL
      for (int below = 0; below < 2; ++below) {
        const Inside inside(spans[below], first + row);
        FASTLM_UNROLL
        for (int n = 0; n < 2 * kCount; ++n) {
          FASTLM_UNROLL
          for (int e = 0; e < 2; ++e) {
            float& score = scores[n][2 * below + e];
            const float probability = power<T>(fused(score, unit, -lse[below]));
            score = inside(n, e) ? probability * (weights[n][2 * below + e] - delta[below]) : 0.0f;
          }
        }
      }
      multiply_by<T, kWidth, kCount>(grad_q, scores, keys, row);
    }
  };
};

// ---- keys and values ------------------------------------------------------------------------------------------------
// Both gradients need the scores. Where registers do not hold the two, they are found by kernels of their own.
enum class Gradients { kBoth, kOfKeys, kOfValues };

template <class T, int kWidth, bool kDropout, Gradients kWanted>
struct KeyGradientKernel {
  static constexpr int kThreads = kBlockThreads;
  static constexpr int kBlocks = sizeof(T) == 4 ? 1 : kWidth <= 64 ? 4 : kWidth <= 96 ? 3 : 2;
  static constexpr bool kKeysToo = kWanted != Gradients::kOfValues, kValuesToo = kWanted != Gradients::kOfKeys;
  static constexpr int kQueries = kOtherRows<T, kWidth>;
  using Own = Tile<T, kOwnRows, kWidth>;
  using Other = Tile<T, kQueries, kWidth>;
  // Shared memory: keys and values, which their gradients replace; queries and grad_out; spans by key, numbers by
  // query.
  static constexpr int64_t kOtherAt = 2 * Own::kBytes;
  static constexpr int64_t kSpansAt = kOtherAt + 2 * Other::kBytes;
  static constexpr int64_t kNumbersAt = kSpansAt + Spans<kOwnRows>::kBytes;
  static constexpr int64_t kSharedBytes = kNumbersAt + kNumbers * kQueries * sizeof(float);

  FASTLM_DEVICE static void run(const AttentionBackward& p) {
    const AttentionShape& shape = p.shape;
    const Task task = task_of(shape);
    const int own_row = warp_index() * 16;
    const int rows_k = static_cast<int>(shape.rows_k);
    const Own keys(0), values(Own::kBytes);
    const HeadRows<T> k(shape.k, task.head, shape.head_dim), v(shape.v, task.head, shape.head_dim);
    begin_to_load(kOwnRows, rows_k - task.row, k.head_dim, Copies(keys, k, task.row), Copies(values, v, task.row));
    const Spans<kOwnRows> spans(kSpansAt);
    spans.template find<Side::kKeys>(shape, task.row, rows_k);
    barrier();
    const Span block = spans.template around<kOwnRows>(0), warp = spans.template around<16>(own_row);
    Rows rows(p, task, spans, own_row);

    const Other queries(kOtherAt), grads(kOtherAt + Other::kBytes);
    const auto load_queries = [&](int first, int count) {
      const HeadRows<T> q(shape.q, task.head, shape.head_dim), grad_out(p.grad_out, task.head, shape.head_dim);
      begin_to_load(count, block.end - first, q.head_dim, Copies(queries, q, first), Copies(grads, grad_out, first));
      const auto known = Global<const float>(p.numbers) + kNumbers * (task.head * shape.rows_q + first);
      if (thread_index() < count)
        copy_async_or_zero<kNumbers>(numbers(thread_index()), known + kNumbers * thread_index(),
                                     first + thread_index() < block.end);
    };
    static_assert(kQueries <= kBlockThreads);
    walk<kQueries>(block, load_queries, [&](int first) {
      each_chunk<kQueries, 2>(
          warp, first, [&](int blocks, int row) { rows.include(blocks, keys, values, queries, grads, row, first); });
    });
    if ((kKeysToo && any_unfinite(rows.grad_k)) || (kValuesToo && any_unfinite(rows.grad_v))) {
      recompute(p, task.head, keys, values, spans, own_row, task.row);
    } else {
      const float k_factor[2] = {shape.scale, shape.scale},
                  v_factor[2] = {shape.dropout.keep_scale, shape.dropout.keep_scale};
      if constexpr (kKeysToo) put_sums<T, kWidth>(rows.grad_k, k_factor, keys, own_row);
      if constexpr (kValuesToo) put_sums<T, kWidth>(rows.grad_v, v_factor, values, own_row);
    }
    if constexpr (kKeysToo) store_rows<T>(keys, own_row, p.grad_k, task.head, shape, task.row + own_row, rows_k);
    if constexpr (kValuesToo) store_rows<T>(values, own_row, p.grad_v, task.head, shape, task.row + own_row, rows_k);
  }

 private:
  FASTLM_DEVICE static Shared<float> numbers(int row) { return shared_memory<float>(kNumbersAt) + kNumbers * row; }

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
        const auto known =
            load_vector<kNumbers>(Global<const float>(p.numbers) + kNumbers * (head * shape.rows_q + query));
        const Spread<kWidth> q_row = load_row<kWidth>(q, query), grad_row = load_row<kWidth>(grads, query);
        const ScoreGradient gradient =
            score_gradient<T, kDropout>(shape, head, query, key - span.key_start, sees_one_key(shape, span, query),
                                        known[0], known[1], q_row, k_row, grad_row, v_row);
        sum_k.add(q_row, gradient.score * shape.scale);
        sum_v.add(grad_row, gradient.dropped_probability);
      }
      put_row<T>(sum_k, keys, row);
      put_row<T>(sum_v, values, row);
    }
  }

  // The two keys of a thread, with its share of their columns.
  struct Rows {
    const AttentionBackward& p;
    const Spans<kOwnRows>& all;
    int head, own_row, first_key;
    Span spans[2];
    bool any_only_key;  // some queries see nothing but a key of the warp, and their scores have no gradient
    float grad_k[kKeysToo ? kWidth / 8 : 1][4] = {}, grad_v[kValuesToo ? kWidth / 8 : 1][4] = {};

    FASTLM_DEVICE Rows(const AttentionBackward& p, const Task& task, const Spans<kOwnRows>& all, int own_row)
        : p(p), all(all), head(task.head), own_row(own_row), first_key(task.row + own_row) {
      FASTLM_UNROLL
      for (int below = 0; below < 2; ++below) spans[below] = all.of(own_row + lane_index() / 4 + 8 * below);
      any_only_key = any_lane(length_of(seeing_it_alone(0)) > 0 || length_of(seeing_it_alone(1)) > 0);
    }

    // 16 or 32 queries from `row` on of a tile that begins at row `first` of q, 16 at a time: registers hold no more.
    FASTLM_DEVICE void include(int blocks, const Own& keys, const Own& values, const Other& queries, const Other& grads,
                               int row, int first) {
      uint32_t mine = 0;
      if constexpr (kDropout) {
        const int query = first + row + lane_index();  // lanes draw for one each
        mine = kept_keys(p.shape.dropout, head, query, first_key - key_start_of(query));
      }
      for (int block = 0; block < 16 * blocks; block += 16) {
        float scores[2][4], weights[2][4];  // transposed: own keys by queries
        multiply_by_transpose<T, kWidth, 1>(scores, keys, own_row, queries, row + block);
        multiply_by_transpose<T, kWidth, 1>(weights, values, own_row, grads, row + block);
        find_gradients(scores, weights, mine, block, row + block, first);
        if constexpr (kValuesToo) multiply_by<T, kWidth, 1>(grad_v, scores, grads, row + block);
        if constexpr (kKeysToo) multiply_by<T, kWidth, 1>(grad_k, weights, queries, row + block);
      }
    }

    // From scores and products of grad_out and values: what grad_out is multiplied by, and what queries are. `mine` has
    // a query's kept keys in the lane `drawn_by` and so on.
    FASTLM_DEVICE void find_gradients(float (&scores)[2][4], float (&weights)[2][4], uint32_t mine, int drawn_by,
                                      int row, int first) const {
      const float unit = p.shape.scale * kToPower<T>, keep_scale = p.shape.dropout.keep_scale;
      const Inside inside[2] = {Inside(spans[0], first + row), Inside(spans[1], first + row)};
      FASTLM_UNROLL
      for (int i = 0; i < 4; ++i) {
        const int n = i / 2, e = i % 2, column = n * 8 + lane_index() % 4 * 2 + e;
        const auto known = load_vector<kNumbers>(numbers(row + column));
        uint32_t kept = 0;
        if constexpr (kDropout) kept = shuffle(mine, drawn_by + column) >> lane_index() / 4;
        FASTLM_UNROLL
        for (int below = 0; below < 2; ++below) {
          float& score = scores[n][2 * below + e];
          float& weight = weights[n][2 * below + e];
          const float probability = inside[below](n, e) ? power<T>(fused(score, unit, -known[0])) : 0.0f;
          score = probability;
          if constexpr (kDropout) {
            const bool keeps = (kept >> (8 * below) & 1u) != 0;
            if (!keeps) score = 0.0f;
            weight = keeps ? weight * keep_scale : 0.0f;
          }
          weight = probability * (weight - known[1]);
        }
      }
      if (!any_only_key) return;
      FASTLM_UNROLL
      for (int below = 0; below < 2; ++below) {
        const Inside left_out(seeing_it_alone(below), first + row);
        FASTLM_UNROLL
        for (int i = 0; i < 4; ++i)
          if (left_out(i / 2, i % 2)) weights[i / 2][2 * below + i % 2] = 0.0f;
      }
    }

    // The queries that see one of the thread's keys and no other.
    FASTLM_DEVICE Span seeing_it_alone(int below) const {
      Span span = all.of(own_row + lane_index() / 4 + 8 * below);
      if (length_of(span) == 0 || !sees_one_key(p.shape, span, span.begin)) return kNoRows;
      if (p.shape.causal) span.end = span.begin + 1;  // any later one sees more
      return span;
    }

    // Where the keys of a query's sequence begin, if any of the warp's own are among them: spans begin in order.
    FASTLM_DEVICE int key_start_of(int query) const {
      int row = own_row;
      FASTLM_UNROLL
      for (int step = 8; step > 0; step /= 2)
        if (all.begin_of(row + step) <= query) row += step;
      return all.of(row).key_start;
    }
  };
};

template <class T, int kWidth, bool kDropout>
void attention_backward(const AttentionBackward& params, Stream stream) {
  const AttentionShape& shape = params.shape;
  const auto run = [&](auto kernel, int64_t rows) {
    using Kernel = decltype(kernel);
    if (rows > 0) launch<Kernel>(blocks_of(rows, shape), 1, Kernel::kSharedBytes, stream, params);
  };
  run(QueryGradientKernel<T, kWidth, kDropout>{}, shape.rows_q);
  if constexpr (sizeof(T) == 4 && kWidth > 64) {
    run(KeyGradientKernel<T, kWidth, kDropout, Gradients::kOfKeys>{}, shape.rows_k);
    run(KeyGradientKernel<T, kWidth, kDropout, Gradients::kOfValues>{}, shape.rows_k);
  } else {
    run(KeyGradientKernel<T, kWidth, kDropout, Gradients::kBoth>{}, shape.rows_k);
  }
}

template <class T, int kWidth>
void attention_backward(const AttentionBackward& params, Stream stream) {
  if (params.shape.dropout.threshold == 0) return attention_backward<T, kWidth, false>(params, stream);
  attention_backward<T, kWidth, true>(params, stream);
}

}  // namespace fastlm::cuda
