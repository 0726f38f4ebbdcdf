// Rows dealt to threads by whoever calls: the kernels know no thread pool.
#pragma once

#include <algorithm>
#include <memory>
#include <new>

#include "kernels/cpu/kernels.h"

namespace fastlm::cpu {

// Calls body(b, e, context) for ranges that cover [begin, end), none shorter than grain but the last.
using ParallelFor = void (*)(int64_t begin, int64_t end, int64_t grain, void (*body)(int64_t, int64_t, void*),
                             void* context);

// Elements that are worth a thread.
inline constexpr int64_t kGrain = 32768;

// Cache lines, so that no vector of scratch straddles two.
struct AlignedDelete {
  void operator()(float* p) const { ::operator delete[](p, std::align_val_t{64}); }
};
using Scratch = std::unique_ptr<float[], AlignedDelete>;
inline Scratch make_scratch(int64_t floats) {
  return Scratch(static_cast<float*>(::operator new[](floats * sizeof(float), std::align_val_t{64})));
}

// Runs the kernel over [0, units), each of so many elements.
template <class Params>
void for_units(ParallelFor parallel_for, RowsKernel<Params> kernel, const Params& params, int64_t units,
               int64_t elements) {
  if (units == 0 || elements == 0) return;
  struct Context {
    RowsKernel<Params> kernel;
    const Params& params;
  } context{kernel, params};
  const auto body = [](int64_t begin, int64_t end, void* opaque) {
    const auto& [kernel, params] = *static_cast<Context*>(opaque);
    const Scratch scratch = make_scratch(scratch_floats(params));
    kernel(params, begin, end, scratch.get());
  };
  parallel_for(0, units, std::max<int64_t>(1, kGrain / elements), body, &context);
}

template <class Params>
void for_rows(ParallelFor parallel_for, RowsKernel<Params> kernel, const Params& params) {
  for_units(parallel_for, kernel, params, params.rows, params.cols);
}

inline int64_t norm_blocks(int64_t rows) { return (rows + kNormBlock - 1) / kNormBlock; }

// Heads of sequences dealt by what they cost, so that one long sequence among many short ones stalls no thread: the
// work is cut into equal shares, and whoever computes a share computes the heads that begin in it.
inline constexpr int64_t kShares = 1024;

// Roughly the time of one head of a sequence, in multiplications of a tile's lanes.
inline int64_t head_cost(int64_t queries, int64_t keys) { return queries * (keys + 64) + 64 * keys; }

template <class Params>
void for_heads(ParallelFor parallel_for, HeadsKernel<Params> kernel, int64_t scratch_floats, const Params& params) {
  const AttentionShape& shape = params.shape;
  if (shape.sequences == 0 || shape.heads == 0) return;
  const std::unique_ptr<int64_t[]> starts(new int64_t[shape.sequences + 1]);  // cost of one head before each sequence
  starts[0] = 0;
  for (int64_t b = 0; b < shape.sequences; ++b)
    starts[b + 1] = starts[b] + head_cost(shape.cu_seqlens_q[b + 1] - shape.cu_seqlens_q[b],
                                          shape.cu_seqlens_k[b + 1] - shape.cu_seqlens_k[b]);
  struct Context {
    HeadsKernel<Params> kernel;
    const Params& params;
    const int64_t* starts;
    int64_t scratch_floats;
    // The first item that begins at or after a share.
    int64_t item(int64_t share) const {
      const int64_t sequences = params.shape.sequences, heads = params.shape.heads;
      const int64_t total = starts[sequences] * heads;
      const int64_t place = total / kShares * share + total % kShares * share / kShares;
      const int64_t after = std::upper_bound(starts, starts + sequences + 1, place / heads) - starts;
      const int64_t sequence = share == kShares ? sequences : after - 1;
      if (sequence == sequences) return sequences * heads;
      const int64_t cost = starts[sequence + 1] - starts[sequence];
      const int64_t head = (place - starts[sequence] * heads + cost - 1) / std::max<int64_t>(cost, 1);
      return sequence * heads + head;
    }
  } context{kernel, params, starts.get(), scratch_floats};
  const auto body = [](int64_t begin, int64_t end, void* opaque) {
    const Context& context = *static_cast<Context*>(opaque);
    const int64_t first = context.item(begin), last = context.item(end);
    if (first >= last) return;
    const std::unique_ptr<float[]> scratch(new float[context.scratch_floats]);
    context.kernel(context.params, first, last, scratch.get());
  };
  const int64_t total = starts[shape.sequences] * shape.heads;
  const int64_t grain = total < kGrain ? kShares : std::max<int64_t>(1, kGrain * kShares / total);
  parallel_for(0, kShares, grain, body, &context);
}

}  // namespace fastlm::cpu
