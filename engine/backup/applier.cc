// SPDX-License-Identifier: Apache-2.0
#include "engine/backup/applier.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "engine/base/check.h"

namespace haven {

absl::StatusOr<std::unique_ptr<Applier>> Applier::Create(Options options) {
  std::unique_ptr<Applier> applier = absl::WrapUnique(new Applier(options));
  if (options.threads == 0) return applier;
  applier->event_.reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!applier->event_.valid()) {
    return absl::ResourceExhaustedError(absl::StrCat("applier: eventfd: ", std::strerror(errno),
                                                     ": raise the limit of open files"));
  }
  applier->workers_.reserve(options.threads);
  for (unsigned i = 0; i < options.threads; ++i) {
    pthread_t worker;
    const int error = pthread_create(&worker, nullptr, &Applier::RunWorker, applier.get());
    if (error != 0) {
      return absl::ResourceExhaustedError(
          absl::StrCat("applier: thread ", i + 1, " of ", options.threads, ": ",
                       std::strerror(error), ": raise the limit of processes or use fewer"));
    }
    applier->workers_.push_back(worker);
  }
  return applier;
}

Applier::Applier(const Options& options)
    : region_(options.region),
      geometry_(options.geometry),
      recheck_crc_(options.recheck_crc),
      sealed_(options.sealed),
      tools_(options.threads + 1) {
  HAVEN_CHECK_OK(geometry_.Validate());
  HAVEN_CHECK_GE(region_.size(), geometry_.total_bytes());
  HAVEN_CHECK_LE(options.threads, kMaxThreads);
  HAVEN_CHECK_GE(options.replicas.size(), 1u);
  HAVEN_CHECK_LE(options.replicas.size(), kMaxDomains);
  for (const ReplicaDomain* replica : options.replicas) {
    HAVEN_CHECK(replica != nullptr);
    memories_.push_back(&replica->memory());
  }
  if (!options.coded_pages) return;
  for (Tools& tools : tools_) tools.coded = std::make_unique<CodedFrameApplier>();
}

Applier::~Applier() { Join(); }

void Applier::Rekey(const SealKey& key) {
  const std::lock_guard<std::mutex> lock(mutex_);
  HAVEN_CHECK(sealed_);
  HAVEN_CHECK_EQ(finished_count_, submitted_count_);
  for (Tools& tools : tools_) {
    absl::StatusOr<std::unique_ptr<ChunkOpener>> opener =
        ChunkOpener::Create(key, geometry_.slot_bytes);
    HAVEN_CHECK_OK(opener.status());
    tools.opener = *std::move(opener);
  }
}

bool Applier::CanSubmit() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return submitted_count_ - popped_count_ < jobs_.size();
}

void Applier::Submit(const VerifiedEpoch& epoch) {
  std::unique_lock<std::mutex> lock(mutex_);
  HAVEN_CHECK_LT(submitted_count_ - popped_count_, jobs_.size()) << "epoch=" << epoch.epoch();
  HAVEN_CHECK_EQ(epoch.slot_crcs.size(), geometry_.slots()) << "epoch=" << epoch.epoch();
  JobAt(submitted_count_) = {.epoch = epoch, .claimed = 0, .done = 0, .status = absl::OkStatus()};
  ++submitted_count_;
  FinishJobs();
  if (workers_.empty()) {
    while (ApplyNextChunk(lock, tools_[0])) {
    }
    return;
  }
  work_.notify_all();
}

std::optional<AppliedEpoch> Applier::PopFinished() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (popped_count_ == finished_count_) {
    // Raised under the same lock, so nothing finished can be overlooked.
    uint64_t count = 0;
    if (std::exchange(event_raised_, false)) {
      HAVEN_CHECK_EQ(read(event_.get(), &count, sizeof(count)), ssize_t{sizeof(count)});
    }
    return std::nullopt;
  }
  const Job& job = JobAt(popped_count_++);
  return AppliedEpoch{.epoch = job.epoch.epoch(), .status = job.status};
}

absl::Status Applier::Drain() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (finished_count_ != submitted_count_) {
    if (ApplyNextChunk(lock, tools_[0])) continue;
    const uint64_t seen = finished_count_;
    finished_.wait(lock, [&] { return finished_count_ != seen; });
  }
  return status_;
}

void Applier::Join() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
  }
  work_.notify_all();
  for (const pthread_t worker : workers_) HAVEN_CHECK_EQ(pthread_join(worker, nullptr), 0);
  workers_.clear();
}

absl::Status Applier::status() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return status_;
}

void* Applier::RunWorker(void* applier) {
  static_cast<Applier*>(applier)->Work();
  return nullptr;
}

void Applier::Work() {
  std::unique_lock<std::mutex> lock(mutex_);
  ++workers_begun_;
  const Tools& tools = tools_[workers_begun_];
  while (true) {
    work_.wait(lock, [this] { return stop_ || HasChunkToClaim(); });
    if (stop_) return;
    ApplyNextChunk(lock, tools);
  }
}

bool Applier::HasChunkToClaim() const {
  if (finished_count_ == submitted_count_) return false;
  const Job& job = JobAt(finished_count_);
  return job.claimed < job.epoch.record.totals.chunk_count;
}

// Takes one chunk of the oldest unfinished epoch, with the lock released while it is applied; false
// if there is none to take. The job can not end meanwhile: this chunk is missing.
bool Applier::ApplyNextChunk(std::unique_lock<std::mutex>& lock, const Tools& tools) {
  if (!HasChunkToClaim()) return false;
  Job& job = JobAt(finished_count_);
  const uint32_t chunk = job.claimed++;
  if (status_.ok()) {
    lock.unlock();
    const absl::Status applied = ApplyChunk(job.epoch, chunk, tools);
    lock.lock();
    if (!applied.ok() && status_.ok()) status_ = applied;
  }
  ++job.done;
  FinishJobs();
  return true;
}

// Ends the oldest epochs whose chunks are all through. What follows a failure is not applied.
void Applier::FinishJobs() {
  const uint64_t before = finished_count_;
  while (finished_count_ < submitted_count_) {
    Job& job = JobAt(finished_count_);
    if (job.done < job.epoch.record.totals.chunk_count) break;
    job.status = status_;
    ++finished_count_;
  }
  if (finished_count_ == before) return;
  finished_.notify_all();
  if (HasChunkToClaim()) work_.notify_all();
  if (event_.valid() && !std::exchange(event_raised_, true)) {
    const uint64_t one = 1;
    HAVEN_CHECK_EQ(write(event_.get(), &one, sizeof(one)), ssize_t{sizeof(one)});
  }
}

}  // namespace haven
