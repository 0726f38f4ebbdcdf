// The vector vocabulary in the compiler's vector types: 4 floats on any processor.
//
// Every instruction set offers the same words: Vec, Keep, kWidth, kFused (fma rounds once); splat, fma, sqrt, max (b
// where either is NaN), select, only (a tail's absent lanes replaced), times_pow2 (a 2^n with n whole, and 0 where x <
// limit; NaN is not below), fraction (a - floor(a), NaN or 0 where a is infinite) and times_pow2_floor (a 2^floor(t); 0
// or denormal where t < -126, 0 even with a NaN from fraction(-infinity); not finite where t >= 128), reduce_add,
// reduce_max; Int16s (2 kWidth of them) with splat_int16s, load_int16s, min_int16s, max_int16s, widen_low and
// widen_high (half of the 16-bit floats in them); load (absent lanes 0) and store of float, BFloat16 and Half, rounding
// to nearest even; load_keep; Words (kWidth unsigned ints) with splat_words, load_words, store_words, count_from (n, n
// + 1, ...), exclusive_or, multiply_wide (low halves of the products, and the high ones), store_interleaved (lane i of
// four words to p[4 i]), at_least (which words in memory are not below a limit); transpose (kWidth vectors as a
// square); prefetch, end_stream; Pair, and kPairs<T>: loading and storing T as Pairs, in an order of lanes that only
// the two know, is cheaper than as single vectors, and so is add_products (a sum plus the products of 2 kWidth T).
#pragma once

#include "kernels/cpu/lanes.h"

