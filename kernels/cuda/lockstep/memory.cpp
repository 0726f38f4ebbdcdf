#include "kernels/cuda/lockstep/memory.h"

#include <algorithm>
#include <cstring>
#include <deque>
#include <sstream>

#include "kernels/cuda/lockstep/block.h"

namespace fastlm::cuda::lockstep {
namespace {

// ---- global memory
// ---------------------------------------------------------------------------------------------------
thread_local std::deque<Region> regions;  // its elements stay where they are

template <class Body>
void for_each_element(const Region& region, size_t d, char* at, Body body) {
  if (d == region.sizes.size()) return body(at);
  for (int64_t i = 0; i < region.sizes[d]; ++i)
    for_each_element(region, d + 1, at + i * region.strides[d] * region.element_bytes, body);
}

// Whether [first, first + count) are elements of the layout that follow each other.
bool holds(const Region& region, int64_t first, int64_t count) {
  for (const auto& [stride, size] : region.jumps) first -= std::min(first / stride, size - 1) * stride;
  return first + count <= region.run;
}

std::string describe(const Region& region) {
  std::ostringstream text;
  text << region.name << " (";
  for (size_t d = 0; d < region.sizes.size(); ++d) text << (d ? " x " : "") << region.sizes[d];
  text << " elements of " << region.element_bytes << " bytes)";
  return text.str();
}

// ---- shared memory
// -----------------------------------------------------------------------------------------------------
constexpr int64_t kCell = 2;  // bytes: of the smallest type that kernels keep there
constexpr int16_t kNobody = -1;

// An access: by whom, and between which barriers.
struct Stamp {
  int16_t thread = kNobody;
  uint32_t block_epoch = 0, warp_epoch = 0;
  Place at{};
};

struct Cell {
  Stamp writer;
  Stamp readers[2];  // any two since the last write, of two warps where there are such
  bool written = false;
  bool copying = false;  // the writer's cp.async is under way
};

struct Copy {
  int64_t offset, bytes;
  char data[16];
  Place at;
};

struct SharedMemory {
  std::vector<char> bytes;
  std::vector<Cell> cells;
  struct Copies {
    std::vector<Copy> open;
    std::deque<std::vector<Copy>> groups;
  };
  std::vector<Copies> copies;  // of each thread
};
thread_local SharedMemory shared;

Stamp now(Place at) {
  const Thread& thread = this_thread();
  return {static_cast<int16_t>(thread.index), thread.block_epoch, thread.warp_epoch, at};
}

bool same_warp(const Stamp& a, const Stamp& b) { return a.thread / kWarp == b.thread / kWarp; }

// Whether everyone agrees that `before` came first.
bool ordered(const Stamp& before, const Stamp& after) {
  if (before.thread == kNobody || before.thread == after.thread) return true;
  if (before.block_epoch < after.block_epoch) return true;
  return same_warp(before, after) && before.warp_epoch < after.warp_epoch;
}

std::string place(int64_t offset, int64_t bytes) {
  return "shared bytes " + std::to_string(offset) + " to " + std::to_string(offset + bytes - 1);
}

[[noreturn]] void race(const char* access, const Stamp& other, const char* other_access, int64_t offset, int64_t bytes,
                       Place at) {
  fail(at, std::string("race: ") + access + " " + place(offset, bytes) + ", which thread " +
               std::to_string(other.thread) + " " + other_access + " at " + other.at.text() +
               " with no barrier in between");
}

void check_shared(int64_t offset, int64_t bytes, Place at) {
  if (offset < 0 || offset + bytes > static_cast<int64_t>(shared.bytes.size()))
    fail(at, "out of bounds: " + place(offset, bytes) + " of " + std::to_string(shared.bytes.size()));
  if (offset % bytes != 0) fail(at, "misaligned: " + place(offset, bytes));
}

void check_settled(const Cell& cell, const char* access, int64_t offset, int64_t bytes, Place at) {
  if (!cell.copying) return;
  fail(at, std::string("unwaited copy: ") + access + " " + place(offset, bytes) + ", where the cp.async of thread " +
               std::to_string(cell.writer.thread) + " at " + cell.writer.at.text() + " has not arrived");
}

void note_read(Cell& cell, const Stamp& reader) {
  Stamp& first = cell.readers[0];
  Stamp& second = cell.readers[1];
  if (ordered(first, reader)) {
    first = reader;
  } else if (ordered(second, reader) || (same_warp(first, second) && !same_warp(first, reader))) {
    second = reader;
  }
}

// Claims cells for a writer.
template <class Note>
void claim(int64_t offset, int64_t bytes, Place at, Note note) {
  const Stamp writer = now(at);
  for (int64_t cell_index = offset / kCell; cell_index < (offset + bytes) / kCell; ++cell_index) {
    Cell& cell = shared.cells[cell_index];
    check_settled(cell, "writes", offset, bytes, at);
    if (!ordered(cell.writer, writer)) race("writes", cell.writer, "wrote", offset, bytes, at);
    for (const Stamp& reader : cell.readers)
      if (!ordered(reader, writer)) race("writes", reader, "read", offset, bytes, at);
    cell.writer = writer;
    cell.readers[0] = cell.readers[1] = Stamp{};
    note(cell);
  }
}

SharedMemory::Copies& my_copies() { return shared.copies[this_thread().index]; }

}  // namespace

// ---- global memory
// ---------------------------------------------------------------------------------------------------
Region::Region(std::string name, void* begin, int64_t element_bytes, std::vector<int64_t> sizes,
               std::vector<int64_t> strides, bool writable)
    : name(std::move(name)),
      begin(static_cast<char*>(begin)),
      element_bytes(element_bytes),
      sizes(std::move(sizes)),
      strides(std::move(strides)),
      writable(writable) {
  int64_t last = 0;
  bool empty = false;
  for (size_t d = 0; d < this->sizes.size(); ++d) {
    empty = empty || this->sizes[d] == 0;
    last += (this->sizes[d] - 1) * this->strides[d];
    if (this->sizes[d] > 1 && this->strides[d] != 0) jumps.emplace_back(this->strides[d], this->sizes[d]);
  }
  span = empty ? 0 : (last + 1) * element_bytes;
  std::sort(jumps.rbegin(), jumps.rend());
  for (; !jumps.empty() && jumps.back().first == run; jumps.pop_back()) run *= jumps.back().second;
}

Regions::~Regions() {
  for (; count_ > 0; --count_) regions.pop_back();
}

void Regions::add(Region region, bool poison) {
  if (poison && region.span > 0) {
    const auto fill = [&](char* at) { std::memset(at, 0xFF, region.element_bytes); };
    for_each_element(region, 0, region.begin, fill);
  }
  regions.push_back(std::move(region));
  ++count_;
}

const Region* region_of(const void* p, Place at) {
  const Region* inside = nullptr;
  for (auto region = regions.rbegin(); region != regions.rend(); ++region) {
    if (region->begin == p) return &*region;
    if (region->begin < p && p < region->begin + region->span) inside = &*region;
  }
  if (inside == nullptr) fail(at, "a pointer to no tensor of this launch");
  return inside;
}

void check_global(const Region* region, const void* p, int64_t bytes, bool write, Place at) {
  const int64_t offset = static_cast<const char*>(p) - region->begin;
  const auto where = [&] {
    return std::string(write ? "writes " : "reads ") + std::to_string(bytes) + " bytes at " + std::to_string(offset) +
           " of " + describe(*region);
  };
  if (offset < 0 || offset + bytes > region->span) fail(at, "out of bounds: " + where());
  if (offset % region->element_bytes != 0 || bytes % region->element_bytes != 0) fail(at, "torn element: " + where());
  if (!holds(*region, offset / region->element_bytes, bytes / region->element_bytes))
    fail(at, "out of bounds, between its rows: " + where());
  if (reinterpret_cast<uintptr_t>(p) % bytes != 0) fail(at, "misaligned: " + where());
  if (write && !region->writable) fail(at, "an input: " + where());
}

// ---- shared memory
// -----------------------------------------------------------------------------------------------------
void begin_block_memory(int64_t shared_bytes, int threads) {
  shared.bytes.assign(shared_bytes, '\xFF');
  shared.cells.assign((shared_bytes + kCell - 1) / kCell, Cell{});
  shared.copies.assign(threads, {});
}

void read_shared(int64_t offset, int64_t bytes, void* to, Place at) {
  check_shared(offset, bytes, at);
  const Stamp reader = now(at);
  for (int64_t i = offset / kCell; i < (offset + bytes) / kCell; ++i) {
    Cell& cell = shared.cells[i];
    check_settled(cell, "reads", offset, bytes, at);
    if (!cell.written) fail(at, "never written: reads " + place(offset, bytes));
    if (!ordered(cell.writer, reader)) race("reads", cell.writer, "wrote", offset, bytes, at);
    note_read(cell, reader);
  }
  std::memcpy(to, shared.bytes.data() + offset, bytes);
}

void write_shared(int64_t offset, int64_t bytes, const void* from, Place at) {
  check_shared(offset, bytes, at);
  claim(offset, bytes, at, [](Cell& cell) { cell.written = true; });
  std::memcpy(shared.bytes.data() + offset, from, bytes);
}

void begin_copy(int64_t offset, int64_t bytes, const void* from, Place at) {
  check_shared(offset, bytes, at);
  claim(offset, bytes, at, [](Cell& cell) { cell.copying = true; });
  std::memset(shared.bytes.data() + offset, 0xFF, bytes);
  Copy copy{offset, bytes, {}, at};
  std::memcpy(copy.data, from, bytes);
  my_copies().open.push_back(copy);
}

void commit_copies() {
  auto& mine = my_copies();
  mine.groups.push_back(std::move(mine.open));
  mine.open.clear();
}

void wait_for_copies(int pending_groups) {
  auto& groups = my_copies().groups;
  for (; groups.size() > static_cast<size_t>(pending_groups); groups.pop_front()) {
    for (const Copy& copy : groups.front()) {
      const Stamp writer = now(copy.at);
      for (int64_t i = copy.offset / kCell; i < (copy.offset + copy.bytes) / kCell; ++i) {
        Cell& cell = shared.cells[i];
        cell.copying = false;
        cell.written = true;
        cell.writer = writer;
      }
      std::memcpy(shared.bytes.data() + copy.offset, copy.data, copy.bytes);
    }
  }
}

void check_exit() {
  const auto& mine = my_copies();
  for (const auto& group : mine.groups)
    if (!group.empty()) fail(group.front().at, "unwaited copy: its thread leaves the kernel");
  if (!mine.open.empty()) fail(mine.open.front().at, "unwaited copy, not even committed: its thread leaves the kernel");
}

}  // namespace fastlm::cuda::lockstep
