// SPDX-License-Identifier: Apache-2.0
#include "tests/lab/hub/frame_stream.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <vector>

#include "absl/status/status.h"

namespace haven {
namespace {

using Bytes = std::vector<std::byte>;

std::vector<Bytes> Read(FrameReader& reader, std::span<const std::byte> bytes,
                        absl::Status wanted = absl::OkStatus()) {
  std::vector<Bytes> frames;
  const absl::Status status = reader.Add(bytes, [&](std::span<const std::byte> frame) {
    frames.emplace_back(frame.begin(), frame.end());
  });
  EXPECT_EQ(status.code(), wanted.code()) << status;
  return frames;
}

TEST(FrameStreamTest, LengthIsFourBytesMostSignificantFirst) {
  Bytes out;
  AppendFrame(Bytes(0x0102), out);
  EXPECT_EQ(out.size(), 4u + 0x0102u);
  EXPECT_EQ(out[0], std::byte{0});
  EXPECT_EQ(out[1], std::byte{0});
  EXPECT_EQ(out[2], std::byte{1});
  EXPECT_EQ(out[3], std::byte{2});
}

TEST(FrameStreamTest, FramesComeBackHoweverTheStreamIsCut) {
  const std::vector<Bytes> sent = {Bytes(60, std::byte{1}), Bytes(), Bytes(9014, std::byte{2}),
                                   Bytes(kFrameBytesMax, std::byte{3})};
  Bytes stream;
  for (const Bytes& frame : sent) AppendFrame(frame, stream);
  for (const size_t piece : {size_t{1}, size_t{3}, size_t{4}, size_t{1000}, stream.size()}) {
    FrameReader reader;
    std::vector<Bytes> received;
    for (size_t at = 0; at < stream.size(); at += piece) {
      const size_t bytes = std::min(piece, stream.size() - at);
      for (Bytes& frame : Read(reader, std::span(stream).subspan(at, bytes))) {
        received.push_back(std::move(frame));
      }
    }
    EXPECT_EQ(received, sent) << "pieces of " << piece;
  }
}

TEST(FrameStreamTest, ALengthAboveTheLimitIsDataLoss) {
  Bytes stream;
  AppendFrame(Bytes(1), stream);
  const size_t length = kFrameBytesMax + 1;
  for (const size_t shift : {24u, 16u, 8u, 0u}) {
    stream.push_back(static_cast<std::byte>(length >> shift & 0xff));
  }
  FrameReader reader;
  EXPECT_EQ(Read(reader, stream, absl::DataLossError("")).size(), 1u);
}

}  // namespace
}  // namespace haven