namespace fastlm::cpu::FASTLM_ISA {

inline constexpr int kWidth = 4;
inline constexpr bool kFused = false;
inline constexpr int kTileRows = 4, kTileVectors = 2;  // rows and vectors of sums that a tile of a product keeps
typedef float Vec __attribute__((vector_size(16)));
typedef int32_t Ints __attribute__((vector_size(16)));
typedef uint32_t Bits __attribute__((vector_size(16)));
typedef uint16_t Shorts __attribute__((vector_size(8)));
using Keep = Ints;  // all bits of a lane set = keep
struct Pair {
  Vec first, second;
};

inline Vec splat(float a) { return Vec{a, a, a, a}; }
inline Bits splat_bits(uint32_t a) { return Bits{a, a, a, a}; }
inline Vec select(Keep keep, Vec a, Vec b) { return (Vec)((keep & (Ints)a) | (~keep & (Ints)b)); }
inline Bits select_bits(Keep keep, Bits a, Bits b) { return (Bits)((keep & (Ints)a) | (~keep & (Ints)b)); }
inline Vec fma(Vec a, Vec b, Vec c) { return a * b + c; }
inline Vec max(Vec a, Vec b) { return select(a > b, a, b); }
inline Vec sqrt(Vec a) {
  return Vec{__builtin_sqrtf(a[0]), __builtin_sqrtf(a[1]), __builtin_sqrtf(a[2]), __builtin_sqrtf(a[3])};
}
inline Vec only(Vec a, Tail tail, float otherwise) {
  return select(tail.count > Ints{0, 1, 2, 3}, a, splat(otherwise));
}
inline Vec times_pow2(Vec a, Vec n, Vec x, float limit) {
  // Adding 1.5 * 2^23 leaves n in the low bits, where the exponent's bias joins it.
  const Ints whole = (Ints)(n + splat(12582912.0f)) - 0x4b400000;
  return (Vec)(~(x < splat(limit)) & (Ints)(a * (Vec)((whole + 127) << 23)));
}
inline Vec floor(Vec a) {  // of values below 2^22 in size
  const Vec magic = splat(12582912.0f), nearest = (a + magic) - magic;
  return select(nearest > a, nearest - splat(1.0f), nearest);
}
inline Vec fraction(Vec a) { return a - floor(a); }
inline Vec times_pow2_floor(Vec a, Vec t) {
  const Vec n = floor(select(t > splat(128.0f), splat(128.0f), t));  // at 128 the exponent is infinity's
  return times_pow2(a, n, t, -126.0f);
}
inline float reduce_add(Vec a) { return (a[0] + a[2]) + (a[1] + a[3]); }
inline float reduce_max(Vec a) {
  const float even = a[0] > a[2] ? a[0] : a[2];
  const float odd = a[1] > a[3] ? a[1] : a[3];
  return even > odd ? even : odd;
}

inline Vec widen(BFloat16, Shorts bits) { return (Vec)(__builtin_convertvector(bits, Bits) << 16); }
inline Vec widen(Half, Shorts bits) {
  const Bits wide = __builtin_convertvector(bits, Bits);
  const Bits magnitude = (wide & 0x7fffu) << 13;
  // Multiplying moves the exponent's bias and normalises denormals in one step; infinity and NaN keep their class.
  const Bits finite = (Bits)((Vec)magnitude * splat(0x1p112f));
  const Keep special = magnitude >= splat_bits(0x0f800000u);
  return (Vec)(select_bits(special, magnitude | 0x7f800000u, finite) | ((wide & 0x8000u) << 16));
}

inline Shorts narrow(BFloat16, Vec a) {
  const Bits bits = (Bits)a;
  const Bits rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  return __builtin_convertvector(select_bits(a != a, splat_bits(0x7fc0u), rounded), Shorts);
}
inline Shorts narrow(Half, Vec a) {
  const Bits magnitude = (Bits)a & 0x7fffffffu;
  const Bits normal = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  // Below 2^-14 the sum with 0.5, whose last bit is Half's smallest denormal, rounds in the right place.
  const Bits denormal = (Bits)((Vec)magnitude + splat(0.5f)) - 0x3f000000u;
  Bits half = select_bits(magnitude < splat_bits(0x38800000u), denormal, normal);
  half = select_bits(magnitude >= splat_bits(0x477ff000u), splat_bits(0x7c00u), half);
  half = select_bits(a != a, splat_bits(0x7e00u), half);
  return __builtin_convertvector(half | (((Bits)a >> 16) & 0x8000u), Shorts);
}

inline Vec load(const float* p, Whole) {
  Vec a;
  std::memcpy(&a, p, sizeof a);
  return a;
}
template <class T>
inline Vec load(const T* p, Whole) {
  Shorts bits;
  std::memcpy(&bits, p, sizeof bits);
  return widen(T{}, bits);
}
template <class T>
inline Vec load(const T* p, Tail tail) {
  T buffer[kWidth] = {};
  copy_tail(buffer, p, tail);
  return load(buffer, Whole{});
}

inline void store(float* p, Vec a, Whole) { std::memcpy(p, &a, sizeof a); }
template <class T>
inline void store(T* p, Vec a, Whole) {
  const Shorts bits = narrow(T{}, a);
  std::memcpy(p, &bits, sizeof bits);
}
template <class T>
inline void store(T* p, Vec a, Tail tail) {
  T buffer[kWidth];
  store(buffer, a, Whole{});
  copy_tail(p, buffer, tail);
}
template <class T>
inline void store(T* p, Vec a, Streamed) {  // no portable store goes around the caches
  store(p, a, Whole{});
}

typedef int16_t Int16s __attribute__((vector_size(16)));
inline Int16s splat_int16s(int16_t a) { return Int16s{} + a; }
template <class T>
inline Int16s load_int16s(const T* p) {
  Int16s a;
  std::memcpy(&a, p, sizeof a);
  return a;
}
inline Int16s min_int16s(Int16s a, Int16s b) { return ((a < b) & a) | (~(a < b) & b); }
inline Int16s max_int16s(Int16s a, Int16s b) { return ((a > b) & a) | (~(a > b) & b); }
template <class T>
inline Vec widen_low(T, Int16s a) {
  Shorts half;
  std::memcpy(&half, &a, sizeof half);
  return widen(T{}, half);
}
template <class T>
inline Vec widen_high(T, Int16s a) {
  Shorts half;
  std::memcpy(&half, reinterpret_cast<const char*>(&a) + sizeof half, sizeof half);
  return widen(T{}, half);
}

template <class T>
inline constexpr bool kPairs = false;

inline Keep load_keep(const uint8_t* p, Whole) { return Ints{p[0], p[1], p[2], p[3]} != 0; }
inline Keep load_keep(const uint8_t* p, Tail tail) {
  uint8_t buffer[kWidth] = {};
  copy_tail(buffer, p, tail);
  return load_keep(buffer, Whole{});
}

inline Keep at_least(const uint32_t* words, uint32_t limit) {
  Bits a;
  std::memcpy(&a, words, sizeof a);
  return a >= splat_bits(limit);
}

using Words = Bits;
inline Words splat_words(uint32_t a) { return splat_bits(a); }
inline Words load_words(const uint32_t* p) {
  Words a;
  std::memcpy(&a, p, sizeof a);
  return a;
}
inline void store_words(uint32_t* p, Words a) { std::memcpy(p, &a, sizeof a); }
inline Words count_from(uint32_t n) { return splat_words(n) + Words{0, 1, 2, 3}; }
inline Words exclusive_or(Words a, Words b) { return a ^ b; }
inline Words multiply_wide(Words a, uint32_t factor, Words* high) {
  for (int i = 0; i < kWidth; ++i) (*high)[i] = static_cast<uint32_t>((uint64_t{a[i]} * factor) >> 32);
  return a * factor;
}
inline void store_interleaved(uint32_t* p, Words a, Words b, Words c, Words d) {
  for (int i = 0; i < kWidth; ++i) {
    const Words lane{a[i], b[i], c[i], d[i]};
    std::memcpy(p + 4 * i, &lane, sizeof lane);
  }
}

inline void transpose(Vec (&rows)[kWidth]) {
  for (int i = 0; i < kWidth; ++i)
    for (int j = 0; j < i; ++j) {
      const float above = rows[j][i];
      rows[j][i] = rows[i][j];
      rows[i][j] = above;
    }
}

inline __attribute__((always_inline)) void prefetch(const void* p) { __builtin_prefetch(p, 0, 2); }
inline void end_stream() {}

}  // namespace fastlm::cpu::FASTLM_ISA
