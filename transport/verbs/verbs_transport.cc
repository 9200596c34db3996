// SPDX-License-Identifier: Apache-2.0
#include "transport/verbs/verbs_transport.h"

#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "engine/base/clock.h"
#include "engine/base/log.h"
#include "engine/base/status_macros.h"
#include "transport/tls/tcp_listener.h"
#include "transport/tls/tls_control_channel.h"
#include "transport/verbs/device_addresses.h"
#include "transport/verbs/verbs_address.h"

namespace haven {
namespace {

// 7 is "for ever": by the specification for rnr_retry, on soft-RoCE for retry_count as well.
constexpr uint8_t kMostRetries = 6;
constexpr uint8_t kMostTimer = 31;
constexpr absl::Duration kReloadInterval = absl::Seconds(10);

class VerbsTransport final : public Transport {
 public:
  VerbsTransport(VerbsTransportOptions options, std::shared_ptr<const Credentials> credentials,
                 const Incarnation& own)
      : options_(std::move(options)), credentials_(std::move(credentials)), own_(own) {}

  absl::StatusOr<std::unique_ptr<Listener>> Listen(absl::string_view address) override {
    HAVEN_ASSIGN_OR_RETURN(const InetAddress at,
                           address.empty() ? LastAdopted() : Resolve(address));
    return TcpListener::Listen(at, std::string(kVerbsScheme));
  }

  absl::StatusOr<std::unique_ptr<ControlChannel>> Connect(absl::string_view address,
                                                          absl::Duration timeout) override {
    const NetDeadline deadline(timeout);
    HAVEN_ASSIGN_OR_RETURN(const InetAddress to, Resolve(address));
    return TlsControlChannel::Connect(to, CurrentCredentials(), own_, deadline,
                                      absl::StrCat(kVerbsScheme, to.ToString()));
  }

  absl::StatusOr<std::unique_ptr<ControlChannel>> Adopt(int fd, absl::Duration timeout) override {
    UniqueFd socket(fd);
    const NetDeadline deadline(timeout);
    HAVEN_ASSIGN_OR_RETURN(const InetAddress from, InetAddress::PeerOf(socket.get()));
    HAVEN_ASSIGN_OR_RETURN(
        std::unique_ptr<TlsControlChannel> channel,
        TlsControlChannel::Open(std::move(socket), StreamSide::kAcceptor, CurrentCredentials(),
                                own_, deadline, absl::StrCat(kVerbsScheme, from.ToString())));
    const std::lock_guard<std::mutex> lock(mutex_);
    adopted_ = channel->local();
    return channel;
  }

  absl::StatusOr<std::unique_ptr<Endpoint>> MakeEndpoint(ControlChannel& channel) override {
    HAVEN_ASSIGN_OR_RETURN(const TlsControlChannel* const tls, AsTls(channel));
    std::string device;
    std::string second;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      device = options_.device;
      second = options_.rail;
    }
    std::vector<std::unique_ptr<Rail>> rails;
    HAVEN_ASSIGN_OR_RETURN(const InetAddress local, device.empty()
                                                        ? absl::StatusOr<InetAddress>(tls->local())
                                                        : AddressOfDevice(device, tls->local()));
    HAVEN_ASSIGN_OR_RETURN(std::unique_ptr<Rail> first, Rail::Open(devices_, local, rails));
    rails.push_back(std::move(first));
    if (!second.empty()) {
      HAVEN_ASSIGN_OR_RETURN(const InetAddress address, InetAddress::ParseHost(second));
      HAVEN_ASSIGN_OR_RETURN(std::unique_ptr<Rail> rail, Rail::Open(devices_, address, rails));
      rails.push_back(std::move(rail));
    }
    return VerbsEndpoint::Make(devices_, std::move(rails), tls->peer(), options_.endpoint,
                               SystemClock::Get());
  }

  absl::Status Attach(Endpoint& endpoint, ControlChannel& channel) override {
    HAVEN_ASSIGN_OR_RETURN(const TlsControlChannel* const tls, AsTls(channel));
    auto* const session = dynamic_cast<VerbsEndpoint*>(&endpoint);
    if (session == nullptr) {
      return absl::InvalidArgumentError("this endpoint is not one of the verbs transport");
    }
    return session->Attach(*tls);
  }

