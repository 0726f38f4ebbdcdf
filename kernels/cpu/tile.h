// Small matrix products that stay in cache: C (rows, lanes) = or += A (rows, units) B (units, lanes), sums in fp32.
//
// A *unit* is what one lane multiplies at a time, 32 bits wide: a float, or with bfloat16 products two of them, so that
// the length contracted over halves. Both travel as floats, whose bits nobody interprets on the way.
#pragma once

namespace fastlm::cpu::FASTLM_ISA {

struct Floats {
  static constexpr int kPerUnit = 1;
  static Vec broadcast(const float* unit) { return splat(*unit); }
  static Vec dot(Vec sum, Vec a, Vec b) { return fma(a, b, sum); }
};

#ifdef FASTLM_NATIVE_BF16
struct Pairs {
  static constexpr int kPerUnit = 2;
  static Vec broadcast(const float* unit) {
    int bits;  // a view may start at any bfloat16: the unit need not be aligned
    std::memcpy(&bits, unit, sizeof bits);
    return _mm512_castsi512_ps(_mm512_set1_epi32(bits));
  }
  static Vec dot(Vec sum, Vec a, Vec b) { return dot_pairs(sum, a, b); }
};
#endif

// A operand: element (r, u) at data[r * row + u * unit]. B is packed: unit u's lanes start at data[u * stride].
struct Left {
  const float* data;
  int64_t row, unit;
};
struct Right {
  const float* data;
  int64_t stride;
};
struct Sums {
  float* data;
  int64_t stride;
};

// What a group of rows needs: units [begin, end), and vectors [0, vectors) of lanes.
struct Extent {
  int64_t begin, end, vectors;
};

template <class Units, int kRows, int kVectors>
inline void tile(Left a, Right b, Sums c, Extent extent, bool add) {
  Vec sums[kRows][kVectors];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v)
      sums[r][v] = add ? load(c.data + r * c.stride + v * kWidth, Whole{}) : splat(0.0f);
  for (int64_t u = extent.begin; u < extent.end; ++u) {
    Vec lanes[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) lanes[v] = load(b.data + u * b.stride + v * kWidth, Whole{});
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const Vec factor = Units::broadcast(a.data + r * a.row + u * a.unit);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) sums[r][v] = Units::dot(sums[r][v], factor, lanes[v]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) store(c.data + r * c.stride + v * kWidth, sums[r][v], Whole{});
}

// From numbers known at run time to the tile of that many rows and vectors.
template <class Units, int kRows, int kVectors>
inline void tile_of(int64_t rows, int64_t vectors, Left a, Right b, Sums c, Extent extent, bool add) {
  if constexpr (kVectors > 1)
    if (vectors < kVectors) return tile_of<Units, kRows, kVectors - 1>(rows, vectors, a, b, c, extent, add);
  if constexpr (kRows > 1)
    if (rows < kRows) return tile_of<Units, kRows - 1, kVectors>(rows, vectors, a, b, c, extent, add);
  tile<Units, kRows, kVectors>(a, b, c, extent, add);
}

// extent_of(r, end) says what rows [r, end) need; sums beyond it are left alone.
template <class Units, class ExtentOf>
inline void multiply(Left a, Right b, Sums c, int64_t rows, bool add, ExtentOf extent_of) {
  for (int64_t r = 0; r < rows; r += kTileRows) {
    const int64_t end = r + kTileRows < rows ? r + kTileRows : rows;
    const Extent extent = extent_of(r, end);
    for (int64_t v = 0; v < extent.vectors; v += kTileVectors) {
      const int64_t vectors = extent.vectors - v < kTileVectors ? extent.vectors - v : kTileVectors;
      tile_of<Units, kTileRows, kTileVectors>(end - r, vectors, {a.data + r * a.row, a.row, a.unit},
                                              {b.data + v * kWidth, b.stride},
                                              {c.data + r * c.stride + v * kWidth, c.stride}, extent, add);
    }
  }
}

}  // namespace fastlm::cpu::FASTLM_ISA
