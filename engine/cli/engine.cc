// SPDX-License-Identifier: Apache-2.0
//
// The engine's process: the guard's child.
#include <algorithm>
#include <atomic>
#include <bit>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/time.h"
#include "engine/base/log.h"
#include "engine/base/status_macros.h"
#include "engine/base/thread.h"
#include "engine/cli/command.h"
#include "engine/cli/guests.h"
#include "engine/cli/recorded_domain.h"
#include "engine/cli/transports.h"
#include "engine/control/command_server.h"
#include "engine/control/engine_child.h"
#include "engine/control/engine_loop.h"
#include "engine/membership/arbiter_factory.h"
#include "engine/replica/features.h"

namespace haven {

namespace {

constexpr absl::Duration kCommandTimeout = absl::Seconds(5);

// Tells the guard that the loop still turns: not merely that its process is alive.
class Voucher {
 public:
  static absl::StatusOr<std::unique_ptr<Voucher>> Start(EngineLoop& loop, AlivePage& page) {
    std::unique_ptr<Voucher> voucher(new Voucher(loop, page));
    HAVEN_ASSIGN_OR_RETURN(voucher->thread_,
                           Thread::Start("haven-voucher", [raw = voucher.get()] { raw->Work(); }));
    return voucher;
  }
  ~Voucher() {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      stop_ = true;
    }
    changed_.notify_all();
    thread_.Join();
  }

 private:
  Voucher(EngineLoop& loop, AlivePage& page) : loop_(loop), page_(page) {}

  void Work() {
    std::unique_lock<std::mutex> lock(mutex_);
    while (!stop_) {
      const int64_t now_ns = SystemClock::Get().NowNs();
      if (now_ns < loop_.alive_until_ns()) page_.SetUntilNs(now_ns + kNsPerSecond);
      changed_.wait_for(lock, std::chrono::milliseconds(500), [this] { return stop_; });
    }
  }

