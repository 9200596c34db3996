// SPDX-License-Identifier: Apache-2.0
#include "engine/control/faulty_transport_testing.h"

#include <optional>
#include <span>

#include "engine/base/byte_order.h"
#include "engine/base/status_macros.h"

namespace haven {

namespace {

absl::Status Broken() { return absl::UnavailableError("broken by the test"); }

class FaultyChannel final : public ControlChannel {
 public:
  FaultyChannel(std::unique_ptr<ControlChannel> inner, TransportFaults& faults)
      : inner_(std::move(inner)), faults_(faults), born_(faults.broken_channels) {}

  absl::Status Send(std::span<const std::byte> message, absl::Duration timeout) override {
    return faults_.broken_channels > born_ ? Broken() : inner_->Send(message, timeout);
  }
  absl::StatusOr<std::optional<std::vector<std::byte>>> Receive() override {
    if (faults_.broken_channels > born_) return Broken();
    return inner_->Receive();
  }
  absl::StatusOr<ChannelKey> ExportKey(uint64_t context) const override {
    if (!faults_.secret) return inner_->ExportKey(context);
    ChannelKey key = {};
    StoreLe64(key.data(), context);
    return key;
  }
  int fd() const override { return inner_->fd(); }
  std::string Describe() const override { return inner_->Describe(); }

  ControlChannel& inner() { return *inner_; }

 private:
  const std::unique_ptr<ControlChannel> inner_;
  TransportFaults& faults_;
  const uint64_t born_;
};

class FaultyLink final : public Link {
 public:
  FaultyLink(std::unique_ptr<Link> inner, TransportFaults& faults)
      : inner_(std::move(inner)), faults_(faults), born_(faults.broken_links) {}

  absl::Status PostWrites(std::span<const WriteRequest> requests) override {
    return broken() ? Broken() : inner_->PostWrites(requests);
  }
  absl::Status PostRead(uint64_t id, uint32_t local_region, uint64_t local_offset,
                        RemoteRegion remote, uint64_t remote_offset, uint32_t bytes) override {
    if (broken()) return Broken();
    return inner_->PostRead(id, local_region, local_offset, remote, remote_offset, bytes);
  }
  absl::Status PostReceives(uint32_t count) override {
    return broken() ? Broken() : inner_->PostReceives(count);
  }
  size_t Poll(std::span<Completion> out) override {
    if (!broken()) return inner_->Poll(out);
    if (reported_ || out.empty()) return 0;
    reported_ = true;
    out[0] = {.id = 0, .kind = CompletionKind::kImmediate, .result = CompletionResult::kRetry};
    return 1;
  }
  int event_fd() const override { return inner_->event_fd(); }
  absl::Status ArmEvent() override { return broken() ? Broken() : inner_->ArmEvent(); }
  absl::Status Revoke() override {
    ++faults_.revoked;
    const absl::Status status = inner_->Revoke();
    if (absl::IsFailedPrecondition(status) && faults_.revoke_by_word) return absl::OkStatus();
    return status;
  }

 private:
  bool broken() const { return faults_.broken_links > born_; }

  const std::unique_ptr<Link> inner_;
  TransportFaults& faults_;
  const uint64_t born_;
  bool reported_ = false;
};

class FaultyEndpoint final : public Endpoint {
 public:
  FaultyEndpoint(std::unique_ptr<Endpoint> inner, TransportFaults& faults)
      : inner_(std::move(inner)), faults_(faults) {}

  absl::StatusOr<LocalRegion> Register(uint64_t bytes, RegionAccess access) override {
    return inner_->Register(bytes, access);
  }
  absl::StatusOr<RemoteRegion> Export(const LocalRegion& region) const override {
    return inner_->Export(region);
  }
  uint32_t max_write_bytes() const override { return inner_->max_write_bytes(); }
  absl::StatusOr<std::string> Offer(const LocalRegion& region) override {
    return inner_->Offer(region);
  }
  absl::StatusOr<RemoteRegion> Import(absl::string_view blob, absl::Duration timeout) override {
    return inner_->Import(blob, timeout);
  }
  absl::StatusOr<std::string> PrepareLink() override { return inner_->PrepareLink(); }
  absl::StatusOr<std::unique_ptr<Link>> ConnectLink(absl::string_view blob,
                                                    absl::Duration timeout) override {
    if (faults_.refuse_lanes) return absl::DeadlineExceededError("refused by the test");
    return Wrap(inner_->ConnectLink(blob, timeout));
  }
  absl::StatusOr<std::unique_ptr<Link>> AcceptLink(absl::Duration timeout) override {
    return Wrap(inner_->AcceptLink(timeout));
  }

  Endpoint& inner() { return *inner_; }

 private:
  absl::StatusOr<std::unique_ptr<Link>> Wrap(absl::StatusOr<std::unique_ptr<Link>> link) {
    HAVEN_RETURN_IF_ERROR(link.status());
    return std::make_unique<FaultyLink>(*std::move(link), faults_);
  }

  const std::unique_ptr<Endpoint> inner_;
  TransportFaults& faults_;
};

ControlChannel& Inner(ControlChannel& channel) {
  return dynamic_cast<FaultyChannel&>(channel).inner();
}

}  // namespace

std::unique_ptr<ControlChannel> FaultyTransport::Wrap(std::unique_ptr<ControlChannel> channel) {
  return std::make_unique<FaultyChannel>(std::move(channel), faults_);
}

absl::StatusOr<std::unique_ptr<Listener>> FaultyTransport::Listen(absl::string_view address) {
  return inner_.Listen(address);
}

absl::StatusOr<std::unique_ptr<ControlChannel>> FaultyTransport::Connect(absl::string_view address,
                                                                         absl::Duration timeout) {
  ++faults_.connects;
  if (faults_.refuse_connect) return absl::UnavailableError("refused by the test");
  HAVEN_ASSIGN_OR_RETURN(std::unique_ptr<ControlChannel> channel, inner_.Connect(address, timeout));
  return Wrap(std::move(channel));
}

absl::StatusOr<std::unique_ptr<ControlChannel>> FaultyTransport::Adopt(int fd,
                                                                       absl::Duration timeout) {
  HAVEN_ASSIGN_OR_RETURN(std::unique_ptr<ControlChannel> channel, inner_.Adopt(fd, timeout));
  return Wrap(std::move(channel));
}

absl::StatusOr<std::unique_ptr<Endpoint>> FaultyTransport::MakeEndpoint(ControlChannel& channel) {
  HAVEN_ASSIGN_OR_RETURN(std::unique_ptr<Endpoint> endpoint, inner_.MakeEndpoint(Inner(channel)));
  return std::make_unique<FaultyEndpoint>(std::move(endpoint), faults_);
}

absl::Status FaultyTransport::Attach(Endpoint& endpoint, ControlChannel& channel) {
  return inner_.Attach(dynamic_cast<FaultyEndpoint&>(endpoint).inner(), Inner(channel));
}

}  // namespace haven
