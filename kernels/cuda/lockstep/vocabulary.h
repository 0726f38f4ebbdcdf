// The device vocabulary on the host; kernels/cuda/common/device.cuh says what each word means.
#pragma once

#include <cmath>
#include <cstring>
#include <type_traits>
#include <typeinfo>

#include "kernels/cuda/lockstep/block.h"
#include "kernels/cuda/lockstep/memory.h"
#include "kernels/params.h"

#define FASTLM_DEVICE inline
#define FASTLM_UNROLL
#define FASTLM_UNROLL_2
#define FASTLM_UNROLL_4

namespace fastlm::cuda {

using lockstep::Place;

// ---- words and vectors
template <class T>
uint32_t word_of(T x) {
  uint32_t word;
  static_assert(sizeof(x) == sizeof(word));
  std::memcpy(&word, &x, sizeof(word));
  return word;
}
template <class T>
T word_as(uint32_t word) {
  T x;
  static_assert(sizeof(x) == sizeof(word));
  std::memcpy(&x, &word, sizeof(word));
  return x;
}
inline void forget_word(uint32_t&) {}

}  // namespace fastlm::cuda

#include "kernels/cuda/common/vector.cuh"

namespace fastlm::cuda {

// ---- where a thread is
inline int thread_index() { return lockstep::this_thread().index; }
inline int lane_index() { return thread_index() % lockstep::kWarp; }
inline int warp_index() { return thread_index() / lockstep::kWarp; }
inline int64_t block_x() { return lockstep::this_thread().block_x; }
inline int64_t block_y() { return lockstep::this_thread().block_y; }
inline int64_t grid_x() { return lockstep::this_launch().grid_x; }

// ---- barriers and exchange
inline void barrier(Place at = Place::here()) { lockstep::block_barrier(at); }
inline void warp_barrier(Place at = Place::here()) { lockstep::warp_memory_barrier(at); }

template <class T>
T shuffle(T value, int from_lane, Place at = Place::here()) {
  struct Lane {
    T given;
    int from;
    T taken;
  } mine{value, from_lane, {}};
  lockstep::warp_operation("shuffle", at, &mine, [](void* const* lanes) {
    for (int i = 0; i < lockstep::kWarp; ++i) {
      Lane& lane = *static_cast<Lane*>(lanes[i]);
      lane.taken = static_cast<const Lane*>(lanes[lane.from & 31])->given;
    }
  });
  return mine.taken;
}
template <class T>
T shuffle_xor(T value, int mask, Place at = Place::here()) {
  return shuffle(value, lane_index() ^ mask, at);
}
inline uint32_t lanes_where(bool value, Place at = Place::here()) {
  struct Lane {
    bool value;
    uint32_t lanes;
  } mine{value, 0};
  lockstep::warp_operation("lanes_where", at, &mine, [](void* const* lanes) {
    uint32_t where = 0;
    for (int i = 0; i < lockstep::kWarp; ++i) where |= uint32_t{static_cast<const Lane*>(lanes[i])->value} << i;
    for (int i = 0; i < lockstep::kWarp; ++i) static_cast<Lane*>(lanes[i])->lanes = where;
  });
  return mine.lanes;
}
inline int smallest_lane(int value, Place at = Place::here()) {
  struct Lane {
    int value;
  } mine{value};
  lockstep::warp_operation("smallest_lane", at, &mine, [](void* const* lanes) {
    int smallest = static_cast<const Lane*>(lanes[0])->value;
    for (int i = 1; i < lockstep::kWarp; ++i) {
      const int value = static_cast<const Lane*>(lanes[i])->value;
      smallest = value < smallest ? value : smallest;
    }
    for (int i = 0; i < lockstep::kWarp; ++i) static_cast<Lane*>(lanes[i])->value = smallest;
  });
  return mine.value;
}
inline bool any_lane(bool value, Place at = Place::here()) {
  struct Lane {
    bool value;
  } mine{value};
  lockstep::warp_operation("any_lane", at, &mine, [](void* const* lanes) {
    bool any = false;
    for (int i = 0; i < lockstep::kWarp; ++i) any = any || static_cast<const Lane*>(lanes[i])->value;
    for (int i = 0; i < lockstep::kWarp; ++i) static_cast<Lane*>(lanes[i])->value = any;
  });
  return mine.value;
}

// ---- pointers
// Neither can be dereferenced: memory is read and written through load, store and copies, which check.
template <class T>
class Global {
 public:
  Global() = default;
  explicit Global(const void* p, Place at = Place::here())
      : region_(lockstep::region_of(p, at)), p_(static_cast<T*>(const_cast<void*>(p))) {}
  template <class U, class = std::enable_if_t<std::is_same_v<const U, T>>>
  Global(Global<U> other) : region_(other.region()), p_(other.get()) {}