  EngineLoop& loop_;
  AlivePage& page_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool stop_ = false;
  Thread thread_;
};

CodecStageOptions CodecOf(const GroupRecord& record) {
  CodecStageOptions codec;
  codec.mode = *ParseCodecMode(record.codec);  // The record was checked when it was loaded.
  codec.enabled = codec.mode != CodecMode::kOff;
  codec.block_shift = static_cast<unsigned>(std::countr_zero(record.codec_block_bytes));
  codec.cache_bytes = record.codec_cache_bytes;
  codec.hashes = record.codec_hashes;
  codec.verify = record.codec_verify;
  return codec;
}

EngineOptions OptionsOf(const GroupRecord& record, const GroupDirectory& directory) {
  EngineOptions options;
  options.node_id = record.owner.substr(0, record.owner.rfind('.'));
  options.group = record.group;
  PrimaryConfig& protocol = options.driver.protocol;
  protocol.owner = record.owner;
  protocol.interval_ns = record.interval_us * kNsPerUs;
  protocol.detect_ns = record.detect_us * kNsPerUs;
  // A pause that is no sign of death is none of a dead link, a failed attempt or a guest that does
  // not stop either.
  protocol.suspend_deadline_ns = std::max(protocol.suspend_deadline_ns, protocol.detect_ns);
  protocol.progress_ns = std::max(protocol.progress_ns, protocol.detect_ns);
  protocol.protected_age_ns = std::max(protocol.protected_age_ns, protocol.detect_ns);
  protocol.open_deadline_ns = std::max(protocol.open_deadline_ns, 5 * protocol.detect_ns);
  // The guests stop for it once more, and the backup has to commit that.
  protocol.handover_ns = std::max(protocol.handover_ns, 5 * protocol.detect_ns);
  protocol.rearm_ns = record.rearm_us * kNsPerUs;
  protocol.pause_budget_ns = record.pause_budget_us * kNsPerUs;
  options.backup_address = record.backup_address;
  options.return_address = record.return_address;
  options.staging_bytes = record.journal_bytes;
  options.copy_workers = record.copy_threads;
  options.arbiter_timeout = absl::Microseconds(record.arbiter_timeout_us);
  options.driver.codec = CodecOf(record);
  options.beat_ns = record.heartbeat_us * kNsPerUs;
  if (record.seal) options.offer.required |= static_cast<uint64_t>(Feature::kSeal);
  options.paths.status = directory.StatusPath(record.group);
  options.paths.events = directory.EventsPath(record.group);
  return options;
}

// What the operator has asked for is written down first, so that it is done whoever dies.
absl::Status Unprotect(EngineLoop& loop, RecordedPhase& phase) {
  HAVEN_ASSIGN_OR_RETURN(const bool fresh, phase.Ending());
  const absl::Status taken = loop.Unprotect(kCommandTimeout);
  // Unavailable: the loop has ended, and its guard knows how.
  if (!taken.ok() && !absl::IsUnavailable(taken) && fresh) {
    HAVEN_RETURN_IF_ERROR(phase.NotEnding());
  }
  return taken;
}

absl::Status Handle(EngineLoop& loop, RecordedPhase& phase, const OperatorCommand& command) {
  if (command.name == "unprotect") return Unprotect(loop, phase);
  if (command.name == "handover") return loop.Handover(kCommandTimeout);
  if (command.name == "interval") {
    absl::Duration interval;
    if (!absl::ParseDuration(command.argument, &interval)) {
      return absl::InvalidArgumentError(absl::StrCat(
          "interval \"", command.argument, "\": a time with its unit is wanted, as 25ms"));
    }
    return loop.SetInterval(absl::ToInt64Nanoseconds(interval), kCommandTimeout);
  }
  if (command.name == "codec") {
    HAVEN_ASSIGN_OR_RETURN(const CodecMode mode, ParseCodecMode(command.argument));
    return loop.SetCodec(mode, kCommandTimeout);
  }
  return absl::FailedPreconditionError(
      absl::StrCat("this host has the running copy of the group: \"", command.name,
                   "\" is a command for the host that has the waiting one"));
}

int ExitCodeOf(const EngineResult& result) {
  switch (result.end) {
    case PrimaryEnd::kUnprotected:
      return kEngineUnprotected;
    case PrimaryEnd::kGuestEnded:
      return kEngineGuestEnded;
    case PrimaryEnd::kDeposed:
      return kEngineDeposed;
    case PrimaryEnd::kRefused:
      return kEngineRefused;
    case PrimaryEnd::kNotYet:
      if (result.outdated) return kEngineOutdated;
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
  HAVEN_ASSIGN_OR_RETURN(GuestSet guests,
                         AttachNodeGuests(directory, record, GuestHold::kReplicate));
  if (!guests.ended.empty()) return absl::NotFoundError(absl::StrJoin(guests.ended, "; "));
  HAVEN_ASSIGN_OR_RETURN(std::unique_ptr<Arbiter> arbiter, MakeArbiter(record.arbiter));
  HAVEN_ASSIGN_OR_RETURN(const std::unique_ptr<Transport> transport,
                         MakeTransport(record.backup_address, record, ExpiredCertificate::kShown));
  RecordedPhase phase(directory, record);
  std::vector<std::unique_ptr<RecordedDomain>> domains;
  EngineSeams seams;
  for (size_t i = 0; i < guests.domains.size(); ++i) {
    domains.push_back(std::make_unique<RecordedDomain>(*guests.domains[i], phase));
    seams.guests.push_back({domains[i].get(), guests.suspends[i].get()});
  }
  seams.output = guests.output.get();
  seams.transport = transport.get();
  seams.arbiter = std::move(arbiter);
  HAVEN_ASSIGN_OR_RETURN(std::unique_ptr<EngineLoop> loop,
                         EngineLoop::Create(OptionsOf(record, directory), std::move(seams)));
  HAVEN_ASSIGN_OR_RETURN(const std::unique_ptr<CommandServer> commands,
                         CommandServer::Start(directory.CommandPath(record.group),
                                              [&loop, &phase](const OperatorCommand& command) {
                                                return Handle(*loop, phase, command);
                                              }));
  HAVEN_ASSIGN_OR_RETURN(const std::unique_ptr<Voucher> voucher, Voucher::Start(*loop, page));
  const EngineResult result = loop->Run(current);
  HAVEN_LOG(kInfo, "engine") << "group=" << record.group << " " << result.cause;
  return ExitCodeOf(result);
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
