// Memory of a kernel, every access checked: tensors in global memory, and the shared memory of one block.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "kernels/cuda/lockstep/history.h"
#include "kernels/cuda/lockstep/report.h"

namespace fastlm::cuda::lockstep {

// ---- global memory
// A tensor that kernels may touch: the elements of a strided layout, and nothing between them.
struct Region {
  Region(std::string name, void* begin, int64_t element_bytes, std::vector<int64_t> sizes, std::vector<int64_t> strides,
         bool writable);

  std::string name;
  char* begin;
  int64_t element_bytes;
  std::vector<int64_t> sizes, strides;  // strides in elements
  bool writable;
  bool poisoned = false;           // and so to be written before it is read
  std::vector<History> histories;  // of the elements from begin to begin + span; only where writable

  int64_t span;                                    // bytes from the first element to behind the last
  int64_t run = 1;                                 // elements that follow each other
  std::vector<std::pair<int64_t, int64_t>> jumps;  // (stride, size) beyond such runs, the largest stride first
};

// While it lives, kernels of this thread may use these tensors. What is to be written is filled with bytes of 0xFF
// first: NaN in every floating-point type.
class Regions {
 public:
  Regions() = default;
  ~Regions();
  Regions(const Regions&) = delete;
  Regions& operator=(const Regions&) = delete;
  void add(Region region, bool poison);

 private:
  size_t count_ = 0;
};

// The region that begins at p, else the one that p lies in. Fails where there is none.
Region* region_of(const void* p, Place at);
// kReadOnly is the read-only path, which may read ahead of any write of the launch.
enum class Access { kRead, kReadOnly, kWrite };
// Checks that bytes at p are elements of the region, aligned to their number, and that no other thread races for them.
void check_global(Region* region, const void* p, int64_t bytes, Access access, Place at);

// ---- shared memory
inline constexpr int64_t kCell = 2;  // bytes, which have one history: of the smallest type that kernels keep there

// Shared memory is all 0xFF at first.
void begin_block_memory(int64_t shared_bytes, int threads);
void read_shared(int64_t offset, int64_t bytes, void* to, Place at);
void write_shared(int64_t offset, int64_t bytes, const void* from, Place at);

// cp.async of one thread: the bytes arrive when its group has been waited for, and nobody may touch them before.
void begin_copy(int64_t offset, int64_t bytes, const void* from, Place at);
void commit_copies();
void wait_for_copies(int pending_groups);

// Of a thread that leaves its kernel.
void check_exit();

}  // namespace fastlm::cuda::lockstep
