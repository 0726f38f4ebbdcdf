// The running maximum and sum of a row, the one place where -infinity and masks are handled.
//
// A row is read from memory once, chunk by chunk (kChunk columns stay in the first-level cache): the chunk's maximum
// first, then the sum of its exponentials relative to the maximum so far (Milakov & Gimelshein 2018, with chunks for
// elements). NaN is dropped by the maximum and found again by the sum.
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

// Of orient(x) over the columns that are kept.
template <class Source, class Scaling, class Filter>
inline float chunk_maximum(Source x, int64_t n, Scaling scaling, Filter keep) {
  Maximum maximum;
  for_each_vector(n, [&](int64_t i, auto lanes, int slot) {
    const Vec oriented = only(scaling.orient(load(x + i, lanes)), lanes, -INFINITY);
    maximum.slots[slot] = max(keep(i, lanes, oriented, -INFINITY), maximum.slots[slot]);
  });
  return maximum.total();
}
template <class Source>
inline float chunk_maximum(Source x, int64_t n, Unscaled, KeepAll) {
  return largest(x, n);
}

template <class T>
inline const T* address(const T* x) {
  return x;
}

// Adds columns [0, n), n <= kChunk, of data of type T: x is a pointer, or what adds and loads like one. The next chunk
// is fetched meanwhile, which leaves memory no idle time. emit(i, lanes, slot, x, e) sees every vector with its
// exponentials, which are relative to the maximum that is returned; with kPaired, pairs of vectors.
template <class T, bool kPaired = false, class Source, class Scaling, class Filter, class Emit>
inline OnlineSum accumulate(OnlineSum state, Source x, int64_t n, Scaling scaling, Filter keep, Emit&& emit) {
  const float here = chunk_maximum(x, n, scaling, keep);
  const float highest = here > state.maximum ? here : state.maximum;

  // While all is -infinity there is nothing to subtract: -inf - 0 gives the exponential 0, -inf - -inf would give NaN.
  const Vec shift = splat(highest == -INFINITY ? 0.0f : scaling.orient(highest));
  Sum sum;
  const auto add = [&](int64_t i, auto lanes, int slot) {
    prefetch(address(x + i) + kChunk);
    const auto value = load(x + i, lanes);
    const auto t = scaling.apply(value - shift) * splat(kLog2E);
    const auto e = exp2<T>(keep(i, lanes, only(t, lanes, -INFINITY), -INFINITY));
    emit(i, lanes, slot, value, e);
    sum.add(slot, e);
  };
  if constexpr (kPaired) {
    for_each_pair_from<T>(0, n, add);
  } else {
    for_each_vector(n, add);
  }
  const double before = state.sum == 0.0 ? 0.0 : state.sum * rescale(state.maximum, highest, scaling);
  return {highest, before + sum.total()};
}

}  // namespace fastlm::cpu::FASTLM_ISA