  std::string Warning() override { return CurrentCredentials()->Warning(absl::Now()); }

 private:
  // A file that is not whole yet, or older than what is used, changes nothing.
  std::shared_ptr<const Credentials> CurrentCredentials() {
    const std::lock_guard<std::mutex> lock(mutex_);
    const absl::Time now = absl::Now();
    if (credentials_->Warning(now).empty() || now < reload_after_) return credentials_;
    reload_after_ = now + kReloadInterval;
    const auto fresh = Credentials::Load(options_.credentials);
    if (fresh.ok() && (*fresh)->ends() > credentials_->ends()) {
      credentials_ = *fresh;
      HAVEN_LOG(kInfo, "tls") << "a new certificate is used: "
                              << options_.credentials.certificate_file;
    }
    return credentials_;
  }

  static absl::StatusOr<const TlsControlChannel*> AsTls(ControlChannel& channel) {
    const auto* const tls = dynamic_cast<TlsControlChannel*>(&channel);
    if (tls != nullptr) return tls;
    return absl::InvalidArgumentError(
        absl::StrCat(channel.Describe(), " is not a channel of the verbs transport"));
  }

  absl::StatusOr<InetAddress> Resolve(absl::string_view text) {
    HAVEN_ASSIGN_OR_RETURN(const VerbsAddress address, ParseVerbsAddress(text));
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (!address.device.empty()) options_.device = address.device;
      if (!address.rail.empty()) options_.rail = address.rail;
    }
    return InetAddress::Resolve(address.host_and_port);
  }

  absl::StatusOr<InetAddress> LastAdopted() {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (adopted_.has_value()) return adopted_->WithPort(0);
    return absl::InvalidArgumentError(
        absl::StrCat("an address to listen at is needed: ", kVerbsAddressForm));
  }

  DeviceRegistry devices_;
  std::mutex mutex_;
  VerbsTransportOptions options_;
  std::optional<InetAddress> adopted_;
  std::shared_ptr<const Credentials> credentials_;
  absl::Time reload_after_ = absl::InfinitePast();
  const Incarnation own_;
};

}  // namespace

absl::Status CheckVerbsOptions(const VerbsTransportOptions& options) {
  const QueuePairOptions& pair = options.endpoint.pair;
  if (pair.retry_count > kMostRetries || pair.rnr_retry_count > kMostRetries) {
    return absl::InvalidArgumentError(absl::StrCat("retry counts of ", pair.retry_count, " and ",
                                                   pair.rnr_retry_count, "; at most ", kMostRetries,
                                                   " is allowed, 7 means for ever"));
  }
  if (pair.ack_timeout == 0 || pair.ack_timeout > kMostTimer || pair.rnr_timer == 0 ||
      pair.rnr_timer > kMostTimer) {
    return absl::InvalidArgumentError(absl::StrCat("timer codes of ", pair.ack_timeout, " and ",
                                                   pair.rnr_timer, "; 1 to ", kMostTimer,
                                                   " are allowed"));
  }
  const VerbsLinkOptions& link = options.endpoint.link;
  if (link.request_timeout_ns <= 0 || link.look_interval_ns <= 0) {
    return absl::InvalidArgumentError("the times of a link must be positive");
  }
  if (options.rail.empty()) return absl::OkStatus();
  return InetAddress::ParseHost(options.rail).status();
}

absl::StatusOr<std::unique_ptr<Transport>> MakeVerbsTransport(VerbsTransportOptions options) {
  HAVEN_RETURN_IF_ERROR(CheckVerbsOptions(options));
  HAVEN_ASSIGN_OR_RETURN(std::shared_ptr<const Credentials> credentials,
                         Credentials::Load(options.credentials, options.expired_certificate));
  HAVEN_ASSIGN_OR_RETURN(const Incarnation own, MakeIncarnation());
  return std::make_unique<VerbsTransport>(std::move(options), std::move(credentials), own);
}

}  // namespace haven
