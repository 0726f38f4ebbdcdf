// Lockstep itself, without torch: kernels with one planted bug each, which it has to report, and what its words
// compute. `lockstep_test CASE` prints what came of it, and without a case the names of all; test_lockstep.py knows
// what is right.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <limits>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "kernels/cuda/common/device.cuh"

namespace fastlm::cuda {
namespace {

std::map<std::string, std::function<void()>> cases;

// ---- planted bugs
// The tensors of the kernels below, each of which is wrong where `planted` is set, at its line that says "fault".
struct Memory {
  bool planted;
  const float* rows;  // (4, 12), a row every 16
  float* out;         // (64,), to be written
  float* state;       // (64,), to be read and written
};
constexpr int64_t kSharedBytes = 512;

struct TwoWarps {
  static constexpr int kThreads = 64;
  static constexpr int64_t kGridX = 1, kGridY = 1, kShared = kSharedBytes;
};
struct TwoBlocks : TwoWarps {
  static constexpr int kThreads = 32;
  static constexpr int64_t kGridX = 2;
};

template <class Kernel>
void try_kernel(bool planted) {
  alignas(16) float rows[3 * 16 + 12] = {}, out[64], state[64] = {};
  lockstep::Regions regions;
  regions.add({"rows", rows, 4, {4, 12}, {16, 1}, false}, false);
  regions.add({"out", out, 4, {64}, {1}, true}, true);
  regions.add({"state", state, 4, {64}, {1}, true}, false);
  try {
    launch<Kernel>(Kernel::kGridX, Kernel::kGridY, Kernel::kShared, nullptr, Memory{planted, rows, out, state});
    std::puts("passed");
  } catch (const lockstep::Fault& fault) {
    std::puts(fault.what());
  } catch (const std::invalid_argument& refusal) {
    std::puts(refusal.what());
  }
}

template <class Kernel>
bool add_case(const char* name) {
  cases[name] = [] {
    try_kernel<Kernel>(true);
    try_kernel<Kernel>(false);
  };
  return true;
}

#define KERNEL(name, Base)                       \
  struct name : Base {                           \
    static void run(const Memory& m);            \
  };                                             \
  const bool has_##name = add_case<name>(#name); \
  void name::run([[maybe_unused]] const Memory& m)

Shared<float> words() { return shared_memory<float>(0); }

// Shared memory without a barrier.
KERNEL(read_after_write, TwoWarps) {
  if (warp_index() == 0) store(words() + lane_index(), 1.0f);
  if (!m.planted) barrier();
  if (warp_index() == 1) load(words() + lane_index());  // fault
}
KERNEL(write_after_read, TwoWarps) {
  store(words() + thread_index(), 1.0f);
  barrier();
  if (warp_index() == 1) load(words() + lane_index());
  if (!m.planted) barrier();
  if (warp_index() == 0) store(words() + lane_index(), 2.0f);  // fault
}
KERNEL(write_after_write, TwoWarps) {
  store(words() + (m.planted ? lane_index() : thread_index()), 1.0f);  // fault
}
KERNEL(half_of_a_word, TwoWarps) {
  const int first = m.planted ? 0 : 2;
  if (warp_index() == 0) store(words() + lane_index(), 1.0f);
  if (warp_index() == 1 && lane_index() > 0) store(words() + (32 + lane_index()), 1.0f);
  if (thread_index() == 32) store(shared_memory<Half>(126 + first), Half{});  // fault
}
KERNEL(no_warp_barrier, TwoWarps) {
  store(words() + thread_index(), 1.0f);
  if (!m.planted) warp_barrier();
  load(words() + warp_index() * 32);  // fault
}
KERNEL(shuffle_for_a_barrier, TwoWarps) {
  store(words() + thread_index(), 1.0f);
  m.planted ? void(shuffle(0, 0)) : warp_barrier();
  load(words() + (thread_index() ^ 1));  // fault
}
KERNEL(warp_barrier_across_warps, TwoWarps) {
  if (warp_index() == 0) store(words() + lane_index(), 1.0f);
  m.planted ? warp_barrier() : barrier();
  if (warp_index() == 1) load(words() + lane_index());  // fault
}
KERNEL(one_of_many_readers, TwoWarps) {
  if (thread_index() == 40) store(words(), 1.0f);
  barrier();
  load(words());
  if (!m.planted) barrier();
  if (thread_index() == 40) store(words(), 2.0f);  // fault
}
KERNEL(one_lane_of_many_readers, TwoWarps) {
  if (thread_index() == 40) store(words(), 1.0f);
  warp_barrier();
  if (warp_index() == 1) load(words());
  if (!m.planted) warp_barrier();
  if (thread_index() == 50) store(words(), 2.0f);  // fault
}
KERNEL(reader_of_another_warp, TwoWarps) {
  if (thread_index() == 63) store(words(), 1.0f);
  barrier();
  if (thread_index() != 63) load(words());
  m.planted ? warp_barrier() : barrier();
  if (thread_index() == 0) store(words(), 2.0f);  // fault
}

// Tensors without a barrier, and between blocks, where there is none.
KERNEL(output_read_after_write, TwoWarps) {
  const Global<float> out(m.out);
  if (warp_index() == 0) store(out + lane_index(), 1.0f);
  if (!m.planted) barrier();
  if (warp_index() == 1) load(out + lane_index());  // fault
}
KERNEL(output_write_after_read, TwoWarps) {
  const Global<float> state(m.state);
  if (warp_index() == 0) load(state + lane_index());
  if (!m.planted) barrier();
  if (warp_index() == 1) store(state + lane_index(), 1.0f);  // fault
}
KERNEL(output_written_twice, TwoWarps) {
  store(Global<float>(m.out) + (m.planted ? lane_index() : thread_index()), 1.0f);  // fault
}
KERNEL(output_of_two_blocks, TwoBlocks) {
  store(Global<float>(m.out) + (m.planted ? 0 : 32 * block_x()) + lane_index(), 1.0f);  // fault
}
KERNEL(output_of_another_block, TwoBlocks) {
  const Global<float> out(m.out);
  store(out + (32 * block_x() + lane_index()), 1.0f);
  load(out + ((m.planted ? 0 : 32 * block_x()) + lane_index()));  // fault
}
KERNEL(input_of_another_block, TwoBlocks) {
  const Global<float> state(m.state);
  load(state + ((m.planted ? 32 : 32 * block_x()) + lane_index()));
  store(state + (32 * block_x() + lane_index()), 1.0f);  // fault
}
KERNEL(read_only_pointer_to_output, TwoWarps) {
  const Global<float> state(m.state);
  const Global<const float> before(m.state);
  if (!m.planted) load(before + thread_index());
  store(state + thread_index(), 1.0f);
  if (m.planted) load(before + thread_index());  // fault
}

// Threads that part.
KERNEL(two_barriers, TwoWarps) {
  if (m.planted && warp_index() == 1) return barrier();  // fault
  barrier();
}
KERNEL(barrier_after_exit, TwoWarps) {
  if (m.planted && thread_index() >= 40) return;
  barrier();  // fault
}
KERNEL(barrier_beside_shuffle, TwoWarps) {
  if (m.planted && warp_index() == 1 && lane_index() < 8) return barrier();
  shuffle(0, 0);  // fault
}
KERNEL(two_shuffles, TwoWarps) {
  if (m.planted && lane_index() < 16) return void(shuffle(1, 0));
  shuffle(2, 0);  // fault
}
KERNEL(two_operations, TwoWarps) {
  if (m.planted) return void(lane_index() < 16 ? shuffle(1, 0) : int{any_lane(true)});  // fault
  shuffle(1, 0);
  any_lane(true);
}
KERNEL(shuffle_after_exit, TwoWarps) {
  if (m.planted && lane_index() == 31) return;
  shuffle(1, 0);  // fault
}

// Places that are no one's.
KERNEL(read_behind_a_tensor, TwoWarps) { load(Global<const float>(m.rows) + (m.planted ? 60 : 59)); }  // fault
KERNEL(read_before_a_tensor, TwoWarps) { load(Global<const float>(m.rows) + (m.planted ? -1 : 0)); }   // fault
KERNEL(write_behind_a_tensor, TwoWarps) {
  store(Global<float>(m.out) + (thread_index() + (m.planted ? 1 : 0)), 1.0f);  // fault
}
KERNEL(column_too_far, TwoWarps) { load(Global<const float>(m.rows) + (m.planted ? 12 : 11)); }  // fault
KERNEL(row_too_short, TwoWarps) {
  const int stride = m.planted ? 15 : 16;
  load(Global<const float>(m.rows) + stride);  // fault
}
KERNEL(row_too_many, TwoWarps) { load(Global<const float>(m.rows) + 16 * (m.planted ? 4 : 3)); }              // fault
KERNEL(vector_over_the_end, TwoWarps) { load_vector<4>(Global<const float>(m.rows) + (m.planted ? 9 : 8)); }  // fault
KERNEL(half_an_element, TwoWarps) {
  m.planted ? void(load(Global<const Half>(m.rows)))  // fault
            : void(load(Global<const float>(m.rows)));
}
KERNEL(not_a_tensor, TwoWarps) {
  load(Global<const float>(m.planted ? reinterpret_cast<const float*>(&m) : m.rows));  // fault
}
KERNEL(no_pointer, TwoWarps) {
  const Global<const float> nowhere;
  load(m.planted ? nowhere : Global<const float>(m.rows));  // fault
}
KERNEL(write_to_an_input, TwoWarps) {
  if (m.planted) store(Global<float>(m.rows), 1.0f);  // fault
}
KERNEL(output_never_written, TwoWarps) { load(Global<float>(m.planted ? m.out : m.state)); }                  // fault
KERNEL(vector_misaligned, TwoWarps) { load_vector<4>(Global<const float>(m.rows) + (m.planted ? 17 : 16)); }  // fault
KERNEL(stored_vector_misaligned, TwoWarps) {
  const Vector<float, 2> vector;
  if (thread_index() == 0) store_vector(Global<float>(m.out) + (m.planted ? 3 : 2), vector);  // fault
}
KERNEL(shared_behind, TwoWarps) { store(words() + (thread_index() + (m.planted ? 65 : 64)), 1.0f); }  // fault
KERNEL(shared_before, TwoWarps) { store(words() + (thread_index() - (m.planted ? 1 : 0)), 1.0f); }    // fault
KERNEL(shared_never_written, TwoWarps) {
  store(words() + thread_index(), 1.0f);
  load(words() + (thread_index() + (m.planted ? 64 : 0)));  // fault
}
KERNEL(shared_of_another_block, TwoBlocks) {
  if (!m.planted || block_x() == 0) store(words() + lane_index(), 1.0f);
  load(words() + lane_index());  // fault
}
KERNEL(shared_misaligned, TwoWarps) {
  const Vector<float, 4> vector;
  if (thread_index() == 0) store_vector(words() + (m.planted ? 2 : 4), vector);  // fault
}
KERNEL(matrix_row_misaligned, TwoBlocks) {
  for (int i = lane_index(); i < kSharedBytes / 4; i += 32) store(words() + i, 1.0f);
  warp_barrier();
  uint32_t fragment[4];
  load_matrices<false>(fragment, shared_memory<Half>(m.planted ? 8 : 16));  // fault
}

// cp.async.
KERNEL(copy_not_waited_for, TwoWarps) {
  copy_async<1>(words() + thread_index(), Global<const float>(m.rows));
  commit_copies();
  if (!m.planted) wait_for_copies<0>();
  load(words() + thread_index());  // fault
  wait_for_copies<0>();
}
KERNEL(copy_waited_for_too_few, TwoWarps) {
  copy_async<1>(words() + thread_index(), Global<const float>(m.rows));
  commit_copies();
  copy_async<1>(words() + (64 + thread_index()), Global<const float>(m.rows));
  commit_copies();
  wait_for_copies<1>();
  load(words() + (thread_index() + (m.planted ? 64 : 0)));  // fault
  wait_for_copies<0>();
}
KERNEL(copy_not_committed, TwoWarps) {
  copy_async<1>(words() + thread_index(), Global<const float>(m.rows));
  if (!m.planted) commit_copies();
  wait_for_copies<0>();
  load(words() + thread_index());  // fault
}
KERNEL(copy_without_a_barrier, TwoWarps) {
  if (warp_index() == 0) copy_async<1>(words() + lane_index(), Global<const float>(m.rows));
  commit_copies();
  wait_for_copies<0>();
  if (!m.planted) barrier();
  if (warp_index() == 1) load(words() + lane_index());  // fault
}
KERNEL(copy_waited_for_by_another, TwoWarps) {
  if (warp_index() == 0) copy_async<1>(words() + lane_index(), Global<const float>(m.rows));
  commit_copies();
  if (!m.planted || warp_index() == 1) wait_for_copies<0>();
  barrier();
  if (warp_index() == 1) load(words() + lane_index());  // fault
}
KERNEL(copy_waited_for_after_the_barrier, TwoWarps) {
  if (thread_index() == 63) copy_async<1>(words(), Global<const float>(m.rows));
  commit_copies();
  if (!m.planted) wait_for_copies<0>();
  barrier();
  wait_for_copies<0>();
  if (thread_index() == 0) load(words());  // fault
}
KERNEL(copy_at_exit, TwoWarps) {
  copy_async<1>(words() + thread_index(), Global<const float>(m.rows));  // fault
  commit_copies();
  if (!m.planted) wait_for_copies<0>();
}
KERNEL(copy_at_exit_not_committed, TwoWarps) {
  copy_async<1>(words() + thread_index(), Global<const float>(m.rows));  // fault
  if (!m.planted) commit_copies();
  wait_for_copies<0>();
}
KERNEL(copy_overwritten, TwoWarps) {
  copy_async<1>(words() + thread_index(), Global<const float>(m.rows));
  commit_copies();
  if (!m.planted) wait_for_copies<0>();
  store(words() + thread_index(), 1.0f);  // fault
  wait_for_copies<0>();
}
KERNEL(copy_over_a_copy, TwoWarps) {
  for (int i = 0; i < 2; ++i) {
    copy_async<1>(words() + thread_index(), Global<const float>(m.rows));  // fault
    commit_copies();
    if (!m.planted) wait_for_copies<0>();
  }
}
KERNEL(copy_over_what_is_read, TwoWarps) {
  store(words() + thread_index(), 1.0f);
  barrier();
  if (warp_index() == 1) load(words() + lane_index());
  if (!m.planted) barrier();
  if (warp_index() == 0) copy_async<1>(words() + lane_index(), Global<const float>(m.rows));  // fault
  commit_copies();
  wait_for_copies<0>();
}
KERNEL(copy_from_between_rows, TwoWarps) {
  if (thread_index() > 0) return;
  copy_async<4>(words(), Global<const float>(m.rows) + (m.planted ? 12 : 16));  // fault
  commit_copies();
  wait_for_copies<0>();
}
KERNEL(copy_misaligned, TwoWarps) {
  if (thread_index() > 0) return;
  copy_async<4>(words() + (m.planted ? 1 : 4), Global<const float>(m.rows));  // fault
  commit_copies();
  wait_for_copies<0>();
}

// What a GPU would not start.
struct PartOfAWarp : TwoWarps {
  static constexpr int kThreads = 48;
};
struct TooManyThreads : TwoWarps {
  static constexpr int kThreads = 1056;
};
struct NoBlocks : TwoWarps {
  static constexpr int64_t kGridX = 0;
};
struct TooHigh : TwoWarps {
  static constexpr int64_t kGridY = 65536;
};
struct TooMuchShared : TwoWarps {
  static constexpr int64_t kShared = (227 << 10) + 1;
};
KERNEL(launch_part_of_a_warp, PartOfAWarp) {}
KERNEL(launch_too_many_threads, TooManyThreads) {}
KERNEL(launch_no_blocks, NoBlocks) {}
KERNEL(launch_too_high, TooHigh) {}
KERNEL(launch_too_much_shared_memory, TooMuchShared) {}

// ---- what words compute
void require(bool holds, const char* what, int i, int j) {
  if (holds) return;
  std::printf("wrong: %s at (%d, %d)\n", what, i, j);
  std::exit(1);
}

// A case that launches a kernel without a fault and then looks at what it wrote.
#define CASE(name)                                     \
  void name();                                         \
  const bool has_##name = (cases[#name] = name, true); \
  void name()

template <class T>
T whole(int k) {
  return from_float<T>(static_cast<float>(k));
}

// Fragments as PTX ISA numbers them, "Matrix Fragments for mma.m16n8k16 with floating point type": element i of lane l.
struct Entry {
  int row, column;
};
Entry entry_of_a(int l, int i) {
  return {(i < 2 || (4 <= i && i < 6)) ? l >> 2 : (l >> 2) + 8, l % 4 * 2 + (i & 1) + (i >= 4 ? 8 : 0)};
}
Entry entry_of_b(int l, int i) { return {l % 4 * 2 + (i & 1) + (i >= 2 ? 8 : 0), l >> 2}; }
Entry entry_of_c(int l, int i) { return {i < 2 ? l >> 2 : (l >> 2) + 8, l % 4 * 2 + (i & 1)}; }

constexpr int kTile = 16;
struct Tiles {
  const void *a, *b, *b_rows;  // b_rows: b transposed
  float* c;
  bool planted;
};

// c += a b for tiles of 16 x 16, from registers filled one by one.
template <class T>
struct ProductOfFragments {
  static constexpr int kThreads = 32;
  static void run(const Tiles& tiles) {
    const Global<const T> a(tiles.a), b(tiles.b);
    const Global<float> c(tiles.c);
    const int lane = lane_index();
    for (int half = 0; half < 2; ++half) {
      uint32_t in_a[4] = {}, in_b[2] = {};
      float in_c[4];
      for (int i = 0; i < 8; ++i) {
        const auto [row, column] = entry_of_a(lane, i);
        in_a[i / 2] |= uint32_t{load(a + (row * kTile + column)).bits} << i % 2 * 16;
      }
      for (int i = 0; i < 4; ++i) {
        const auto [row, column] = entry_of_b(lane, i);
        in_b[i / 2] |= uint32_t{load(b + (row * kTile + half * 8 + column)).bits} << i % 2 * 16;
      }
      const auto place = [&](int i) {
        const auto [row, column] = entry_of_c(lane, i);
        return c + (row * kTile + half * 8 + column);
      };
      for (int i = 0; i < 4; ++i) in_c[i] = load(place(i));
      mma<T>(in_c, in_a, in_b);
      for (int i = 0; i < 4; ++i) store(place(i), in_c[i]);
    }
  }
};

// The same as kernels do it: tiles by cp.async into shared memory with rows of 24, fragments by ldmatrix.
template <class T, bool kTransposed>
struct ProductOfTiles {
  static constexpr int kThreads = 32;
  static constexpr int kStride = 24;
  static constexpr int64_t kSharedBytes = 2 * kTile * kStride * 2;

