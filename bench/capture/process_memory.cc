// SPDX-License-Identifier: Apache-2.0
#include "bench/capture/process_memory.h"

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <fstream>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "engine/base/fd.h"
#include "engine/base/random.h"
#include "engine/replica/identity.h"

namespace haven {
namespace {

constexpr size_t kStretchPages = 16;

// State and parent of a process, from /proc/PID/stat; state 'X' if there is none.
struct ProcessStat {
  char state = 'X';
  pid_t parent = 0;
};

ProcessStat ReadStat(pid_t pid) {
  std::ifstream file(absl::StrCat("/proc/", pid, "/stat"));
  std::string line;
  ProcessStat stat;
  if (!std::getline(file, line)) return stat;
  // The program's name stands in parentheses and may hold anything.
  std::istringstream rest(line.substr(line.rfind(')') + 1));
  rest >> stat.state >> stat.parent;
  return stat;
}

std::vector<pid_t> AllProcesses() {
  std::vector<pid_t> pids;
  DIR* proc = opendir("/proc");
  if (proc == nullptr) return pids;
  while (const dirent* entry = readdir(proc)) {
    const pid_t pid = static_cast<pid_t>(std::strtol(entry->d_name, nullptr, 10));
    if (pid > 0) pids.push_back(pid);
  }
  closedir(proc);
  return pids;
}

struct Mapping {
  uint64_t first = 0;  // Addresses.
  uint64_t end = 0;
  std::string space;
  uint64_t space_page = 0;  // Of the first address.
};

std::vector<Mapping> WritableMappings(pid_t pid) {
  std::vector<Mapping> mappings;
  std::ifstream file(absl::StrCat("/proc/", pid, "/maps"));
  for (std::string line; std::getline(file, line);) {
    std::istringstream fields(line);
    std::string range, rights, device, inode, name;
    uint64_t offset = 0;
    fields >> range >> rights >> std::hex >> offset >> std::dec >> device >> inode >> name;
    if (rights.size() < 4 || rights[1] != 'w' || name.starts_with("[v")) continue;
    Mapping mapping;
    char* dash = nullptr;
    mapping.first = std::strtoull(range.c_str(), &dash, 16);
    mapping.end = std::strtoull(dash + 1, nullptr, 16);
    const bool shared = rights[3] == 's';
    mapping.space =
        shared ? absl::StrCat("object ", device, ":", inode) : absl::StrCat("pid ", pid);
    mapping.space_page = (shared ? offset : mapping.first) / kPageBytes;
    mappings.push_back(mapping);
  }
  return mappings;
}

bool Keeps(const std::string& space, uint64_t stretch, uint32_t keep) {
  uint64_t state = std::hash<std::string>()(space) + stretch;
  return SplitMix64(state) % keep == 0;
}

}  // namespace

std::vector<pid_t> ProcessTree(const std::vector<pid_t>& roots) {
  std::vector<std::pair<pid_t, pid_t>> others;  // Process and parent.
  for (const pid_t pid : AllProcesses()) others.emplace_back(pid, ReadStat(pid).parent);
  std::vector<pid_t> tree = roots;
  for (size_t done = 0; done < tree.size(); ++done) {
    for (const auto& [pid, parent] : others) {
      if (parent == tree[done] && std::ranges::find(tree, pid) == tree.end()) tree.push_back(pid);
    }
  }
  return tree;
}

StoppedProcesses::StoppedProcesses(std::vector<pid_t> pids) : pids_(std::move(pids)) {
  for (const pid_t pid : pids_) kill(pid, SIGSTOP);
  for (const pid_t pid : pids_) {
    const auto running = [pid] {
      const char state = ReadStat(pid).state;
      return state == 'R' || state == 'S' || state == 'D';
    };
    while (running()) sched_yield();
  }
}

StoppedProcesses::~StoppedProcesses() {
  for (const pid_t pid : pids_) kill(pid, SIGCONT);
}

void ForEachPage(
    pid_t pid, uint32_t keep,
    const std::function<void(const PageKey& key, std::span<const std::byte> page)>& visit) {
  const UniqueFd memory(open(absl::StrCat("/proc/", pid, "/mem").c_str(), O_RDONLY | O_CLOEXEC));
  const UniqueFd pagemap(
      open(absl::StrCat("/proc/", pid, "/pagemap").c_str(), O_RDONLY | O_CLOEXEC));
  if (!memory.valid() || !pagemap.valid()) return;
  std::array<std::byte, kStretchPages * kPageBytes> bytes;
  std::array<uint64_t, kStretchPages> entries;
  for (const Mapping& mapping : WritableMappings(pid)) {
    const uint64_t first = mapping.space_page;
    const uint64_t end = first + (mapping.end - mapping.first) / kPageBytes;
    for (uint64_t page = first; page < end;) {
      const uint64_t stretch = page / kStretchPages;
      const uint64_t stop = std::min(end, (stretch + 1) * kStretchPages);
      const size_t pages = static_cast<size_t>(stop - page);
      const uint64_t address = mapping.first + (page - first) * kPageBytes;
      if (Keeps(mapping.space, stretch, keep)) {
        const ssize_t mapped = pread(pagemap.get(), entries.data(), pages * sizeof(entries[0]),
                                     static_cast<off_t>(address / kPageBytes * sizeof(entries[0])));
        const size_t known = mapped > 0 ? static_cast<size_t>(mapped) / sizeof(entries[0]) : 0;
        for (size_t i = 0; i < known; ++i) {
          constexpr uint64_t kPresent = uint64_t{1} << 63;
          if ((entries[i] & kPresent) == 0) continue;
          const std::span<std::byte> room = std::span(bytes).subspan(i * kPageBytes, kPageBytes);
          if (pread(memory.get(), room.data(), room.size(),
                    static_cast<off_t>(address + i * kPageBytes)) != ssize_t{kPageBytes}) {
            continue;
          }
          visit({.space = mapping.space, .page = page + i}, room);
        }
      }
      page = stop;
    }
  }
}

}  // namespace haven
