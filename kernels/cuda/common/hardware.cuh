// The device vocabulary as intrinsics and PTX; device.cuh says what each word means.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstring>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "kernels/params.h"

#define FASTLM_DEVICE __device__ __forceinline__
#define FASTLM_UNROLL _Pragma("unroll")
#define FASTLM_UNROLL_2 _Pragma("unroll 2")
#define FASTLM_UNROLL_4 _Pragma("unroll 4")

namespace fastlm::cuda {

inline constexpr unsigned kAllLanes = 0xFFFFFFFFu;

// ---- words and vectors ----------------------------------------------------------------------------------------------
FASTLM_DEVICE uint32_t word_of(float x) { return __float_as_uint(x); }
FASTLM_DEVICE uint32_t word_of(int x) { return static_cast<uint32_t>(x); }
template <class T>
FASTLM_DEVICE T word_as(uint32_t word) {
  if constexpr (std::is_same_v<T, float>) return __uint_as_float(word);
  if constexpr (std::is_same_v<T, int>) return static_cast<int>(word);
}
FASTLM_DEVICE void forget_word(uint32_t& word) { asm volatile("" : "+r"(word)); }

}  // namespace fastlm::cuda

#include "kernels/cuda/common/vector.cuh"

namespace fastlm::cuda {

// ---- where a thread is ----------------------------------------------------------------------------------------------
FASTLM_DEVICE int thread_index() { return static_cast<int>(threadIdx.x); }
FASTLM_DEVICE int lane_index() { return static_cast<int>(threadIdx.x % 32); }
FASTLM_DEVICE int warp_index() { return static_cast<int>(threadIdx.x / 32); }
FASTLM_DEVICE int64_t block_x() { return blockIdx.x; }
FASTLM_DEVICE int64_t block_y() { return blockIdx.y; }
FASTLM_DEVICE int64_t grid_x() { return gridDim.x; }

// ---- barriers and exchange ------------------------------------------------------------------------------------------
FASTLM_DEVICE void barrier() { __syncthreads(); }
FASTLM_DEVICE void warp_barrier() { __syncwarp(); }
template <class T>
FASTLM_DEVICE T shuffle(T value, int from_lane) {
  return __shfl_sync(kAllLanes, value, from_lane);
}
template <class T>
FASTLM_DEVICE T shuffle_xor(T value, int mask) {
  return __shfl_xor_sync(kAllLanes, value, mask);
}
FASTLM_DEVICE uint32_t lanes_where(bool value) { return __ballot_sync(kAllLanes, value); }
FASTLM_DEVICE int smallest_lane(int value) { return __reduce_min_sync(kAllLanes, value); }
FASTLM_DEVICE bool any_lane(bool value) { return __any_sync(kAllLanes, value) != 0; }

// ---- pointers -------------------------------------------------------------------------------------------------------
template <class T>
using Global = T*;
template <class T>
struct Shared {
  T* pointer;
  FASTLM_DEVICE Shared operator+(int64_t i) const { return {pointer + i}; }
};
template <class T>
FASTLM_DEVICE uintptr_t address(Global<T> p) {
  return reinterpret_cast<uintptr_t>(p);
}
template <class T>
FASTLM_DEVICE Shared<T> shared_memory(int64_t offset) {
  extern __shared__ __align__(16) char memory[];
  return {reinterpret_cast<T*>(memory + offset)};
}

// ---- loads and stores -----------------------------------------------------------------------------------------------
template <class T>
FASTLM_DEVICE std::remove_const_t<T> load(T* p) {
  return *p;
}
template <class T>
FASTLM_DEVICE void store(T* p, std::remove_const_t<T> value) {
  *p = value;
}
template <class T>
FASTLM_DEVICE T load(Shared<T> p) {
  return *p.pointer;
}
template <class T>
FASTLM_DEVICE void store(Shared<T> p, T value) {
  *p.pointer = value;
}

// What a kernel only reads, it reads through the read-only path: such loads may be moved ahead of stores.
template <class Words, class T>
FASTLM_DEVICE Words fetch(T* p) {
  if constexpr (std::is_const_v<T>) return __ldg(reinterpret_cast<const Words*>(p));
  return *reinterpret_cast<const Words*>(p);
}

template <int N, class T>
FASTLM_DEVICE Vector<std::remove_const_t<T>, N> load_vector(T* p) {
  Vector<std::remove_const_t<T>, N> value;
  if constexpr (value.kWords == 4) {
    const uint4 words = fetch<uint4>(p);
    value.words[0] = words.x, value.words[1] = words.y, value.words[2] = words.z, value.words[3] = words.w;
  } else if constexpr (value.kWords == 2) {
    const uint2 words = fetch<uint2>(p);
    value.words[0] = words.x, value.words[1] = words.y;
  } else {
    static_assert(value.kWords == 1);
    value.words[0] = fetch<uint32_t>(p);
  }
  return value;
}
// As PTX: nvcc may take a store of four words apart.
template <class T, int N>
FASTLM_DEVICE void store_vector(T* p, const Vector<T, N>& value) {
  if constexpr (value.kWords == 4) {
    asm volatile("st.global.v4.b32 [%0], {%1,%2,%3,%4};" ::"l"(p), "r"(value.words[0]), "r"(value.words[1]),
                 "r"(value.words[2]), "r"(value.words[3])
                 : "memory");
  } else if constexpr (value.kWords == 2) {
    asm volatile("st.global.v2.b32 [%0], {%1,%2};" ::"l"(p), "r"(value.words[0]), "r"(value.words[1]) : "memory");
  } else {
    static_assert(value.kWords == 1);
    *reinterpret_cast<uint32_t*>(p) = value.words[0];
  }
}
template <int N, class T>
FASTLM_DEVICE Vector<T, N> load_vector(Shared<T> p) {
  return load_vector<N>(p.pointer);
}
template <class T, int N>
FASTLM_DEVICE void store_vector(Shared<T> p, const Vector<T, N>& value) {
  if constexpr (value.kWords == 2) {
    *reinterpret_cast<uint2*>(p.pointer) = make_uint2(value.words[0], value.words[1]);
  } else {
    static_assert(value.kWords == 1);
    *reinterpret_cast<uint32_t*>(p.pointer) = value.words[0];
  }
}

// ---- asynchronous copies --------------------------------------------------------------------------------------------
template <class T>
FASTLM_DEVICE uint32_t shared_address(Shared<T> p) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(p.pointer));
}

