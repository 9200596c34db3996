// SPDX-License-Identifier: Apache-2.0
#include "tests/lab/hub/switch.h"

#include <fnmatch.h>

#include <tuple>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace haven {
namespace {

constexpr size_t kHeaderBytes = 14;
constexpr size_t kAddressBytes = 6;
// A host that changes its addresses without end must not fill our memory.
constexpr size_t kStationsMax = 4096;
constexpr uint64_t kReverseArp = 0x8035;  // ETH_P_RARP

uint64_t AddressAt(std::span<const std::byte> frame, size_t offset) {
  uint64_t address = 0;
  for (size_t i = 0; i < kAddressBytes; ++i) {
    address = address << 8 | std::to_integer<uint64_t>(frame[offset + i]);
  }
  return address;
}

uint64_t EthertypeOf(std::span<const std::byte> frame) {
  constexpr size_t kOffset = 2 * kAddressBytes;
  return std::to_integer<uint64_t>(frame[kOffset]) << 8 |
         std::to_integer<uint64_t>(frame[kOffset + 1]);
}

std::string AddressText(uint64_t address) {
  std::string text;
  for (int shift = 40; shift >= 0; shift -= 8) {
    absl::StrAppendFormat(&text, "%s%02x", text.empty() ? "" : ":", address >> shift & 0xff);
  }
  return text;
}

// Broadcast or multicast.
bool IsGroup(uint64_t address) { return (address >> 40 & 1) != 0; }

bool IsProbability(double value) { return value >= 0 && value <= 1; }

absl::Status CheckRule(const LinkRule& rule) {
  constexpr int64_t kDelayMaxUs = 60'000'000;
  constexpr int64_t kRateMaxKbps = 1'000'000'000;
  constexpr int64_t kQueueMaxBytes = int64_t{1} << 30;
  for (const auto& [name, value] :
       {std::pair("loss", rule.loss), std::pair("corrupt", rule.corrupt),
        std::pair("duplicate", rule.duplicate), std::pair("reorder", rule.reorder)}) {
    if (!IsProbability(value)) {
      return absl::InvalidArgumentError(absl::StrCat(name, " is ", value, ", not from 0 to 1"));
    }
  }
  for (const auto& [name, value, limit] :
       {std::tuple("delay_us", rule.delay_us, kDelayMaxUs),
        std::tuple("jitter_us", rule.jitter_us, kDelayMaxUs),
        std::tuple("reorder_us", rule.reorder_us, kDelayMaxUs),
        std::tuple("rate_kbps", rule.rate_kbps, kRateMaxKbps),
        std::tuple("queue_bytes", rule.queue_bytes, kQueueMaxBytes)}) {
    if (value < 0 || value > limit) {
      return absl::InvalidArgumentError(
          absl::StrCat(name, " is ", value, ", not from 0 to ", limit));
    }
  }
  if (rule.reorder > 0 && rule.reorder_us == 0) {
    return absl::InvalidArgumentError("reorder without reorder_us changes nothing");
  }
  return absl::OkStatus();
}

bool Matches(const std::string& pattern, const std::string& name) {
  return fnmatch(pattern.c_str(), name.c_str(), 0) == 0;
}

}  // namespace

absl::StatusOr<size_t> Switch::AddPort(const std::string& name, const std::string& network) {
  const size_t added = ports_.size();
  for (const Port& port : ports_) {
    if (port.name == name) {
      return absl::AlreadyExistsError(absl::StrCat("two ports are called ", name));
    }
  }
  ports_.push_back(Port{name, network, {}});
  for (size_t other = 0; other < added; ++other) {
    if (ports_[other].network != network) continue;
    ports_[other].links.try_emplace(added);
    ports_[added].links.try_emplace(other);
  }
  return added;
}

