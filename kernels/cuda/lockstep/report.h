// What a failed check tells: the kernel, the block, the thread, the line of source and what happened there.
#pragma once

#include <stdexcept>
#include <string>

namespace fastlm::cuda::lockstep {

// A place in the kernels' source. As the last, defaulted parameter of a function it is that function's caller.
struct Place {
  const char* file;
  int line;
  static constexpr Place here(const char* file = __builtin_FILE(), int line = __builtin_LINE()) { return {file, line}; }
  bool operator==(const Place& other) const { return line == other.line && std::string(file) == other.file; }
  std::string text() const { return std::string(file) + ":" + std::to_string(line); }
};

// What launch throws once a check has failed in one of its threads.
struct Fault : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Ends the launch of the thread that calls it: "kernel: block (x, y), thread t, file:line: what".
[[noreturn]] void fail(Place at, const std::string& what);

}  // namespace fastlm::cuda::lockstep
