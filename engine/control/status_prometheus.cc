// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/base/clock.h"
#include "engine/control/status_text.h"

namespace haven {

namespace {

std::string Escaped(absl::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '\n') {
      out += "\\n";
      continue;
    }
    if (c == '\\' || c == '"') out += '\\';
    out += c;
  }
  return out;
}

double Seconds(int64_t ns) { return static_cast<double>(ns) / static_cast<double>(kNsPerSecond); }

}  // namespace

// The metrics of one group on one host.
class PrometheusText::Group {
 public:
  Group(const StatusSnapshot& snapshot, std::vector<Metric>* all)
      : labels_(absl::StrCat("group=\"", Escaped(snapshot.group), "\",role=\"",
                             Escaped(snapshot.role), "\",node=\"", Escaped(snapshot.node_id),
                             "\"")),
        all_(all) {}

  // Begins a metric; its values follow.
  void Begin(absl::string_view name, absl::string_view type, absl::string_view help) {
    const auto known = std::find_if(all_->begin(), all_->end(),
                                    [name](const Metric& metric) { return metric.name == name; });
    at_ = static_cast<size_t>(known - all_->begin());
    if (known != all_->end()) return;
    all_->push_back({std::string(name),
                     absl::StrCat("# HELP ", name, " ", help, "\n# TYPE ", name, " ", type, "\n"),
                     ""});
  }
  void Value(double value, absl::string_view more_labels = "", absl::string_view suffix = "") {
    Metric& metric = (*all_)[at_];
    absl::StrAppend(&metric.values, metric.name, suffix, "{", labels_, more_labels, "} ",
                    absl::StrFormat("%.17g", value), "\n");
  }
  void Gauge(absl::string_view name, absl::string_view help, double value) {
    Begin(name, "gauge", help);
    Value(value);
  }
  void Counter(absl::string_view name, absl::string_view help, uint64_t value) {
    Begin(name, "counter", help);
    Value(static_cast<double>(value));
  }
  void Times(const PhaseSummary& times, absl::string_view more_labels) {
    const std::array<std::pair<const char*, uint64_t>, 3> quantiles = {
        {{"0.5", times.p50_ns}, {"0.99", times.p99_ns}, {"1", times.max_ns}}};
    for (const auto& [quantile, ns] : quantiles) {
      Value(Seconds(static_cast<int64_t>(ns)),
            absl::StrCat(more_labels, ",quantile=\"", quantile, "\""));
    }
    Value(static_cast<double>(times.count), more_labels, "_count");
  }

  void State(const StatusSnapshot& s, const StatusReading& reading);
  void Epochs(const StatusSnapshot& s, const StatusReading& reading);
  void Primary(const StatusSnapshot& s);
  void Codec(const CodecStatus& c);
  void Backup(const StatusSnapshot& s);

 private:
  const std::string labels_;
  std::vector<Metric>* const all_;
  size_t at_ = 0;
};

void PrometheusText::Group::State(const StatusSnapshot& s, const StatusReading& reading) {
  Gauge("haven_stale", "1 if the process has stopped updating its status.", reading.stale ? 1 : 0);
  Gauge("haven_status_age_seconds", "Since the status was written.", Seconds(reading.age_ns));
  Begin("haven_state", "gauge", "1 for the present protection state; absent if stale.");
  if (!reading.stale) Value(1, absl::StrCat(",state=\"", Escaped(s.state), "\""));
  Gauge("haven_link_up", "1 while a link can carry epochs.", s.link_state == "up" ? 1 : 0);
  Gauge("haven_term", "Term of the register as last seen.", static_cast<double>(s.registered.term));
  if (s.arbiter.age_ns != kNoTime) {
    Gauge("haven_arbiter_answer_age_seconds", "Since the arbiter's last answer.",
          Seconds(s.arbiter.age_ns + reading.age_ns));
  }
}

void PrometheusText::Group::Epochs(const StatusSnapshot& s, const StatusReading& reading) {
  Gauge("haven_committed_epoch", "Last committed epoch of the session.",
        static_cast<double>(s.epoch.committed));
  if (s.epoch.age_ns != kNoTime) {
    Gauge("haven_commit_age_seconds", "Since the last acknowledgement.",
          Seconds(s.epoch.age_ns + reading.age_ns));
  }
  if (s.sync.active) {
    Gauge("haven_sync_pages_left", "Pages left to copy before protection.",
          static_cast<double>(s.sync.pages_left));
  }
  Counter("haven_links_total", "Links opened.", s.counters.links);
  Counter("haven_kept_logs_total",
          "Checkpoints that did not clear the log of dirty pages: the guest is spared its faults.",
          s.counters.kept_logs);
  Counter("haven_cleared_logs_total",
          "Times that a kept log of dirty pages was cleared between two checkpoints.",
          s.counters.cleared_logs);
}

