// SPDX-License-Identifier: Apache-2.0
//
// A domain, its store and its events as tests want them: no Xen needed.
#ifndef HAVEN_XEN_BASE_INTERFACES_TESTING_H_
#define HAVEN_XEN_BASE_INTERFACES_TESTING_H_

#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/base/check.h"
#include "engine/base/fd.h"
#include "engine/base/status_macros.h"
#include "engine/replica/identity.h"
#include "xen/base/device_model.h"
#include "xen/base/domain_control.h"
#include "xen/base/foreign_mapper.h"
#include "xen/base/store.h"
#include "xen/base/suspend_event.h"

namespace haven {

// A domain as the hypervisor keeps it. Its members may be set at any time; `error`, if not OK, is
// the answer to every call.
class FakeDomainControl final : public XenDomainControl {
 public:
  explicit FakeDomainControl(uint64_t frames) : types(frames, 0), log(frames, false) {
    status.hvm = status.hap = true;
    status.pages = frames;
    context.assign(64, std::byte{7});
  }

  uint32_t domid() const override { return 5; }
  absl::StatusOr<XenDomainStatus> Status() override {
    if (!error.ok()) return error;
    return status;
  }
  absl::StatusOr<uint64_t> FrameCount() override {
    if (!error.ok()) return error;
    return types.size();
  }
  absl::Status FrameTypes(std::span<uint64_t> frames) override {
    HAVEN_CHECK_LE(frames.size(), kFrameTypesMax);
    for (uint64_t& frame : frames) frame = types.at(frame);
    ++type_calls;
    return error;
  }
  absl::StatusOr<uint64_t> HvmParam(uint32_t index) override {
    if (!error.ok()) return error;
    return params[index];
  }

  absl::Status LogDirtyPrepare(uint64_t frames) override {
    words.assign((frames + 63) / 64, 0);
    return error;
  }
  absl::Status LogDirtyOn() override {
    if (!error.ok()) return error;
    if (!loggable) return absl::UnimplementedError("EOPNOTSUPP");
    if (logging) return absl::AlreadyExistsError("EINVAL");
    logging = true;
    std::fill(log.begin(), log.end(), false);
    return absl::OkStatus();
  }
  absl::Status LogDirtyOff() override {
    if (!error.ok()) return error;
    logging = false;
    no_memory = false;
    return absl::OkStatus();
  }
  absl::StatusOr<std::span<const uint64_t>> LogDirtyClean(bool stopped) override {
    if (failing_clean > 0 && --failing_clean == 0) return absl::InternalError("EFAULT");
    HAVEN_ASSIGN_OR_RETURN(const std::span<const uint64_t> dirty, LogDirtyPeek(stopped));
    std::fill(log.begin(), log.end(), false);
    return dirty;
  }
  absl::StatusOr<std::span<const uint64_t>> LogDirtyPeek(bool stopped) override {
    if (!error.ok()) return error;
    if (no_memory) return absl::DataLossError("ENOMEM");
    last_clean_stopped = stopped;
    std::fill(words.begin(), words.end(), 0);
    for (size_t i = 0; i < log.size() && logging; ++i) {
      if (log[i]) words[i / 64] |= uint64_t{1} << (i % 64);
    }
    return std::span<const uint64_t>(words);
  }
  absl::StatusOr<uint64_t> LogDirtyCount() override {
    if (!error.ok()) return error;
    if (no_memory) return absl::DataLossError("ENOMEM");
    return static_cast<uint64_t>(std::count(log.begin(), log.end(), true)) + miscounted;
  }
  absl::Status MarkDirty(uint64_t frame) override {
    if (logging && markable) log.at(frame) = true;
    return error;
  }

