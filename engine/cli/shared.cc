// SPDX-License-Identifier: Apache-2.0
#include <signal.h>
#include <sys/signalfd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/base/check.h"
#include "engine/base/log.h"
#include "engine/base/status_macros.h"
#include "engine/cli/answer.h"
#include "engine/cli/command.h"
#include "engine/cli/guests.h"
#include "engine/cli/progress.h"
#include "engine/codec/codec_mode.h"
#include "engine/control/guard.h"
#include "engine/control/system_ids.h"
#include "engine/control/time_limit.h"
#include "engine/membership/arbiter_factory.h"

namespace haven {

int ExitOf(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return kExitOk;
    case absl::StatusCode::kInvalidArgument:
      return kExitUsage;
    case absl::StatusCode::kNotFound:
      return kExitNotFound;
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kAlreadyExists:
      return kExitRefused;
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kDeadlineExceeded:
      return kExitUnreachable;
    default:
      return kExitFailed;
  }
}

OptionSpec DirectoryOption() {
  return {"directory", "DIR", "/run/haven-engine", "where this node keeps its files"};
}

OptionSpec LogLevelOption() {
  return {"log-level", "LEVEL", "info", "what is logged: debug, info, warning, error or fatal"};
}

std::vector<std::string> SelfCommand(const std::string& subcommand) {
  std::vector<std::string> words = {"/proc/self/exe", subcommand};
  for (const char* name : {"debug", "info", "warning", "error", "fatal"}) {
    const absl::StatusOr<LogLevel> level = ParseLogLevel(name);
    if (level.ok() && *level == GetLogLevel()) words.push_back(absl::StrCat("--log-level=", name));
  }
  return words;
}

absl::StatusOr<int> StopSignalFd() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  signal(SIGPIPE, SIG_IGN);
  if (sigprocmask(SIG_BLOCK, &signals, nullptr) != 0) {
    return absl::InternalError(std::strerror(errno));
  }
  const int fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
  if (fd < 0) return absl::ResourceExhaustedError(std::strerror(errno));
  return fd;
}

std::vector<OptionSpec> PolicyOptions() {
  return {
      {"rearm", "TIME", "2s", "time without a link that carries epochs before solo is asked for"},
      {"pause-budget", "TIME", "2s",
       "guests stopped for somebody's answer before solo is asked for"},
      {"copy-threads", "N", "1", "threads that copy pages beside the engine's own"},
      {"arbiter-timeout", "TIME", "1s",
       "for one call of the arbiter; an unanswered one is repeated"},
      {"codec", "MODE", "auto",
       absl::StrCat("how pages are made small: ", CodecModeNames(), " (docs/codec.md)")},
      {"codec-cache", "SIZE", "128M",
       "memory for the last version of pages, to send their changes only"},
      {"block-bytes", "N", "64", "blocks that are found changed or equal: 64, 128 or 256 bytes"},
      {"codec-hashes", "", "",
       "keep 8 bytes for each block of the pages beyond the cache, to send their changes only"},
      {"verify-blocks", "", "", "keep these hashes of the cache's pages, and count what they miss"},
      {"heartbeat", "TIME", "0",
       "between heartbeats by RDMA, 1 ms to 1 s, at most a third of the detection time; 0: a tenth "
       "of it. On the control channel there is one for four of these"},
      {"seal", "", "",
       "encrypt and authenticate the journal (AES-256-GCM); refuse a peer that does not"},
  };
}

namespace {

absl::Status ReadCodec(const Options& options, GroupRecord* record) {
  HAVEN_ASSIGN_OR_RETURN(const CodecMode mode, ParseCodecMode(options.Text("codec")));
  HAVEN_ASSIGN_OR_RETURN(record->codec_cache_bytes,
                         options.Bytes("codec-cache", 0, uint64_t{kMaxCachePages} * kPageBytes));
  HAVEN_ASSIGN_OR_RETURN(const uint64_t block, options.Number("block-bytes", 64, 256));
  if (!std::has_single_bit(block)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--block-bytes ", block, ": 64, 128 or 256 is wanted"));
  }
  record->codec = CodecModeName(mode);
  record->codec_block_bytes = static_cast<uint32_t>(block);
  record->codec_hashes = options.Has("codec-hashes");
  record->codec_verify = options.Has("verify-blocks");
  record->seal = options.Has("seal");
  return absl::OkStatus();
}

absl::Status ReadHeartbeat(const Options& options, GroupRecord* record) {
  HAVEN_ASSIGN_OR_RETURN(const int64_t beat, options.DurationNs("heartbeat", 0, kNsPerSecond));
  if (beat != 0 && beat < kNsPerMs) {
    return absl::InvalidArgumentError("--heartbeat: 1 ms to 1 s is wanted, or 0");
  }
  record->heartbeat_us = beat / kNsPerUs;
  return absl::OkStatus();
}

}  // namespace

