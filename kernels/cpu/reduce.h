// Loops over a row in whole vectors and a tail, and reductions over them.
#pragma once

namespace fastlm::cpu::FASTLM_ISA {

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

template <class Body>
inline __attribute__((always_inline)) void for_each_vector(int64_t n, Body&& body) {
  for_each_vector_from(0, n, body);
}

// The same for a loop that writes out[0, n): with stream, whole vectors are aligned and bypass the caches.
template <class T, class Body>
inline __attribute__((always_inline)) void for_each_vector_to(T* out, int64_t n, bool stream, Body&& body) {
  if (!stream) return for_each_vector_from(0, n, body);
  constexpr int64_t kBytes = kWidth * sizeof(T);
  const int64_t misaligned = static_cast<int64_t>(reinterpret_cast<uintptr_t>(out) % kBytes);
  int64_t head = misaligned == 0 ? 0 : (kBytes - misaligned) / static_cast<int64_t>(sizeof(T));
  if (head > n) head = n;
  if (head > 0) body(0, Tail{static_cast<int>(head)}, 0);
  for_each_vector_from<Streamed>(head, n, body);
}

inline Vec only(Vec a, Whole, float) { return a; }

// Their constructors are written out because GCC gives an implicit one the target of the command line, not the
// pragma's.
struct Sum {
  Vec slots[kSlots];
  Sum() {
    for (Vec& slot : slots) slot = splat(0.0f);
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

}  // namespace fastlm::cpu::FASTLM_ISA