  absl::StatusOr<size_t> HvmContextBytes() override {
    if (!error.ok()) return error;
    return context.size();
  }
  absl::StatusOr<size_t> HvmContext(std::span<std::byte> out) override {
    if (!error.ok()) return error;
    if (out.size() < context.size()) return absl::ResourceExhaustedError("ENOSPC");
    std::copy(context.begin(), context.end(), out.begin());
    return context.size();
  }
  absl::StatusOr<XenTscInfo> Tsc() override {
    if (!error.ok()) return error;
    return XenTscInfo{.mode = 1, .khz = 2'000'000, .elapsed_ns = 33, .incarnation = 4};
  }
  absl::StatusOr<XenCpuPolicy> CpuPolicy() override {
    if (!error.ok()) return error;
    return policy;
  }
  absl::Status ResumeCancelled() override {
    if (!error.ok()) return error;
    if (!status.suspended()) return absl::FailedPreconditionError("EINVAL");
    ++resumes;
    status.shutdown = false;
    return absl::OkStatus();
  }
  absl::Status Unpause() override {
    if (!error.ok()) return error;
    status.paused = false;
    return absl::OkStatus();
  }
  absl::Status Destroy() override {
    ++destroys;
    error = absl::NotFoundError("domain 5 does not exist any more");
    return absl::OkStatus();
  }

  void Suspend() {
    status.shutdown = true;
    status.reason = XenShutdown::kSuspend;
  }
  void End(XenShutdown reason) {
    status.shutdown = true;
    status.reason = reason;
  }

  absl::Status error;
  XenDomainStatus status;
  std::vector<uint64_t> types;  // By frame, as FrameTypes answers.
  std::map<uint32_t, uint64_t> params;
  std::vector<std::byte> context;
  XenCpuPolicy policy;
  bool loggable = true;
  bool logging = false;
  bool markable = true;    // False: marks get lost.
  bool no_memory = false;  // The log could not be kept, until it is turned off.
  int failing_clean = 0;   // The call of LogDirtyClean that fails, counted from now; 0: none.
  std::vector<bool> log;
  uint64_t miscounted = 0;  // By so much LogDirtyCount is wrong.
  std::vector<uint64_t> words;
  bool last_clean_stopped = false;
  int type_calls = 0;
  int resumes = 0;
  int destroys = 0;
};

// A device model that does at once what it is told. Its members may be set at any time.
class FakeDeviceModel final : public DeviceModel {
 public:
  FakeDeviceModel() : event_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {}

  const std::string& version() const override { return version_; }
  void Stop() override {
    if (state == State::kRunning) Note("stop", slow ? State::kStopping : State::kStopped);
  }
  State Poll() override {
    eventfd_t count = 0;
    eventfd_read(event_.get(), &count);
    return state;
  }
  int event_fd() const override { return event_.get(); }
  absl::StatusOr<size_t> Save(std::span<std::byte> out) override {
    HAVEN_CHECK(state != State::kRunning);
    if (!error.ok()) return error;
    if (out.size() < saved.size()) return absl::ResourceExhaustedError("no room");
    std::copy(saved.begin(), saved.end(), out.begin());
    return saved.size();
  }
  void Run() override {
    if (state != State::kRunning && state != State::kLost) Note("run", State::kRunning);
  }
  absl::Status LogWrites() override {
    if (error.ok()) Note("log", state);
    return error;
  }

  void Announce(State now) {
    state = now;
    HAVEN_CHECK_EQ(eventfd_write(event_.get(), 1), 0);
  }

  State state = State::kRunning;
  bool slow = false;  // A stop is not complete at once.
  std::vector<std::byte> saved;
  absl::Status error;
  std::vector<std::string> calls;
  std::function<void()> on_call;  // Before each of them takes effect.

 private:
  void Note(const char* call, State next) {
    if (on_call) on_call();
    calls.push_back(call);
    state = next;
  }

  const std::string version_ = "7.2.22 Debian";
  const UniqueFd event_;
};

// What several handles on the store see.
struct FakeStoreContent {
  std::map<std::string, std::string> entries;
  int resumed_domains = 0;
  absl::Status error;  // Of every call, if not OK.
};

class FakeStore final : public XenStore {
 public:
  explicit FakeStore(std::shared_ptr<FakeStoreContent> content)
      : content_(std::move(content)), event_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {}

