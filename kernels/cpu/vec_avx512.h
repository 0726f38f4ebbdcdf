// The vector vocabulary on AVX-512: 16 floats, tails by lane masks. The words are those of vec_portable.h.
#pragma once

#include "kernels/cpu/lanes.h"

namespace fastlm::cpu::FASTLM_ISA {

using Vec = __m512;
using Keep = __mmask16;
struct Pair {
  Vec first, second;
};
inline constexpr int kWidth = 16;
inline constexpr bool kFused = true;
inline constexpr int kTileRows = 6, kTileVectors = 4;  // 24 sums, 4 operands and a broadcast in 32 registers

inline __mmask16 tail_mask(Tail tail) { return static_cast<__mmask16>((1u << tail.count) - 1u); }

inline Vec splat(float a) { return _mm512_set1_ps(a); }
inline Vec fma(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a, b, c); }
inline Vec max(Vec a, Vec b) { return _mm512_max_ps(a, b); }
inline Vec sqrt(Vec a) { return _mm512_sqrt_ps(a); }
inline Vec select(Keep keep, Vec a, Vec b) { return _mm512_mask_mov_ps(b, keep, a); }
inline Vec only(Vec a, Tail tail, float otherwise) { return select(tail_mask(tail), a, splat(otherwise)); }
inline Vec times_pow2(Vec a, Vec n, Vec x, float limit) {
  return _mm512_maskz_scalef_ps(_mm512_cmp_ps_mask(x, splat(limit), _CMP_NLT_UQ), a, n);
}
inline Vec fraction(Vec a) { return _mm512_reduce_ps(a, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC); }
inline Vec times_pow2_floor(Vec a, Vec t) { return _mm512_scalef_ps(a, t); }
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

template <class T>
inline constexpr bool kPairs = false;
#ifdef FASTLM_NATIVE_BF16
template <>
inline constexpr bool kPairs<BFloat16> = true;
inline Pair load(const BFloat16* p, Paired) {
  const __m512i bits = _mm512_loadu_si512(p);
  return {_mm512_castsi512_ps(_mm512_slli_epi32(bits, 16)),
          _mm512_castsi512_ps(_mm512_and_si512(bits, _mm512_set1_epi32(static_cast<int>(0xffff0000u))))};
}
inline __m512i narrow(Pair a) {
  const __m512i halves = reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(a.second, a.first));
  const __m512i even = _mm512_cvtepu16_epi32(_mm256_setr_epi16(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
  const __m512i odd = _mm512_slli_epi32(_mm512_add_epi32(even, _mm512_set1_epi32(16)), 16);
  return _mm512_permutexvar_epi16(_mm512_or_si512(even, odd), halves);
}
inline Pair load(const float* p, Paired) { return {load(p, Whole{}), load(p + kWidth, Whole{})}; }
inline void store(float* p, Pair a, Paired) {
  store(p, a.first, Whole{});
  store(p + kWidth, a.second, Whole{});
}
inline Vec add_products(Vec sum, const BFloat16* a, const BFloat16* b) {
  return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(_mm512_loadu_si512(a)),
                          reinterpret_cast<__m512bh>(_mm512_loadu_si512(b)));
}
inline void store(BFloat16* p, Pair a, Paired) { _mm512_storeu_si512(p, narrow(a)); }
inline void store(BFloat16* p, Pair a, PairedStreamed) {
  const __m512i bits = narrow(a);
  _mm256_stream_si256(reinterpret_cast<__m256i*>(p), _mm512_castsi512_si256(bits));
  _mm256_stream_si256(reinterpret_cast<__m256i*>(p) + 1, _mm512_extracti64x4_epi64(bits, 1));
}
#endif

using Int16s = __m512i;
inline Int16s splat_int16s(int16_t a) { return _mm512_set1_epi16(a); }
template <class T>
inline Int16s load_int16s(const T* p) {
  return _mm512_loadu_si512(p);
}
inline Int16s min_int16s(Int16s a, Int16s b) { return _mm512_min_epi16(a, b); }
inline Int16s max_int16s(Int16s a, Int16s b) { return _mm512_max_epi16(a, b); }
template <class T>
inline Vec widen_low(T, Int16s a) {
  return widen(T{}, _mm512_castsi512_si256(a));
}
template <class T>
inline Vec widen_high(T, Int16s a) {
  return widen(T{}, _mm512_extracti64x4_epi64(a, 1));
}

inline Keep load_keep(const uint8_t* p, Whole) {
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return _mm_test_epi8_mask(bytes, bytes);
}
inline Keep load_keep(const uint8_t* p, Tail tail) {
  const __m128i bytes = _mm_maskz_loadu_epi8(tail_mask(tail), p);
  return _mm_test_epi8_mask(bytes, bytes);
}

inline Keep at_least(const uint32_t* words, uint32_t limit) {
  return _mm512_cmp_epu32_mask(_mm512_loadu_si512(words), _mm512_set1_epi32(static_cast<int>(limit)), _MM_CMPINT_NLT);
}

