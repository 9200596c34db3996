// SPDX-License-Identifier: Apache-2.0
//
// The virtual network of the lab as logic: ports, networks, who hears a frame, and when.
#ifndef HAVEN_TESTS_LAB_HUB_SWITCH_H_
#define HAVEN_TESTS_LAB_HUB_SWITCH_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <queue>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/base/random.h"
#include "tests/lab/hub/link.h"

namespace haven {

using Frame = std::vector<std::byte>;

// One learning Ethernet switch per network. Each ordered pair of ports of a network has a link of
// its own, through which frames pass; a station that is heard at another port has moved there, as
// in a real switch. Time comes in as an argument and never goes back. Not thread-safe.
class Switch {
 public:
  // Called when a frame arrives at a port, from within Receive and DeliverDue.
  using Sink = std::function<void(size_t port, std::span<const std::byte> frame)>;

  // At most so much is under way; what does not fit any more is dropped and counted.
  static constexpr size_t kBytesUnderWayMax = size_t{256} << 20;

  struct PairStats {
    std::string from;
    std::string to;
    LinkCounters counters;
  };

  // What has come in at a port from one station, whatever became of it.
  struct SourceStats {
    std::string port;
    std::string address;  // As 00:16:3e:00:00:64.
    int64_t frames = 0;
    int64_t reverse_arps = 0;  // Of these: a station is announced to the network.
    int64_t last_ns = 0;       // When the last one came.
  };

  Switch(uint64_t seed, Sink sink) : random_(seed), sink_(std::move(sink)) {}

  // Adds a port and returns its number, counted from 0. AlreadyExists: the name is taken.
  absl::StatusOr<size_t> AddPort(const std::string& name, const std::string& network);

  // A frame came in at a port; DeliverDue was called with the same time before. What is no Ethernet
  // frame is dropped.
  void Receive(size_t port, std::span<const std::byte> frame, int64_t now_ns);

  // Delivers what has arrived by now.
  void DeliverDue(int64_t now_ns);

  // When DeliverDue has something to do next; nothing if nothing is under way.
  std::optional<int64_t> NextDueNs() const;

  // Sets the rule of every link whose ends match these patterns (fnmatch(3)), and returns how many
  // there are. NotFound: none. InvalidArgument: a value out of its range, named.
  absl::StatusOr<size_t> SetRule(const std::string& from, const std::string& to,
                                 const LinkRule& rule);

  // Makes every cable perfect again.
  void ClearRules();

  // Of all links, in the order of the ports.
  std::vector<PairStats> Stats() const;

  // In the order of ports and addresses. A station that came when too many were known is not there.
  std::vector<SourceStats> Sources() const;

  // Frames dropped because kBytesUnderWayMax was reached.
  int64_t frames_over_limit() const { return frames_over_limit_; }

 private:
  using Address = uint64_t;  // 48 bits.

  struct Port {
    std::string name;
    std::string network;
    std::map<size_t, HubLink> links;  // By the port at the other end.
  };

  struct UnderWay {
    int64_t due_ns;
    uint64_t sequence;  // Frames due at the same time stay in order.
    size_t port;
    Frame frame;
    bool operator<(const UnderWay& other) const {
      return due_ns != other.due_ns ? due_ns > other.due_ns : sequence > other.sequence;
    }
  };

  // What has come from one station at one port.
  struct Source {
    int64_t frames = 0;
    int64_t reverse_arps = 0;
    int64_t last_ns = 0;
  };

  void Note(size_t port, Address source, std::span<const std::byte> frame, int64_t now_ns);
  void Send(size_t from, size_t to, std::span<const std::byte> frame, int64_t now_ns);
  void Enqueue(size_t to, std::span<const std::byte> frame, int64_t due_ns);

  Random random_;
  const Sink sink_;
  std::vector<Port> ports_;
  std::map<std::pair<std::string, Address>, size_t> stations_;  // (network, address): port.
  std::map<std::pair<size_t, Address>, Source> sources_;        // By port and address.
  std::priority_queue<UnderWay> under_way_;
  size_t bytes_under_way_ = 0;
  int64_t frames_over_limit_ = 0;
  uint64_t next_sequence_ = 0;
};

}  // namespace haven

#endif  // HAVEN_TESTS_LAB_HUB_SWITCH_H_
