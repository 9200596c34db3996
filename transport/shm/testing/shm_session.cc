// SPDX-License-Identifier: Apache-2.0
#include "transport/shm/testing/shm_session.h"

#include <poll.h>

#include <utility>

#include "engine/base/check.h"
#include "transport/shm/deadline.h"
#include "transport/shm/shm_transport.h"
#include "transport/shm/testing/shm_pair.h"

namespace haven {
namespace {

// All but the link.
ShmSession MakeRegions(std::unique_ptr<ControlChannel> channel, uint64_t region_bytes) {
  ShmSession session;
  session.channel = std::move(channel);
  session.endpoint = *ShmTransport().MakeEndpoint(*session.channel);
  session.source = *session.endpoint->Register(region_bytes, RegionAccess::kLocal);
  session.area = *session.endpoint->Register(region_bytes, RegionAccess::kRemoteWrite);
  HAVEN_CHECK_OK(SendText(*session.channel, *session.endpoint->Offer(session.area)));
  session.peer_area = *session.endpoint->Import(*ReceiveText(*session.channel), kTestTimeout);
  return session;
}

}  // namespace

WriteRequest ShmSession::Write(uint64_t id, uint64_t offset, uint32_t bytes) const {
  return {.id = id,
          .local_region = source.id,
          .local_offset = offset,
          .remote = peer_area,
          .remote_offset = offset,
          .bytes = bytes,
          .signaled = true};
}

std::unique_ptr<ControlChannel> AcceptChannel(Listener& listener) {
  HAVEN_CHECK(*WaitForFd(listener.fd(), POLLIN, ShmDeadline(kTestTimeout)));
  return *ShmTransport().Adopt((*listener.Accept()).value(), kTestTimeout);
}

ShmSession MakeBackup(Listener& listener, uint64_t region_bytes) {
  return MakeBackup(AcceptChannel(listener), region_bytes);
}

ShmSession MakeBackup(std::unique_ptr<ControlChannel> channel, uint64_t region_bytes) {
  ShmSession session = MakeRegions(std::move(channel), region_bytes);
  HAVEN_CHECK_OK(SendText(*session.channel, *session.endpoint->PrepareLink()));
  session.link = *session.endpoint->AcceptLink(kTestTimeout);
  return session;
}

ShmSession MakePrimary(absl::string_view address, uint64_t region_bytes) {
  return MakePrimary(*ShmTransport().Connect(address, kTestTimeout), region_bytes);
}

ShmSession MakePrimary(std::unique_ptr<ControlChannel> channel, uint64_t region_bytes) {
  ShmSession session = MakeRegions(std::move(channel), region_bytes);
  session.link = *session.endpoint->ConnectLink(*ReceiveText(*session.channel), kTestTimeout);
  return session;
}

}  // namespace haven
