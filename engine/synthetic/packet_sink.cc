// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "engine/base/check.h"
#include "engine/base/fd.h"
#include "engine/base/status_macros.h"
#include "engine/synthetic/packet_log.h"
#include "engine/synthetic/unix_address.h"

namespace haven {
namespace {

class NullSink final : public PacketSink {
 public:
  size_t Send(std::span<const SyntheticPacket>) override { return 0; }
};

class FileSink final : public PacketSink {
 public:
  explicit FileSink(UniqueFd fd) : fd_(std::move(fd)) {}

  size_t Send(std::span<const SyntheticPacket> packets) override {
    HAVEN_CHECK_LE(packets.size(), kBatch);
    if (broken_) return packets.size();
    const std::span<std::byte> batch =
        std::span(buffer_).first(packets.size() * kPacketRecordBytes);
    for (size_t i = 0; i < packets.size(); ++i) {
      EncodePacket(packets[i], batch.subspan(i * kPacketRecordBytes, kPacketRecordBytes));
    }
    size_t done = 0;
    while (done < batch.size()) {
      const ssize_t count = write(fd_.get(), batch.data() + done, batch.size() - done);
      if (count < 0 && errno == EINTR) continue;
      if (count <= 0) {
        // Part of a record may be in the file; anything after it could not be read back.
        broken_ = true;
        return packets.size() - done / kPacketRecordBytes;
      }
      done += static_cast<size_t>(count);
    }
    return 0;
  }

 private:
  UniqueFd fd_;
  bool broken_ = false;
  std::array<std::byte, kBatch * kPacketRecordBytes> buffer_;
};

class DatagramSink final : public PacketSink {
 public:
  DatagramSink(UniqueFd fd, UnixAddress to) : fd_(std::move(fd)), to_(std::move(to)) {}

  size_t Send(std::span<const SyntheticPacket> packets) override {
    size_t lost = 0;
    for (const SyntheticPacket& packet : packets) {
      std::array<std::byte, kPacketRecordBytes> record;
      EncodePacket(packet, record);
      const ssize_t sent = sendto(fd_.get(), record.data(), record.size(),
                                  MSG_DONTWAIT | MSG_NOSIGNAL, to_.get(), to_.bytes());
      if (sent < 0) ++lost;
    }
    return lost;
  }

 private:
  UniqueFd fd_;
  const UnixAddress to_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<PacketSink>> OpenPacketSink(const std::string& log) {
  if (log.empty()) return std::make_unique<NullSink>();
  absl::string_view path = log;
  if (absl::ConsumePrefix(&path, "unix:")) {
    HAVEN_ASSIGN_OR_RETURN(UnixAddress address, UnixAddress::Make(std::string(path)));
    UniqueFd fd(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    if (!fd) return absl::ErrnoToStatus(errno, "create a datagram socket for packets");
    return std::make_unique<DatagramSink>(std::move(fd), std::move(address));
  }
  UniqueFd fd(open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  if (!fd) return absl::ErrnoToStatus(errno, absl::StrCat("open packet log ", log));
  return std::make_unique<FileSink>(std::move(fd));
}

}  // namespace haven
