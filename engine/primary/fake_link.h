// SPDX-License-Identifier: Apache-2.0
//
// A link into a piece of local memory, with the limits of a real send queue: for tests.
#ifndef HAVEN_ENGINE_PRIMARY_FAKE_LINK_H_
#define HAVEN_ENGINE_PRIMARY_FAKE_LINK_H_

#include <cstring>
#include <deque>
#include <map>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "transport/fabric.h"

namespace haven {

// Writes land when they are posted; a request leaves the queue when the completion of a signaled
// one at or behind it is polled, as on a verbs queue pair.
class FakeLink : public Link {
 public:
  // Makes local memory known under a region's number.
  void AddRegion(uint32_t id, std::span<std::byte> bytes) { regions_[id] = bytes; }

  absl::Status PostWrites(std::span<const WriteRequest> requests) override {
    ++post_calls;
    if (failed) return absl::UnavailableError("the link has failed");
    if (outstanding_.size() + requests.size() > queue_depth) {
      return absl::ResourceExhaustedError("queue full");
    }
    for (const WriteRequest& request : requests) {
      if (posts_until_failure > 0 && --posts_until_failure == 0) {
        failed = true;
        return absl::UnavailableError("the link has failed");
      }
      const std::span<std::byte> local = regions_.at(request.local_region);
      const std::span<const std::byte> bytes = local.subspan(request.local_offset, request.bytes);
      std::memcpy(std::span(remote).subspan(request.remote_offset, request.bytes).data(),
                  bytes.data(), bytes.size());
      posted.push_back(request);
      outstanding_.push_back(request);
    }
    return absl::OkStatus();
  }

  absl::Status PostRead(uint64_t, uint32_t, uint64_t, RemoteRegion, uint64_t, uint32_t) override {
    return absl::UnavailableError("not used");
  }
  absl::Status PostReceives(uint32_t) override { return absl::OkStatus(); }

  // Completes everything up to the last signaled request.
  size_t Poll(std::span<Completion> out) override {
    size_t count = 0;
    while (count < out.size() && !injected.empty()) {
      out[count++] = injected.front();
      injected.pop_front();
    }
    if (!complete) return count;
    while (count < out.size()) {
      size_t next = 0;
      while (next < outstanding_.size() && !outstanding_[next].signaled) ++next;
      if (next == outstanding_.size()) break;
      out[count++] = {.id = outstanding_[next].id};
      outstanding_.erase(outstanding_.begin(), outstanding_.begin() + static_cast<long>(next) + 1);
    }
    return count;
  }

  int event_fd() const override { return -1; }
  absl::Status ArmEvent() override { return absl::OkStatus(); }
  absl::Status Revoke() override { return absl::OkStatus(); }

  std::vector<std::byte> remote;     // The peer's region.
  size_t queue_depth = 1024;         // Requests.
  bool complete = true;              // False: requests stay under way.
  bool failed = false;               // Nothing more can be posted.
  size_t posts_until_failure = 0;    // Fails at that request; 0: never.
  std::deque<Completion> injected;   // Polled first.
  std::vector<WriteRequest> posted;  // All that was taken, in order.
  size_t post_calls = 0;

 private:
  std::map<uint32_t, std::span<std::byte>> regions_;
  std::deque<WriteRequest> outstanding_;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_PRIMARY_FAKE_LINK_H_