  Global operator+(int64_t i) const { return {region_, p_ + i}; }
  T* get() const { return p_; }
  lockstep::Region* region() const { return region_; }

 private:
  Global(lockstep::Region* region, T* p) : region_(region), p_(p) {}
  lockstep::Region* region_ = nullptr;
  T* p_ = nullptr;
};
template <class T>
uintptr_t address(Global<T> p) {
  return reinterpret_cast<uintptr_t>(p.get());
}

template <class T>
class Shared {
 public:
  explicit Shared(int64_t offset) : offset_(offset) {}
  Shared operator+(int64_t i) const { return Shared(offset_ + i * static_cast<int64_t>(sizeof(T))); }
  int64_t offset() const { return offset_; }

 private:
  int64_t offset_;  // bytes
};
template <class T>
Shared<T> shared_memory(int64_t offset) {
  return Shared<T>(offset);
}

// ---- loads and stores
template <class T>
inline constexpr auto read_access = std::is_const_v<T> ? lockstep::Access::kReadOnly : lockstep::Access::kRead;

template <class T>
std::remove_const_t<T> load(Global<T> p, Place at = Place::here()) {
  lockstep::check_global(p.region(), p.get(), sizeof(T), read_access<T>, at);
  return *p.get();
}
template <class T>
void store(Global<T> p, std::remove_const_t<T> value, Place at = Place::here()) {
  lockstep::check_global(p.region(), p.get(), sizeof(T), lockstep::Access::kWrite, at);
  *p.get() = value;
}
template <class T>
T load(Shared<T> p, Place at = Place::here()) {
  static_assert(sizeof(T) % lockstep::kCell == 0);
  T value;
  lockstep::read_shared(p.offset(), sizeof(T), &value, at);
  return value;
}
template <class T>
void store(Shared<T> p, T value, Place at = Place::here()) {
  static_assert(sizeof(T) % lockstep::kCell == 0);
  lockstep::write_shared(p.offset(), sizeof(T), &value, at);
}

template <int N, class T>
Vector<std::remove_const_t<T>, N> load_vector(Global<T> p, Place at = Place::here()) {
  Vector<std::remove_const_t<T>, N> value;
  lockstep::check_global(p.region(), p.get(), sizeof(value), read_access<T>, at);
  std::memcpy(value.words, p.get(), sizeof(value.words));
  return value;
}
template <class T, int N>
void store_vector(Global<T> p, const Vector<T, N>& value, Place at = Place::here()) {
  lockstep::check_global(p.region(), p.get(), sizeof(value), lockstep::Access::kWrite, at);
  std::memcpy(p.get(), value.words, sizeof(value.words));
}
template <int N, class T>
Vector<T, N> load_vector(Shared<T> p, Place at = Place::here()) {
  Vector<T, N> value;
  lockstep::read_shared(p.offset(), sizeof(value.words), value.words, at);
  return value;
}
template <class T, int N>
void store_vector(Shared<T> p, const Vector<T, N>& value, Place at = Place::here()) {
  lockstep::write_shared(p.offset(), sizeof(value.words), value.words, at);
}

// ---- asynchronous copies
template <int N, class T, class U>
void copy_async(Shared<T> to, Global<U> from, Place at = Place::here()) {
  static_assert(std::is_same_v<T, std::remove_const_t<U>> && (N * sizeof(T) == 16 || N * sizeof(T) == 4));
  lockstep::check_global(from.region(), from.get(), N * sizeof(T), read_access<U>, at);
  lockstep::begin_copy(to.offset(), N * sizeof(T), from.get(), at);
}
template <int N, class T, class U>
void copy_async_or_zero(Shared<T> to, Global<U> from, bool present, Place at = Place::here()) {
  constexpr int64_t kBytes = N * sizeof(T);
  static_assert(std::is_same_v<T, std::remove_const_t<U>> && (kBytes == 16 || kBytes == 8));
  if (present) lockstep::check_global(from.region(), from.get(), kBytes, read_access<U>, at);
  const char zeros[kBytes] = {};
  lockstep::begin_copy(to.offset(), kBytes, present ? static_cast<const void*>(from.get()) : zeros, at);
}
inline void commit_copies() { lockstep::commit_copies(); }
template <int kPending>
void wait_for_copies() {
  lockstep::wait_for_copies(kPending);
}

// ---- tensor cores
// Fragments as
// documented: PTX ISA, "Matrix Fragments for mma.m16n8k16 with floating point type", and ldmatrix.
inline float to_float(BFloat16 x);
inline float to_float(Half x);

// How tensor cores round their sums (Fasi, Higham, Mikaitis and Pranesh, "Numerical behavior of NVIDIA tensor cores",
// 2021); what they lose on the way to a sum is not followed.
inline float towards_zero(double x) {
  const float rounded = static_cast<float>(x);
  return std::fabs(rounded) > std::fabs(x) ? std::nextafter(rounded, 0.0f) : rounded;
}

template <class T>
void mma(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Place at = Place::here()) {
  struct Lane {
    float* c;
    const uint32_t *a, *b;
  } mine{c, a, b};
  lockstep::warp_operation("mma", at, &mine, [](void* const* lanes) {
    const auto lane = [&](int i) -> const Lane& { return *static_cast<const Lane*>(lanes[i]); };
    const auto half = [](uint32_t pair, int which) { return to_float(T{static_cast<uint16_t>(pair >> 16 * which)}); };
    float a[16][16], b[16][8];
    for (int i = 0; i < lockstep::kWarp; ++i) {
      const int group = i / 4, pair = i % 4 * 2;
      for (int which = 0; which < 2; ++which) {
        for (int reg = 0; reg < 4; ++reg)
          a[group + reg % 2 * 8][pair + reg / 2 * 8 + which] = half(lane(i).a[reg], which);
        for (int reg = 0; reg < 2; ++reg) b[pair + reg * 8 + which][group] = half(lane(i).b[reg], which);
      }
    }
    for (int i = 0; i < lockstep::kWarp; ++i) {
      for (int reg = 0; reg < 4; ++reg) {
        const int row = i / 4 + reg / 2 * 8, column = i % 4 * 2 + reg % 2;
        double sum = lane(i).c[reg];
        for (int k = 0; k < 16; ++k) sum += static_cast<double>(a[row][k]) * b[k][column];
        lane(i).c[reg] = towards_zero(sum);
      }
    }
  });
}

template <bool kTransposed, class T>
void load_matrices(uint32_t (&out)[4], Shared<T> row, Place at = Place::here()) {
  static_assert(sizeof(T) == 2);
  struct Lane {
    uint16_t row[8];
    uint32_t* out;
  } mine{{}, out};
  lockstep::read_shared(row.offset(), sizeof(mine.row), mine.row, at);
  lockstep::warp_operation(
      kTransposed ? "load_matrices (transposed)" : "load_matrices", at, &mine, [](void* const* lanes) {
        for (int i = 0; i < lockstep::kWarp; ++i) {
          for (int matrix = 0; matrix < 4; ++matrix) {
            const auto element = [&](int r, int c) -> uint32_t {
              return static_cast<const Lane*>(lanes[8 * matrix + r])->row[c];
            };
            const int group = i / 4, pair = i % 4 * 2;
            const uint32_t low = kTransposed ? element(pair, group) : element(group, pair);
            const uint32_t high = kTransposed ? element(pair + 1, group) : element(group, pair + 1);
            static_cast<Lane*>(lanes[i])->out[matrix] = low | high << 16;
          }
        }
      });
}

// ---- numbers
inline float to_float(float x) { return x; }
inline float to_float(BFloat16 x) { return word_as<float>(uint32_t{x.bits} << 16); }
inline float to_float(Half x) {
  _Float16 half;
  std::memcpy(&half, &x, sizeof(half));
  return static_cast<float>(half);
}

template <class T>
T from_float(float x);
template <>
inline float from_float<float>(float x) {
  return x;
}
template <>
inline BFloat16 from_float<BFloat16>(float x) {
  const uint32_t bits = word_of(x);
  if (x != x) return {0x7FFF};
  return {static_cast<uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16)};  // to nearest, ties to even
}
template <>
inline Half from_float<Half>(float x) {
  const _Float16 half = static_cast<_Float16>(x);
  Half out;
  std::memcpy(&out, &half, sizeof(out));
  return out;
}

inline float exp2(float x) { return std::exp2(x); }
inline float exp(float x) { return std::exp(x); }
inline float maximum(float a, float b) { return std::fmax(a, b); }
inline float fused(float a, float b, float c) { return std::fma(a, b, c); }
inline float sqrt(float x) { return std::sqrt(x); }
inline int bit_count(uint32_t word) { return __builtin_popcount(word); }
inline float log2(float x) { return std::log2(x); }
inline float log(float x) { return std::log(x); }
inline double log(double x) { return std::log(x); }

// ---- launches
using Stream = void*;
inline constexpr bool kHopper = true;

template <class Kernel, class Params>
void launch(int64_t grid_x, int64_t grid_y, int64_t shared_bytes, Stream, const Params& params) {
  lockstep::run({typeid(Kernel).name(), [](const void* p) { Kernel::run(*static_cast<const Params*>(p)); }, &params,
                 grid_x, grid_y, Kernel::kThreads, shared_bytes});
}

}  // namespace fastlm::cuda
