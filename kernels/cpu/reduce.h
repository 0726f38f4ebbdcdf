// Loops over a row in whole vectors and a tail, and reductions over them.
#pragma once

#include <type_traits>

namespace fastlm::cpu::FASTLM_ISA {

inline Pair operator-(Pair a, Vec b) { return {a.first - b, a.second - b}; }
inline Pair operator*(Pair a, Vec b) { return {a.first * b, a.second * b}; }
inline Pair operator*(Pair a, Pair b) { return {a.first * b.first, a.second * b.second}; }
inline Pair fma(Pair a, Vec b, Vec c) { return {fma(a.first, b, c), fma(a.second, b, c)}; }

// Independent accumulators: enough to hide the latency of an addition.
inline constexpr int kSlots = 4;

// body(i, lanes, slot) for the vectors that cover [begin, n); slot is i's accumulator, a constant once unrolled.
template <class Full = Whole, class Body>
inline __attribute__((always_inline)) void for_each_vector_from(int64_t begin, int64_t n, Body&& body) {
  int64_t i = begin;
  for (; i + kSlots * kWidth <= n; i += kSlots * kWidth) {
#pragma GCC unroll 4
    for (int slot = 0; slot < kSlots; ++slot) body(i + slot * kWidth, Full{}, slot);
  }
  for (; i + kWidth <= n; i += kWidth) body(i, Full{}, 0);
  if (i < n) body(i, Tail{static_cast<int>(n - i)}, 0);
}

// Elements that one round of it takes.
inline constexpr int64_t kBlock = kSlots * kWidth;

// The same for data of type T, two vectors at a time where that is cheaper: body sees Pairs then, each with the
// accumulators slot and slot + 1.
template <class T, class Full = Whole, class Body>
inline __attribute__((always_inline)) void for_each_pair_from(int64_t begin, int64_t n, Body&& body) {
  int64_t i = begin;
  if constexpr (kPairs<T>) {
    using Both = std::conditional_t<std::is_same_v<Full, Streamed>, PairedStreamed, Paired>;
    for (; i + kSlots * kWidth <= n; i += kSlots * kWidth) {
#pragma GCC unroll 2
      for (int slot = 0; slot < kSlots; slot += 2) body(i + slot * kWidth, Both{}, slot);
    }
  }
  for_each_vector_from<Full>(i, n, body);
}

// One round of them: the block at i, in pairs if so said.
template <class T, bool kPaired, class Body>
inline __attribute__((always_inline)) void for_block(int64_t i, Body&& body) {
  if constexpr (kPaired && kPairs<T>) {
#pragma GCC unroll 2
    for (int slot = 0; slot < kSlots; slot += 2) body(i + slot * kWidth, Paired{}, slot);
  } else {
#pragma GCC unroll 4
    for (int slot = 0; slot < kSlots; ++slot) body(i + slot * kWidth, Whole{}, slot);
  }
}

template <class Body>
inline __attribute__((always_inline)) void for_each_vector(int64_t n, Body&& body) {
  for_each_vector_from(0, n, body);
}

// Elements of out[0, n) before the first whose address is a multiple of `lanes` elements.
template <class T>
inline int64_t unaligned_head(const T* out, int64_t n, int64_t lanes) {
  const int64_t bytes = lanes * static_cast<int64_t>(sizeof(T));
  const int64_t misaligned = static_cast<int64_t>(reinterpret_cast<uintptr_t>(out) % bytes);
  const int64_t head = misaligned == 0 ? 0 : (bytes - misaligned) / static_cast<int64_t>(sizeof(T));
  return head < n ? head : n;
}

// The same for a loop that writes out[0, n): with stream, whole vectors are aligned and bypass the caches.
template <class T, class Body>
inline __attribute__((always_inline)) void for_each_vector_to(T* out, int64_t n, bool stream, Body&& body) {
  if (!stream) return for_each_vector_from(0, n, body);
  const int64_t head = unaligned_head<T>(out, n, kWidth);
  if (head > 0) body(0, Tail{static_cast<int>(head)}, 0);
  for_each_vector_from<Streamed>(head, n, body);
}
template <class T, class Body>
inline __attribute__((always_inline)) void for_each_pair_to(T* out, int64_t n, bool stream, Body&& body) {
  if constexpr (!kPairs<T>) return for_each_vector_to(out, n, stream, body);
  if (!stream) return for_each_pair_from<T>(0, n, body);
  const int64_t head = unaligned_head<T>(out, n, 2 * kWidth);
  for_each_vector(head, body);
  for_each_pair_from<T, Streamed>(head, n, body);
}

inline Vec only(Vec a, Whole, float) { return a; }
inline Pair only(Pair a, Paired, float) { return a; }

// Their constructors are written out because GCC gives an implicit one the target of the command line, not the
// pragma's.
struct Sum {
  Vec slots[kSlots];
  Sum() {
    for (Vec& slot : slots) slot = splat(0.0f);
  }
  void add(int slot, Vec a) { slots[slot] = slots[slot] + a; }
  void add(int slot, Pair a) {  // where additions are many, multipliers have time
    slots[slot] = fma(a.first, splat(1.0f), slots[slot]);
    slots[slot + 1] = fma(a.second, splat(1.0f), slots[slot + 1]);
  }
  void add_product(int slot, Vec a, Vec b) { slots[slot] = fma(a, b, slots[slot]); }
  void add_product(int slot, Pair a, Pair b) {
    add_product(slot, a.first, b.first);
    add_product(slot + 1, a.second, b.second);
  }
  float total() const { return reduce_add((slots[0] + slots[1]) + (slots[2] + slots[3])); }
};

struct Maximum {
  Vec slots[kSlots];
  Maximum() {
    for (Vec& slot : slots) slot = splat(-INFINITY);
  }
  float total() const { return reduce_max(max(max(slots[0], slots[1]), max(slots[2], slots[3]))); }
};

template <class T>
inline constexpr int16_t kMinusInfinity = 0;
template <>
inline constexpr int16_t kMinusInfinity<BFloat16> = static_cast<int16_t>(0xff80);
template <>
inline constexpr int16_t kMinusInfinity<Half> = static_cast<int16_t>(0xfc00);

// 16-bit floats compare by their bits, twice as many at a time: as integers where one is positive, in reverse where
// both are negative. So the largest value is the largest or the smallest integer of its lane. A positive NaN hides
// values of its lane.
template <class T>
struct MaximumByBits {
  Int16s high, low;
  Vec slots[1];  // of single vectors
  MaximumByBits() : high(splat_int16s(kMinusInfinity<T>)), low(high) { slots[0] = splat(-INFINITY); }
  void add_block(const T* x) {
#pragma GCC unroll 2
    for (int64_t i = 0; i < kBlock; i += 2 * kWidth) {
      const Int16s bits = load_int16s(x + i);
      high = max_int16s(bits, high);
      low = min_int16s(bits, low);
    }
  }
  float total() const {
    const Vec first = max(widen_low(T{}, high), widen_low(T{}, low));
    const Vec second = max(widen_high(T{}, high), widen_high(T{}, low));
    return reduce_max(max(second, max(first, slots[0])));
  }
};

}  // namespace fastlm::cpu::FASTLM_ISA
