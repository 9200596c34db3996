// SPDX-License-Identifier: Apache-2.0
//
// The fields of a status, named once for writing and for reading.
#ifndef HAVEN_ENGINE_CONTROL_STATUS_FIELDS_H_
#define HAVEN_ENGINE_CONTROL_STATUS_FIELDS_H_

#include <cstddef>

#include "engine/control/status.h"

namespace haven {

// `io` has Field(name, value) for numbers, text and lists of text, Id(name, value) for sessions,
// and Object(name, value, function) for what has fields of its own.

template <typename Io, typename Value>
void TransferRegister(Io& io, Value& value) {
  io.Field("known", value.known);
  io.Field("term", value.term);
  io.Field("owner", value.owner);
  io.Field("mode", value.mode);
  io.Id("session", value.session);
  io.Field("running", value.running);
}

template <typename Io, typename Value>
void TransferArbiter(Io& io, Value& value) {
  io.Field("name", value.name);
  io.Field("answer", value.answer);
  io.Field("cause", value.cause);
  io.Field("age_ns", value.age_ns);
  io.Field("pending", value.pending);
}

template <typename Io, typename Value>
void TransferEpoch(Io& io, Value& value) {
  io.Field("committed", value.committed);
  io.Field("age_ns", value.age_ns);
  io.Field("in_flight", value.in_flight);
  io.Field("applied", value.applied);
  io.Field("interval_ns", value.interval_ns);
  io.Field("pages", value.pages);
  io.Field("wire_bytes", value.wire_bytes);
}

template <typename Io, typename Value>
void TransferSync(Io& io, Value& value) {
  io.Field("active", value.active);
  io.Field("pages_done", value.pages_done);
  io.Field("pages_left", value.pages_left);
  io.Field("pages_per_s", value.pages_per_s);
  io.Field("left_ns", value.left_ns);
}

template <typename Io, typename Value>
void TransferOutput(Io& io, Value& value) {
  io.Field("held_packets", value.held_packets);
  io.Field("held_bytes", value.held_bytes);
  io.Field("released_packets", value.released_packets);
  io.Field("dropped_packets", value.dropped_packets);
  io.Field("last_held_ns", value.last_held_ns);
  io.Field("longest_held_ns", value.longest_held_ns);
}

template <typename Io, typename Value>
void TransferCodec(Io& io, Value& value) {
  io.Field("mode", value.mode);
  io.Field("level", value.level);
  io.Field("agreed", value.agreed);
  io.Field("coded_epochs", value.coded_epochs);
  io.Field("plain_epochs", value.plain_epochs);
  io.Field("capped_epochs", value.capped_epochs);
  io.Field("pages", value.pages);
  io.Field("unchanged", value.unchanged);
  io.Field("zero", value.zero);
  io.Field("same", value.same);
  io.Field("raw", value.raw);
  io.Field("patched", value.patched);
  io.Field("changed_blocks", value.changed_blocks);
  io.Field("shared_blocks", value.shared_blocks);
  io.Field("missed_blocks", value.missed_blocks);
  io.Field("memory_bytes", value.memory_bytes);
  io.Field("encode_ns_per_page", value.encode_ns_per_page);
  io.Field("bytes_per_page", value.bytes_per_page);
  io.Field("wire_ps_per_byte", value.wire_ps_per_byte);
}

template <typename Io, typename Value>
void TransferCounters(Io& io, Value& value) {
  io.Field("epochs", value.epochs);
  io.Field("links", value.links);
  io.Field("delta_pages", value.delta_pages);
  io.Field("delta_bytes", value.delta_bytes);
  io.Field("total_pages", value.total_pages);
  io.Field("zero_pages", value.zero_pages);
  io.Field("wire_bytes", value.wire_bytes);
  io.Field("applied_pages", value.applied_pages);
  io.Field("received_bytes", value.received_bytes);
  io.Field("turned_away", value.turned_away);
  io.Field("kept_logs", value.kept_logs);
  io.Field("cleared_logs", value.cleared_logs);
}

template <typename Io, typename Value>
void TransferTimes(Io& io, Value& value) {
  io.Field("count", value.count);
  io.Field("last_ns", value.last_ns);
  io.Field("p50_ns", value.p50_ns);
  io.Field("p99_ns", value.p99_ns);
  io.Field("max_ns", value.max_ns);
}

template <typename Io, typename Value>
void TransferPhases(Io& io, Value& value) {
  for (size_t i = 0; i < kPhases; ++i) {
    io.Object(PhaseName(static_cast<Phase>(i)), value[i],
              [](auto& inner, auto& times) { TransferTimes(inner, times); });
  }
}

template <typename Io, typename Value>
void TransferStatus(Io& io, Value& value) {
  io.Field("written_ns", value.written_ns);
  io.Field("written_wall_ns", value.written_wall_ns);
  io.Field("pid", value.pid);
  io.Field("role", value.role);
  io.Field("node_id", value.node_id);
  io.Field("group", value.group);
  io.Field("guests", value.guests);
  io.Field("state", value.state);
  io.Field("since_wall_ns", value.since_wall_ns);
  io.Field("reason", value.reason);
  io.Field("remedy", value.remedy);
  io.Field("warning", value.warning);
  io.Field("disk_covered", value.disk_covered);
  io.Field("activity", value.activity);
  io.Field("last_error", value.last_error);
  io.Id("session", value.session);
  io.Field("link", value.link);
  io.Field("link_state", value.link_state);
  io.Object("register", value.registered, [](auto& in, auto& v) { TransferRegister(in, v); });
  io.Object("arbiter", value.arbiter, [](auto& in, auto& v) { TransferArbiter(in, v); });
  io.Object("epoch", value.epoch, [](auto& in, auto& v) { TransferEpoch(in, v); });
  io.Object("sync", value.sync, [](auto& in, auto& v) { TransferSync(in, v); });
  io.Object("output", value.output, [](auto& in, auto& v) { TransferOutput(in, v); });
  io.Object("codec", value.codec, [](auto& in, auto& v) { TransferCodec(in, v); });
  io.Object("counters", value.counters, [](auto& in, auto& v) { TransferCounters(in, v); });
  io.Object("pause", value.pause, [](auto& in, auto& v) { TransferTimes(in, v); });
  io.Object("phases", value.phases, [](auto& in, auto& v) { TransferPhases(in, v); });
}

}  // namespace haven

#endif  // HAVEN_ENGINE_CONTROL_STATUS_FIELDS_H_
