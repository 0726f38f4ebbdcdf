// The vector vocabulary on AVX2: 8 floats. The words are those of vec_portable.h.
#pragma once

#include "kernels/cpu/lanes.h"

namespace fastlm::cpu::FASTLM_ISA {

using Vec = __m256;
using Keep = __m256;  // all bits of a lane set = keep
inline constexpr int kWidth = 8;
inline constexpr bool kFused = true;

inline __m256i tail_mask(Tail tail) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(tail.count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

inline Vec splat(float a) { return _mm256_set1_ps(a); }
inline Vec fma(Vec a, Vec b, Vec c) { return _mm256_fmadd_ps(a, b, c); }
inline Vec max(Vec a, Vec b) { return _mm256_max_ps(a, b); }
inline Vec select(Keep keep, Vec a, Vec b) { return _mm256_blendv_ps(b, a, keep); }
inline Vec only(Vec a, Tail tail, float otherwise) {
  return select(_mm256_castsi256_ps(tail_mask(tail)), a, splat(otherwise));
}
inline Vec times_pow2(Vec a, Vec n, Vec x, float limit) {
  const Vec enough = _mm256_cmp_ps(x, splat(limit), _CMP_NLT_UQ);
  const __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
  return _mm256_and_ps(enough, a * _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23)));
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

inline Keep load_keep(const uint8_t* p, Whole) {
  const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
  return _mm256_castsi256_ps(_mm256_cmpgt_epi32(_mm256_cvtepu8_epi32(bytes), _mm256_setzero_si256()));
}
inline Keep load_keep(const uint8_t* p, Tail tail) {
  uint8_t buffer[kWidth] = {};
  copy_tail(buffer, p, tail);
  return load_keep(buffer, Whole{});
}

inline void prefetch(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T1); }
inline void end_stream() { _mm_sfence(); }

}  // namespace fastlm::cpu::FASTLM_ISA
