// Who touched a piece of memory last, and whether a barrier orders the next access behind them.
#pragma once

#include <cstdint>

#include "kernels/cuda/lockstep/block.h"

namespace fastlm::cuda::lockstep {

// An access: by whom, and between which barriers.
struct Stamp {
  Place at{};
  uint32_t block = kNoBlock;
  uint32_t block_epoch = 0, warp_epoch = 0;
  int16_t thread = 0;
  bool write = false;
};

class History {
 public:
  // Each notes an access and returns the one before it that nothing orders before it, or nullptr.
  const Stamp* read(const Stamp& reader);
  const Stamp* write(const Stamp& writer);

  const Stamp& writer() const { return writer_; }

 private:
  void note_reader(const Stamp& reader);

  Stamp writer_;
  // Any two that are not ordered, of two warps where there are such: whoever races with a reader, races with one of
  // them, since blocks run one after another.
  Stamp readers_[2];
};

}  // namespace fastlm::cuda::lockstep
