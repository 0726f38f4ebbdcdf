#include "kernels/cuda/lockstep/block.h"

#include <cxxabi.h>
#include <setjmp.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <cstring>
#include <deque>
#include <memory>
#include <sstream>
#include <vector>

#include "kernels/cuda/lockstep/memory.h"

namespace fastlm::cuda::lockstep {
namespace {

constexpr size_t kStack = size_t{256} << 10;  // bytes; touched pages alone take memory
constexpr int kMaxThreads = 1024;
constexpr int64_t kMaxShared = 227 << 10;  // of a block, sm_90
constexpr int64_t kMaxGrid[2] = {(int64_t{1} << 31) - 1, 65535};

enum class State { kReady, kAtBarrier, kInWarp, kExited };

struct Fiber {
  jmp_buf registers;
  void* stack = nullptr;
  bool started = false;
  State state = State::kReady;
  Thread thread{};
  // Where it waits, and for an operation of its warp, what it brought.
  const char* waits_for = nullptr;
  Place at{};
  void* mine = nullptr;
};

// What runs on one thread of the host. Fibers outlive blocks: between two kernels each waits in its endless loop.
struct Engine {
  std::deque<Fiber> fibers;
  Fiber* current = nullptr;
  const Launch* launch = nullptr;
  const char* last_kernel = "";
  jmp_buf scheduler;
  uint32_t first_block = 0, blocks = kNoBlock;
  int at_barrier = 0, exited = 0;
  std::vector<int> in_warp;
  std::string fault;

