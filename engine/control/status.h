// SPDX-License-Identifier: Apache-2.0
//
// What an engine or a session says about itself: the source of `status`, of metrics and of events
// (DESIGN.md, I7).
#ifndef HAVEN_ENGINE_CONTROL_STATUS_H_
#define HAVEN_ENGINE_CONTROL_STATUS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "engine/primary/phase_times.h"
#include "engine/replica/identity.h"

namespace haven {

// "Not known" for every time below.
inline constexpr int64_t kNoTime = -1;

// The register as this process last saw it.
struct RegisterStatus {
  bool known = false;
  Term term = 0;
  std::string owner;
  std::string mode;  // "none", "promotable", "solo".
  SessionId session = kNoSession;
  bool running = true;
};

struct ArbiterStatus {
  std::string name;          // As operators write it.
  std::string answer;        // "granted", "denied", "unknown"; "none": nothing was asked yet.
  std::string cause;         // Why unknown.
  int64_t age_ns = kNoTime;  // Of that answer.
  std::string pending;       // What is being asked for; empty: nothing.
};

// The copy of a guest that runs, before it is protected.
struct SyncStatus {
  bool active = false;
  uint64_t pages_done = 0;
  uint64_t pages_left = 0;  // As the last round saw it; the guest goes on writing.
  uint64_t pages_per_s = 0;
  int64_t left_ns = kNoTime;
};

struct EpochStatus {
  Epoch committed = kNoEpoch;
  int64_t age_ns = kNoTime;  // Since that acknowledgement.
  Epoch in_flight = kNoEpoch;
  Epoch applied = kNoEpoch;  // Backup only.
  int64_t interval_ns = kNoTime;
  uint64_t pages = 0;  // Of the last epoch.
  uint64_t wire_bytes = 0;
};

struct OutputStatus {
  uint64_t held_packets = 0;
  uint64_t held_bytes = 0;
  uint64_t released_packets = 0;
  uint64_t dropped_packets = 0;
  // How old a packet was at most when it was released: of the last epoch, and of any.
  int64_t last_held_ns = 0;
  int64_t longest_held_ns = 0;
};

// How pages are made small (docs/codec.md). Of a primary.
struct CodecStatus {
  std::string mode = "off";   // As an operator sets it.
  std::string level = "off";  // Of the last epoch: CodecLevelName().
  bool agreed = false;        // The backup of this session takes coded pages.
  uint64_t coded_epochs = 0;
  uint64_t plain_epochs = 0;
  uint64_t capped_epochs = 0;  // Less was done than chosen, as it would have taken too long.
  uint64_t pages = 0;          // Of coded epochs: given,
  uint64_t unchanged = 0;      // ... and not sent at all,
  uint64_t zero = 0;           // ... zero,
  uint64_t same = 0;           // ... equal to another page,
  uint64_t raw = 0;            // ... sent whole,
  uint64_t patched = 0;        // ... sent in part.
  uint64_t changed_blocks = 0;
  uint64_t shared_blocks = 0;  // Changed blocks that stand elsewhere.
  uint64_t missed_blocks = 0;  // Changes that the hashes would have missed; with --verify-blocks.
  uint64_t memory_bytes = 0;
  uint64_t encode_ns_per_page = 0;  // What the policy reckons with: at the level in use,
  uint64_t bytes_per_page = 0;      // ... at that level,
  uint64_t wire_ps_per_byte = 0;    // ... and of the wire, in picoseconds.
};

// Since the process started.
struct CounterStatus {
  uint64_t epochs = 0;
  uint64_t links = 0;
  uint64_t delta_pages = 0;  // Of the first epoch on the newest link: what the last re-arm cost,
  uint64_t delta_bytes = 0;  // ... and on the wire.
  uint64_t total_pages = 0;
  uint64_t zero_pages = 0;
  uint64_t wire_bytes = 0;
  uint64_t applied_pages = 0;  // Backup only, as the next two.
  uint64_t received_bytes = 0;
  uint64_t turned_away = 0;  // Connections that were not a primary's.
  // Primary: checkpoints that did not clear the log of dirty pages, and times that such a log was
  // cleared between two of them.
  uint64_t kept_logs = 0;
  uint64_t cleared_logs = 0;
};

// A whole status, in the past tense: ages count from written_ns.
struct StatusSnapshot {
  int64_t written_ns = 0;       // Of the monotonic clock of this host's current run ...
  int64_t written_wall_ns = 0;  // ... and for people.
  int64_t pid = 0;
  std::string role;  // "primary", "backup".
  std::string node_id;
  std::string group;
  std::vector<std::string> guests;

  std::string state;          // ProtectionStateName().
  int64_t since_wall_ns = 0;  // In that state.
  std::string reason;
  std::string remedy;        // What to do about it; empty: nothing is wrong.
  std::string warning;       // What has to be seen to all the same; empty: nothing.
  bool disk_covered = true;  // Of a primary: no guest writes a disk that is not part of an epoch.
  std::string activity;  // Of a backup: its own state ("standby", ...); of a primary: its guests'.
  std::string last_error;  // The newest complaint of connections or data path.

  SessionId session = kNoSession;
  LinkNumber link = kNoLink;
  std::string link_state;  // "up", "opening", "down".
  RegisterStatus registered;
  ArbiterStatus arbiter;
  EpochStatus epoch;
  SyncStatus sync;
  OutputStatus output;
  CodecStatus codec;
  CounterStatus counters;
  PhaseSummary pause;  // From the request to stop until all guests run again.
  PhaseSummaries phases{};
};

// What the reader of a status knows beyond its writer.
struct StatusReading {
  int64_t age_ns = 0;  // Since it was written; all ages in it are older by that much.
  bool stale = false;  // Its writer has stopped updating it: it hangs, or is gone.
};

// A transition, or something that happened without one.
struct StatusEvent {
  int64_t wall_ns = 0;
  std::string role;
  std::string group;
  std::vector<std::string> guests;
  Term term = 0;
  SessionId session = kNoSession;
  LinkNumber link = kNoLink;
  Epoch epoch = kNoEpoch;  // The last committed one.
  std::string from;
  std::string to;  // Equal to `from`: no transition.
  std::string cause;
  std::string detail;       // The complaint behind it, if there is one.
  uint64_t suppressed = 0;  // Equal ones since the last that was recorded.
};

}  // namespace haven

#endif  // HAVEN_ENGINE_CONTROL_STATUS_H_
