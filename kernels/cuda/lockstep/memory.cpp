#include "kernels/cuda/lockstep/memory.h"

#include <algorithm>
#include <cstring>
#include <deque>
#include <sstream>

#include "kernels/cuda/lockstep/block.h"

namespace fastlm::cuda::lockstep {
namespace {

Stamp now(Place at, bool write) {
  const Thread& thread = this_thread();
  return {at, thread.block, thread.block_epoch, thread.warp_epoch, static_cast<int16_t>(thread.index), write};
}

const char* verb(const Stamp& access) { return access.write ? "writes " : "reads "; }

[[noreturn]] void race(const Stamp& mine, const Stamp& other, const std::string& where) {
  const bool same_block = mine.block == other.block;
  std::string who = "thread " + std::to_string(other.thread);
  if (!same_block) who += " of block " + block_place(other.block);
  fail(mine.at, std::string("race: ") + verb(mine) + where + ", which " + who + (other.write ? " wrote" : " read") +
                    " at " + other.at.text() + (same_block ? " with no barrier in between" : " in the same launch"));
}

// ---- global memory
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
struct Cell {
  History history;
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

std::string place(int64_t offset, int64_t bytes) {
  return "shared bytes " + std::to_string(offset) + " to " + std::to_string(offset + bytes - 1);
}

void check_shared(int64_t offset, int64_t bytes, Place at) {
  if (offset < 0 || offset + bytes > static_cast<int64_t>(shared.bytes.size()))
    fail(at, "out of bounds: " + place(offset, bytes) + " of " + std::to_string(shared.bytes.size()));
  if (offset % bytes != 0) fail(at, "misaligned: " + place(offset, bytes));
}

// body(cell) for each cell of these bytes, once no copy into them is under way.
template <class Body>
void for_settled_cells(int64_t offset, int64_t bytes, const Stamp& mine, Body body) {
  for (int64_t i = offset / kCell; i < (offset + bytes) / kCell; ++i) {
    Cell& cell = shared.cells[i];
    if (cell.copying) {
      const Stamp& copier = cell.history.writer();
      fail(mine.at, std::string("unwaited copy: ") + verb(mine) + place(offset, bytes) +
                        ", where the cp.async of thread " + std::to_string(copier.thread) + " at " + copier.at.text() +
                        " has not arrived");
    }
    body(cell);
  }
}

// Makes the calling thread the writer of cells.
template <class Note>
void claim(int64_t offset, int64_t bytes, Place at, Note note) {
  check_shared(offset, bytes, at);
  const Stamp mine = now(at, true);
  for_settled_cells(offset, bytes, mine, [&](Cell& cell) {
    if (const Stamp* other = cell.history.write(mine)) race(mine, *other, place(offset, bytes));
    note(cell);
  });
}

SharedMemory::Copies& my_copies() { return shared.copies[this_thread().index]; }

}  // namespace

// ---- global memory
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
  region.poisoned = poison;
  if (region.writable) region.histories.resize(region.span / region.element_bytes);
  regions.push_back(std::move(region));
  ++count_;
}

Region* region_of(const void* p, Place at) {
  Region* inside = nullptr;
  for (auto region = regions.rbegin(); region != regions.rend(); ++region) {
    if (region->begin == p) return &*region;
    if (region->begin < p && p < region->begin + region->span) inside = &*region;
  }
  if (inside == nullptr) fail(at, "a pointer to no tensor of this launch");
  return inside;
}

void check_global(Region* region, const void* p, int64_t bytes, Access access, Place at) {
  if (region == nullptr) fail(at, "a pointer to no tensor of this launch");
  const int64_t offset = static_cast<const char*>(p) - region->begin;
  const Stamp mine = now(at, access == Access::kWrite);
  const auto where = [&] {
    return std::to_string(bytes) + " bytes at " + std::to_string(offset) + " of " + describe(*region);
  };
  const auto what = [&] { return verb(mine) + where(); };
  if (offset < 0 || offset + bytes > region->span) fail(at, "out of bounds: " + what());
  if (offset % region->element_bytes != 0 || bytes % region->element_bytes != 0) fail(at, "torn element: " + what());
  const int64_t first = offset / region->element_bytes, count = bytes / region->element_bytes;
  if (!holds(*region, first, count)) fail(at, "out of bounds, between its rows: " + what());
  if (reinterpret_cast<uintptr_t>(p) % bytes != 0) fail(at, "misaligned: " + what());
  if (!region->writable) {
    if (mine.write) fail(at, "an input: " + what());
    return;
  }
  for (int64_t i = first; i < first + count; ++i) {
    History& history = region->histories[i];
    const Stamp& writer = history.writer();
    if (!mine.write && region->poisoned && writer.block == kNoBlock) fail(at, "never written: " + what());
    if (access == Access::kReadOnly && writer.block >= first_block())
      fail(at, "a read-only pointer: " + what() + ", which this launch writes at " + writer.at.text());
    if (const Stamp* other = mine.write ? history.write(mine) : history.read(mine)) race(mine, *other, where());
  }
}

// ---- shared memory
void begin_block_memory(int64_t shared_bytes, int threads) {
  shared.bytes.assign(shared_bytes, '\xFF');
  shared.cells.assign((shared_bytes + kCell - 1) / kCell, Cell{});
  shared.copies.assign(threads, {});
}

void read_shared(int64_t offset, int64_t bytes, void* to, Place at) {
  check_shared(offset, bytes, at);
  const Stamp mine = now(at, false);
  for_settled_cells(offset, bytes, mine, [&](Cell& cell) {
    if (!cell.written) fail(at, "never written: reads " + place(offset, bytes));
    if (const Stamp* other = cell.history.read(mine)) race(mine, *other, place(offset, bytes));
  });
  std::memcpy(to, shared.bytes.data() + offset, bytes);
}

void write_shared(int64_t offset, int64_t bytes, const void* from, Place at) {
  claim(offset, bytes, at, [](Cell& cell) { cell.written = true; });
  std::memcpy(shared.bytes.data() + offset, from, bytes);
}

void begin_copy(int64_t offset, int64_t bytes, const void* from, Place at) {
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
      const Stamp arrival = now(copy.at, true);
      for (int64_t i = copy.offset / kCell; i < (copy.offset + copy.bytes) / kCell; ++i) {
        Cell& cell = shared.cells[i];
        cell.copying = false;
        cell.written = true;
        cell.history.write(arrival);
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
