// SPDX-License-Identifier: Apache-2.0
#include "transport/shm/shm_transport.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "engine/base/fd.h"
#include "engine/base/short_folder_testing.h"
#include "transport/shm/testing/shm_pair.h"

namespace haven {
namespace {

using testing::HasSubstr;

// Something of another transport.
class OtherChannel final : public ControlChannel {
 public:
  absl::Status Send(std::span<const std::byte>, absl::Duration) override {
    return absl::OkStatus();
  }
  absl::StatusOr<std::optional<std::vector<std::byte>>> Receive() override { return std::nullopt; }
  int fd() const override { return -1; }
  std::string Describe() const override { return "other"; }
};

class OtherEndpoint final : public Endpoint {
 public:
  absl::StatusOr<LocalRegion> Register(uint64_t, RegionAccess) override { return LocalRegion(); }
  absl::StatusOr<RemoteRegion> Export(const LocalRegion&) const override { return RemoteRegion(); }
  uint32_t max_write_bytes() const override { return 0; }
  absl::StatusOr<std::string> Offer(const LocalRegion&) override { return ""; }
  absl::StatusOr<RemoteRegion> Import(absl::string_view, absl::Duration) override {
    return RemoteRegion();
  }
  absl::StatusOr<std::string> PrepareLink() override { return ""; }
  absl::StatusOr<std::unique_ptr<Link>> ConnectLink(absl::string_view, absl::Duration) override {
    return nullptr;
  }
  absl::StatusOr<std::unique_ptr<Link>> AcceptLink(absl::Duration) override { return nullptr; }
};

TEST(ShmTransport, ConnectToNobodySaysWhatToCheck) {
  ShmTransport transport;
  const ShortFolder directory;
  const std::string path = absl::StrCat("unix:", (directory.path() / "nobody.sock").string());
  const absl::Status missing = transport.Connect(path, kTestTimeout).status();
  EXPECT_EQ(missing.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(missing.message()), HasSubstr(path));
  EXPECT_EQ(transport.Connect("unix:@haven-nobody", kTestTimeout).status().code(),
            absl::StatusCode::kUnavailable);
  EXPECT_EQ(transport.Connect("nowhere", kTestTimeout).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(ShmTransport, AListenerThatNobodyServesCostsTheDeadline) {
  ShmTransport transport;
  const auto listener = transport.Listen("");
  ASSERT_TRUE(listener.ok()) << listener.status();
  EXPECT_EQ(transport.Connect((*listener)->address(), absl::Milliseconds(20)).status().code(),
            absl::StatusCode::kDeadlineExceeded);
}

TEST(ShmTransport, AdoptOwnsTheDescriptorEvenWhenItFails) {
  int pipe_ends[2];
  ASSERT_EQ(pipe(pipe_ends), 0);
  const UniqueFd writing(pipe_ends[1]);
  ShmTransport transport;
  EXPECT_EQ(transport.Adopt(pipe_ends[0], kTestTimeout).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(close(pipe_ends[0]), -1);
}

TEST(ShmTransport, PartsOfOtherTransportsAreRefused) {
  ShmTransport transport;
  OtherChannel other_channel;
  OtherEndpoint other_endpoint;
  ChannelPair pair;
  EXPECT_EQ(transport.MakeEndpoint(other_channel).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(transport.Attach(other_endpoint, *pair.connector).code(),
            absl::StatusCode::kInvalidArgument);
  const auto endpoint = transport.MakeEndpoint(*pair.connector);
  ASSERT_TRUE(endpoint.ok()) << endpoint.status();
  EXPECT_EQ(transport.Attach(**endpoint, other_channel).code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace haven