  static void copy(Shared<T> to, Global<const T> from) {
    const int row = lane_index() / 2, column = lane_index() % 2 * 8;
    copy_async<8>(to + (row * kStride + column), from + (row * kTile + column));
  }
  static void run(const Tiles& tiles) {
    const Shared<T> a = shared_memory<T>(0), b = a + kTile * kStride;
    copy(a, Global<const T>(tiles.a));
    copy(b, Global<const T>(kTransposed ? tiles.b : tiles.b_rows));
    commit_copies();
    wait_for_copies<0>();
    warp_barrier();
    const int lane = lane_index(), inner = lane % 16, outer = lane / 16 * 8;
    uint32_t in_a[4], in_b[4];
    load_matrices<false>(in_a, a + (inner * kStride + outer));
    load_matrices<kTransposed>(
        in_b, kTransposed ? b + (inner * kStride + outer) : b + ((lane % 8 + outer) * kStride + inner / 8 * 8));
    if (tiles.planted) std::swap(in_a[1], in_a[2]);
    for (int half = 0; half < 2; ++half) {
      float out[4] = {};
      mma<T>(out, in_a, {in_b[2 * half], in_b[2 * half + 1]});
      for (int i = 0; i < 4; ++i) {
        const Global<float> place = Global<float>(tiles.c) + (lane / 4 + i / 2 * 8) * kTile + half * 8 + lane % 4 * 2;
        store(place + i % 2, out[i]);
      }
    }
  }
};

// Products of small whole numbers are exact. The tile of `first` is what c holds before.
template <class T, class Kernel>
void check_product(const char* what, int64_t shared_bytes, bool planted, int first) {
  alignas(16) T a[kTile][kTile], b[kTile][kTile], b_rows[kTile][kTile];
  float c[kTile][kTile];
  const auto left = [](int i, int j) { return (i * 7 + j * 3) % 17 - 8; };
  const auto right = [](int i, int j) { return (i * 5 + j * 11) % 13 - 6; };
  for (int i = 0; i < kTile; ++i)
    for (int j = 0; j < kTile; ++j) {
      a[i][j] = whole<T>(left(i, j));
      b[i][j] = b_rows[j][i] = whole<T>(right(i, j));
      c[i][j] = static_cast<float>(first * (i + j));
    }
  lockstep::Regions regions;
  regions.add({"a", a, 2, {kTile, kTile}, {kTile, 1}, false}, false);
  regions.add({"b", b, 2, {kTile, kTile}, {kTile, 1}, false}, false);
  regions.add({"b_rows", b_rows, 2, {kTile, kTile}, {kTile, 1}, false}, false);
  regions.add({"c", c, 4, {kTile, kTile}, {kTile, 1}, true}, first == 0);
  launch<Kernel>(1, 1, shared_bytes, nullptr, Tiles{a, b, b_rows, &c[0][0], planted});
  for (int i = 0; i < kTile; ++i)
    for (int j = 0; j < kTile; ++j) {
      int sum = first * (i + j);
      for (int k = 0; k < kTile; ++k) sum += left(i, k) * right(k, j);
      require(c[i][j] == static_cast<float>(sum), what, i, j);
    }
}
template <class T, bool kTransposed>
void check_product_of_tiles(const char* what, bool planted) {
  using Kernel = ProductOfTiles<T, kTransposed>;
  check_product<T, Kernel>(what, Kernel::kSharedBytes, planted, 0);
}
CASE(product_of_fragments) {
  check_product<BFloat16, ProductOfFragments<BFloat16>>("bfloat16", 0, false, 1);
  check_product<Half, ProductOfFragments<Half>>("half", 0, false, 1);
}
CASE(product_of_tiles) {
  check_product_of_tiles<BFloat16, false>("bfloat16", false);
  check_product_of_tiles<BFloat16, true>("bfloat16, transposed", false);
  check_product_of_tiles<Half, false>("half", false);
  check_product_of_tiles<Half, true>("half, transposed", false);
}
CASE(wrong_fragment) { check_product_of_tiles<BFloat16, false>("bfloat16", true); }

struct Numbers {
  int32_t* out;
};
template <class Kernel>
std::vector<int32_t> numbers_from(int count, int64_t grid_x = 1, int64_t grid_y = 1) {
  std::vector<int32_t> out(count);
  lockstep::Regions regions;
  regions.add({"out", out.data(), 4, {count}, {1}, true}, true);
  launch<Kernel>(grid_x, grid_y, kSharedBytes, nullptr, Numbers{out.data()});
  return out;
}

// Lane l of warp w holds 100 w + l; what each lane finds in the end, by the number of the question.
struct Exchange : TwoWarps {
  static constexpr int kQuestions = 6;
  static void run(const Numbers& numbers) {
    const int lane = lane_index(), mine = 100 * warp_index() + lane;
    const int answers[kQuestions] = {
        shuffle(mine, 5),      shuffle(mine, lane + 1),  // the last lane asks lane 32, which is 0
        shuffle_xor(mine, 1),  shuffle_xor(mine, 31),
        any_lane(mine == 107), word_as<int>(word_of(shuffle(static_cast<float>(mine), 31 - lane)))};
    for (int q = 0; q < kQuestions; ++q)
      store(Global<int32_t>(numbers.out) + (q * kThreads + thread_index()), answers[q]);
  }
};
CASE(exchange) {
  const auto out = numbers_from<Exchange>(Exchange::kQuestions * 64);
  for (int thread = 0; thread < 64; ++thread) {
    const int warp = thread / 32, lane = thread % 32, base = 100 * warp;
    const int want[] = {base + 5,
                        base + (lane + 1) % 32,
                        base + (lane ^ 1),
                        base + 31 - lane,
                        warp,
                        word_as<int>(word_of(base + 31.0f - lane))};
    for (int q = 0; q < Exchange::kQuestions; ++q) require(out[q * 64 + thread] == want[q], "question", q, thread);
  }
}

// Every thread of a grid of 3 x 2 blocks writes where it is.
struct Places : TwoWarps {
  static void run(const Numbers& numbers) {
    const int64_t block = block_y() * grid_x() + block_x();
    store(Global<int32_t>(numbers.out) + (block * kThreads + warp_index() * 32 + lane_index()),
          static_cast<int>(block * 1000 + thread_index()));
  }
};
CASE(places) {
  const auto out = numbers_from<Places>(6 * 64, 3, 2);
  for (int i = 0; i < 6 * 64; ++i) require(out[i] == i / 64 * 1000 + i % 64, "place", i / 64, i % 64);
}

// Copies of 4 and 16 bytes, which other threads than their own read.
struct Copies : TwoWarps {
  static void run(const Numbers& numbers) {
    const Global<int32_t> out(numbers.out);
    const Shared<int32_t> first = shared_memory<int32_t>(0), second = shared_memory<int32_t>(256);
    const int thread = thread_index();
    store(out + thread, 3 * thread);
    barrier();
    if (thread < 16) copy_async<4>(first + 4 * thread, out + 4 * thread);
    commit_copies();
    copy_async<1>(second + thread, out + thread);
    commit_copies();
    wait_for_copies<1>();
    barrier();
    store(out + (64 + thread), load(first + (63 - thread)));
    wait_for_copies<0>();
    store(out + (128 + thread), load(second + thread));
  }
};
CASE(copies) {
  const auto out = numbers_from<Copies>(3 * 64);
  for (int i = 0; i < 64; ++i) {
    require(out[64 + i] == 3 * (63 - i), "16 bytes", 64 + i, out[64 + i]);
    require(out[128 + i] == 3 * i, "4 bytes", 128 + i, out[128 + i]);
  }
}

// What one launch wrote, the next may read and write by other threads.
template <bool kForwards>
struct Increment : TwoWarps {
  static void run(const Numbers& numbers) {
    const Global<int32_t> place = Global<int32_t>(numbers.out) + (kForwards ? thread_index() : 63 - thread_index());
    store(place, load(place) + thread_index());
  }
};
CASE(two_launches) {
  int32_t out[64] = {};
  lockstep::Regions regions;
  regions.add({"out", out, 4, {64}, {1}, true}, false);
  launch<Increment<true>>(1, 1, 0, nullptr, Numbers{out});
  launch<Increment<false>>(1, 1, 0, nullptr, Numbers{out});
  for (int i = 0; i < 64; ++i) require(out[i] == 63, "out", i, out[i]);
}

// Outputs are NaN until they are written, and what lies between their rows stays as it is.
struct FirstColumn : TwoWarps {
  static void run(const Numbers& numbers) {
    if (thread_index() < 3) store(Global<int32_t>(numbers.out) + thread_index() * 4, 7);
  }
};
CASE(poison) {
  int32_t out[3][4] = {};
  lockstep::Regions regions;
  regions.add({"out", out, 4, {3, 2}, {4, 1}, true}, true);
  launch<FirstColumn>(1, 1, 0, nullptr, Numbers{&out[0][0]});
  for (int i = 0; i < 3; ++i)
    for (int j = 0; j < 4; ++j) require(out[i][j] == (j == 0 ? 7 : j == 1 ? -1 : 0), "out", i, j);
  require(std::isnan(word_as<float>(0xFFFFFFFFu)), "poison, float32", 0, 0);
  require(std::isnan(to_float(BFloat16{0xFFFF})) && std::isnan(to_float(Half{0xFFFF})), "poison, 16 bits", 0, 0);
}

CASE(arithmetic) {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN(), kInfinity = std::numeric_limits<float>::infinity();
  require(maximum(kNan, 1.0f) == 1.0f && maximum(1.0f, kNan) == 1.0f && std::isnan(maximum(kNan, kNan)), "maximum", 0,
          0);
  require(exp2(-kInfinity) == 0.0f && exp2(3.0f) == 8.0f && std::isnan(exp2(kNan)), "exp2", 0, 0);
  require(fused(1 + 0x1p-12f, 1 - 0x1p-12f, -1.0f) == -0x1p-24f, "fused", 0, 0);  // rounded once
}

// Raw numbers for test_lockstep.py: every value of T as a float, and floats from stdin as T.
template <class T>
void write_all_as_floats() {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const float value = to_float(T{static_cast<uint16_t>(bits)});
    std::fwrite(&value, sizeof value, 1, stdout);
  }
}
template <class T>
void round_floats() {
  for (float value; std::fread(&value, sizeof value, 1, stdin) == 1;) {
    const T rounded = from_float<T>(value);
    std::fwrite(&rounded, sizeof rounded, 1, stdout);
  }
}
CASE(to_float_bfloat16) { write_all_as_floats<BFloat16>(); }
CASE(to_float_half) { write_all_as_floats<Half>(); }
CASE(from_float_bfloat16) { round_floats<BFloat16>(); }
CASE(from_float_half) { round_floats<Half>(); }

}  // namespace
}  // namespace fastlm::cuda

int main(int argc, char** argv) {
  using fastlm::cuda::cases;
  if (argc == 1)
    for (const auto& [name, run] : cases) std::puts(name.c_str());
  for (int i = 1; i < argc; ++i) cases.at(argv[i])();
}
