// SPDX-License-Identifier: Apache-2.0
//
// The backup's listener, and the process that it starts for each session.
#include <poll.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "engine/base/log.h"
#include "engine/base/status_macros.h"
#include "engine/cli/command.h"
#include "engine/cli/guests.h"
#include "engine/control/command_server.h"
#include "engine/control/listener_loop.h"
#include "engine/control/session_loop.h"
#include "engine/membership/arbiter_factory.h"
#include "transport/shm/shm_transport.h"

namespace haven {

namespace {

constexpr absl::Duration kCommandTimeout = absl::Seconds(5);

std::vector<OptionSpec> SharedOptions() {
  return {
      DirectoryOption(),
      {"node", "NAME", "", "name of this node; the host's name if not given"},
      {"listen", "ADDRESS", "unix:/run/haven-engine/backup.sock", "where primaries connect"},
      {"arbiter", "SPEC", "", absl::StrCat("who keeps the register: ", kArbiterSpecForms)},
      {"journal-bytes", "SIZE", "8G", "most memory for one group's journal"},
      {"apply-threads", "N", "1", "threads that apply committed epochs"},
      {"guest-overrides", "TEXT", "",
       "fields of synthetic guests that differ here: log=PATH,verify=0"},
  };
}

absl::StatusOr<std::string> NodeName(const Options& options) {
  std::array<char, 64> name{};
  std::string node = options.Text("node");
  if (node.empty() && gethostname(name.data(), name.size() - 1) == 0) node = name.data();
  HAVEN_RETURN_IF_ERROR(CheckName("--node", node));
  if (node.size() > 46) return absl::InvalidArgumentError("--node: at most 46 characters");
  return node;
}

absl::Status CheckArbiter(const Options& options) {
  if (options.Text("arbiter").empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--arbiter is needed, the same as the primary's: ", kArbiterSpecForms));
  }
  return MakeArbiter(options.Text("arbiter")).status();
}

absl::StatusOr<int> RunBackup(const Options& options) {
  HAVEN_RETURN_IF_ERROR(CheckArbiter(options));
  HAVEN_ASSIGN_OR_RETURN(const std::string node, NodeName(options));
  HAVEN_RETURN_IF_ERROR(
      options.Bytes("journal-bytes", uint64_t{1} << 20, uint64_t{1} << 40).status());
  HAVEN_RETURN_IF_ERROR(options.Number("apply-threads", 0, Applier::kMaxThreads).status());
  HAVEN_RETURN_IF_ERROR(GroupDirectory(options.Text("directory")).Ensure());
  HAVEN_ASSIGN_OR_RETURN(const int stop_fd, StopSignalFd());
  const UniqueFd stop(stop_fd);
  ListenerOptions listen;
  listen.address = options.Text("listen");
  listen.session_command = SelfCommand("session");
  for (const OptionSpec& option : SharedOptions()) {
    const std::string value = option.name == "node" ? node : options.Text(option.name);
    listen.session_command.push_back(absl::StrCat("--", option.name, "=", value));
  }
  ShmTransport transport;
  HAVEN_RETURN_IF_ERROR(
      RunListener(transport, listen, stop.get(), [&node](const std::string& address) {
        HAVEN_LOG(kInfo, "backup") << "node " << node << " listens at " << address;
      }));
  return kExitOk;
}

// One session: the lock of its group, its replica, and if it is promoted the guard that follows.
class SessionProcess {
 public:
  SessionProcess(const Options& options, std::string node)
      : options_(options), directory_(options.Text("directory")), node_(std::move(node)) {
    SystemIds ids;
    owner_ = absl::StrFormat("%s.%016x", node_, ids.NextId());
  }

  absl::StatusOr<int> Run(int connection) {
    HAVEN_ASSIGN_OR_RETURN(const bool promoted, Serve(connection));
    lock_.reset();
    if (!promoted) return kExitOk;
    return RunGuard(directory_, group_);
  }

 private:
  // True: the copy runs here now.
  absl::StatusOr<bool> Serve(int connection) {
    HAVEN_ASSIGN_OR_RETURN(std::unique_ptr<Arbiter> arbiter, MakeArbiter(options_.Text("arbiter")));
    HAVEN_ASSIGN_OR_RETURN(const uint64_t journal,
                           options_.Bytes("journal-bytes", uint64_t{1} << 20, uint64_t{1} << 40));
    HAVEN_ASSIGN_OR_RETURN(const uint64_t threads,
                           options_.Number("apply-threads", 0, Applier::kMaxThreads));
    ShmTransport transport;
    NodeReplicaFactory factory(
        directory_, options_.Text("guest-overrides"),
        [this](const std::vector<std::string>& guests) { return SaveRecord(guests); });
    SessionOptions session;
    session.node_id = node_;
    session.setup.journal.max_bytes = journal;
    session.setup.admit = [this](const Hello& hello) { return Admit(hello); };
    session.driver.protocol.owner = owner_;
    session.driver.apply_threads = static_cast<unsigned>(threads);
    session.paths = [this](const std::string& group) {
      return StatusPaths{directory_.StatusPath(group), directory_.EventsPath(group)};
    };
    SessionSeams seams;
    seams.transport = &transport;
    seams.factory = &factory;
    seams.arbiter = std::move(arbiter);
    HAVEN_ASSIGN_OR_RETURN(std::unique_ptr<SessionLoop> loop,
                           SessionLoop::Create(std::move(session), std::move(seams), connection));
    HAVEN_ASSIGN_OR_RETURN(const std::unique_ptr<CommandServer> commands,
                           CommandServer::Start(directory_.CommandPath(group_),
                                                [&loop](const OperatorCommand& command) {
                                                  return Handle(*loop, command);
                                                }));
    const SessionResult result = loop->Run();
    HAVEN_LOG(kInfo, "session") << "group=" << group_ << " " << result.cause;
    if (result.end == BackupEnd::kPromoted) return true;
    // A promotion that failed after it was announced has left no copy.
    if (announced_) HAVEN_RETURN_IF_ERROR(directory_.Remove(group_));
    return false;
  }

