// The vector vocabulary on AVX-512: 16 floats, tails by lane masks. The words are those of vec_portable.h.
#pragma once

#include "kernels/cpu/lanes.h"

namespace fastlm::cpu::FASTLM_ISA {

using Vec = __m512;
using Keep = __mmask16;
inline constexpr int kWidth = 16;
inline constexpr bool kFused = true;

inline __mmask16 tail_mask(Tail tail) { return static_cast<__mmask16>((1u << tail.count) - 1u); }

inline Vec splat(float a) { return _mm512_set1_ps(a); }
inline Vec fma(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a, b, c); }
inline Vec max(Vec a, Vec b) { return _mm512_max_ps(a, b); }
inline Vec select(Keep keep, Vec a, Vec b) { return _mm512_mask_mov_ps(b, keep, a); }
inline Vec only(Vec a, Tail tail, float otherwise) { return select(tail_mask(tail), a, splat(otherwise)); }
inline Vec times_pow2(Vec a, Vec n, Vec x, float limit) {
  return _mm512_maskz_scalef_ps(_mm512_cmp_ps_mask(x, splat(limit), _CMP_NLT_UQ), a, n);
}
inline float reduce_add(Vec a) { return _mm512_reduce_add_ps(a); }
inline float reduce_max(Vec a) { return _mm512_reduce_max_ps(a); }

inline Vec widen(BFloat16, __m256i bits) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
}
inline Vec widen(Half, __m256i bits) { return _mm512_cvtph_ps(bits); }

inline __m256i narrow(Half, Vec a) { return _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
inline __m256i narrow(BFloat16, Vec a) {
#ifdef FASTLM_NATIVE_BF16
  // The instruction flushes denormals, which the kernels' results may do: they are below 1.2e-38.
  return reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(a));
#else
  const __m512i bits = _mm512_castps_si512(a);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
  const __mmask16 nan = _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q);
  return _mm512_cvtepi32_epi16(_mm512_mask_mov_epi32(_mm512_srli_epi32(rounded, 16), nan, _mm512_set1_epi32(0x7fc0)));
#endif
}

inline Vec load(const float* p, Whole) { return _mm512_loadu_ps(p); }
inline Vec load(const float* p, Tail tail) { return _mm512_maskz_loadu_ps(tail_mask(tail), p); }
template <class T>
inline Vec load(const T* p, Whole) {
  return widen(T{}, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
template <class T>
inline Vec load(const T* p, Tail tail) {
  return widen(T{}, _mm256_maskz_loadu_epi16(tail_mask(tail), p));
}

inline void store(float* p, Vec a, Whole) { _mm512_storeu_ps(p, a); }
inline void store(float* p, Vec a, Tail tail) { _mm512_mask_storeu_ps(p, tail_mask(tail), a); }
inline void store(float* p, Vec a, Streamed) { _mm512_stream_ps(p, a); }
template <class T>
inline void store(T* p, Vec a, Whole) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), narrow(T{}, a));
}
template <class T>
inline void store(T* p, Vec a, Tail tail) {
  _mm256_mask_storeu_epi16(p, tail_mask(tail), narrow(T{}, a));
}
template <class T>
inline void store(T* p, Vec a, Streamed) {
  _mm256_stream_si256(reinterpret_cast<__m256i*>(p), narrow(T{}, a));
}

inline Keep load_keep(const uint8_t* p, Whole) {
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return _mm_test_epi8_mask(bytes, bytes);
}
inline Keep load_keep(const uint8_t* p, Tail tail) {
  const __m128i bytes = _mm_maskz_loadu_epi8(tail_mask(tail), p);
  return _mm_test_epi8_mask(bytes, bytes);
}

inline void prefetch(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T1); }
inline void end_stream() { _mm_sfence(); }

}  // namespace fastlm::cpu::FASTLM_ISA
