// The running maximum and sum of a row, the one place where -infinity and masks are handled.
//
// A row is read from memory once, chunk by chunk (kChunk columns stay in the first-level cache): the chunk's maximum
// first, then the sum of its exponentials relative to the maximum so far (Milakov & Gimelshein 2018, with chunks for
// elements). The maximum of a chunk is found while the exponentials of the one before are computed, so that memory and
// arithmetic work at the same time. NaN is dropped by the maximum and found again by the sum.
#pragma once

#include "kernels/cpu/exp.h"

namespace fastlm::cpu::FASTLM_ISA {

// scale * x, in two forms. With a negative scale the extreme to subtract is the minimum, hence the orientation; the
// difference is scaled, not x, so that nothing overflows that would not in exact arithmetic.
struct Unscaled {
  Vec orient(Vec x) const { return x; }
  float orient(float x) const { return x; }
  template <class V>
  V apply(V difference) const {
    return difference;
  }
};
struct Scaled {
  float scale;
  float sign = scale < 0.0f ? -1.0f : 1.0f;
  Vec orient(Vec x) const { return x * splat(sign); }
  float orient(float x) const { return x * sign; }
  template <class V>
  V apply(V difference) const {
    return difference * splat(scale);
  }
  float apply(float difference) const { return difference * scale; }
};

// Which columns take part: value where kept, else `otherwise`.
struct KeepAll {
  KeepAll from(int64_t) const { return {}; }
  template <class Lanes, class V>
  V operator()(int64_t, Lanes, V value, float) const {
    return value;
  }
};
struct KeepMasked {
  const uint8_t* mask;
  KeepMasked from(int64_t column) const { return {mask + column}; }
  template <class Lanes>
  Vec operator()(int64_t i, Lanes lanes, Vec value, float otherwise) const {
    return select(load_keep(mask + i, lanes), value, splat(otherwise));
  }
};

struct OnlineSum {
  float maximum = -INFINITY;  // of orient(x)
  double sum = 0.0;           // of exp(scale x - scale x_max)
};

// What a sum relative to `from` is multiplied by to be relative to `to`.
template <class Scaling>
inline float rescale(float from, float to, Scaling scaling) {
  return from == to ? 1.0f : exp(scaling.apply(scaling.orient(from) - scaling.orient(to)));
}

// A row, or columns of one: data of type T behind x, which is a pointer or what adds and loads like one.
template <class Source, class Filter>
struct Columns {
  Source x;
  int64_t n;
  Filter keep;
  Columns chunk(int64_t begin) const {
    const int64_t rest = n - begin;
    return {x + begin, rest < kChunk ? rest : kChunk, keep.from(begin)};
  }
};

// The maximum of orient(x) over the columns that are kept, a block or a vector at a time.
template <class Source, class Filter, class Scaling>
class ColumnMaximum {
 public:
  ColumnMaximum(const Columns<Source, Filter>& columns, Scaling scaling) : columns_(columns), scaling_(scaling) {}
  void add_block(int64_t begin) {
    if constexpr (kByBits) {
      maximum_.add_block(columns_.x + begin);
    } else {
#pragma GCC unroll 4
      for (int slot = 0; slot < kSlots; ++slot) add(begin + slot * kWidth, Whole{}, maximum_.slots[slot]);
    }
  }
  float total_from(int64_t begin) {
    for (; begin + kBlock <= columns_.n; begin += kBlock) add_block(begin);
    for_each_vector_from(begin, columns_.n, [&](int64_t i, auto lanes, int) { add(i, lanes, maximum_.slots[0]); });
    return maximum_.total();
  }

 private:
  using Data = std::remove_cv_t<std::remove_pointer_t<Source>>;
  static constexpr bool kByBits = (std::is_same_v<Data, BFloat16> || std::is_same_v<Data, Half>) &&
                                  std::is_same_v<Filter, KeepAll> && std::is_same_v<Scaling, Unscaled>;

  template <class Lanes>
  void add(int64_t i, Lanes lanes, Vec& maximum) const {
    const Vec oriented = only(scaling_.orient(load(columns_.x + i, lanes)), lanes, -INFINITY);
    maximum = max(columns_.keep(i, lanes, oriented, -INFINITY), maximum);
  }

