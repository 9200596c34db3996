// SPDX-License-Identifier: Apache-2.0
//
// Input: what the store's daemon sends, in pieces of a byte for the size and so many bytes. Each
// piece follows a request, or comes unasked if there is none; then the daemon is gone.
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "engine/base/check.h"
#include "engine/base/fd.h"
#include "xen/base/store_client.h"

namespace haven {
namespace {

// Never reached: the daemon's end is seen first.
constexpr absl::Duration kPatience = absl::Minutes(5);

// How long a request may be missing, and how often.
constexpr int kQuietMs = 1;
constexpr int kPiecesMax = 12;

void Answer(int fd, absl::string_view pieces) {
  std::array<char, 8192> request;
  for (int i = 0; i < kPiecesMax && !pieces.empty(); ++i) {
    pollfd ready = {fd, POLLIN, 0};
    if (poll(&ready, 1, kQuietMs) > 0 && read(fd, request.data(), request.size()) <= 0) break;
    const size_t bytes = std::min<size_t>(static_cast<uint8_t>(pieces[0]), pieces.size() - 1);
    // The client may have gone.
    (void)!send(fd, pieces.data() + 1, bytes, MSG_NOSIGNAL);
    pieces.remove_prefix(1 + bytes);
  }
  shutdown(fd, SHUT_RDWR);
}

void RunOne(absl::string_view input) {
  int ends[2];
  HAVEN_CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
  HAVEN_CHECK_EQ(fcntl(ends[0], F_SETFL, O_NONBLOCK), 0);
  const UniqueFd daemon(ends[1]);
  std::thread thread([&] { Answer(daemon.get(), input); });
  {
    const std::unique_ptr<XenStore> store = MakeXenStore(UniqueFd(ends[0]), kPatience);
    const absl::StatusOr<std::string> value = store->Read("/local/domain/1/name");
    // No answer is longer than what the daemon has sent.
    if (value.ok()) HAVEN_CHECK_LE(value->size(), input.size());
    const absl::StatusOr<std::vector<std::string>> names = store->List("/local/domain");
    if (names.ok()) {
      for (const std::string& name : *names) HAVEN_CHECK(!name.empty());
    }
    store->Watch("/local/domain/1/control/shutdown").IgnoreError();
    store->TakeEvents();
    store->Replace("/local/domain/1/name", "web", "web--lost").IgnoreError();
    store->Remove("/libxl/1/haven").IgnoreError();
    // The daemon is heard to its end.
    while (!absl::IsUnavailable(store->ResumeDomain(1))) store->TakeEvents();
  }
  thread.join();
}

}  // namespace
}  // namespace haven

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  haven::RunOne(absl::string_view(reinterpret_cast<const char*>(data), size));
  return 0;
}