absl::Status ReadPolicy(const Options& options, GroupRecord* record) {
  constexpr int64_t kHourNs = 3600 * kNsPerSecond;
  HAVEN_ASSIGN_OR_RETURN(const int64_t rearm, options.DurationNs("rearm", kNsPerMs, kHourNs));
  HAVEN_ASSIGN_OR_RETURN(const int64_t pause,
                         options.DurationNs("pause-budget", kNsPerMs, kHourNs));
  HAVEN_ASSIGN_OR_RETURN(const uint64_t threads, options.Number("copy-threads", 0, 64));
  HAVEN_ASSIGN_OR_RETURN(const int64_t arbiter,
                         options.DurationNs("arbiter-timeout", 10 * kNsPerMs, 60 * kNsPerSecond));
  HAVEN_RETURN_IF_ERROR(ReadCodec(options, record));
  HAVEN_RETURN_IF_ERROR(ReadHeartbeat(options, record));
  record->rearm_us = rearm / kNsPerUs;
  record->pause_budget_us = pause / kNsPerUs;
  record->copy_threads = static_cast<uint32_t>(threads);
  record->arbiter_timeout_us = arbiter / kNsPerUs;
  return absl::OkStatus();
}

absl::StatusOr<std::string> NodeName(const Options& options) {
  std::array<char, 64> name{};
  std::string node = options.Text("node");
  if (node.empty() && gethostname(name.data(), name.size() - 1) == 0) node = name.data();
  HAVEN_RETURN_IF_ERROR(CheckName("--node", node));
  // An owner's name in the register is this, a dot and 16 digits, and has at most 63 characters.
  if (node.size() > 46) return absl::InvalidArgumentError("--node: at most 46 characters");
  return node;
}

std::string NewOwner(const std::string& node) {
  SystemIds ids;
  return absl::StrFormat("%s.%016x", node, ids.NextId());
}

absl::StatusOr<std::optional<Register>> ReadRegister(const GroupRecord& record) {
  HAVEN_ASSIGN_OR_RETURN(const std::unique_ptr<Arbiter> arbiter, MakeArbiter(record.arbiter));
  RegisterAnswer answer =
      arbiter->Read(record.group, absl::Microseconds(record.arbiter_timeout_us));
  if (answer.verdict == Verdict::kUnknown) return answer.cause;
  return std::move(answer.current);
}

namespace {

GuardOutcome OutcomeOf(GuardEnd end) {
  switch (end) {
    case GuardEnd::kUnprotected:
      return {kExitOk, "is not protected any more"};
    case GuardEnd::kGuestEnded:
      return {kExitOk, "a guest has ended, and the protection"};
    case GuardEnd::kStopped:
      return {kExitOk, "the guard was told to stop: the guests run on, their output as it was"};
    case GuardEnd::kDestroyed:
      return {kExitDeposed, "was promoted elsewhere; the copy here is destroyed"};
    case GuardEnd::kRefused:
      return {kExitRefused, "the register does not let this copy be protected"};
  }
  return {};
}

}  // namespace

absl::StatusOr<GuardOutcome> RunGuard(const GroupDirectory& directory, const std::string& group,
                                      UniqueFd lock, std::optional<ProgressForm> progress) {
  HAVEN_CHECK(lock.valid());
  HAVEN_ASSIGN_OR_RETURN(const GroupRecord record, directory.Load(group));
  HAVEN_ASSIGN_OR_RETURN(const int stop_fd, StopSignalFd());
  const UniqueFd stop(stop_fd);
  HAVEN_ASSIGN_OR_RETURN(std::unique_ptr<Arbiter> arbiter, MakeArbiter(record.arbiter));
  HAVEN_ASSIGN_OR_RETURN(std::unique_ptr<ThreadArbiterPort> port,
                         ThreadArbiterPort::Create(std::move(arbiter), group,
                                                   absl::Microseconds(record.arbiter_timeout_us)));
  GuardOptions options;
  options.engine_command = SelfCommand("engine");
  // A host that may pause for so long without being dead may do so while the engine vouches, and
  // a large epoch is no sign of death either.
  options.hang_ns = std::max(options.hang_ns, 3 * LongestStepNs(record.journal_bytes));
  options.hang_ns += record.detect_us * kNsPerUs;
  // Before that it takes hold of its guests, which a slow host does slowly.
  options.start_ns += 20 * record.detect_us * kNsPerUs;
  Guard guard(
      std::move(options), directory, record,
      [&directory](const GroupRecord& of) {
        return AttachNodeGuests(directory, of, GuestHold::kRun);
      },
      std::move(port), stop.get());
  std::unique_ptr<SyncProgress> shown;
  if (progress.has_value()) {
    HAVEN_ASSIGN_OR_RETURN(shown,
                           SyncProgress::Start(directory.StatusPath(group), *progress, stdout));
  }
  HAVEN_ASSIGN_OR_RETURN(const GuardEnd end, guard.Run());
  GuardOutcome outcome = OutcomeOf(end);
  if (outcome.exit_code == kExitOk) {
    HAVEN_LOG(kInfo, "guard") << "group=" << group << " " << outcome.words;
  } else {
    HAVEN_LOG(kWarning, "guard") << "group=" << group << " " << outcome.words;
  }
  return outcome;
}

int TellOutcome(const Options& options, const std::string& group, const GuardOutcome& outcome) {
  if (!options.Has("json")) return outcome.exit_code;
  return Answer(options, group, outcome.exit_code, outcome.words);
}

}  // namespace haven
