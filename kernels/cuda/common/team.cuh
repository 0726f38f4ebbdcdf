// The threads that share a row: a warp for short rows, a block for long ones.
#pragma once

#include "kernels/cuda/common/device.cuh"

namespace fastlm::cuda {

struct Add {
  FASTLM_DEVICE float operator()(float a, float b) const { return a + b; }
};
struct Largest {
  FASTLM_DEVICE float operator()(float a, float b) const { return maximum(a, b); }
};
struct Smallest {
  FASTLM_DEVICE int operator()(int a, int b) const { return a < b ? a : b; }
};

// The result over each kLanes neighbouring lanes, in all of them, by the same tree in each.
template <int kLanes = 32, class T, class Operation>
FASTLM_DEVICE T reduce_lanes(T value, Operation operation) {
  FASTLM_UNROLL
  for (int mask = kLanes / 2; mask > 0; mask /= 2) value = operation(value, shuffle_xor(value, mask));
  return value;
}

struct Warp {
  static constexpr int kThreads = 128;  // of a block
  static constexpr int kRows = kThreads / 32;
  static constexpr int kSize = 32;
  static constexpr int64_t kSharedBytes = 0;
  FASTLM_DEVICE static int row() { return warp_index(); }
  FASTLM_DEVICE static int rank() { return lane_index(); }
  // What its threads read before, none of them has written behind it.
  FASTLM_DEVICE static void order_memory() { warp_barrier(); }

  // The result in every lane.
  template <class T, class Operation>
  FASTLM_DEVICE T reduce(T value, Operation operation) {
    return reduce_lanes(value, operation);
  }
};

template <int kBlockThreads>
struct Block {
  static constexpr int kThreads = kBlockThreads;
  static constexpr int kRows = 1;
  static constexpr int kSize = kBlockThreads;
  static constexpr int kWarps = kBlockThreads / 32;
  static constexpr int64_t kSharedBytes = int64_t{2} * kWarps * 4;  // two slots of a word per warp
  FASTLM_DEVICE static int row() { return 0; }
  FASTLM_DEVICE static int rank() { return thread_index(); }
  FASTLM_DEVICE static void order_memory() { barrier(); }

  // The result in every thread. The slots take turns, so that one barrier is enough: who writes a slot again has passed
  // the other's barrier, which no thread reaches before it has read this one.
  template <class T, class Operation>
  FASTLM_DEVICE T reduce(T value, Operation operation) {
    static_assert(sizeof(T) == 4);
    const Shared<T> slot = shared_memory<T>(turn_ * kWarps * 4);
    turn_ ^= 1;
    value = reduce_lanes(value, operation);
    if (lane_index() == 0) store(slot + warp_index(), value);
    barrier();
    return reduce_lanes<kWarps>(load(slot + lane_index() % kWarps), operation);
  }

 private:
  int turn_ = 0;
};

}  // namespace fastlm::cuda
