// SPDX-License-Identifier: Apache-2.0
//
// The backup's listener, and the process that it starts for each session.
#include <poll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/base/log.h"
#include "engine/base/status_macros.h"
#include "engine/base/thread.h"
#include "engine/cli/answer.h"
#include "engine/cli/command.h"
#include "engine/cli/guests.h"
#include "engine/cli/transports.h"
#include "engine/control/command_server.h"
#include "engine/control/listener_loop.h"
#include "engine/control/session_children.h"
#include "engine/control/session_loop.h"
#include "engine/control/wake_fd.h"
#include "engine/membership/arbiter_factory.h"
#include "engine/replica/features.h"

namespace haven {

namespace {

constexpr absl::Duration kCommandTimeout = absl::Seconds(5);

std::vector<OptionSpec> SharedOptions() {
  std::vector<OptionSpec> options = {
      DirectoryOption(),
      {"node", "NAME", "", "name of this node; the host's name if not given"},
      {"listen", "ADDRESS", "unix:/run/haven-engine/backup.sock", "where primaries connect"},
      {"arbiter", "SPEC", "", absl::StrCat("who keeps the register: ", kArbiterSpecForms)},
      {"journal-bytes", "SIZE", "8G", "most memory for one group's journal"},
      {"ring-bytes", "SIZE", "0", "of the journal's ring; 0: two of the largest epochs"},
      {"pool-bytes", "SIZE", "0", "of the journal's pool at least, for epochs beyond the ring"},
      {"apply-threads", "N", "1", "threads that apply committed epochs"},
      {"guest-overrides", "TEXT", "",
       "fields of synthetic guests that differ here: log=PATH,verify=0"},
      {"xen-overrides", "TEXT", "",
       "what differs for copies on Xen here: name=NAME,bridge:THERE=HERE,disk:THERE=HERE"},
  };
  for (OptionSpec& option : CredentialSpecs()) options.push_back(std::move(option));
  for (OptionSpec& option : PolicyOptions()) options.push_back(std::move(option));
  return options;
}

absl::StatusOr<JournalOptions> JournalOf(const Options& options) {
  constexpr uint64_t kMost = uint64_t{1} << 40;
  JournalOptions journal;
  HAVEN_ASSIGN_OR_RETURN(journal.max_bytes,
                         options.Bytes("journal-bytes", uint64_t{1} << 20, kMost));
  HAVEN_ASSIGN_OR_RETURN(journal.ring_bytes, options.Bytes("ring-bytes", 0, kMost));
  HAVEN_ASSIGN_OR_RETURN(journal.pool_bytes, options.Bytes("pool-bytes", 0, kMost));
  return journal;
}

absl::Status CheckArbiter(const Options& options) {
  if (options.Text("arbiter").empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--arbiter is needed, the same as the primary's: ", kArbiterSpecForms));
  }
  return MakeArbiter(options.Text("arbiter")).status();
}

// What a guard here will have to know of a group that is promoted, as far as this node decides it.
absl::StatusOr<GroupRecord> RecordHere(const Options& options, const std::string& group,
                                       const std::string& owner) {
  GroupRecord record;
  record.group = group;
  record.owner = owner;
  record.phase = GroupPhase::kProtecting;
  record.return_address = options.Text("listen");
  record.arbiter = options.Text("arbiter");
  ReadCredentials(options, &record);
  // The primary has refused disks that are not covered, or its operator has said that they may be.
  record.unsafe_disk = true;
  HAVEN_RETURN_IF_ERROR(ReadPolicy(options, &record));
  return record;
}

// Fails now what would fail in the middle of a promotion.
absl::Status CheckRecord(const Options& options, const std::string& node) {
  HAVEN_ASSIGN_OR_RETURN(GroupRecord trial, RecordHere(options, "trial", NewOwner(node)));
  trial.guests = {"synthetic:trial"};
  trial.interval_us = trial.detect_us = 1;
  trial.journal_bytes = 1;
  return CheckGroupRecord(trial);
}

// On stdout at once, whoever reads it.
void Tell(const std::string& words) {
  std::printf("%s\n", AnswerJson("", kExitOk, words).c_str());
  std::fflush(stdout);
}

absl::StatusOr<int> RunBackup(const Options& options) {
  HAVEN_RETURN_IF_ERROR(CheckArbiter(options));
  HAVEN_ASSIGN_OR_RETURN(const std::string node, NodeName(options));
  HAVEN_RETURN_IF_ERROR(JournalOf(options).status());
  HAVEN_RETURN_IF_ERROR(options.Number("apply-threads", 0, Applier::kMaxThreads).status());
  HAVEN_RETURN_IF_ERROR(CheckRecord(options, node));
  HAVEN_RETURN_IF_ERROR(GroupDirectory(options.Text("directory")).Ensure());
  HAVEN_ASSIGN_OR_RETURN(const int stop_fd, StopSignalFd());
  const UniqueFd stop(stop_fd);
  ListenerOptions listen;
  listen.address = options.Text("listen");
  listen.session_command = SelfCommand("session");
  for (const OptionSpec& option : SharedOptions()) {
    if (option.argument.empty()) {
      if (options.Has(option.name))
        listen.session_command.push_back(absl::StrCat("--", option.name));
      continue;
    }
    const std::string value = option.name == "node" ? node : options.Text(option.name);
    listen.session_command.push_back(absl::StrCat("--", option.name, "=", value));
  }
  GroupRecord credentials;
  ReadCredentials(options, &credentials);
  HAVEN_ASSIGN_OR_RETURN(const std::unique_ptr<Transport> transport,
                         MakeTransport(listen.address, credentials));
  listen.warning = [&transport] { return transport->Warning(); };
  HAVEN_RETURN_IF_ERROR(
      RunListener(*transport, listen, stop.get(), [&](const std::string& address) {
        const std::string words = absl::StrCat("node ", node, " listens at ", address);
        HAVEN_LOG(kInfo, "backup") << words;
        if (options.Has("json")) Tell(words);
      }));
  if (options.Has("json")) Tell(absl::StrCat("node ", node, " listens no more"));
  return kExitOk;
}

// Ends a session's loop at a signal, if it may end.
class StopWatch {
 public:
  static absl::StatusOr<std::unique_ptr<StopWatch>> Start(SessionLoop& loop, int signal_fd) {
    HAVEN_ASSIGN_OR_RETURN(WakeFd end, WakeFd::Create());
    std::unique_ptr<StopWatch> watch(new StopWatch(loop, signal_fd, std::move(end)));
    HAVEN_ASSIGN_OR_RETURN(watch->thread_,
                           Thread::Start("haven-stop", [raw = watch.get()] { raw->Work(); }));
    return watch;
  }
  ~StopWatch() {
    end_.Signal();
    thread_.Join();
  }

