// Attention over packed sequences, forward and backward: one head of one sequence at a time, tiles that stay in cache.
//
// Forward: online softmax over blocks of keys (Milakov & Gimelshein 2018; Dao 2023, arXiv:2307.08691), a single block
// for sentences. Backward: probabilities made again from the log-sum-exp, gradients of the keys summed in a block of
// keys, of the queries in scratch. No work is shared between heads or sequences, so the result does not depend on how
// they are dealt to threads.
#pragma once

#include "kernels/cpu/dropout.h"
#include "kernels/cpu/exp.h"
#include "kernels/cpu/pack.h"

namespace fastlm::cpu::FASTLM_ISA {

inline constexpr int64_t kQueryBlock =
    128;  // rows of a tile, which end where keys do: a causal tile is then skipped whole
inline constexpr int64_t kKeyBlock = 128;  // lanes of a tile
inline constexpr int64_t kRowGroup = 16;   // rows of a tile that stay in the first-level cache
inline constexpr int64_t kCacheLine = 64;

#ifdef FASTLM_NATIVE_BF16
template <class T>
using UnitsOf = std::conditional_t<std::is_same_v<T, BFloat16>, Pairs, Floats>;
#else
template <class T>
using UnitsOf = Floats;
#endif

// Hands out parts of one buffer, each on a cache line of its own; over nullptr it only counts.
class Arena {
 public:
  explicit Arena(float* base)
      : base_(base == nullptr ? nullptr : base + (64 - reinterpret_cast<uintptr_t>(base) % 64) % 64 / sizeof(float)) {}
  float* take(int64_t floats) {
    float* const part = base_ == nullptr ? nullptr : base_ + used_;
    used_ += padded(floats);
    return part;
  }
  int64_t used() const { return used_ + kPadding; }

