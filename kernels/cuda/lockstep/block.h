// One thread block on one core: every CUDA thread is a fiber, which runs until it meets a barrier or an operation of
// its whole warp, and goes on once all others have come there.
#pragma once

#include <cstdint>

#include "kernels/cuda/lockstep/report.h"

namespace fastlm::cuda::lockstep {

inline constexpr int kWarp = 32;

// What a launch runs.
struct Launch {
  const char* kernel;  // the mangled name of its type, for reports
  void (*run)(const void* params);
  const void* params;
  int64_t grid_x, grid_y;
  int threads;
  int64_t shared_bytes;
};

// Runs every block of a launch, one after another. Throws a Fault where a check fails, std::invalid_argument for a
// launch that a GPU would refuse.
void run(const Launch& launch);

// The kernel that this thread of the host ran last, as typeid names it: for tests of which of several a size takes.
extern "C" const char* fastlm_lockstep_kernel();

// The fiber that calls.
struct Thread {
  int64_t block_x, block_y;
  uint32_t block;  // counts the blocks that this thread of the host has run, from kNoBlock + 1 on
  int index;
  uint32_t block_epoch;  // barriers of the block so far
  uint32_t warp_epoch;   // warp_barriers of its warp so far
};
inline constexpr uint32_t kNoBlock = 0;
const Thread& this_thread();
const Launch& this_launch();
uint32_t first_block();                   // of the launch
std::string block_place(uint32_t block);  // "(x, y)" of one of its blocks

// Waits for every thread of the block.
void block_barrier(Place at);

// Waits until all 32 threads of the warp have called this with the same name from the same line; the last to come
// computes for all. lanes[i] is what lane i gave as `mine`, which stays where it is until compute returns.
void warp_operation(const char* name, Place at, void* mine, void (*compute)(void* const* lanes));

// The warp's memory barrier: what its threads wrote before, all of them see behind it.
void warp_memory_barrier(Place at);

}  // namespace fastlm::cuda::lockstep