 private:
  StopWatch(SessionLoop& loop, int signal_fd, WakeFd end)
      : loop_(loop), signal_fd_(signal_fd), end_(std::move(end)) {}

  void Work() {
    std::array<pollfd, 2> fds = {{{end_.fd(), POLLIN, 0}, {signal_fd_, POLLIN, 0}}};
    for (;;) {
      if (poll(fds.data(), fds.size(), -1) < 0 && errno != EINTR) return;
      if (fds[0].revents != 0) return;
      signalfd_siginfo signal = {};
      if (read(signal_fd_, &signal, sizeof(signal)) != sizeof(signal)) continue;
      const absl::Status stopped = loop_.Stop(/*force=*/false, kCommandTimeout);
      if (stopped.ok()) continue;
      HAVEN_LOG(kWarning, "session")
          << "group=" << loop_.group()
          << " is not ended by the signal: " << std::string(stopped.message());
    }
  }

  SessionLoop& loop_;
  const int signal_fd_;
  const WakeFd end_;
  Thread thread_;
};

// One session: the lock of its group, its replica, and if it is promoted the guard that follows.
class SessionProcess {
 public:
  SessionProcess(const Options& options, std::string node)
      : options_(options), directory_(options.Text("directory")), node_(std::move(node)) {
    owner_ = NewOwner(node_);
  }

  absl::StatusOr<int> Run(int connection) {
    HAVEN_ASSIGN_OR_RETURN(const int stop_fd, StopSignalFd());
    const UniqueFd stop(stop_fd);
    const absl::StatusOr<bool> promoted = Serve(connection, stop.get());
    if (promoted.ok() && *promoted) {
      HAVEN_ASSIGN_OR_RETURN(const GuardOutcome outcome,
                             RunGuard(directory_, group_, std::move(lock_), std::nullopt));
      return outcome.exit_code;
    }
    // The status of a replica that is not here any more.
    if (lock_.valid()) directory_.RemoveStatus(group_);
    HAVEN_RETURN_IF_ERROR(promoted.status());
    return kExitOk;
  }