 private:
  float* base_;
  int64_t used_ = 0;
};

// What one pair of a query block and a key block sees: query r the keys [0, visible(r)) of the block.
struct Band {
  bool causal;
  int64_t reach;  // causal: query r sees the keys before r + reach
  int64_t keys;
  int64_t stride;  // lanes of a row of the tile
  int64_t visible(int64_t r) const {
    if (!causal) return keys;
    const int64_t seen = r + reach;
    return seen < 0 ? 0 : seen < keys ? seen : keys;
  }
  // Lanes of row r that are written, with zeros beyond the visible ones: all that a group of rows or keys reads.
  int64_t written(int64_t r) const {
    const int64_t lanes = padded(causal ? visible(r) + 2 * kTileRows : keys);
    return lanes < stride ? lanes : stride;
  }
  // The first query that sees key j.
  int64_t first_query(int64_t j) const { return causal && j >= reach ? j - reach + 1 : 0; }
};

inline int64_t vectors(int64_t lanes) { return (lanes + kWidth - 1) / kWidth; }

// Scores, or any product of queries' and keys' rows: lanes of keys that a group's last query sees.
template <class Units>
inline void multiply_scores(Left rows, Right columns, Sums scores, int64_t queries, int64_t width, const Band& band) {
  multiply<Units>(rows, columns, scores, queries, false, [&](int64_t, int64_t end) {
    return Extent{0, width / Units::kPerUnit, vectors(band.visible(end - 1))};
  });
}

// Sums over keys, for rows of queries.
template <class Units>
inline void add_over_keys(Left weights, Right rows, Sums sums, int64_t queries, int64_t width, const Band& band,
                          bool add) {
  multiply<Units>(weights, rows, sums, queries, add, [&](int64_t, int64_t end) {
    return Extent{0, (band.visible(end - 1) + Units::kPerUnit - 1) / Units::kPerUnit, vectors(width)};
  });
}

// Sums over queries, for rows of keys.
template <class Units>
inline void add_over_queries(Left weights, Right rows, Sums sums, int64_t queries, int64_t width, const Band& band,
                             bool add) {
  multiply<Units>(weights, rows, sums, band.keys, add, [&](int64_t j, int64_t) {
    return Extent{band.first_query(j) / Units::kPerUnit, (queries + Units::kPerUnit - 1) / Units::kPerUnit,
                  vectors(width)};
  });
}

// One head of one sequence, and where it starts in the packed tensors.
struct Task {
  int64_t head, first_query, queries, first_key, keys;
  int64_t offset() const { return keys - queries; }  // query i sees keys up to i + offset
};

// The words of dropout for queries from i on and keys from j on: causal ones as far as the last row of a group sees.
inline void draw_band(const AttentionShape& p, const Task& task, int64_t i, int64_t queries, int64_t j,
                      const Band& band, uint32_t* words) {
  const int64_t step = band.causal ? kRowGroup : queries;
  for (int64_t r = 0; r < queries; r += step) {
    const int64_t rows = queries - r < step ? queries - r : step;
    draw_words(p.dropout.seed, static_cast<uint32_t>(task.head), task.first_query + i + r, rows, j,
               band.visible(r + rows - 1), words + r * band.stride, band.stride);
  }
}

// Whether query i sees no key.
inline bool blind(const AttentionShape& p, const Task& task, int64_t i) {
  return p.causal ? i + task.offset() < 0 : task.keys == 0;
}

inline Task task_of(const AttentionShape& p, int64_t item) {
  const int64_t sequence = item / p.heads;
  const int64_t q = p.cu_seqlens_q[sequence], k = p.cu_seqlens_k[sequence];
  return {item % p.heads, q, p.cu_seqlens_q[sequence + 1] - q, k, p.cu_seqlens_k[sequence + 1] - k};
}

template <class T>
inline Rows<T> rows_of(const AttentionInput& x, int64_t head, int64_t first) {
  return {static_cast<const T*>(x.data) + first * x.row_stride + head * x.head_stride, x.row_stride};
}

// Asks for a row of a head. Rows of one head lie a whole token apart, too far for the processor to see the next coming.
// This and its callers are inlined by force: GCC takes a function that only prefetches for one without effect.
template <class T>
inline __attribute__((always_inline)) void fetch(const void* x, int64_t row_stride, int64_t head_stride, int64_t head,
                                                 int64_t row, int64_t width) {
  const T* const data = static_cast<const T*>(x) + row * row_stride + head * head_stride;
  for (int64_t i = 0; i < width; i += kCacheLine / static_cast<int64_t>(sizeof(T))) prefetch(data + i);
}
template <class T>
inline __attribute__((always_inline)) void fetch(const AttentionInput& x, int64_t head, int64_t row, int64_t width) {
  fetch<T>(x.data, x.row_stride, x.head_stride, head, row, width);
}

inline void zero(float* x, int64_t n) { std::memset(x, 0, static_cast<size_t>(n) * sizeof(float)); }

// A vector of a tile's row, whole: the lanes beyond the row's end are 0.
template <class Lanes>
inline void store_padded(float* p, Vec a, Lanes lanes) {
  store(p, only(a, lanes, 0.0f), Whole{});
}

// The vectors after the one that holds lane n - 1, up to lane `end`, a multiple of kPadding.
inline void zero_vectors(float* row, int64_t n, int64_t end) {
  for (int64_t i = vectors(n) * kWidth; i < end; i += kWidth) store(row + i, splat(0.0f), Whole{});
}

// Converts whole rows of sums to the output's type.
template <class T>
inline void store_rows(const float* from, int64_t rows, int64_t width, T* out, int64_t out_stride) {
  for (int64_t r = 0; r < rows; ++r)
    for_each_tail_vector(width, [&](int64_t i, auto lanes) {
      store(out + r * out_stride + i, load(from + r * padded(width) + i, lanes), lanes);
    });
}

// ---- forward -------------------------------------------------------------------------------------------------------
// Scratch of one thread: the keys and values of a whole head, and one tile.
struct ForwardScratch {
  float *k_columns, *v_rows, *q_rows, *scores, *weights, *sums, *state;
  uint32_t* words;
  int64_t floats;
  ForwardScratch(const AttentionShape& p, float* base) {
    Arena arena(base);
    const int64_t keys = padded(p.max_seqlen_k), stride = keys < kKeyBlock ? keys : kKeyBlock;
    k_columns = arena.take(keys * p.head_dim);
    v_rows = arena.take(keys * padded(p.head_dim));
    q_rows = arena.take(kQueryBlock * padded(p.head_dim));
    scores = arena.take(kQueryBlock * stride);
    weights = arena.take(kQueryBlock * stride);
    sums = arena.take(kQueryBlock * padded(p.head_dim));
    state = arena.take(3 * kQueryBlock);
    words = reinterpret_cast<uint32_t*>(arena.take(p.dropout.threshold ? kQueryBlock * stride : 0));
    floats = arena.used();
  }
};

// Of each query of a block: the running maximum of scaled scores, the one before this block of keys, and the running
// sum of exponentials.
struct SoftmaxState {
  float *maximum, *before, *sum;
};

// Raises the running maximum to that of row r of the scores.
inline void raise_maximum(const Band& band, int64_t r, float scale, const float* row, SoftmaxState state) {
  Maximum highest;
  for_each_vector(band.visible(r), [&](int64_t i, auto lanes, int slot) {
    highest.slots[slot] = max(only(load(row + i, lanes) * splat(scale), lanes, -INFINITY), highest.slots[slot]);
  });
  const float before = state.maximum[r], here = highest.total();
  state.before[r] = before;
  state.maximum[r] = here > before ? here : before;
}

// Turns row r of the scores into exponentials relative to the running maximum, with dropped ones as 0.
template <class T>
inline void advance_row(const Band& band, int64_t r, float scale, float* row, const uint32_t* words, uint32_t limit,
                        SoftmaxState state, float* sums, int64_t width) {
  const int64_t n = band.visible(r);
  if (n > 0) {
    const float before = state.before[r], now = state.maximum[r];
    Sum sum;
    for_each_vector(n, [&](int64_t i, auto lanes, int slot) {
      const Vec e = exp<T>(only(load(row + i, lanes) * splat(scale) - splat(now), lanes, -INFINITY));
      sum.slots[slot] = sum.slots[slot] + e;
      store_padded(row + i, words == nullptr ? e : select(at_least(words + i, limit), e, splat(0.0f)), lanes);
    });
    if (state.sum[r] == 0.0f) {
      state.sum[r] = sum.total();
    } else {
      const float factor = before == now ? 1.0f : exp(before - now);
      state.sum[r] = state.sum[r] * factor + sum.total();
      for (int64_t i = 0; factor != 1.0f && i < padded(width); i += kWidth)
        store(sums + i, load(sums + i, Whole{}) * splat(factor), Whole{});
    }
  }
  zero_vectors(row, n, band.written(r));
}

template <class T>
inline void write_queries(const AttentionForward& p, const Task& task, int64_t first, int64_t queries,
                          SoftmaxState state, const float* sums) {
  const AttentionShape& shape = p.shape;
  const int64_t width = shape.head_dim;
  for (int64_t r = 0; r < queries; ++r) {
    const int64_t row = task.first_query + first + r;
    const bool sees_none = blind(shape, task, first + r);  // then nothing was summed
    const Vec factor = splat(shape.dropout.keep_scale / state.sum[r]);
    T* const out = static_cast<T*>(p.out) + (row * shape.heads + task.head) * width;
    for_each_tail_vector(width, [&](int64_t i, auto lanes) {
      store(out + i, sees_none ? splat(0.0f) : load(sums + r * padded(width) + i, lanes) * factor, lanes);
    });
    p.lse[task.head * p.lse_stride + row] = sees_none ? -INFINITY : state.maximum[r] + __builtin_logf(state.sum[r]);
  }
}

// Row i of what this task writes and of what the next one reads.
template <class T>
inline __attribute__((always_inline)) void fetch_around(const AttentionForward& p, const Task& task, const Task& next,
                                                        int64_t i) {
  const AttentionShape& shape = p.shape;
  const int64_t width = shape.head_dim;
  fetch<T>(p.out, shape.heads * width, width, task.head, task.first_query + i, width);
  if (i < next.queries) fetch<T>(shape.q, next.head, next.first_query + i, width);
  if (i >= next.keys) return;
  fetch<T>(shape.k, next.head, next.first_key + i, width);
  fetch<T>(shape.v, next.head, next.first_key + i, width);
}

template <class T>
inline void forward_task(const AttentionForward& p, const Task& task, const Task& next, const ForwardScratch& scratch) {
  using Units = UnitsOf<T>;
  const AttentionShape& shape = p.shape;
  const int64_t width = shape.head_dim;
  const Rows<T> q = rows_of<T>(shape.q, task.head, task.first_query);
  const Rows<T> k = rows_of<T>(shape.k, task.head, task.first_key), v = rows_of<T>(shape.v, task.head, task.first_key);
  for (int64_t j = 0; j < task.keys; j += kKeyBlock) {
    const int64_t keys = task.keys - j < kKeyBlock ? task.keys - j : kKeyBlock;
    right_columns<T, Units>(k.from(j), keys, width, scratch.k_columns + j * width);
    right_rows<T, Units>(v.from(j), keys, width, scratch.v_rows + j * padded(width));
  }
  const SoftmaxState state{scratch.state, scratch.state + kQueryBlock, scratch.state + 2 * kQueryBlock};
  const Sums sums{scratch.sums, padded(width)};
  for (int64_t i = 0; i < task.queries; i += kQueryBlock) {
    const int64_t queries = task.queries - i < kQueryBlock ? task.queries - i : kQueryBlock;
    const Left left = left_rows<T, Units>(q.from(i), queries, width, scratch.q_rows);
    for (int64_t r = 0; r < queries; ++r) {
      state.maximum[r] = -INFINITY;
      state.sum[r] = 0.0f;
    }
    for (int64_t j = 0; j < task.keys; j += kKeyBlock) {
      const int64_t keys = task.keys - j < kKeyBlock ? task.keys - j : kKeyBlock;
      const Band band{shape.causal, i + task.offset() - j + 1, keys, padded(keys)};
      if (band.visible(queries - 1) == 0) break;
      multiply_scores<Units>(left, {scratch.k_columns + j * width, band.stride}, {scratch.scores, band.stride}, queries,
                             width, band);
      if (shape.dropout.threshold) draw_band(shape, task, i, queries, j, band, scratch.words);
      // Maxima of a group of rows first: their reductions overlap, and no exponential waits for its row's.
      for (int64_t group = 0; group < queries; group += kRowGroup) {
        const int64_t end = queries - group < kRowGroup ? queries : group + kRowGroup;
        for (int64_t r = group; r < end; ++r)
          raise_maximum(band, r, shape.scale, scratch.scores + r * band.stride, state);
        for (int64_t r = group; r < end; ++r) {
          if (j == 0) fetch_around<T>(p, task, next, i + r);
          advance_row<T>(band, r, shape.scale, scratch.scores + r * band.stride,
                         shape.dropout.threshold ? scratch.words + r * band.stride : nullptr,
                         limit_of(shape.dropout.threshold), state, scratch.sums + r * padded(width), width);
        }
      }
      const Left weights = left_tile<Units>(scratch.scores, queries, band.stride, scratch.weights,
                                            [&](int64_t r) { return band.written(r); });
      add_over_keys<Units>(weights, {scratch.v_rows + j * padded(width), padded(width)}, sums, queries, width, band,
                           j > 0);
    }
    write_queries<T>(p, task, i, queries, state, scratch.sums);
  }
}

inline int64_t attention_forward_scratch(const AttentionShape& p) { return ForwardScratch(p, nullptr).floats; }

template <class T>
void attention_forward(const AttentionForward& p, int64_t begin, int64_t end, float* base) {
  const ForwardScratch scratch(p.shape, base);
  for (int64_t item = begin; item < end; ++item)
    forward_task<T>(p, task_of(p.shape, item), task_of(p.shape, item + 1 < end ? item + 1 : item), scratch);
}

// ---- backward ------------------------------------------------------------------------------------------------------
struct BackwardScratch {
  float *k_columns, *v_columns, *k_rows;  // one block of keys
  float *q_rows, *grad_out_rows;          // all queries, as right operands
  float *q_left, *grad_out_left;          // one block of queries, as left operands
  float *weights, *grad_scores;           // one tile: probabilities after dropout, gradient of the scores
  float *weights_left, *grad_scores_left, *grad_scores_transposed;
  float *grad_q, *grad_k, *grad_v, *delta;
  uint32_t* words;
  int64_t floats;
  BackwardScratch(const AttentionShape& p, float* base) {
    Arena arena(base);
    const int64_t width = padded(p.head_dim), queries = padded(p.max_seqlen_q);
    const int64_t all_keys = padded(p.max_seqlen_k), keys = all_keys < kKeyBlock ? all_keys : kKeyBlock;
    float** const of_keys[] = {&k_columns, &v_columns, &k_rows, &grad_k, &grad_v};
    for (float** part : of_keys) *part = arena.take(keys * width);
    float** const of_queries[] = {&q_rows, &grad_out_rows, &grad_q};
    for (float** part : of_queries) *part = arena.take(queries * width);
    float** const of_query_block[] = {&q_left, &grad_out_left};
    for (float** part : of_query_block) *part = arena.take(kQueryBlock * width);
    float** const tiles[] = {&weights, &grad_scores, &weights_left, &grad_scores_left, &grad_scores_transposed};
    for (float** part : tiles) *part = arena.take(kQueryBlock * keys);
    delta = arena.take(queries);
    words = reinterpret_cast<uint32_t*>(arena.take(p.dropout.threshold ? kQueryBlock * keys : 0));
    floats = arena.used();
  }
};

// Row r: from scores and gradients of the weights (in place) to weights after dropout and gradients of the scores.
// delta is the sum of weights times their gradients. A row whose keys all lie in this block sums it here, from the very
// numbers that it is subtracted from (a query with one key then has gradient 0 exactly), and makes its probabilities
// sum to 1, which the rounding of the log-sum-exp prevents; any other gets delta as `given`.
template <class T>
inline void differentiate_row(const AttentionShape& p, const Band& band, int64_t r, float lse, const float* given,
                              const uint32_t* words, float* weights, float* grads) {
  const int64_t n = band.visible(r);
  const uint32_t limit = limit_of(p.dropout.threshold);
  const Vec scale = splat(p.scale), keep_scale = splat(p.dropout.keep_scale), none = splat(0.0f);
  Sum sum, total;
  for_each_vector(n, [&](int64_t i, auto lanes, int slot) {
    // Rounded twice, as in the forward: the probability of a lone key is then exactly 1.
    const Vec probability = exp<T>(only(load(weights + i, lanes) * scale - splat(lse), lanes, -INFINITY));
    Vec grad = load(grads + i, lanes) * keep_scale;
    if (words != nullptr) grad = select(at_least(words + i, limit), grad, none);
    sum.slots[slot] = fma(probability, grad, sum.slots[slot]);
    total.slots[slot] = total.slots[slot] + probability;
    store_padded(grads + i, grad, lanes);
    store_padded(weights + i, probability, lanes);
  });
  const float normaliser = given == nullptr ? 1.0f / total.total() : 1.0f;
  const Vec delta = splat(given == nullptr ? sum.total() * normaliser : *given);
  for_each_vector(n, [&](int64_t i, auto lanes, int) {
    const Vec probability = load(weights + i, lanes) * splat(normaliser);
    store_padded(grads + i, probability * (load(grads + i, lanes) - delta) * scale, lanes);
    const Vec kept = probability * keep_scale;
    store_padded(weights + i, words == nullptr ? kept : select(at_least(words + i, limit), kept, none), lanes);
  });
  zero_vectors(weights, n, band.written(r));
  zero_vectors(grads, n, band.written(r));
}

template <class T>
inline float dot_rows(const T* a, const T* b, int64_t n) {
  Sum sum;
  for_each_vector(n, [&](int64_t i, auto lanes, int slot) {
    sum.slots[slot] = fma(load(a + i, lanes), load(b + i, lanes), sum.slots[slot]);
  });
  return sum.total();
}

// Whether the first block holds all keys that query i of a sequence sees.
inline bool in_one_block(const AttentionShape& p, const Task& task, int64_t i) {
  return task.keys <= kKeyBlock || (p.causal && i + task.offset() < kKeyBlock);
}

// Whether other pairs of blocks wrote the gradients of this pair's queries and keys before.
struct Written {
  bool queries, keys;
};

// Row i of what this task writes and of what the next one reads.
template <class T>
inline __attribute__((always_inline)) void fetch_around(const AttentionBackward& p, const Task& task, const Task& next,
                                                        int64_t i) {
  const AttentionShape& shape = p.shape;
  const int64_t width = shape.head_dim, row_stride = shape.heads * width;
  fetch<T>(p.grad_q, row_stride, width, task.head, task.first_query + i, width);
  if (i < task.keys) {
    fetch<T>(p.grad_k, row_stride, width, task.head, task.first_key + i, width);
    fetch<T>(p.grad_v, row_stride, width, task.head, task.first_key + i, width);
  }
  if (i < next.queries) {
    fetch<T>(shape.q, next.head, next.first_query + i, width);
    fetch<T>(p.grad_out, next.head, next.first_query + i, width);
  }
  if (i < next.keys) {
    fetch<T>(shape.k, next.head, next.first_key + i, width);
    fetch<T>(shape.v, next.head, next.first_key + i, width);
  }
}

template <class T>
inline void backward_tile(const AttentionBackward& p, const Task& task, const Task& next, int64_t i, int64_t queries,
                          int64_t j, const Band& band, Written before, const BackwardScratch& s) {
  using Units = UnitsOf<T>;
  const AttentionShape& shape = p.shape;
  const int64_t width = shape.head_dim, stride = band.stride, padded_width = padded(width);
  const Left q = left_rows<T, Units>(rows_of<T>(shape.q, task.head, task.first_query + i), queries, width, s.q_left);
  const Left grad_out =
      left_rows<T, Units>(rows_of<T>(p.grad_out, task.head, task.first_query + i), queries, width, s.grad_out_left);
  multiply_scores<Units>(q, {s.k_columns, stride}, {s.weights, stride}, queries, width, band);
  multiply_scores<Units>(grad_out, {s.v_columns, stride}, {s.grad_scores, stride}, queries, width, band);
  if (shape.dropout.threshold) draw_band(shape, task, i, queries, j, band, s.words);
  const float* const lse = p.lse + task.head * p.lse_stride + task.first_query + i;
  for (int64_t r = 0; r < queries; ++r) {
    if (j == 0) fetch_around<T>(p, task, next, i + r);
    differentiate_row<T>(shape, band, r, lse[r], in_one_block(shape, task, i + r) ? nullptr : s.delta + i + r,
                         shape.dropout.threshold ? s.words + r * stride : nullptr, s.weights + r * stride,
                         s.grad_scores + r * stride);
  }
  const auto written = [&](int64_t r) { return band.written(r); };
  const Right q_rows{s.q_rows + i / Units::kPerUnit * padded_width, padded_width};
  const Right grad_out_rows{s.grad_out_rows + i / Units::kPerUnit * padded_width, padded_width};
  add_over_queries<Units>(left_tile_transposed<Units>(s.weights, queries, stride, s.weights_left, written),
                          grad_out_rows, {s.grad_v, padded_width}, queries, width, band, before.keys);
  add_over_queries<Units>(
      left_tile_transposed<Units>(s.grad_scores, queries, stride, s.grad_scores_transposed, written), q_rows,
      {s.grad_k, padded_width}, queries, width, band, before.keys);
  add_over_keys<Units>(left_tile<Units>(s.grad_scores, queries, stride, s.grad_scores_left, written),
                       {s.k_rows, padded_width}, {s.grad_q + i * padded_width, padded_width}, queries, width, band,
                       before.queries);
}

template <class T>
inline void backward_task(const AttentionBackward& p, const Task& task, const Task& next, const BackwardScratch& s) {
  using Units = UnitsOf<T>;
  const AttentionShape& shape = p.shape;
  const int64_t width = shape.head_dim, out_stride = shape.heads * width;
  const Rows<T> q = rows_of<T>(shape.q, task.head, task.first_query);
  const Rows<T> k = rows_of<T>(shape.k, task.head, task.first_key), v = rows_of<T>(shape.v, task.head, task.first_key);
  const Rows<T> grad_out = rows_of<T>(p.grad_out, task.head, task.first_query);
  const Rows<T> out = rows_of<T>(p.out, task.head, task.first_query);
  for (int64_t i = 0; i < task.queries; ++i)
    if (!in_one_block(shape, task, i)) s.delta[i] = dot_rows(grad_out.row(i), out.row(i), width);
  right_rows<T, Units>(q, task.queries, width, s.q_rows);
  right_rows<T, Units>(grad_out, task.queries, width, s.grad_out_rows);
  if (blind(shape, task, 0)) zero(s.grad_q, task.queries * padded(width));
  for (int64_t j = 0; j < task.keys; j += kKeyBlock) {
    const int64_t keys = task.keys - j < kKeyBlock ? task.keys - j : kKeyBlock;
    right_columns<T, Units>(k.from(j), keys, width, s.k_columns);
    right_columns<T, Units>(v.from(j), keys, width, s.v_columns);
    right_rows<T, Units>(k.from(j), keys, width, s.k_rows);
    bool seen = false;
    for (int64_t i = 0; i < task.queries; i += kQueryBlock) {
      const int64_t queries = task.queries - i < kQueryBlock ? task.queries - i : kQueryBlock;
      const Band band{shape.causal, i + task.offset() - j + 1, keys, padded(keys)};
      if (band.visible(queries - 1) == 0) continue;
      backward_tile<T>(p, task, next, i, queries, j, band, {j > 0, seen}, s);
      seen = true;
    }
    if (!seen) {
      zero(s.grad_k, keys * padded(width));
      zero(s.grad_v, keys * padded(width));
    }
    const int64_t place = ((task.first_key + j) * shape.heads + task.head) * width;
    store_rows(s.grad_k, keys, width, static_cast<T*>(p.grad_k) + place, out_stride);
    store_rows(s.grad_v, keys, width, static_cast<T*>(p.grad_v) + place, out_stride);
  }
  const int64_t place = (task.first_query * shape.heads + task.head) * width;
  store_rows(s.grad_q, task.queries, width, static_cast<T*>(p.grad_q) + place, out_stride);
}

inline int64_t attention_backward_scratch(const AttentionShape& p) { return BackwardScratch(p, nullptr).floats; }

template <class T>
void attention_backward(const AttentionBackward& p, int64_t begin, int64_t end, float* base) {
  const BackwardScratch scratch(p.shape, base);
  for (int64_t item = begin; item < end; ++item)
    backward_task<T>(p, task_of(p.shape, item), task_of(p.shape, item + 1 < end ? item + 1 : item), scratch);
}

}  // namespace fastlm::cpu::FASTLM_ISA
