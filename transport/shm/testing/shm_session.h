// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_TRANSPORT_SHM_TESTING_SHM_SESSION_H_
#define HAVEN_TRANSPORT_SHM_TESTING_SHM_SESSION_H_

#include <cstdint>
#include <memory>

#include "transport/endpoint.h"

namespace haven {

// One side of a session, made through the public interface, each side in a process of its own.
struct ShmSession {
  std::unique_ptr<ControlChannel> channel;
  std::unique_ptr<Endpoint> endpoint;
  LocalRegion source;      // What this side writes from.
  LocalRegion area;        // What the peer writes.
  RemoteRegion peer_area;  // What this side writes: the peer's `area`.
  std::unique_ptr<Link> link;

  // A signaled write from `source` to the same place in `peer_area`.
  WriteRequest Write(uint64_t id, uint64_t offset, uint32_t bytes) const;
};

// The backup takes the next connection of `listener`, or `channel`; the primary connects to an
// address, or uses `channel`. Both regions have `region_bytes`. A failure ends the process.
ShmSession MakeBackup(Listener& listener, uint64_t region_bytes);
ShmSession MakeBackup(std::unique_ptr<ControlChannel> channel, uint64_t region_bytes);
ShmSession MakePrimary(absl::string_view address, uint64_t region_bytes);
ShmSession MakePrimary(std::unique_ptr<ControlChannel> channel, uint64_t region_bytes);

// Waits for a connection and takes it.
std::unique_ptr<ControlChannel> AcceptChannel(Listener& listener);

}  // namespace haven

#endif  // HAVEN_TRANSPORT_SHM_TESTING_SHM_SESSION_H_