template <int N, class T, class U>
FASTLM_DEVICE void copy_async(Shared<T> to, U* from) {
  static_assert(std::is_same_v<T, std::remove_const_t<U>> && (N * sizeof(T) == 16 || N * sizeof(T) == 4));
  if constexpr (N * sizeof(T) == 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(to)), "l"(from) : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(shared_address(to)), "l"(from) : "memory");
  }
}
// The same, or zeros in place of what must not be read.
template <int N, class T, class U>
FASTLM_DEVICE void copy_async_or_zero(Shared<T> to, U* from, bool present) {
  static_assert(std::is_same_v<T, std::remove_const_t<U>> && (N * sizeof(T) == 16 || N * sizeof(T) == 8));
  const int bytes = present ? N * static_cast<int>(sizeof(T)) : 0;
  if constexpr (N * sizeof(T) == 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from), "r"(bytes)
                 : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 8, %2;" ::"r"(shared_address(to)), "l"(from), "r"(bytes)
                 : "memory");
  }
}
FASTLM_DEVICE void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int kPending>
FASTLM_DEVICE void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

// ---- tensor cores ---------------------------------------------------------------------------------------------------
template <class T>
FASTLM_DEVICE void mma(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  static_assert(std::is_same_v<T, BFloat16> || std::is_same_v<T, Half>);
  if constexpr (std::is_same_v<T, BFloat16>) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  } else {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  }
}

template <bool kTransposed, class T>
FASTLM_DEVICE void load_matrices(uint32_t (&out)[4], Shared<T> row) {
  static_assert(sizeof(T) == 2);
  if constexpr (kTransposed) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"(shared_address(row))
                 : "memory");
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"(shared_address(row))
                 : "memory");
  }
}

// ---- numbers --------------------------------------------------------------------------------------------------------
FASTLM_DEVICE float to_float(float x) { return x; }
FASTLM_DEVICE float to_float(BFloat16 x) { return __uint_as_float(static_cast<uint32_t>(x.bits) << 16); }
FASTLM_DEVICE float to_float(Half x) { return __half2float(__ushort_as_half(x.bits)); }

template <class T>
FASTLM_DEVICE T from_float(float x) {
  if constexpr (std::is_same_v<T, BFloat16>) {
    return {__bfloat16_as_ushort(__float2bfloat16_rn(x))};
  } else if constexpr (std::is_same_v<T, Half>) {
    return {__half_as_ushort(__float2half_rn(x))};
  } else {
    static_assert(std::is_same_v<T, float>);
    return x;
  }
}

FASTLM_DEVICE float exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
FASTLM_DEVICE float exp(float x) { return expf(x); }
FASTLM_DEVICE float maximum(float a, float b) { return fmaxf(a, b); }
FASTLM_DEVICE float fused(float a, float b, float c) { return __fmaf_rn(a, b, c); }
FASTLM_DEVICE float sqrt(float x) { return __fsqrt_rn(x); }
FASTLM_DEVICE float log2(float x) {
  float y;
  asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
FASTLM_DEVICE float log(float x) { return logf(x); }
FASTLM_DEVICE double log(double x) { return ::log(x); }

FASTLM_DEVICE int bit_count(uint32_t word) { return __popc(word); }

// ---- launches -------------------------------------------------------------------------------------------------------
using Stream = void*;  // a cudaStream_t, for callers that do not include CUDA's headers

// Whether this is compiled for sm_90 or later.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
inline constexpr bool kHopper = false;
#else
inline constexpr bool kHopper = true;
#endif

// How many blocks of a kernel a multiprocessor must be able to run at once, which bounds their registers.
template <class Kernel, class = void>
inline constexpr int kBlocksAtOnce = 1;
template <class Kernel>
inline constexpr int kBlocksAtOnce<Kernel, std::void_t<decltype(Kernel::kBlocks)>> = Kernel::kBlocks;

template <class Kernel, class Params>
__global__ void __launch_bounds__(Kernel::kThreads, kBlocksAtOnce<Kernel>)
    entry(const __grid_constant__ Params params) {
  Kernel::run(params);
}

inline void check(cudaError_t error) {
  if (error != cudaSuccess) throw std::runtime_error(std::string("CUDA: ") + cudaGetErrorString(error));
}

template <class Kernel, class Params>
void launch(int64_t grid_x, int64_t grid_y, int64_t shared_bytes, Stream stream, const Params& params) {
  constexpr int64_t kUnasked = 48 << 10;  // what a block may have without asking
  if (shared_bytes > kUnasked)
    check(cudaFuncSetAttribute(entry<Kernel, Params>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               static_cast<int>(shared_bytes)));
  const dim3 grid(static_cast<unsigned>(grid_x), static_cast<unsigned>(grid_y));
  entry<Kernel><<<grid, Kernel::kThreads, shared_bytes, static_cast<cudaStream_t>(stream)>>>(params);
  check(cudaGetLastError());
}

}  // namespace fastlm::cuda