using Words = __m512i;
inline Words splat_words(uint32_t a) { return _mm512_set1_epi32(static_cast<int>(a)); }
inline Words load_words(const uint32_t* p) { return _mm512_loadu_si512(p); }
inline void store_words(uint32_t* p, Words a) { _mm512_storeu_si512(p, a); }
inline Words count_from(uint32_t n) {
  return _mm512_add_epi32(splat_words(n), _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
}
inline Words exclusive_or(Words a, Words b) { return _mm512_xor_si512(a, b); }
inline Words multiply_wide(Words a, uint32_t factor, Words* high) {
  const Words even = _mm512_mul_epu32(a, splat_words(factor));
  const Words odd = _mm512_mul_epu32(_mm512_srli_epi64(a, 32), splat_words(factor));
  *high = _mm512_mask_mov_epi32(_mm512_srli_epi64(even, 32), 0xaaaa, odd);
  return _mm512_mask_mov_epi32(even, 0xaaaa, _mm512_slli_epi64(odd, 32));
}
inline void store_interleaved(uint32_t* p, Words a, Words b, Words c, Words d) {
  const Words ab = _mm512_unpacklo_epi32(a, b), ab_high = _mm512_unpackhi_epi32(a, b);
  const Words cd = _mm512_unpacklo_epi32(c, d), cd_high = _mm512_unpackhi_epi32(c, d);
  // Quarter q of part i holds the four words of lane 4 q + i.
  const Words parts[4] = {_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd),
                          _mm512_unpacklo_epi64(ab_high, cd_high), _mm512_unpackhi_epi64(ab_high, cd_high)};
  const Words low = _mm512_shuffle_i32x4(parts[0], parts[1], 0x44),
              high = _mm512_shuffle_i32x4(parts[0], parts[1], 0xee);
  const Words low2 = _mm512_shuffle_i32x4(parts[2], parts[3], 0x44);
  const Words high2 = _mm512_shuffle_i32x4(parts[2], parts[3], 0xee);
  _mm512_storeu_si512(p, _mm512_shuffle_i32x4(low, low2, 0x88));
  _mm512_storeu_si512(p + 16, _mm512_shuffle_i32x4(low, low2, 0xdd));
  _mm512_storeu_si512(p + 32, _mm512_shuffle_i32x4(high, high2, 0x88));
  _mm512_storeu_si512(p + 48, _mm512_shuffle_i32x4(high, high2, 0xdd));
}

inline void transpose(Vec (&rows)[kWidth]) {
  __m512d pairs[kWidth];
  for (int i = 0; i < kWidth; i += 4) {
    const Vec a = _mm512_unpacklo_ps(rows[i], rows[i + 1]), b = _mm512_unpackhi_ps(rows[i], rows[i + 1]);
    const Vec c = _mm512_unpacklo_ps(rows[i + 2], rows[i + 3]), d = _mm512_unpackhi_ps(rows[i + 2], rows[i + 3]);
    pairs[i] = _mm512_unpacklo_pd(_mm512_castps_pd(a), _mm512_castps_pd(c));
    pairs[i + 1] = _mm512_unpackhi_pd(_mm512_castps_pd(a), _mm512_castps_pd(c));
    pairs[i + 2] = _mm512_unpacklo_pd(_mm512_castps_pd(b), _mm512_castps_pd(d));
    pairs[i + 3] = _mm512_unpackhi_pd(_mm512_castps_pd(b), _mm512_castps_pd(d));
  }
  // Quarter q of pairs[i + c] now holds column 4 q + c of rows i to i + 3.
  for (int c = 0; c < 4; ++c) {
    const Vec a = _mm512_castpd_ps(pairs[c]), b = _mm512_castpd_ps(pairs[4 + c]);
    const Vec d = _mm512_castpd_ps(pairs[8 + c]), e = _mm512_castpd_ps(pairs[12 + c]);
    const Vec even_low = _mm512_shuffle_f32x4(a, b, 0x88), odd_low = _mm512_shuffle_f32x4(a, b, 0xdd);
    const Vec even_high = _mm512_shuffle_f32x4(d, e, 0x88), odd_high = _mm512_shuffle_f32x4(d, e, 0xdd);
    rows[c] = _mm512_shuffle_f32x4(even_low, even_high, 0x88);
    rows[4 + c] = _mm512_shuffle_f32x4(odd_low, odd_high, 0x88);
    rows[8 + c] = _mm512_shuffle_f32x4(even_low, even_high, 0xdd);
    rows[12 + c] = _mm512_shuffle_f32x4(odd_low, odd_high, 0xdd);
  }
}

#ifdef FASTLM_NATIVE_BF16
inline __m256i load_bits(const BFloat16* p, Whole) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
inline __m256i load_bits(const BFloat16* p, Tail tail) { return _mm256_maskz_loadu_epi16(tail_mask(tail), p); }

// Two bfloat16 in each lane, the first in the low half; a product sums over both.
inline Vec interleave(__m256i first, __m256i second) {
  const __m512i high = _mm512_slli_epi32(_mm512_cvtepu16_epi32(second), 16);
  return _mm512_castsi512_ps(_mm512_or_si512(_mm512_cvtepu16_epi32(first), high));
}
inline Vec dot_pairs(Vec sum, Vec a, Vec b) {
  return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
}
#endif

inline __attribute__((always_inline)) void prefetch(const void* p) {
  _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T1);
}
inline void end_stream() { _mm_sfence(); }

}  // namespace fastlm::cpu::FASTLM_ISA
