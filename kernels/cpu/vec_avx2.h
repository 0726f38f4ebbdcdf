// The vector vocabulary on AVX2: 8 floats. The words are those of vec_portable.h.
#pragma once

#include "kernels/cpu/lanes.h"

namespace fastlm::cpu::FASTLM_ISA {

using Vec = __m256;
using Keep = __m256;  // all bits of a lane set = keep
struct Pair {
  Vec first, second;
};
inline constexpr int kWidth = 8;
inline constexpr bool kFused = true;
inline constexpr int kTileRows = 6, kTileVectors = 2;  // 12 sums, 2 operands and a broadcast in 16 registers

inline __m256i tail_mask(Tail tail) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(tail.count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

inline Vec splat(float a) { return _mm256_set1_ps(a); }
inline Vec fma(Vec a, Vec b, Vec c) { return _mm256_fmadd_ps(a, b, c); }
inline Vec max(Vec a, Vec b) { return _mm256_max_ps(a, b); }
inline Vec sqrt(Vec a) { return _mm256_sqrt_ps(a); }
inline Vec select(Keep keep, Vec a, Vec b) { return _mm256_blendv_ps(b, a, keep); }
inline Vec only(Vec a, Tail tail, float otherwise) {
  return select(_mm256_castsi256_ps(tail_mask(tail)), a, splat(otherwise));
}
inline Vec times_pow2(Vec a, Vec n, Vec x, float limit) {
  const Vec enough = _mm256_cmp_ps(x, splat(limit), _CMP_NLT_UQ);
  const __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
  return _mm256_and_ps(enough, a * _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23)));
}

inline Vec fraction(Vec a) { return a - _mm256_floor_ps(a); }
inline Vec times_pow2_floor(Vec a, Vec t) {
  const Vec n = _mm256_floor_ps(_mm256_min_ps(splat(128.0f), t));  // at 128 the exponent is infinity's
  return times_pow2(a, n, t, -126.0f);
}
inline float reduce_add(Vec a) {
  __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  b = _mm_add_ps(b, _mm_movehl_ps(b, b));
  return _mm_cvtss_f32(_mm_add_ss(b, _mm_movehdup_ps(b)));
}
inline float reduce_max(Vec a) {
  __m128 b = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  b = _mm_max_ps(b, _mm_movehl_ps(b, b));
  return _mm_cvtss_f32(_mm_max_ss(b, _mm_movehdup_ps(b)));
}

inline Vec widen(BFloat16, __m128i bits) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
}
inline Vec widen(Half, __m128i bits) { return _mm256_cvtph_ps(bits); }

inline __m128i narrow(Half, Vec a) { return _mm256_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
inline __m128i narrow(BFloat16, Vec a) {
  const __m256i bits = _mm256_castps_si256(a);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(a, a, _CMP_UNORD_Q));
  const __m256i wide = _mm256_blendv_epi8(_mm256_srli_epi32(rounded, 16), _mm256_set1_epi32(0x7fc0), nan);
  return _mm_packus_epi32(_mm256_castsi256_si128(wide), _mm256_extracti128_si256(wide, 1));
}

inline Vec load(const float* p, Whole) { return _mm256_loadu_ps(p); }
inline Vec load(const float* p, Tail tail) { return _mm256_maskload_ps(p, tail_mask(tail)); }
template <class T>
inline Vec load(const T* p, Whole) {
  return widen(T{}, _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
template <class T>
inline Vec load(const T* p, Tail tail) {
  T buffer[kWidth] = {};
  copy_tail(buffer, p, tail);
  return load(buffer, Whole{});
}

inline void store(float* p, Vec a, Whole) { _mm256_storeu_ps(p, a); }
inline void store(float* p, Vec a, Tail tail) { _mm256_maskstore_ps(p, tail_mask(tail), a); }
inline void store(float* p, Vec a, Streamed) { _mm256_stream_ps(p, a); }
template <class T>
inline void store(T* p, Vec a, Whole) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), narrow(T{}, a));
}
template <class T>
inline void store(T* p, Vec a, Tail tail) {
  T buffer[kWidth];
  store(buffer, a, Whole{});
  copy_tail(p, buffer, tail);
}
template <class T>
inline void store(T* p, Vec a, Streamed) {
  _mm_stream_si128(reinterpret_cast<__m128i*>(p), narrow(T{}, a));
}