  absl::StatusOr<std::string> Read(const std::string& path) override {
    if (!content_->error.ok()) return content_->error;
    const auto found = content_->entries.find(path);
    if (found == content_->entries.end()) return absl::NotFoundError(path);
    return found->second;
  }
  absl::StatusOr<std::vector<std::string>> List(const std::string& path) override {
    if (!content_->error.ok()) return content_->error;
    std::vector<std::string> names;
    for (const auto& [entry, value] : content_->entries) {
      if (!absl::StartsWith(entry, path + "/")) continue;
      const size_t begin = path.size() + 1;
      const std::string name = entry.substr(begin, entry.find('/', begin) - begin);
      if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
    }
    if (names.empty() && content_->entries.count(path) == 0) return absl::NotFoundError(path);
    return names;
  }
  absl::Status Write(const std::string& path, const std::string& value) override {
    if (content_->error.ok()) content_->entries[path] = value;
    return content_->error;
  }
  absl::Status Post(const std::string& path, const std::string& value) override {
    return Write(path, value);
  }
  absl::Status Remove(const std::string& path) override {
    if (content_->error.ok()) content_->entries.erase(path);
    return content_->error;
  }
  absl::StatusOr<bool> Replace(const std::string& path, const std::string& expected,
                               const std::string& value) override {
    if (!content_->error.ok()) return content_->error;
    const auto found = content_->entries.find(path);
    if (found == content_->entries.end() || found->second != expected) return false;
    found->second = value;
    return true;
  }
  absl::Status ResumeDomain(uint32_t) override {
    ++content_->resumed_domains;
    return content_->error;
  }
  absl::Status Watch(const std::string& path) override {
    watched.push_back(path);
    return content_->error;
  }
  bool TakeEvents() override {
    uint64_t count = 0;
    return read(event_.get(), &count, sizeof(count)) == sizeof(count);
  }
  int event_fd() const override { return event_.get(); }

  void Announce() { HAVEN_CHECK_EQ(eventfd_write(event_.get(), 1), 0); }

  std::vector<std::string> watched;

 private:
  const std::shared_ptr<FakeStoreContent> content_;
  const UniqueFd event_;
};

class FakeSuspendEvent final : public SuspendEvent {
 public:
  FakeSuspendEvent() : event_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {}

  int fd() const override { return event_.get(); }
  void Take() override {
    uint64_t count = 0;
    if (read(event_.get(), &count, sizeof(count)) == sizeof(count)) ++taken;
  }
  uint32_t guest_port() const override { return 9; }

  void Announce() { HAVEN_CHECK_EQ(eventfd_write(event_.get(), 1), 0); }

  int taken = 0;

 private:
  const UniqueFd event_;
};

// Maps plain memory instead; each page begins with its frame's number.
class FakeMapper final : public ForeignMapper {
 public:
  absl::Status MapAt(std::byte* address, std::span<const uint64_t> frames, std::span<int> errors,
                     bool writable) override {
    HAVEN_CHECK_EQ(frames.size(), errors.size());
    if (!error.ok()) return error;
    HAVEN_CHECK(mmap(address, frames.size() * kPageBytes, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == address);
    for (size_t i = 0; i < frames.size(); ++i) {
      *reinterpret_cast<uint64_t*>(address + i * kPageBytes) = frames[i];
      const auto failed = failing->find(frames[i]);
      errors[i] = failed == failing->end() ? 0 : failed->second;
      ++*mapped;
    }
    last_writable = writable;
    return absl::OkStatus();
  }

  absl::Status error;
  std::shared_ptr<std::map<uint64_t, int>> failing = std::make_shared<std::map<uint64_t, int>>();
  std::shared_ptr<uint64_t> mapped = std::make_shared<uint64_t>(0);
  bool last_writable = false;
};

}  // namespace haven

#endif  // HAVEN_XEN_BASE_INTERFACES_TESTING_H_