void PrometheusText::Group::Primary(const StatusSnapshot& s) {
  Gauge("haven_epoch_pages", "Pages of the last epoch.", static_cast<double>(s.epoch.pages));
  Gauge("haven_epoch_wire_bytes", "Bytes on the wire of the last epoch.",
        static_cast<double>(s.epoch.wire_bytes));
  Counter("haven_epochs_total", "Epochs sent.", s.counters.epochs);
  Counter("haven_pages_total", "Pages sent.", s.counters.total_pages);
  Counter("haven_zero_pages_total", "Pages sent without their bytes.", s.counters.zero_pages);
  Counter("haven_wire_bytes_total", "Bytes sent.", s.counters.wire_bytes);
  Gauge("haven_rearm_pages", "Pages that the last re-arm cost.",
        static_cast<double>(s.counters.delta_pages));
  Gauge("haven_rearm_wire_bytes", "Bytes on the wire that the last re-arm cost.",
        static_cast<double>(s.counters.delta_bytes));
  Gauge("haven_output_held_packets", "Packets held until their epoch is committed.",
        static_cast<double>(s.output.held_packets));
  Gauge("haven_output_held_bytes", "Bytes held until their epoch is committed.",
        static_cast<double>(s.output.held_bytes));
  Counter("haven_output_released_packets_total", "Packets released.", s.output.released_packets);
  Counter("haven_output_dropped_packets_total", "Packets lost at the buffer's limit.",
          s.output.dropped_packets);
  if (s.output.longest_held_ns > 0) {
    Gauge("haven_output_held_seconds", "Age of the last epoch's oldest packet at its release.",
          Seconds(s.output.last_held_ns));
  }
  Begin("haven_pause_seconds", "summary", "How long the guests stand still per epoch.");
  Times(s.pause, "");
  Begin("haven_phase_seconds", "summary", "How long each phase of an epoch takes.");
  for (size_t i = 0; i < kPhases; ++i) {
    Times(s.phases[i], absl::StrCat(",phase=\"", PhaseName(static_cast<Phase>(i)), "\""));
  }
}

void PrometheusText::Group::Codec(const CodecStatus& c) {
  Begin("haven_codec_level", "gauge", "1 for how the last epoch's pages were made small.");
  Value(1, absl::StrCat(",mode=\"", Escaped(c.mode), "\",level=\"", Escaped(c.level), "\""));
  Counter("haven_codec_coded_epochs_total", "Epochs with coded pages.", c.coded_epochs);
  Counter("haven_codec_plain_epochs_total", "Epochs without.", c.plain_epochs);
  Counter("haven_codec_capped_epochs_total", "Epochs at a lower level than chosen, for time.",
          c.capped_epochs);
  Begin("haven_codec_pages_total", "counter", "Pages of coded epochs by what became of them.");
  const std::array<std::pair<const char*, uint64_t>, 5> kinds = {{{"unchanged", c.unchanged},
                                                                  {"zero", c.zero},
                                                                  {"same", c.same},
                                                                  {"patched", c.patched},
                                                                  {"raw", c.raw}}};
  for (const auto& [kind, pages] : kinds) {
    Value(static_cast<double>(pages), absl::StrCat(",kind=\"", kind, "\""));
  }
  Counter("haven_codec_missed_blocks_total", "Changes that block hashes would have missed.",
          c.missed_blocks);
  Gauge("haven_codec_memory_bytes", "Memory of caches, hashes, image and encoders.",
        static_cast<double>(c.memory_bytes));
}

void PrometheusText::Group::Backup(const StatusSnapshot& s) {
  Gauge("haven_applied_epoch", "Last epoch that is in the replica's memory.",
        static_cast<double>(s.epoch.applied));
  Counter("haven_applied_pages_total", "Pages committed and given to the applier.",
          s.counters.applied_pages);
  Counter("haven_received_bytes_total", "Bytes of committed epochs.", s.counters.received_bytes);
  Counter("haven_turned_away_total", "Connections that were not a primary's.",
          s.counters.turned_away);
}

void PrometheusText::Add(const StatusSnapshot& snapshot, const StatusReading& reading) {
  Group group(snapshot, &metrics_);
  group.State(snapshot, reading);
  group.Epochs(snapshot, reading);
  if (snapshot.role == "primary") {
    group.Primary(snapshot);
    if (snapshot.codec.mode != "off" || snapshot.codec.coded_epochs != 0) {
      group.Codec(snapshot.codec);
    }
  } else {
    group.Backup(snapshot);
  }
}

std::string PrometheusText::Text() const {
  std::string text;
  for (const Metric& metric : metrics_) absl::StrAppend(&text, metric.head, metric.values);
  return text;
}

std::string StatusToPrometheus(const StatusSnapshot& snapshot, const StatusReading& reading) {
  PrometheusText text;
  text.Add(snapshot, reading);
  return text.Text();
}

}  // namespace haven
