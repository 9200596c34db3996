// SPDX-License-Identifier: Apache-2.0
//
// What a peer that has connected can send. Input: one byte that says where the rest goes.
//   0  a greeting
//   1  the stream of an open control channel
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/base/check.h"
#include "transport/endpoint.h"
#include "transport/tls/byte_stream.h"
#include "transport/tls/frame.h"

namespace haven {
namespace {

// What has come so far of the input, in pieces of many sizes, so that every place of a cut is
// tried.
class PiecesStream final : public ByteStream {
 public:
  explicit PiecesStream(std::span<const std::byte> input) : input_(input) {}

  absl::StatusOr<Progress> Read(std::span<std::byte> room) override {
    HAVEN_CHECK(!room.empty());
    if (taken_ == input_.size()) return absl::UnavailableError("the peer has closed");
    if (taken_ == arrived_) {
      arrived_ = std::min(arrived_ + piece_, input_.size());
      piece_ = piece_ * 2 % 1023 + 1;
      return Progress{.wait = Wait::kReadable};
    }
    const size_t bytes = std::min(room.size(), arrived_ - taken_);
    std::ranges::copy(input_.subspan(taken_, bytes), room.begin());
    taken_ += bytes;
    return Progress{.bytes = bytes};
  }
  absl::StatusOr<Progress> Write(std::span<const std::byte>) override {
    return absl::InternalError("a reader writes");
  }
  int fd() const override { return -1; }
  std::string PeerName() const override { return ""; }

  size_t taken() const { return taken_; }

 private:
  const std::span<const std::byte> input_;
  size_t arrived_ = 0;
  size_t taken_ = 0;
  size_t piece_ = 1;
};

void RunGreeting(std::span<const std::byte> input) {
  if (input.size() < kGreetingBytes) return;
  Greeting greeting;
  std::ranges::copy(input.first(kGreetingBytes), greeting.begin());
  const absl::StatusOr<Incarnation> incarnation = DecodeGreeting(greeting);
  if (!incarnation.ok()) {
    HAVEN_CHECK(absl::IsDataLoss(incarnation.status()) ||
                absl::IsFailedPrecondition(incarnation.status()))
        << incarnation.status();
    return;
  }
  // The reserved field may be a later version's.
  Greeting again = EncodeGreeting(*incarnation);
  std::copy_n(greeting.begin() + 6, 2, again.begin() + 6);
  HAVEN_CHECK(again == greeting);
}

// The messages that are taken are the input up to there.
void RunStream(std::span<const std::byte> input) {
  PiecesStream stream(input);
  MessageReader reader;
  std::vector<std::byte> frame;
  for (size_t at = 0;;) {
    const auto message = reader.Read(stream);
    if (!message.ok()) {
      HAVEN_CHECK(absl::IsDataLoss(message.status()) || absl::IsUnavailable(message.status()))
          << message.status();
      HAVEN_CHECK(absl::IsDataLoss(message.status()) || stream.taken() == input.size());
      return;
    }
    if (!message->has_value()) continue;
    EncodeFrame(**message, frame);
    HAVEN_CHECK(std::ranges::equal(frame, input.subspan(at, frame.size())));
    at += frame.size();
    HAVEN_CHECK_EQ(at, stream.taken());
  }
}

void RunOne(std::span<const std::byte> input) {
  if (input.empty()) return;
  if (std::to_integer<int>(input[0]) % 2 == 0) return RunGreeting(input.subspan(1));
  RunStream(input.subspan(1));
}

}  // namespace
}  // namespace haven

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  haven::RunOne(std::as_bytes(std::span(data, size)));
  return 0;
}
