// SPDX-License-Identifier: Apache-2.0
//
// Records, interval by interval, the pages that running programs change:
//
//   capture_pages --out=FILE --origin=TEXT --pids=1,2 [--epochs=N] [--interval_ms=N] [--keep=N]
//                 [--max_pages=N]
//
// The programs and all their descendants are stopped while their memory is read, as a guest is at a
// checkpoint. A page counts as written if its content differs from the last reading: a write that
// restores the old value is not seen, so a trace flatters nobody who finds such writes. Memory of
// the kernel (page cache, network buffers) is not in it.
#include <poll.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <map>
#include <string>
#include <unordered_map>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "bench/capture/page_trace.h"
#include "bench/capture/process_memory.h"

ABSL_FLAG(std::string, out, "", "trace to write");
ABSL_FLAG(std::string, origin, "", "how the trace is made, stored in it");
ABSL_FLAG(std::string, pids, "", "processes, separated by commas; descendants are included");
ABSL_FLAG(uint32_t, epochs, 20, "intervals to record");
ABSL_FLAG(uint32_t, interval_ms, 50, "length of an interval, in which the programs run");
ABSL_FLAG(uint32_t, keep, 1, "record one out of this many stretches of 16 pages");
ABSL_FLAG(uint32_t, max_pages, 100000, "end the recording after this many pages");

namespace haven {
namespace {

using Page = std::vector<std::byte>;

class Recorder {
 public:
  // Reads all pages and returns how many differ from the last reading. The first reading is the
  // base.
  size_t Read(const std::vector<pid_t>& roots, uint32_t keep) {
    const std::vector<pid_t> pids = ProcessTree(roots);
    const StoppedProcesses stopped(pids);
    std::map<PageKey, Page>& changed = epochs_.emplace_back();
    const bool first = epochs_.size() == 1;
    for (const pid_t pid : pids) {
      ForEachPage(pid, keep, [&](const PageKey& key, std::span<const std::byte> bytes) {
        auto [at, is_new] = now_.try_emplace(key, bytes.begin(), bytes.end());
        if (first && is_new) base_.emplace(key, at->second);
        if (first) return;
        if (!is_new) {
          if (std::memcmp(at->second.data(), bytes.data(), bytes.size()) == 0) return;
          at->second.assign(bytes.begin(), bytes.end());
        }
        changed.insert_or_assign(key, at->second);
      });
    }
    return changed.size();
  }

  PageTrace Finish(const std::string& origin) {
    PageTrace trace{.origin = origin, .page_count = 0, .base = {}, .epochs = {}};
    // Frame numbers keep the order of the addresses and what is adjacent.
    std::map<PageKey, uint32_t> gfns;
    for (const auto& epoch : epochs_) {
      for (const auto& [key, page] : epoch) gfns.emplace(key, 0);
    }
    const PageKey* last = nullptr;
    uint32_t next = 0;
    for (auto& [key, gfn] : gfns) {
      if (last != nullptr && (key.space != last->space || key.page != last->page + 1)) ++next;
      gfn = next++;
      last = &key;
    }
    trace.page_count = next;
    const auto add = [&gfns](const PageKey& key, const Page& page, TraceEpoch* to) {
      const auto at = gfns.find(key);
      if (at == gfns.end()) return;
      to->gfns.push_back(at->second);
      to->pages.insert(to->pages.end(), page.begin(), page.end());
    };
    for (const auto& [key, page] : base_) add(key, page, &trace.base);
    for (size_t i = 1; i < epochs_.size(); ++i) {
      TraceEpoch& epoch = trace.epochs.emplace_back();
      for (const auto& [key, page] : epochs_[i]) add(key, page, &epoch);
    }
    return trace;
  }

 private:
  std::map<PageKey, Page> now_;
  std::map<PageKey, Page> base_;
  std::vector<std::map<PageKey, Page>> epochs_;  // The first one is empty.
};

int Run() {
  std::vector<pid_t> roots;
  for (const absl::string_view text : absl::StrSplit(absl::GetFlag(FLAGS_pids), ',')) {
    int pid = 0;
    if (!absl::SimpleAtoi(text, &pid) || pid <= 0) {
      std::fprintf(stderr, "capture_pages: --pids needs process numbers, separated by commas\n");
      return 2;
    }
    roots.push_back(pid);
  }
  Recorder recorder;
  const uint32_t keep = std::max(absl::GetFlag(FLAGS_keep), 1u);
  recorder.Read(roots, keep);
  size_t pages = 0;
  for (uint32_t i = 0; i < absl::GetFlag(FLAGS_epochs); ++i) {
    if (pages >= absl::GetFlag(FLAGS_max_pages)) break;
    // The load runs on meanwhile: the time itself is what is waited for.
    poll(nullptr, 0, static_cast<int>(absl::GetFlag(FLAGS_interval_ms)));
    pages += recorder.Read(roots, keep);
  }
  const PageTrace trace = recorder.Finish(absl::GetFlag(FLAGS_origin));
  const absl::Status written = WriteTrace(absl::GetFlag(FLAGS_out), trace);
  if (!written.ok()) {
    std::fprintf(stderr, "capture_pages: %s\n", written.ToString().c_str());
    return 1;
  }
  std::printf("%s: %zu intervals, %zu pages written, %zu of them known before\n",
              absl::GetFlag(FLAGS_out).c_str(), trace.epochs.size(), pages, trace.base.gfns.size());
  return 0;
}

}  // namespace
}  // namespace haven

int main(int argc, char** argv) {
  absl::ParseCommandLine(argc, argv);
  return haven::Run();
}
