// SPDX-License-Identifier: Apache-2.0
//
// The engine's process: the guard's child.
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "engine/base/log.h"
#include "engine/base/status_macros.h"
#include "engine/cli/command.h"
#include "engine/cli/guests.h"
#include "engine/control/command_server.h"
#include "engine/control/engine_child.h"
#include "engine/control/engine_loop.h"
#include "engine/membership/arbiter_factory.h"
#include "transport/shm/shm_transport.h"

namespace haven {

namespace {

constexpr absl::Duration kCommandTimeout = absl::Seconds(5);

// Tells the guard that the loop still turns: asked and answered, not merely alive.
class Voucher {
 public:
  Voucher(EngineLoop& loop, AlivePage& page)
      : loop_(loop), page_(page), thread_([this] { Work(); }) {}
  ~Voucher() {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      stop_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }

 private:
  void Work() {
    std::unique_lock<std::mutex> lock(mutex_);
    while (!stop_) {
      lock.unlock();
      if (loop_.Snapshot(absl::Seconds(1)).ok()) {
        page_.SetUntilNs(SystemClock::Get().NowNs() + kNsPerSecond);
      }
      lock.lock();
      changed_.wait_for(lock, std::chrono::milliseconds(200), [this] { return stop_; });
    }
  }

  EngineLoop& loop_;
  AlivePage& page_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool stop_ = false;
  std::thread thread_;
};

// The output, whose first holding is written down before it is done: a guard that finds the record
// knows that only the arbiter's word may open it.
class RecordedOutput final : public OutputBuffer {
 public:
  RecordedOutput(OutputBuffer& inner, GroupDirectory directory, GroupRecord record)
      : inner_(inner), directory_(std::move(directory)), record_(std::move(record)) {}

  absl::Status Hold() override {
    if (record_.phase != GroupPhase::kProtecting) {
      record_.phase = GroupPhase::kProtecting;
      HAVEN_RETURN_IF_ERROR(directory_.Save(record_));
    }
    return inner_.Hold();
  }
  absl::Status Barrier() override { return inner_.Barrier(); }
  absl::Status ReleaseOne() override { return inner_.ReleaseOne(); }
  absl::Status OpenAll() override { return inner_.OpenAll(); }
  absl::Status Rebuild() override { return inner_.Rebuild(); }
  absl::Status Discard() override { return inner_.Discard(); }
  absl::Status Remove() override { return inner_.Remove(); }
  OutputStats stats() override { return inner_.stats(); }
  absl::Status Health() override { return inner_.Health(); }

 private:
  OutputBuffer& inner_;
  const GroupDirectory directory_;
  GroupRecord record_;
};

EngineOptions OptionsOf(const GroupRecord& record, const GroupDirectory& directory) {
  EngineOptions options;
  options.node_id = record.owner.substr(0, record.owner.rfind('.'));
  options.group = record.group;
  PrimaryConfig& protocol = options.driver.protocol;
  protocol.owner = record.owner;
  protocol.interval_ns = record.interval_us * kNsPerUs;
  protocol.detect_ns = record.detect_us * kNsPerUs;
  protocol.rearm_ns = record.rearm_us * kNsPerUs;
  protocol.pause_budget_ns = record.pause_budget_us * kNsPerUs;
  options.backup_address = record.backup_address;
  options.return_address = record.return_address;
  options.staging_bytes = record.journal_bytes;
  options.copy_workers = record.copy_threads;
  options.paths.status = directory.StatusPath(record.group);
  options.paths.events = directory.EventsPath(record.group);
  return options;
}

absl::Status Handle(EngineLoop& loop, const OperatorCommand& command) {
  if (command.name == "unprotect") return loop.Unprotect(kCommandTimeout);
  if (command.name == "handover") return loop.Handover(kCommandTimeout);
  if (command.name == "interval") {
    absl::Duration interval;
    if (!absl::ParseDuration(command.argument, &interval)) {
      return absl::InvalidArgumentError(absl::StrCat(
          "interval \"", command.argument, "\": a time with its unit is wanted, as 25ms"));
    }
    return loop.SetInterval(absl::ToInt64Nanoseconds(interval), kCommandTimeout);
  }
  return absl::FailedPreconditionError(
      absl::StrCat("this host has the running copy of the group: \"", command.name,
                   "\" is a command for the host that has the waiting one"));
}

int ExitCodeOf(PrimaryEnd end) {
  switch (end) {
    case PrimaryEnd::kUnprotected:
      return kEngineUnprotected;
    case PrimaryEnd::kGuestEnded:
      return kEngineGuestEnded;
    case PrimaryEnd::kDeposed:
      return kEngineDeposed;
    case PrimaryEnd::kRefused:
      return kEngineRefused;
    case PrimaryEnd::kNotYet:
      break;
  }
  return kExitFailed;
}

// Errors: it could not begin.
absl::StatusOr<int> RunLoop(const Options& options, AlivePage& page) {
  const GroupDirectory directory(options.Text("directory"));
  HAVEN_ASSIGN_OR_RETURN(const GroupRecord record, directory.Load(options.Text("group")));
  std::optional<Register> current;
  if (options.Text("register") != "absent") {
    HAVEN_ASSIGN_OR_RETURN(current, ParseRegister(options.Text("register")));
  }
  HAVEN_ASSIGN_OR_RETURN(GuestSet guests, AttachNodeGuests(directory, record));
  HAVEN_ASSIGN_OR_RETURN(std::unique_ptr<Arbiter> arbiter, MakeArbiter(record.arbiter));
  ShmTransport transport;
  RecordedOutput output(*guests.output, directory, record);
  EngineSeams seams;
  for (size_t i = 0; i < guests.domains.size(); ++i) {
    seams.guests.push_back({guests.domains[i].get(), guests.suspends[i].get()});
  }
  seams.output = &output;
  seams.transport = &transport;
  seams.arbiter = std::move(arbiter);
  HAVEN_ASSIGN_OR_RETURN(std::unique_ptr<EngineLoop> loop,
                         EngineLoop::Create(OptionsOf(record, directory), std::move(seams)));
  HAVEN_ASSIGN_OR_RETURN(const std::unique_ptr<CommandServer> commands,
                         CommandServer::Start(directory.CommandPath(record.group),
                                              [&loop](const OperatorCommand& command) {
                                                return Handle(*loop, command);
                                              }));
  const Voucher voucher(*loop, page);
  const EngineResult result = loop->Run(current);
  HAVEN_LOG(kInfo, "engine") << "group=" << record.group << " " << result.cause;
  return ExitCodeOf(result.end);
}

absl::StatusOr<int> RunEngine(const Options& options) {
  HAVEN_ASSIGN_OR_RETURN(const std::unique_ptr<AlivePage> page,
                         AlivePage::Adopt(EngineChild::kAliveFd));
  const absl::StatusOr<int> code = RunLoop(options, *page);
  if (code.ok()) return *code;
  HAVEN_LOG(kError, "engine") << "group=" << options.Text("group") << " "
                              << std::string(code.status().message());
  return kEngineUnable;
}

}  // namespace

Command EngineCommand() {
  Command command;
  command.name = "engine";
  command.internal = true;
  command.help = "Replicates a group. Started by its guard only.";
  command.options = {DirectoryOption(),
                     {"group", "NAME", "", "the group"},
                     {"register", "TEXT", "absent", "the register as granted to the guard"}};
  command.run = RunEngine;
  return command;
}

}  // namespace haven