using Int16s = __m256i;
inline Int16s splat_int16s(int16_t a) { return _mm256_set1_epi16(a); }
template <class T>
inline Int16s load_int16s(const T* p) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}
inline Int16s min_int16s(Int16s a, Int16s b) { return _mm256_min_epi16(a, b); }
inline Int16s max_int16s(Int16s a, Int16s b) { return _mm256_max_epi16(a, b); }
template <class T>
inline Vec widen_low(T, Int16s a) {
  return widen(T{}, _mm256_castsi256_si128(a));
}
template <class T>
inline Vec widen_high(T, Int16s a) {
  return widen(T{}, _mm256_extracti128_si256(a, 1));
}

template <class T>
inline constexpr bool kPairs = false;

inline Keep load_keep(const uint8_t* p, Whole) {
  const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
  return _mm256_castsi256_ps(_mm256_cmpgt_epi32(_mm256_cvtepu8_epi32(bytes), _mm256_setzero_si256()));
}
inline Keep load_keep(const uint8_t* p, Tail tail) {
  uint8_t buffer[kWidth] = {};
  copy_tail(buffer, p, tail);
  return load_keep(buffer, Whole{});
}

inline Keep at_least(const uint32_t* words, uint32_t limit) {
  const __m256i a = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(words));
  const __m256i b = _mm256_set1_epi32(static_cast<int>(limit));
  return _mm256_castsi256_ps(_mm256_cmpeq_epi32(_mm256_max_epu32(a, b), a));
}

using Words = __m256i;
inline Words splat_words(uint32_t a) { return _mm256_set1_epi32(static_cast<int>(a)); }
inline Words load_words(const uint32_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
inline void store_words(uint32_t* p, Words a) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), a); }
inline Words count_from(uint32_t n) {
  return _mm256_add_epi32(splat_words(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
inline Words exclusive_or(Words a, Words b) { return _mm256_xor_si256(a, b); }
inline Words multiply_wide(Words a, uint32_t factor, Words* high) {
  const Words even = _mm256_mul_epu32(a, splat_words(factor));
  const Words odd = _mm256_mul_epu32(_mm256_srli_epi64(a, 32), splat_words(factor));
  *high = _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xaa);
  return _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xaa);
}
inline void store_interleaved(uint32_t* p, Words a, Words b, Words c, Words d) {
  const Words ab = _mm256_unpacklo_epi32(a, b), ab_high = _mm256_unpackhi_epi32(a, b);
  const Words cd = _mm256_unpacklo_epi32(c, d), cd_high = _mm256_unpackhi_epi32(c, d);
  // Half h of part i holds the four words of lane 4 h + i.
  const Words parts[4] = {_mm256_unpacklo_epi64(ab, cd), _mm256_unpackhi_epi64(ab, cd),
                          _mm256_unpacklo_epi64(ab_high, cd_high), _mm256_unpackhi_epi64(ab_high, cd_high)};
  auto* const out = reinterpret_cast<__m256i*>(p);
  _mm256_storeu_si256(out, _mm256_permute2x128_si256(parts[0], parts[1], 0x20));
  _mm256_storeu_si256(out + 1, _mm256_permute2x128_si256(parts[2], parts[3], 0x20));
  _mm256_storeu_si256(out + 2, _mm256_permute2x128_si256(parts[0], parts[1], 0x31));
  _mm256_storeu_si256(out + 3, _mm256_permute2x128_si256(parts[2], parts[3], 0x31));
}

inline void transpose(Vec (&rows)[kWidth]) {
  Vec quads[kWidth];
  for (int i = 0; i < kWidth; i += 4) {
    const Vec a = _mm256_unpacklo_ps(rows[i], rows[i + 1]), b = _mm256_unpackhi_ps(rows[i], rows[i + 1]);
    const Vec c = _mm256_unpacklo_ps(rows[i + 2], rows[i + 3]), d = _mm256_unpackhi_ps(rows[i + 2], rows[i + 3]);
    quads[i] = _mm256_shuffle_ps(a, c, 0x44);
    quads[i + 1] = _mm256_shuffle_ps(a, c, 0xee);
    quads[i + 2] = _mm256_shuffle_ps(b, d, 0x44);
    quads[i + 3] = _mm256_shuffle_ps(b, d, 0xee);
  }
  // Half h of quads[i + c] now holds column 4 h + c of rows i to i + 3.
  for (int c = 0; c < 4; ++c) {
    rows[c] = _mm256_permute2f128_ps(quads[c], quads[4 + c], 0x20);
    rows[4 + c] = _mm256_permute2f128_ps(quads[c], quads[4 + c], 0x31);
  }
}

inline __attribute__((always_inline)) void prefetch(const void* p) {
  _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T1);
}
inline void end_stream() { _mm_sfence(); }

}  // namespace fastlm::cpu::FASTLM_ISA
