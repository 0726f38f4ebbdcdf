// The device vocabulary: every word that the kernels know of a GPU. nvcc turns it into intrinsics and PTX
// (hardware.cuh); any other compiler into fibers and checks (kernels/cuda/lockstep), for machines without a GPU.
//
// A kernel is a struct with `static constexpr int kThreads` (a block's, whole warps) and `static void run(const
// Params&)`, marked FASTLM_DEVICE; launch<Kernel>(grid_x, grid_y, shared_bytes, stream, params) runs it. Where it has a
// `static constexpr int kBlocks`, so many of its blocks fit a multiprocessor at once; it may depend on kHopper.
//
//   thread_index() lane_index() warp_index() block_x() block_y() grid_x()
//   barrier()                      all threads of the block: no divergence, and memory is ordered
//   warp_barrier()                 the same for the 32 threads of a warp
//   shuffle(value, lane) shuffle_xor(value, mask) any_lane(bool) lanes_where(bool)
//   smallest_lane(int)             between the 32 lanes; these order no memory
//   Global<T> Shared<T>            pointers into tensors and into the block's shared memory: `+`, and nothing else
//   shared_memory<T>(offset)       the block's shared memory from a byte on
//   load(p) store(p, value)        one element
//   load_vector<N>(p) store_vector(p, vector)          N elements in one access, aligned to its size
//   copy_async<N>(shared, global)  cp.async of 4 or 16 bytes; commit_copies() closes a group of them, and
//   wait_for_copies<N>()           waits until all but the last N groups have arrived, for the calling thread alone
//   copy_async_or_zero<N>(shared, global, present)     8 or 16 bytes, zeros where not present: nothing is read then
//   mma<T>(c, a, b)                c (16 x 8 fp32) += a (16 x 16) b (16 x 8) in fragments of mma.sync.m16n8k16
//   load_matrices<transposed>(out, row)                ldmatrix.x4: lane 8 i + r brings the address of row r of
//                                  matrix i
//   to_float(x) from_float<T>(x)   conversions, to nearest even
//   exp2(x) log2(x) log(x) sqrt(x) maximum(a, b) fused(a, b, c) bit_count(word)      maximum drops NaN, exp2 and log2
//                                  may flush denormals; no other product is fused with a sum
#pragma once

#ifdef __CUDACC__
#include "kernels/cuda/common/hardware.cuh"
#else
#include "kernels/cuda/lockstep/vocabulary.h"
#endif
