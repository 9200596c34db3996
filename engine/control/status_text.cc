// SPDX-License-Identifier: Apache-2.0
#include "engine/control/status_text.h"

#include <algorithm>
#include <array>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/time/time.h"
#include "engine/base/clock.h"
#include "engine/replica/identity.h"

namespace haven {

namespace {

std::string WallTime(int64_t wall_ns) {
  return absl::FormatTime("%Y-%m-%dT%H:%M:%SZ", absl::FromUnixNanos(wall_ns), absl::UTCTimeZone());
}

void Line(std::string* out, absl::string_view name, absl::string_view text) {
  absl::StrAppendFormat(out, "  %-10s %s\n", name, text);
}

std::string Ago(int64_t age_ns, const StatusReading& reading) {
  return absl::StrCat(HumanDuration(age_ns + reading.age_ns), " ago");
}

void AppendState(std::string* out, const StatusSnapshot& s, const StatusReading& reading) {
  if (reading.stale) {
    Line(out, "state",
         absl::StrCat("stale: process ", s.pid, " has written nothing for ",
                      HumanDuration(reading.age_ns), "; it hangs or is gone. Its last word:"));
  }
  Line(out, reading.stale ? "" : "state",
       absl::StrCat(s.state, " since ", WallTime(s.since_wall_ns), ": ", s.reason));
  if (!s.remedy.empty()) Line(out, "remedy", s.remedy);
  if (!s.warning.empty()) Line(out, "warning", s.warning);
  if (!s.disk_covered) {
    Line(out, "disk", "not covered: a copy goes on with an older memory and a newer disk");
  }
  if (!s.activity.empty()) Line(out, "activity", s.activity);
  if (!s.last_error.empty()) Line(out, "error", s.last_error);
}

void AppendConnection(std::string* out, const StatusSnapshot& s, const StatusReading& reading) {
  if (s.session == kNoSession) {
    Line(out, "session", "none");
  } else {
    Line(out, "session", absl::StrFormat("%016x, link %d %s", s.session, s.link, s.link_state));
  }
  const RegisterStatus& r = s.registered;
  Line(out, "register",
       r.known ? absl::StrCat("term ", r.term, ", owner ", r.owner, ", ", r.mode,
                              r.running ? "" : ", not running yet")
               : "not seen yet");
  std::string arbiter = s.arbiter.name;
  if (s.arbiter.age_ns != kNoTime) {
    absl::StrAppend(&arbiter, ": ", s.arbiter.answer, " ", Ago(s.arbiter.age_ns, reading));
  }
  if (!s.arbiter.pending.empty()) absl::StrAppend(&arbiter, ", asked for ", s.arbiter.pending);
  if (!s.arbiter.cause.empty()) absl::StrAppend(&arbiter, " (", s.arbiter.cause, ")");
  Line(out, "arbiter", arbiter);
}

void AppendEpochs(std::string* out, const StatusSnapshot& s, const StatusReading& reading) {
  const EpochStatus& e = s.epoch;
  std::string epoch = "none committed";
  if (e.committed != kNoEpoch) {
    epoch = absl::StrCat(e.committed, " committed");
    if (e.age_ns != kNoTime) absl::StrAppend(&epoch, " ", Ago(e.age_ns, reading));
  }
  if (e.in_flight != kNoEpoch) absl::StrAppend(&epoch, ", ", e.in_flight, " in flight");
  if (e.applied != kNoEpoch) absl::StrAppend(&epoch, ", ", e.applied, " applied");
  if (e.interval_ns != kNoTime) {
    absl::StrAppend(&epoch, ", interval ", HumanDuration(e.interval_ns));
  }
  Line(out, "epoch", epoch);
  if (s.sync.active) {
    std::string sync = absl::StrCat(s.sync.pages_done, " pages copied, ", s.sync.pages_left,
                                    " left, ", HumanBytes(s.sync.pages_per_s * kPageBytes), "/s");
    if (s.sync.left_ns != kNoTime) {
      absl::StrAppend(&sync, ", about ", HumanDuration(s.sync.left_ns), " to go");
    }
    Line(out, "sync", sync);
  }
  if (s.role != "primary") {
    Line(out, "applied",
         absl::StrCat(s.counters.applied_pages, " pages, ", HumanBytes(s.counters.received_bytes),
                      " received"));
    return;
  }
  Line(out, "last", absl::StrCat(e.pages, " pages, ", HumanBytes(e.wire_bytes), " on the wire"));
  std::string output =
      absl::StrCat(s.output.held_packets, " packets held (", HumanBytes(s.output.held_bytes), "), ",
                   s.output.released_packets, " released, ", s.output.dropped_packets, " dropped");
  if (s.output.longest_held_ns > 0) {
    absl::StrAppend(&output, ", for at most ", HumanDuration(s.output.last_held_ns), " lately and ",
                    HumanDuration(s.output.longest_held_ns), " ever");
  }
  Line(out, "output", output);
  Line(out, "total",
       absl::StrCat(s.counters.epochs, " epochs (", s.counters.kept_logs,
                    " without clearing the log, which was cleared ", s.counters.cleared_logs,
                    " times in between), ", s.counters.total_pages, " pages (",
                    s.counters.zero_pages, " zero), ", HumanBytes(s.counters.wire_bytes), ", ",
                    s.counters.links, " links, last re-arm ", s.counters.delta_pages, " pages, ",
                    HumanBytes(s.counters.delta_bytes)));
}

void AppendCodec(std::string* out, const CodecStatus& c) {
  if (c.mode == "off" && c.coded_epochs == 0) return;
  std::string text = absl::StrCat(c.mode, ", last epoch ", c.level);
  if (!c.agreed) absl::StrAppend(&text, " (the backup takes no coded pages)");
  absl::StrAppend(&text, "; ", c.coded_epochs, " epochs coded, ", c.plain_epochs, " plain");
  if (c.capped_epochs != 0) absl::StrAppend(&text, ", ", c.capped_epochs, " cut short");
  absl::StrAppend(&text, "; memory ", HumanBytes(c.memory_bytes));
  Line(out, "codec", text);
  if (c.pages == 0) return;
  text = absl::StrCat(c.pages, " pages: ", c.unchanged, " unchanged, ", c.zero, " zero, ", c.same,
                      " equal to others, ", c.patched, " in part, ", c.raw, " whole");
  if (c.missed_blocks != 0) absl::StrAppend(&text, "; MISSED by hashes: ", c.missed_blocks);
  Line(out, "", text);
}

void AppendTimes(std::string* out, const char* name, const PhaseSummary& times) {
  if (times.count == 0) return;
  absl::StrAppendFormat(out, "  %-10s p50 %-10s p99 %-10s max %-10s\n", name,
                        HumanDuration(static_cast<int64_t>(times.p50_ns)),
                        HumanDuration(static_cast<int64_t>(times.p99_ns)),
                        HumanDuration(static_cast<int64_t>(times.max_ns)));
}

}  // namespace

std::string HumanDuration(int64_t ns) {
  if (ns < 10 * kNsPerUs) return absl::StrCat(ns, " ns");
  if (ns < 10 * kNsPerMs) return absl::StrCat(ns / kNsPerUs, " us");
  if (ns < 10 * kNsPerSecond) return absl::StrCat(ns / kNsPerMs, " ms");
  const int64_t seconds = ns / kNsPerSecond;
  if (seconds < 60) return absl::StrCat(seconds, " s");
  if (seconds < 3600) return absl::StrCat(seconds / 60, " min ", seconds % 60, " s");
  return absl::StrCat(seconds / 3600, " h ", seconds % 3600 / 60, " min");
}

std::string HumanBytes(uint64_t bytes) {
  static constexpr std::array<const char*, 5> kUnits = {"KiB", "MiB", "GiB", "TiB", "PiB"};
  if (bytes < 1024) return absl::StrCat(bytes, " B");
  double value = static_cast<double>(bytes) / 1024;
  size_t unit = 0;
  while (value >= 1024 && unit + 1 < kUnits.size()) {
    value /= 1024;
    ++unit;
  }
  return absl::StrFormat("%.1f %s", value, kUnits[unit]);
}

std::string StatusToText(const StatusSnapshot& snapshot, const StatusReading& reading) {
  std::string out = absl::StrCat(snapshot.group, " (", absl::StrJoin(snapshot.guests, ", "),
                                 "): ", snapshot.role, " on ", snapshot.node_id, "\n");
  AppendState(&out, snapshot, reading);
  AppendConnection(&out, snapshot, reading);
  AppendEpochs(&out, snapshot, reading);
  AppendCodec(&out, snapshot.codec);
  AppendTimes(&out, "pause", snapshot.pause);
  for (size_t i = 0; i < kPhases; ++i) {
    AppendTimes(&out, PhaseName(static_cast<Phase>(i)), snapshot.phases[i]);
  }
  return out;
}

}  // namespace haven
