// SPDX-License-Identifier: Apache-2.0
//
// A transport whose connections fail when a test says so.
#ifndef HAVEN_ENGINE_CONTROL_FAULTY_TRANSPORT_TESTING_H_
#define HAVEN_ENGINE_CONTROL_FAULTY_TRANSPORT_TESTING_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "transport/endpoint.h"

namespace haven {

// What goes wrong on one side. Thread-safe.
struct TransportFaults {
  std::atomic<bool> refuse_connect{false};  // Connect: nobody there.
  std::atomic<bool> refuse_lanes{false};    // ConnectLink: no answer in time.
  // Links and channels made so far fail when the number is raised.
  std::atomic<uint64_t> broken_links{0};
  std::atomic<uint64_t> broken_channels{0};
  // ExportKey yields one, as a channel over TLS does.
  std::atomic<bool> secret{false};
  // Both sides are in one process, which can not be killed as a proof: its objects' end is one.
  std::atomic<bool> revoke_by_word{false};
  std::atomic<uint64_t> revoked{0};
  std::atomic<uint64_t> connects{0};
};

class FaultyTransport final : public Transport {
 public:
  FaultyTransport(Transport& inner, TransportFaults& faults) : inner_(inner), faults_(faults) {}

  absl::StatusOr<std::unique_ptr<Listener>> Listen(absl::string_view address) override;
  absl::StatusOr<std::unique_ptr<ControlChannel>> Connect(absl::string_view address,
                                                          absl::Duration timeout) override;
  absl::StatusOr<std::unique_ptr<ControlChannel>> Adopt(int fd, absl::Duration timeout) override;
  absl::StatusOr<std::unique_ptr<Endpoint>> MakeEndpoint(ControlChannel& channel) override;
  absl::Status Attach(Endpoint& endpoint, ControlChannel& channel) override;

 private:
  std::unique_ptr<ControlChannel> Wrap(std::unique_ptr<ControlChannel> channel);

  Transport& inner_;
  TransportFaults& faults_;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_CONTROL_FAULTY_TRANSPORT_TESTING_H_