  ~Engine() {
    for (Fiber& fiber : fibers)
      if (fiber.stack != nullptr) munmap(fiber.stack, kStack);
  }
};
thread_local Engine engine;

// Saves where the fiber stands and goes on with the scheduler. _setjmp leaves the signal mask alone: no system call.
[[gnu::noinline]] void yield() {
  if (_setjmp(engine.current->registers) == 0) _longjmp(engine.scheduler, 1);
}

void body() {
  for (;;) {
    engine.launch->run(engine.launch->params);
    check_exit();
    Fiber& self = *engine.current;
    self.state = State::kExited;
    ++engine.exited;
    yield();
  }
}

[[gnu::noinline]] void resume(Fiber& fiber) {
  engine.current = &fiber;
  if (_setjmp(engine.scheduler) != 0) return;
  if (fiber.started) _longjmp(fiber.registers, 1);
  fiber.started = true;
  ucontext_t context;
  getcontext(&context);
  context.uc_stack.ss_sp = fiber.stack;
  context.uc_stack.ss_size = kStack;
  context.uc_link = nullptr;
  makecontext(&context, body, 0);
  setcontext(&context);
}

void wait(State state, const char* waits_for, Place at) {
  Fiber& self = *engine.current;
  self.state = state;
  self.waits_for = waits_for;
  self.at = at;
  while (self.state != State::kReady) yield();
}

// Nobody can run: who waits where, each place once.
std::string who_waits(int threads) {
  std::ostringstream text;
  text << "divergence:";
  for (int begin = 0, end; begin < threads; begin = end) {
    const Fiber& first = engine.fibers[begin];
    const auto same = [&](const Fiber& other) {
      if (first.state != other.state) return false;
      return first.state == State::kExited || (first.at == other.at && !std::strcmp(first.waits_for, other.waits_for));
    };
    for (end = begin + 1; end < threads && same(engine.fibers[end]);) ++end;
    text << (begin == 0 ? " " : "; ") << "threads " << begin << " to " << end - 1;
    if (first.state == State::kExited) {
      text << " have left the kernel";
    } else {
      text << " wait in " << first.waits_for << " at " << first.at.text();
    }
  }
  return text.str();
}

std::string kernel_name(const Launch& launch) {
  const std::unique_ptr<char, decltype(&std::free)> name(abi::__cxa_demangle(launch.kernel, nullptr, nullptr, nullptr),
                                                         &std::free);
  return name == nullptr ? launch.kernel : name.get();
}

std::string place_in_launch(const Thread& thread, bool with_thread) {
  std::ostringstream text;
  text << kernel_name(*engine.launch) << ": block " << block_place(thread.block);
  if (with_thread) text << ", thread " << thread.index;
  return text.str();
}

// Abandoned in the middle of a kernel, fibers begin anew.
void reset_fibers() {
  for (Fiber& fiber : engine.fibers) fiber.started = false;
}

void run_block(const Launch& launch, int64_t x, int64_t y) {
  engine.at_barrier = engine.exited = 0;
  ++engine.blocks;
  engine.in_warp.assign(launch.threads / kWarp, 0);
  for (int t = 0; t < launch.threads; ++t) {
    engine.fibers[t].state = State::kReady;
    engine.fibers[t].thread = {x, y, engine.blocks, t, 0, 0};
  }
  begin_block_memory(launch.shared_bytes, launch.threads);
  while (engine.exited < launch.threads) {
    bool moved = false;
    for (int t = 0; t < launch.threads; ++t) {
      Fiber& fiber = engine.fibers[t];
      if (fiber.state != State::kReady) continue;
      resume(fiber);
      moved = true;
      if (!engine.fault.empty()) throw Fault(engine.fault);
    }
    if (!moved) throw Fault(place_in_launch(engine.fibers[0].thread, false) + ", " + who_waits(launch.threads));
  }
}

void check_launch(const Launch& launch) {
  const auto require = [&](bool holds, const char* what, int64_t value) {
    if (!holds) throw std::invalid_argument(kernel_name(launch) + ": " + what + " of " + std::to_string(value));
  };
  require(launch.threads > 0 && launch.threads <= kMaxThreads, "a block size", launch.threads);
  require(launch.threads % kWarp == 0, "a last warp that is not full in a block size", launch.threads);
  require(launch.grid_x > 0 && launch.grid_x <= kMaxGrid[0], "a grid width", launch.grid_x);
  require(launch.grid_y > 0 && launch.grid_y <= kMaxGrid[1], "a grid height", launch.grid_y);
  require(launch.shared_bytes >= 0 && launch.shared_bytes <= kMaxShared, "shared memory", launch.shared_bytes);
}

}  // namespace

void run(const Launch& launch) {
  check_launch(launch);
  while (engine.fibers.size() < static_cast<size_t>(launch.threads)) {
    Fiber& fiber = engine.fibers.emplace_back();
    fiber.stack = mmap(nullptr, kStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (fiber.stack == MAP_FAILED) throw std::bad_alloc();
  }
  engine.launch = &launch;
  engine.first_block = engine.blocks + 1;
  engine.last_kernel = launch.kernel;
  engine.fault.clear();
  try {
    for (int64_t y = 0; y < launch.grid_y; ++y)
      for (int64_t x = 0; x < launch.grid_x; ++x) run_block(launch, x, y);
  } catch (const Fault&) {
    reset_fibers();
    throw;
  }
}

const char* fastlm_lockstep_kernel() { return engine.last_kernel; }
const Thread& this_thread() { return engine.current->thread; }
const Launch& this_launch() { return *engine.launch; }
uint32_t first_block() { return engine.first_block; }
std::string block_place(uint32_t block) {
  const int64_t index = block - engine.first_block, width = engine.launch->grid_x;
  return "(" + std::to_string(index % width) + ", " + std::to_string(index / width) + ")";
}

void fail(Place at, const std::string& what) {
  engine.fault = place_in_launch(this_thread(), true) + ", " + at.text() + ": " + what;
  _longjmp(engine.scheduler, 1);
}

void block_barrier(Place at) {
  const int threads = engine.launch->threads;
  if (++engine.at_barrier < threads) return wait(State::kAtBarrier, "barrier", at);
  engine.at_barrier = 0;
  for (int t = 0; t < threads; ++t) {
    Fiber& fiber = engine.fibers[t];
    if (&fiber != engine.current && !(fiber.at == at))
      fail(at, "divergence: thread " + std::to_string(t) + " waits in another barrier, at " + fiber.at.text());
    fiber.state = State::kReady;
    ++fiber.thread.block_epoch;
  }
}

void warp_operation(const char* name, Place at, void* mine, void (*compute)(void* const* lanes)) {
  Fiber& self = *engine.current;
  const int warp = self.thread.index / kWarp;
  self.mine = mine;
  if (++engine.in_warp[warp] < kWarp) return wait(State::kInWarp, name, at);
  engine.in_warp[warp] = 0;
  void* lanes[kWarp];
  for (int lane = 0; lane < kWarp; ++lane) {
    const Fiber& fiber = engine.fibers[warp * kWarp + lane];
    lanes[lane] = fiber.mine;
    if (&fiber != &self && (!(fiber.at == at) || std::strcmp(fiber.waits_for, name) != 0))
      fail(at, std::string("divergence: lane ") + std::to_string(lane) + " is in " + fiber.waits_for + " at " +
                   fiber.at.text() + ", this one in " + name);
  }
  compute(lanes);
  for (int lane = 0; lane < kWarp; ++lane) engine.fibers[warp * kWarp + lane].state = State::kReady;
}

void warp_memory_barrier(Place at) {
  warp_operation("warp_barrier", at, &engine.current->thread, [](void* const* lanes) {
    for (int lane = 0; lane < kWarp; ++lane) ++static_cast<Thread*>(lanes[lane])->warp_epoch;
  });
}

}  // namespace fastlm::cuda::lockstep