  static absl::Status Handle(SessionLoop& loop, const OperatorCommand& command) {
    if (command.name == "promote") return loop.Promote(kCommandTimeout);
    if (command.name == "retire") return loop.Stop(/*force=*/false, kCommandTimeout);
    return absl::FailedPreconditionError(
        absl::StrCat("this host has the waiting copy of the group: \"", command.name,
                     "\" is a command for the host that has the running one"));
  }

  // A group has one replica here, and none while a copy of it is or may be running here.
  std::optional<Refuse> Admit(const Hello& hello) {
    hello_ = hello;
    group_ = hello.group;
    if (directory_.Exists(group_)) {
      return Refuse{RefuseCode::kNotReady,
                    absl::StrCat("a copy of group ", group_,
                                 " is still on this host; its guard (`haven-engine guard ", group_,
                                 "`) has to see it destroyed first")};
    }
    absl::StatusOr<UniqueFd> lock = directory_.Lock(group_);
    if (!lock.ok()) {
      // An older session's replica that nobody may promote makes room.
      const absl::Status retired =
          SendCommand(directory_.CommandPath(group_), {"retire", ""}, kCommandTimeout);
      if (!retired.ok() && !absl::IsNotFound(retired)) {
        return Refuse{RefuseCode::kGroupBusy, std::string(retired.message())};
      }
      lock = WaitForLock();
    }
    if (!lock.ok()) return Refuse{RefuseCode::kGroupBusy, std::string(lock.status().message())};
    lock_ = *std::move(lock);
    return std::nullopt;
  }

  absl::StatusOr<UniqueFd> WaitForLock() const {
    constexpr int kTries = 40;
    absl::StatusOr<UniqueFd> lock = directory_.Lock(group_);
    for (int i = 0; i < kTries && !lock.ok(); ++i) {
      poll(nullptr, 0, 50);
      lock = directory_.Lock(group_);
    }
    return lock;
  }

  // Before a copy can run here: what its guard will have to know.
  absl::Status SaveRecord(const std::vector<std::string>& guests) {
    GroupRecord record;
    record.group = group_;
    record.owner = owner_;
    record.phase = GroupPhase::kProtecting;
    record.guests = guests;
    record.backup_address = hello_.return_address;
    record.return_address = options_.Text("listen");
    record.arbiter = options_.Text("arbiter");
    record.interval_us = static_cast<int64_t>(hello_.interval_ns) / kNsPerUs;
    record.detect_us = static_cast<int64_t>(hello_.detect_ns) / kNsPerUs;
    record.rearm_us = 2'000'000;
    record.pause_budget_us = 2'000'000;
    record.journal_bytes = uint64_t{hello_.max_epoch_slots} * hello_.slot_bytes;
    record.copy_threads = 1;
    HAVEN_RETURN_IF_ERROR(directory_.Save(record));
    announced_ = true;
    return absl::OkStatus();
  }

  const Options& options_;
  const GroupDirectory directory_;
  const std::string node_;
  std::string owner_;
  std::string group_;
  Hello hello_;
  UniqueFd lock_;
  bool announced_ = false;
};

absl::StatusOr<int> RunSession(const Options& options) {
  HAVEN_ASSIGN_OR_RETURN(const std::string node, NodeName(options));
  SessionProcess process(options, node);
  return process.Run(kSessionFd);
}

}  // namespace

Command BackupCommand() {
  Command command;
  command.name = "backup";
  command.synopsis = "--arbiter SPEC [--listen ADDRESS]";
  command.help =
      "Listens for primaries and keeps a replica for each group that one protects here, in a "
      "process\n"
      "of its own each. Sessions live on when the listener ends.";
  command.options = SharedOptions();
  command.run = RunBackup;
  return command;
}

Command SessionCommand() {
  Command command;
  command.name = "session";
  command.internal = true;
  command.help = "Keeps one replica. Started by `backup` only.";
  command.options = SharedOptions();
  command.run = RunSession;
  return command;
}

}  // namespace haven