void Switch::Receive(size_t port, std::span<const std::byte> frame, int64_t now_ns) {
  if (frame.size() < kHeaderBytes) return;
  const std::string& network = ports_[port].network;
  const uint64_t source = AddressAt(frame, kAddressBytes);
  Note(port, source, frame, now_ns);
  if (!IsGroup(source) &&
      (stations_.size() < kStationsMax || stations_.contains({network, source}))) {
    stations_[{network, source}] = port;
  }
  const uint64_t destination = AddressAt(frame, 0);
  if (!IsGroup(destination)) {
    const auto known = stations_.find({network, destination});
    if (known != stations_.end()) {
      if (known->second != port) Send(port, known->second, frame, now_ns);
      return;
    }
  }
  for (const auto& [other, link] : ports_[port].links) Send(port, other, frame, now_ns);
}

void Switch::Note(size_t port, Address source, std::span<const std::byte> frame, int64_t now_ns) {
  if (sources_.size() >= kStationsMax && !sources_.contains({port, source})) return;
  Source& noted = sources_[{port, source}];
  ++noted.frames;
  noted.last_ns = now_ns;
  if (EthertypeOf(frame) == kReverseArp) ++noted.reverse_arps;
}

void Switch::Send(size_t from, size_t to, std::span<const std::byte> frame, int64_t now_ns) {
  const HubLink::Fate fate = ports_[from].links.at(to).Offer(frame.size(), now_ns, random_);
  if (fate.dropped) return;
  Frame damaged;
  if (fate.corrupted && frame.size() > kHeaderBytes) {
    damaged.assign(frame.begin(), frame.end());
    const uint64_t bit = random_.Below((damaged.size() - kHeaderBytes) * 8);
    damaged[kHeaderBytes + bit / 8] ^= std::byte{1} << (bit % 8);
    frame = damaged;
  }
  for (int copies = fate.duplicated ? 2 : 1; copies > 0; --copies) {
    if (fate.due_ns <= now_ns) {
      sink_(to, frame);
    } else {
      Enqueue(to, frame, fate.due_ns);
    }
  }
}

void Switch::Enqueue(size_t to, std::span<const std::byte> frame, int64_t due_ns) {
  if (bytes_under_way_ + frame.size() > kBytesUnderWayMax) {
    ++frames_over_limit_;
    return;
  }
  bytes_under_way_ += frame.size();
  under_way_.push(UnderWay{due_ns, next_sequence_++, to, Frame(frame.begin(), frame.end())});
}

void Switch::DeliverDue(int64_t now_ns) {
  while (!under_way_.empty() && under_way_.top().due_ns <= now_ns) {
    const UnderWay& next = under_way_.top();
    bytes_under_way_ -= next.frame.size();
    sink_(next.port, next.frame);
    under_way_.pop();
  }
}

std::optional<int64_t> Switch::NextDueNs() const {
  if (under_way_.empty()) return std::nullopt;
  return under_way_.top().due_ns;
}

absl::StatusOr<size_t> Switch::SetRule(const std::string& from, const std::string& to,
                                       const LinkRule& rule) {
  if (absl::Status status = CheckRule(rule); !status.ok()) return status;
  size_t matched = 0;
  for (Port& port : ports_) {
    if (!Matches(from, port.name)) continue;
    for (auto& [other, link] : port.links) {
      if (!Matches(to, ports_[other].name)) continue;
      link.SetRule(rule);
      ++matched;
    }
  }
  if (matched == 0) {
    return absl::NotFoundError(absl::StrCat("no link goes from ", from, " to ", to));
  }
  return matched;
}

void Switch::ClearRules() {
  for (Port& port : ports_) {
    for (auto& [other, link] : port.links) link.SetRule(LinkRule{});
  }
}

std::vector<Switch::PairStats> Switch::Stats() const {
  std::vector<PairStats> stats;
  for (const Port& port : ports_) {
    for (const auto& [other, link] : port.links) {
      stats.push_back({port.name, ports_[other].name, link.counters()});
    }
  }
  return stats;
}

std::vector<Switch::SourceStats> Switch::Sources() const {
  std::vector<SourceStats> stats;
  for (const auto& [key, source] : sources_) {
    stats.push_back({.port = ports_[key.first].name,
                     .address = AddressText(key.second),
                     .frames = source.frames,
                     .reverse_arps = source.reverse_arps,
                     .last_ns = source.last_ns});
  }
  return stats;
}

}  // namespace haven
