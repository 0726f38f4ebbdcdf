#include "kernels/cuda/lockstep/history.h"

namespace fastlm::cuda::lockstep {
namespace {

bool same_block(const Stamp& a, const Stamp& b) { return a.block == b.block; }
bool same_warp(const Stamp& a, const Stamp& b) { return same_block(a, b) && a.thread / kWarp == b.thread / kWarp; }

// Whether everyone agrees that `before` came first. Nothing orders the blocks of a launch.
bool ordered(const Stamp& before, const Stamp& after) {
  if (before.block < first_block()) return true;
  if (!same_block(before, after)) return false;
  if (before.thread == after.thread || before.block_epoch < after.block_epoch) return true;
  return same_warp(before, after) && before.warp_epoch < after.warp_epoch;
}

}  // namespace

const Stamp* History::read(const Stamp& reader) {
  if (!ordered(writer_, reader)) return &writer_;
  note_reader(reader);
  return nullptr;
}

const Stamp* History::write(const Stamp& writer) {
  if (!ordered(writer_, writer)) return &writer_;
  for (const Stamp& reader : readers_)
    if (!ordered(reader, writer)) return &reader;
  writer_ = writer;
  return nullptr;
}

void History::note_reader(const Stamp& reader) {
  auto& [first, second] = readers_;
  if (ordered(first, reader)) {
    first = reader;
  } else if (ordered(second, reader) || (same_warp(first, second) && !same_warp(first, reader))) {
    second = reader;
  }
}

}  // namespace fastlm::cuda::lockstep
