// SPDX-License-Identifier: Apache-2.0
#include "engine/cli/progress.h"

#include <unistd.h>

#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/clock.h"
#include "engine/base/status_macros.h"
#include "engine/control/status_file.h"
#include "engine/control/status_json.h"
#include "engine/control/status_text.h"

namespace haven {

std::string SyncLine(const StatusSnapshot& snapshot) {
  const SyncStatus& sync = snapshot.sync;
  if (snapshot.role != "primary" || !sync.active) return "";
  const uint64_t total = sync.pages_done + sync.pages_left;
  if (total == 0) return absl::StrCat("group ", snapshot.group, ": copying memory: starting");
  std::string line =
      absl::StrCat("group ", snapshot.group, ": copying memory: ", sync.pages_done, " of ", total,
                   " pages (", sync.pages_done * 100 / total, "%), ", sync.pages_per_s, " pages/s");
  if (sync.left_ns != kNoTime) absl::StrAppend(&line, ", ", HumanDuration(sync.left_ns), " left");
  return line;
}

absl::StatusOr<std::unique_ptr<SyncProgress>> SyncProgress::Start(std::string status_path,
                                                                  ProgressForm form, FILE* out) {
  std::unique_ptr<SyncProgress> progress(new SyncProgress(std::move(status_path), form, out));
  HAVEN_ASSIGN_OR_RETURN(progress->thread_,
                         Thread::Start("haven-progress", [raw = progress.get()] { raw->Work(); }));
  return progress;
}

SyncProgress::SyncProgress(std::string status_path, ProgressForm form, FILE* out)
    : path_(std::move(status_path)),
      form_(form),
      out_(out),
      terminal_(form == ProgressForm::kText && isatty(fileno(out)) == 1) {}

SyncProgress::~SyncProgress() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  thread_.Join();
}

void SyncProgress::Work() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (!stop_) {
    lock.unlock();
    Look();
    lock.lock();
    changed_.wait_for(lock, std::chrono::seconds(1), [this] { return stop_; });
  }
}

void SyncProgress::Look() {
  const absl::StatusOr<StatusFile> file = ReadStatusFile(path_, SystemClock::Get());
  // An engine that comes back goes on with its own line.
  if (!file.ok() || file->reading.stale) return;
  const StatusSnapshot& now = file->snapshot;
  const std::string line = SyncLine(now);
  if (line.empty() && shown_.empty()) return;
  const bool last = line.empty();
  if (line != shown_ && form_ == ProgressForm::kJson) {
    Print(StatusToJson(now, file->reading), last);
  } else if (last) {
    Print(absl::StrCat("group ", now.group, ": ", now.state, now.reason.empty() ? "" : ": ",
                       now.reason),
          last);
  } else if (line != shown_) {
    Print(line, last);
  }
  shown_ = line;
}

void SyncProgress::Print(const std::string& line, bool last) {
  const bool in_place = terminal_ && !last;
  std::fprintf(out_, "%s%s%s", terminal_ ? "\r\033[K" : "", line.c_str(), in_place ? "" : "\n");
  std::fflush(out_);
}

}  // namespace haven
