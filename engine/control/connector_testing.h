// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_ENGINE_CONTROL_CONNECTOR_TESTING_H_
#define HAVEN_ENGINE_CONTROL_CONNECTOR_TESTING_H_

#include <cstdint>
#include <variant>

#include "engine/base/clock.h"
#include "engine/control/message_io.h"
#include "engine/control/poll_set.h"
#include "gtest/gtest.h"

namespace haven {

// Whether a connector reads one message each time its owner has seen it readable, if it buffers
// none. `peer` is the other end of its channel; a message comes out of it as an event `Said`.
template <typename Said, typename Connector>
void ExpectOneMessageAWait(Connector& connector, ControlChannel& peer, HeartbeatMessage beat) {
  connector.SetReadable(false);
  for (beat.counter = 1; beat.counter <= 2; ++beat.counter) {
    ASSERT_TRUE(SendMessage(peer, beat, absl::Seconds(10)).ok());
  }
  PollSet poll = *PollSet::Create();
  ASSERT_TRUE(poll.Add(connector.fd()).ok());
  for (uint64_t i = 1; i <= 2; ++i) {
    EXPECT_FALSE(connector.Next().has_value()) << i;
    ASSERT_TRUE(poll.WaitUntil(SystemClock::Get().NowNs() + 10 * kNsPerSecond)) << i;
    connector.SetReadable(poll.WasReady(connector.fd()));
    const auto event = connector.Next();
    ASSERT_TRUE(event.has_value()) << i;
    EXPECT_EQ(std::get<HeartbeatMessage>(std::get<Said>(*event).message).counter, i);
  }
  EXPECT_FALSE(connector.Next().has_value());
}

}  // namespace haven

#endif  // HAVEN_ENGINE_CONTROL_CONNECTOR_TESTING_H_
