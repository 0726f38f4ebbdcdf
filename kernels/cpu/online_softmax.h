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
  Vec apply(Vec difference) const { return difference; }
  float apply(float difference) const { return difference; }
};
struct Scaled {
  float scale;
  float sign = scale < 0.0f ? -1.0f : 1.0f;
  Vec orient(Vec x) const { return x * splat(sign); }
  float orient(float x) const { return x * sign; }
  Vec apply(Vec difference) const { return difference * splat(scale); }
  float apply(float difference) const { return difference * scale; }
};

// Which columns take part: value where kept, else `otherwise`.
struct KeepAll {
  KeepAll from(int64_t) const { return {}; }
  template <class Lanes>
  Vec operator()(int64_t, Lanes, Vec value, float) const {
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

// Adds columns [0, n), n <= kChunk, of data of type T: x is a pointer, or what adds and loads like one. emit(i, lanes,
// slot, x, e) sees every vector with its exponentials, which are relative to the maximum that is returned.
template <class T, class Source, class Scaling, class Filter, class Emit>
inline OnlineSum accumulate(OnlineSum state, Source x, int64_t n, Scaling scaling, Filter keep, Emit&& emit) {
  Maximum maximum;
  for_each_vector(n, [&](int64_t i, auto lanes, int slot) {
    const Vec oriented = only(scaling.orient(load(x + i, lanes)), lanes, -INFINITY);
    maximum.slots[slot] = max(keep(i, lanes, oriented, -INFINITY), maximum.slots[slot]);
  });
  const float here = maximum.total();
  const float highest = here > state.maximum ? here : state.maximum;

  // While all is -infinity there is nothing to subtract: -inf - 0 gives the exponential 0, -inf - -inf would give NaN.
  const Vec shift = splat(highest == -INFINITY ? 0.0f : scaling.orient(highest));
  Sum sum;
  for_each_vector(n, [&](int64_t i, auto lanes, int slot) {
    const Vec value = load(x + i, lanes);
    const Vec e = exp<T>(keep(i, lanes, only(scaling.apply(value - shift), lanes, -INFINITY), -INFINITY));
    emit(i, lanes, slot, value, e);
    sum.slots[slot] = sum.slots[slot] + e;
  });
  const double before = state.sum == 0.0 ? 0.0 : state.sum * rescale(state.maximum, highest, scaling);
  return {highest, before + sum.total()};
}

}  // namespace fastlm::cpu::FASTLM_ISA