 private:
  // True: the copy runs here now.
  absl::StatusOr<bool> Serve(int connection, int stop_fd) {
    HAVEN_ASSIGN_OR_RETURN(std::unique_ptr<Arbiter> arbiter, MakeArbiter(options_.Text("arbiter")));
    HAVEN_ASSIGN_OR_RETURN(const JournalOptions journal, JournalOf(options_));
    HAVEN_ASSIGN_OR_RETURN(const uint64_t threads,
                           options_.Number("apply-threads", 0, Applier::kMaxThreads));
    GroupRecord credentials;
    ReadCredentials(options_, &credentials);
    HAVEN_ASSIGN_OR_RETURN(
        const std::unique_ptr<Transport> transport,
        MakeTransport(options_.Text("listen"), credentials, ExpiredCertificate::kShown));
    NodeReplicaFactory factory(
        directory_, {options_.Text("guest-overrides"), options_.Text("xen-overrides")},
        [this](const std::vector<std::string>& guests) { return SaveRecord(guests); });
    SessionOptions session;
    session.node_id = node_;
    session.setup.journal = journal;
    session.setup.offer = Offer();
    HAVEN_ASSIGN_OR_RETURN(session.beat_ns, options_.DurationNs("heartbeat", 0, kNsPerSecond));
    // Primaries give up earlier by themselves, unless they were told to be patient (--detect).
    session.setup.hello_timeout = absl::Seconds(10);
    session.link_timeout = absl::Seconds(20);
    session.door_patience = absl::Seconds(3);
    session.setup.admit = [this](const Hello& hello) { return Admit(hello); };
    session.driver.protocol.owner = owner_;
    HAVEN_ASSIGN_OR_RETURN(
        const int64_t arbiter_ns,
        options_.DurationNs("arbiter-timeout", 10 * kNsPerMs, 60 * kNsPerSecond));
    session.arbiter_timeout = absl::Nanoseconds(arbiter_ns);
    session.driver.apply_threads = static_cast<unsigned>(threads);
    session.paths = [this](const std::string& group) {
      return StatusPaths{directory_.StatusPath(group), directory_.EventsPath(group)};
    };
    SessionSeams seams;
    seams.transport = transport.get();
    seams.factory = &factory;
    seams.arbiter = std::move(arbiter);
    HAVEN_ASSIGN_OR_RETURN(std::unique_ptr<SessionLoop> loop,
                           SessionLoop::Create(std::move(session), std::move(seams), connection));
    HAVEN_ASSIGN_OR_RETURN(const std::unique_ptr<CommandServer> commands,
                           CommandServer::Start(directory_.CommandPath(group_),
                                                [&loop](const OperatorCommand& command) {
                                                  return Handle(*loop, command);
                                                }));
    HAVEN_ASSIGN_OR_RETURN(std::unique_ptr<StopWatch> watch, StopWatch::Start(*loop, stop_fd));
    const SessionResult result = loop->Run();
    watch.reset();
    HAVEN_LOG(kInfo, "session") << "group=" << group_ << " " << result.cause;
    if (result.end == BackupEnd::kPromoted) return true;
    // A promotion that failed after it was announced has left no copy.
    if (announced_) HAVEN_RETURN_IF_ERROR(directory_.Remove(group_));
    return false;
  }

  FeatureOffer Offer() const {
    constexpr auto kSeal = static_cast<uint64_t>(Feature::kSeal);
    FeatureOffer offer;
    (options_.Has("seal") ? offer.required : offer.optional) |= kSeal;
    return offer;
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
    const absl::Status name = CheckName("group", hello.group);
    if (!name.ok()) return Refuse{RefuseCode::kDomain, std::string(name.message())};
    hello_ = hello;
    group_ = hello.group;
    TellListenerOfPeer();
    if (const auto refuse = RefuseCopy()) return refuse;
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
    // Whoever held the lock may have left a copy.
    if (const auto refuse = RefuseCopy()) return refuse;
    lock_ = *std::move(lock);
    return std::nullopt;
  }

  std::optional<Refuse> RefuseCopy() const {
    if (!directory_.Exists(group_)) return std::nullopt;
    return Refuse{RefuseCode::kNotReady,
                  absl::StrCat("a copy of group ", group_,
                               " is still on this host; its guard (`haven-engine guard ", group_,
                               "`) has to see it destroyed first")};
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
    HAVEN_ASSIGN_OR_RETURN(GroupRecord record, RecordHere(options_, group_, owner_));
    record.guests = guests;
    record.seal = record.seal || IsSealed(hello_.offer.required);
    record.backup_address = AddressFromHere(hello_.return_address, options_.Text("listen"));
    // A Hello may say 0, a record not.
    record.interval_us = std::max<int64_t>(static_cast<int64_t>(hello_.interval_ns) / kNsPerUs, 1);
    record.detect_us = std::max<int64_t>(static_cast<int64_t>(hello_.detect_ns) / kNsPerUs, 1);
    record.journal_bytes = uint64_t{hello_.max_epoch_slots} * hello_.slot_bytes;
    // Also if it fails: it may be there all the same.
    announced_ = true;
    return directory_.Save(record);
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
  command.options.push_back(
      {"json", "", "", "on stdout, an object a line: that it listens, and its end, errors too"});
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
