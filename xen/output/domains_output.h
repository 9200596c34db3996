// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_XEN_OUTPUT_DOMAINS_OUTPUT_H_
#define HAVEN_XEN_OUTPUT_DOMAINS_OUTPUT_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/base/clock.h"
#include "engine/primary/output_buffer.h"
#include "xen/output/netlink_channel.h"
#include "xen/output/netlink_socket.h"
#include "xen/output/plug_output.h"
#include "xen/output/plug_spec.h"

namespace haven {

// OutputBuffer of whatever NICs some domains have, which may be none, or become none, or more:
// who has come is held from the next Hold or Rebuild on, who is gone is forgotten then. Before that
// Health says so.
class DomainsOutput final : public OutputBuffer {
 public:
  // Where a buffer gets its sockets: those of netlink_socket.h, or a test's.
  struct Sockets {
    std::function<absl::StatusOr<std::unique_ptr<NetlinkSocket>>()> requests;
    std::function<absl::StatusOr<std::unique_ptr<NetlinkSocket>>(uint32_t own_port)> events;
  };

  // Looks for what is there and changes nothing. `spec` names no devices; without domains there is
  // nothing but what an earlier buffer of the group has left. Errors of PlugOutput::Attach.
  static absl::StatusOr<std::unique_ptr<DomainsOutput>> Attach(const PlugSpec& spec,
                                                               Sockets sockets, const Clock& clock);
  // With sockets of this network namespace and the system's clock.
  static absl::StatusOr<std::unique_ptr<DomainsOutput>> Attach(const PlugSpec& spec);

  absl::Status Prepare() override;
  absl::Status Hold() override;
  absl::Status Barrier() override;
  absl::Status ReleaseOne() override;
  // Without a NIC, these three remove what an earlier buffer of the group has left.
  absl::Status OpenAll() override;
  absl::Status Discard() override;
  absl::Status Remove() override;
  absl::Status Rebuild() override;
  OutputStats stats() override;
  absl::Status Health() override;

 private:
  DomainsOutput(const PlugSpec& spec, Sockets sockets, std::unique_ptr<NetlinkSocket> looks,
                const Clock& clock);

  // Serves the NICs that there are now.
  absl::Status Follow();
  // Replaces the buffer by one of these NICs.
  absl::Status Serve(std::vector<std::string> nics);
  absl::Status RemoveQueues();

  const PlugSpec spec_;
  const Sockets sockets_;
  const Clock& clock_;
  NetlinkChannel channel_;
  std::unique_ptr<PlugOutput> inner_;  // Only while there are NICs.
  std::vector<std::string> nics_;      // Whose buffer it is.
  bool holding_ = false;
  int64_t intact_ns_ = 0;  // When there was no NIC for the last time.
  OutputStats before_;     // What earlier ones of inner_ have counted.
};

}  // namespace haven

#endif  // HAVEN_XEN_OUTPUT_DOMAINS_OUTPUT_H_
