// How many lanes of a vector take part, as types, so that one loop body serves whole vectors and the tail.
#pragma once

namespace fastlm::cpu::FASTLM_ISA {

struct Whole {};           // all lanes
struct Streamed {};        // all lanes, stored around the caches to an aligned address
struct Paired {};          // all lanes of two vectors, as a Pair
struct PairedStreamed {};  // the same, stored around the caches to an aligned address
struct Tail {
  int count;  // the first `count` lanes, 0 < count < kWidth
};

// What a load reads where the store beside it is streamed.
inline Whole read(Streamed) { return {}; }
inline Whole read(Whole) { return {}; }
inline Tail read(Tail tail) { return tail; }
inline Paired read(Paired) { return {}; }
inline Paired read(PairedStreamed) { return {}; }

// A store around the caches where the lanes allow it.
inline Streamed streamed(Whole) { return {}; }
inline PairedStreamed streamed(Paired) { return {}; }
inline Tail streamed(Tail tail) { return tail; }

// One of the two vectors.
inline Whole single(Paired) { return {}; }
inline Streamed single(PairedStreamed) { return {}; }

template <class T>
inline void copy_tail(T* to, const T* from, Tail tail) {
  for (int i = 0; i < tail.count; ++i) to[i] = from[i];
}

}  // namespace fastlm::cpu::FASTLM_ISA