  Columns<Source, Filter> columns_;
  Scaling scaling_;
  std::conditional_t<kByBits, MaximumByBits<Data>, Maximum> maximum_;
};

template <class Source, class Filter, class Scaling>
inline float chunk_maximum(const Columns<Source, Filter>& columns, Scaling scaling) {
  return ColumnMaximum<Source, Filter, Scaling>(columns, scaling).total_from(0);
}

// The largest of n values. NaN is dropped.
template <class Source>
inline float largest(Source x, int64_t n) {
  return chunk_maximum(Columns<Source, KeepAll>{x, n, {}}, Unscaled{});
}

template <class T>
inline const T* address(const T* x) {
  return x;
}

// Elements that are fetched ahead of their use: a processor's own prefetching ends at pages of 4 KiB, and memory must
// have answered before the maximum asks.
inline constexpr int64_t kAhead = 4 * kChunk;

// Adds a chunk, whose maximum is `maximum`, and replaces that by the maximum of the next. emitted(i, lanes, slot, x, e)
// sees every vector with its exponentials, which are relative to the maximum that is returned; with kPaired, pairs of
// vectors.
template <class T, bool kPaired, class Source, class Filter, class Scaling, class Emit>
inline OnlineSum accumulate(OnlineSum state, const Columns<Source, Filter>& chunk, const Columns<Source, Filter>& next,
                            float& maximum, Scaling scaling, Emit& emitted) {
  const float highest = maximum > state.maximum ? maximum : state.maximum;

  // While all is -infinity there is nothing to subtract: -inf - 0 gives the exponential 0, -inf - -inf would give NaN.
  const Vec shift = splat(highest == -INFINITY ? 0.0f : scaling.orient(highest));
  Sum sum;
  Emit emit = emitted;  // a copy of its own stays in registers
  const auto add = [&](int64_t i, auto lanes, int slot) {
    prefetch(address(chunk.x + i) + kAhead);
    const auto value = load(chunk.x + i, lanes);
    const auto t = scaling.apply(value - shift) * splat(kLog2E);
    const auto e = exp2<T>(chunk.keep(i, lanes, only(t, lanes, -INFINITY), -INFINITY));
    emit(i, lanes, slot, value, e);
    sum.add(slot, e);
  };
  ColumnMaximum<Source, Filter, Scaling> next_maximum(next, scaling);
  const int64_t both = (chunk.n < next.n ? chunk.n : next.n) / kBlock * kBlock;
  for (int64_t i = 0; i < both; i += kBlock) {
    next_maximum.add_block(i);
    for_block<T, kPaired>(i, add);
  }
  if constexpr (kPaired) {
    for_each_pair_from<T>(both, chunk.n, add);
  } else {
    for_each_vector_from(both, chunk.n, add);
  }
  emitted = emit;
  maximum = next_maximum.total_from(both);
  const double before = state.sum == 0.0 ? 0.0 : state.sum * rescale(state.maximum, highest, scaling);
  return {highest, before + sum.total()};
}

// Adds up a row. With alongside, `maximum` is that of its first chunk and becomes that of the next row's first chunk;
// else each maximum is found by itself. begin_chunk(begin) gives the emit of a chunk, end_chunk(begin, maximum, emit)
// takes it back.
template <class T, bool kPaired, class Source, class Filter, class Scaling, class BeginChunk, class EndChunk>
inline OnlineSum accumulate_row(const Columns<Source, Filter>& row, const Columns<Source, Filter>& next, float& maximum,
                                bool alongside, Scaling scaling, BeginChunk&& begin_chunk, EndChunk&& end_chunk) {
  OnlineSum state;
  for (int64_t begin = 0; begin < row.n; begin += kChunk) {
    const int64_t end = begin + kChunk;
    const auto chunk = row.chunk(begin);
    auto after = end < row.n ? row.chunk(end) : next.chunk(0);
    if (!alongside) {
      maximum = chunk_maximum(chunk, scaling);
      after.n = 0;
    }
    auto emit = begin_chunk(begin);
    state = accumulate<T, kPaired>(state, chunk, after, maximum, scaling, emit);
    end_chunk(begin, state.maximum, emit);
  }
  return state;
}

}  // namespace fastlm::cpu::FASTLM_ISA
