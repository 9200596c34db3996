// SPDX-License-Identifier: Apache-2.0
//
// Reads the writable memory of running programs, as a hypervisor would see a guest's: all of it at
// one instant.
#ifndef HAVEN_BENCH_CAPTURE_PROCESS_MEMORY_H_
#define HAVEN_BENCH_CAPTURE_PROCESS_MEMORY_H_

#include <sys/types.h>

#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

namespace haven {

// Names a page for good. Memory that several processes share has one name: that of its object.
struct PageKey {
  std::string space;  // "pid 17", or "object 0:1:4711".
  uint64_t page = 0;  // Address, or offset in the object, in pages.

  friend auto operator<=>(const PageKey&, const PageKey&) = default;
};

// The processes `roots` and all their descendants that exist now.
std::vector<pid_t> ProcessTree(const std::vector<pid_t>& roots);

// Stops the processes for its life. A process that ends meanwhile is left out.
class StoppedProcesses {
 public:
  // Returns when all are stopped.
  explicit StoppedProcesses(std::vector<pid_t> pids);
  ~StoppedProcesses();
  StoppedProcesses(const StoppedProcesses&) = delete;
  StoppedProcesses& operator=(const StoppedProcesses&) = delete;

 private:
  std::vector<pid_t> pids_;
};

// Calls visit(key, page) for every page in a writable mapping of `pid` that is present, in one out
// of `keep` stretches of 16 pages; which stretches those are depends on their name alone. Pages
// that can not be read (the process ended) are left out.
void ForEachPage(
    pid_t pid, uint32_t keep,
    const std::function<void(const PageKey& key, std::span<const std::byte> page)>& visit);

}  // namespace haven

#endif  // HAVEN_BENCH_CAPTURE_PROCESS_MEMORY_H_
