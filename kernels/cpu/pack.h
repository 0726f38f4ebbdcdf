// Rows of a head, (n, D) anywhere in memory, into the operands of tile.h.
#pragma once

#include <type_traits>

#include "kernels/cpu/tile.h"

namespace fastlm::cpu::FASTLM_ISA {

// Lanes are padded to this many, whatever the vector's width.
inline constexpr int64_t kPadding = 16;
inline int64_t padded(int64_t n) { return (n + kPadding - 1) / kPadding * kPadding; }

template <class T>
struct Rows {
  const T* data;
  int64_t stride;
  const T* row(int64_t r) const { return data + r * stride; }
  Rows from(int64_t r) const { return {row(r), stride}; }
};

template <class Body>
inline void for_each_tail_vector(int64_t n, Body&& body) {
  int64_t i = 0;
  for (; i + kWidth <= n; i += kWidth) body(i, Whole{});
  if (i < n) body(i, Tail{static_cast<int>(n - i)});
}

template <class T, class Units>
inline constexpr bool kConverts = !std::is_same_v<T, float> && Units::kPerUnit == 1;

// The rows as a left operand, contracted over D; in place where that is possible, else by way of scratch (n, padded D).
template <class T, class Units>
inline Left left_rows(Rows<T> x, int64_t n, int64_t width, float* scratch) {
  if constexpr (kConverts<T, Units>) {
    for (int64_t r = 0; r < n; ++r)
      for_each_tail_vector(width, [&](int64_t i, auto lanes) {
        store(scratch + r * padded(width) + i, load(x.row(r) + i, lanes), lanes);
      });
    return {scratch, padded(width), 1};
  } else if constexpr (Units::kPerUnit == 2) {
    if (x.stride % 2 == 0) return {reinterpret_cast<const float*>(x.data), x.stride / 2, 1};
    for (int64_t r = 0; r < n; ++r)
      std::memcpy(scratch + r * padded(width), x.row(r), static_cast<size_t>(width) * sizeof(T));
    return {scratch, padded(width), 1};
  } else {
    return {x.data, x.stride, 1};
  }
}

// One vector of units of a row: columns kPerUnit * u on.
template <class T, class Units, class Lanes>
inline Vec load_units(const T* row, int64_t u, Lanes lanes) {
  if constexpr (Units::kPerUnit == 2) {
    return load(reinterpret_cast<const float*>(row) + u, lanes);
  } else {
    return load(row + u, lanes);
  }
}

// The transpose as a right operand: units along D, lanes along the rows; out is (D / kPerUnit, padded n).
template <class T, class Units>
inline Right right_columns(Rows<T> x, int64_t n, int64_t width, float* out) {
  const int64_t stride = padded(n), units = width / Units::kPerUnit;
  for (int64_t first = 0; first < stride; first += kWidth)
    for (int64_t u = 0; u < units; u += kWidth) {
      const int64_t count = units - u < kWidth ? units - u : kWidth;
      Vec square[kWidth];
      for (int r = 0; r < kWidth; ++r) {
        if (first + r >= n) {
          square[r] = splat(0.0f);
        } else if (count == kWidth) {
          square[r] = load_units<T, Units>(x.row(first + r), u, Whole{});
        } else {
          square[r] = load_units<T, Units>(x.row(first + r), u, Tail{static_cast<int>(count)});
        }
      }
      transpose(square);
      for (int64_t i = 0; i < count; ++i) store(out + (u + i) * stride + first, square[i], Whole{});
    }
  return {out, stride};
}

// The rows as a right operand: units along the rows, lanes along D; out is (n / kPerUnit rounded up, padded D).
template <class T, class Units>
inline Right right_rows(Rows<T> x, int64_t n, int64_t width, float* out) {
  const int64_t stride = padded(width);
  for (int64_t r = 0; r < n; r += Units::kPerUnit) {
    float* const to = out + r / Units::kPerUnit * stride;
    for_each_tail_vector(width, [&](int64_t i, auto lanes) {
      if constexpr (Units::kPerUnit == 1) {
        store(to + i, load(x.row(r) + i, lanes), Whole{});
      } else {
#ifdef FASTLM_NATIVE_BF16
        const __m256i second = r + 1 < n ? load_bits(x.row(r + 1) + i, lanes) : _mm256_setzero_si256();
        store(to + i, interleave(load_bits(x.row(r) + i, lanes), second), Whole{});
#endif
      }
    });
    for (int64_t i = (width + kWidth - 1) / kWidth * kWidth; i < stride; i += kWidth)
      store(to + i, splat(0.0f), Whole{});
  }
  return {out, stride};
}

// Products of a tile's own fp32 numbers (rows, stride), lanes_of(r) of which are meaningful in row r.
template <class Units, class LanesOf>
inline Left left_tile(const float* x, int64_t rows, int64_t stride, float* scratch, LanesOf lanes_of) {
  if constexpr (Units::kPerUnit == 1) {
    return {x, stride, 1};
  } else {
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t i = 0; i < lanes_of(r); i += kWidth)
        store(reinterpret_cast<BFloat16*>(scratch + r * (stride / 2)) + i, load(x + r * stride + i, Whole{}), Whole{});
    return {scratch, stride / 2, 1};
  }
}

// The same, transposed: row r of the operand is the tile's column r, contracted over the tile's rows.
template <class Units, class LanesOf>
inline Left left_tile_transposed(const float* x, int64_t rows, int64_t stride, float* scratch, LanesOf lanes_of) {
  if constexpr (Units::kPerUnit == 1) {
    return {x, 1, stride};
  } else {
#ifdef FASTLM_NATIVE_BF16
    for (int64_t r = 0; r < rows; r += 2)
      for (int64_t i = 0; i < lanes_of(r); i += kWidth) {
        const float* const from = x + r * stride + i;
        const Vec second = r + 1 < rows ? load(from + stride, Whole{}) : splat(0.0f);
        store(scratch + r / 2 * stride + i,
              interleave(narrow(BFloat16{}, load(from, Whole{})), narrow(BFloat16{}, second)), Whole{});
      }
#endif
    return {scratch, 1, stride};
  }
}

}  // namespace fastlm::cpu::FASTLM_ISA
