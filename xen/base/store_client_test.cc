// SPDX-License-Identifier: Apache-2.0
#include "xen/base/store_client.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>
#include <xen/io/xs_wire.h>

#include <condition_variable>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>

#include "absl/strings/string_view.h"
#include "engine/base/check.h"
#include "engine/base/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr absl::Duration kLong = absl::Minutes(5);
constexpr absl::Duration kShort = absl::Milliseconds(20);

// A store's daemon on the other end of a socket. It answers one request after the other, or none
// while it is silent. Any thread.
class FakeDaemon {
 public:
  FakeDaemon() {
    int ends[2];
    HAVEN_CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    HAVEN_CHECK_EQ(fcntl(ends[0], F_SETFL, O_NONBLOCK), 0);
    client_.reset(ends[0]);
    mine_.reset(ends[1]);
    thread_ = std::thread([this] { Work(); });
  }
  ~FakeDaemon() {
    End();
    thread_.join();
  }

  UniqueFd TakeClient() { return std::move(client_); }
  void SetSilent(bool silent) {
    const std::lock_guard<std::mutex> lock(mutex_);
    silent_ = silent;
    changed_.notify_all();
  }
  // No more answers, for good.
  void End() {
    SetSilent(false);
    shutdown(mine_.get(), SHUT_RDWR);
  }
  void RefuseTransactions(int count) {
    const std::lock_guard<std::mutex> lock(mutex_);
    conflicts_ = count;
  }
  void Send(uint32_t type, uint32_t id, absl::string_view payload, uint32_t claimed_bytes) {
    const xsd_sockmsg header = {type, id, 0, claimed_bytes};
    std::string bytes(reinterpret_cast<const char*>(&header), sizeof(header));
    bytes.append(payload.data(), payload.size());
    const std::lock_guard<std::mutex> lock(sending_);
    // The client may have gone.
    (void)!send(mine_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
  }
  void Announce() { Send(XS_WATCH_EVENT, 0, absl::string_view("/p\0haven", 9), 9); }

  int requests() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return requests_;
  }
  size_t transactions() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return transactions_.size();
  }

 private:
  bool ReadAll(char* to, size_t bytes) {
    while (bytes > 0) {
      const ssize_t now = read(mine_.get(), to, bytes);
      if (now <= 0) return false;
      to += now;
      bytes -= static_cast<size_t>(now);
    }
    return true;
  }

  void Work() {
    xsd_sockmsg header;
    while (ReadAll(reinterpret_cast<char*>(&header), sizeof(header))) {
      std::string payload(header.len, '\0');
      if (!ReadAll(payload.data(), payload.size())) return;
      std::string answer;
      {
        std::unique_lock<std::mutex> lock(mutex_);
        ++requests_;
        changed_.wait(lock, [this] { return !silent_; });
        answer = Answer(header, payload);
      }
      const bool error = answer.size() > 1 && answer[0] == 'E';
      if (header.type == XS_WATCH) Announce();
      Send(error ? uint32_t{XS_ERROR} : header.type, header.req_id, answer,
           static_cast<uint32_t>(answer.size()));
    }
  }

  // A value that begins with an E is an error's name.
  std::string Answer(const xsd_sockmsg& header, const std::string& payload) {
    const std::string path = payload.c_str();
    if (path == "/secret") return std::string("EACCES", 7);
    if (header.tx_id != 0 && !transactions_.contains(header.tx_id)) return std::string("ENOENT", 7);
    const auto found = entries_.find(path);
    switch (header.type) {
      case XS_READ:
        return found == entries_.end() ? std::string("ENOENT", 7) : found->second;
      case XS_WRITE:
        (header.tx_id != 0 ? transactions_[header.tx_id] : entries_)[path] =
            payload.substr(path.size() + 1);
        return std::string("OK", 3);
      case XS_RM:
        return entries_.erase(path) == 0 ? std::string("ENOENT", 7) : std::string("OK", 3);
      case XS_DIRECTORY: {
        std::string names;
        for (const auto& [entry, value] : entries_) {
          if (entry.rfind(path + "/", 0) == 0) names += entry.substr(path.size() + 1) + '\0';
        }
        return names;
      }
      case XS_TRANSACTION_START:
        transactions_[++last_transaction_] = {};
        return std::to_string(last_transaction_) + '\0';
      case XS_TRANSACTION_END: {
        const auto changes = transactions_.extract(header.tx_id);
        if (path == "T" && conflicts_-- > 0) return std::string("EAGAIN", 7);
        for (const auto& [entry, value] : changes.mapped()) {
          if (path == "T") entries_[entry] = value;
        }
        return std::string("OK", 3);
      }
      default:
        return std::string("OK", 3);
    }
  }

  UniqueFd client_;
  UniqueFd mine_;
  std::mutex sending_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::string, std::string> entries_;
  std::map<uint32_t, std::map<std::string, std::string>> transactions_;  // What they change.
  uint32_t last_transaction_ = 0;
  int conflicts_ = 0;
  int requests_ = 0;
  bool silent_ = false;
  std::thread thread_;
};

class StoreClientTest : public ::testing::Test {
 protected:
  std::unique_ptr<XenStore> Open(absl::Duration patience) {
    return MakeXenStore(daemon_.TakeClient(), patience);
  }
  // Until the daemon answers in time, which a busy machine may make it miss.
  static std::string EventuallyRead(XenStore& store, const std::string& path) {
    const int64_t deadline_ns = SystemClock::Get().NowNs() + 60 * kNsPerSecond;
    for (;;) {
      const absl::StatusOr<std::string> value = store.Read(path);
      if (!absl::IsDeadlineExceeded(value.status())) return value.ok() ? *value : "";
      HAVEN_CHECK(SystemClock::Get().NowNs() < deadline_ns) << value.status().ToString();
    }
  }

  FakeDaemon daemon_;
};

TEST_F(StoreClientTest, WhatIsWrittenIsReadListedAndRemoved) {
  const auto store = Open(kLong);
  ASSERT_TRUE(store->Write("/a/1", "one").ok());
  ASSERT_TRUE(store->Write("/a/2", "").ok());
  EXPECT_EQ(*store->Read("/a/1"), "one");
  EXPECT_EQ(*store->Read("/a/2"), "");
  EXPECT_THAT(*store->List("/a"), ElementsAre("1", "2"));
  EXPECT_TRUE(store->Remove("/a/1").ok());
  EXPECT_TRUE(store->Remove("/a/1").ok()) << "idempotent";
  EXPECT_THAT(*store->List("/a"), ElementsAre("2"));
  EXPECT_TRUE(store->ResumeDomain(7).ok());
}

TEST_F(StoreClientTest, AnErrorNamesThePath) {
  const auto store = Open(kLong);
  EXPECT_TRUE(absl::IsNotFound(store->Read("/none").status()));
  const absl::Status refused = store->Write("/secret", "x");
  EXPECT_TRUE(absl::IsPermissionDenied(refused));
  EXPECT_THAT(std::string(refused.message()), HasSubstr("can not write /secret in the store"));
  EXPECT_TRUE(absl::IsInvalidArgument(store->Write("/a", std::string(5000, 'x'))));
  EXPECT_TRUE(store->Write("/a", "x").ok()) << "none of these ends the connection";
}

TEST_F(StoreClientTest, AValueIsReplacedOnlyIfItIsTheExpectedOne) {
  const auto store = Open(kLong);
  EXPECT_FALSE(*store->Replace("/a", "old", "new"));
  ASSERT_TRUE(store->Write("/a", "old").ok());
  daemon_.RefuseTransactions(3);
  EXPECT_TRUE(*store->Replace("/a", "old", "new")) << "somebody else was faster three times";
  EXPECT_EQ(*store->Read("/a"), "new");
  EXPECT_FALSE(*store->Replace("/a", "old", "newer"));
  EXPECT_EQ(*store->Read("/a"), "new");
  EXPECT_EQ(daemon_.transactions(), 0u);
  daemon_.RefuseTransactions(1000);
  EXPECT_TRUE(absl::IsInternal(store->Replace("/a", "new", "newer").status()));
}

TEST_F(StoreClientTest, WhatIsAnnouncedMakesTheDescriptorReadable) {
  const auto store = Open(kLong);
  ASSERT_TRUE(store->Watch("@releaseDomain").ok());
  EXPECT_TRUE(store->TakeEvents()) << "the first comes at once, in front of the answer";
  EXPECT_FALSE(store->TakeEvents());
  daemon_.Announce();
  pollfd ready = {store->event_fd(), POLLIN, 0};
  EXPECT_EQ(poll(&ready, 1, -1), 1);
  EXPECT_TRUE(store->TakeEvents());
  EXPECT_EQ(poll(&ready, 1, 0), 0);
}

TEST_F(StoreClientTest, APostIsNotWaitedFor) {
  const auto store = Open(kLong);
  daemon_.SetSilent(true);
  EXPECT_TRUE(store->Post("/a", "posted").ok());
  daemon_.SetSilent(false);
  EXPECT_EQ(*store->Read("/a"), "posted") << "in their order";
}

TEST_F(StoreClientTest, PostsWithoutAnAnswerAreLimited) {
  const auto store = Open(kLong);
  daemon_.SetSilent(true);
  absl::Status posted;
  int count = 0;
  while (posted.ok() && count < 1000) {
    posted = store->Post("/a", "x");
    ++count;
  }
  EXPECT_TRUE(absl::IsDeadlineExceeded(posted));
  EXPECT_LT(count, 100);
}

TEST_F(StoreClientTest, ADaemonThatOwesAnAnswerIsNotAskedForMore) {
  const auto store = Open(kShort);
  ASSERT_EQ(EventuallyRead(*store, "/none"), "");
  daemon_.SetSilent(true);
  const int before = daemon_.requests();
  const absl::Status read = store->Read("/a").status();
  EXPECT_TRUE(absl::IsDeadlineExceeded(read));
  EXPECT_THAT(std::string(read.message()), HasSubstr("(xenstored) has not answered for"));
  EXPECT_TRUE(absl::IsDeadlineExceeded(store->Write("/a", "x")));
  EXPECT_TRUE(absl::IsDeadlineExceeded(store->Post("/a", "x")));
  EXPECT_TRUE(absl::IsDeadlineExceeded(store->Replace("/a", "x", "y").status()));
  EXPECT_FALSE(store->TakeEvents());
  EXPECT_LE(daemon_.requests(), before + 1);
  daemon_.SetSilent(false);
  EXPECT_EQ(EventuallyRead(*store, "/a"), "") << "what was refused has not happened";
}

TEST_F(StoreClientTest, ALateAnswerIsNobodyElses) {
  const auto store = Open(kShort);
  while (!store->Write("/a", "a").ok()) {
  }
  while (!store->Write("/b", "b").ok()) {
  }
  daemon_.SetSilent(true);
  EXPECT_TRUE(absl::IsDeadlineExceeded(store->Read("/a").status()));
  daemon_.SetSilent(false);
  EXPECT_EQ(EventuallyRead(*store, "/b"), "b");
}

TEST_F(StoreClientTest, ATransactionThatWasGivenUpIsEnded) {
  const auto store = Open(kShort);
  while (!store->Write("/a", "old").ok()) {
  }
  daemon_.SetSilent(true);
  EXPECT_TRUE(absl::IsDeadlineExceeded(store->Replace("/a", "old", "new").status()));
  daemon_.SetSilent(false);
  EXPECT_EQ(EventuallyRead(*store, "/a"), "old");
  EXPECT_EQ(EventuallyRead(*store, "/a"), "old") << "behind the transaction's end";
  EXPECT_EQ(daemon_.transactions(), 0u);
}

TEST_F(StoreClientTest, ADaemonThatEndsIsUnavailableForGood) {
  const auto store = Open(kLong);
  ASSERT_TRUE(store->Write("/a", "a").ok());
  daemon_.End();
  EXPECT_TRUE(absl::IsUnavailable(store->Read("/a").status()));
  EXPECT_TRUE(absl::IsUnavailable(store->Post("/a", "b")));
  EXPECT_FALSE(store->TakeEvents());
}

TEST_F(StoreClientTest, WhatIsNoAnswerEndsTheConnection) {
  const auto store = Open(kLong);
  daemon_.Send(XS_READ, 77, "x", 1);
  const absl::Status unasked = store->Read("/a").status();
  EXPECT_TRUE(absl::IsUnavailable(unasked));
  EXPECT_THAT(std::string(unasked.message()), HasSubstr("it answers what was not asked"));
}

TEST_F(StoreClientTest, AMessageThatIsTooLongEndsTheConnection) {
  const auto store = Open(kLong);
  daemon_.Send(XS_WATCH_EVENT, 0, "", XENSTORE_PAYLOAD_MAX + 1);
  const absl::Status too_long = store->Read("/a").status();
  EXPECT_TRUE(absl::IsUnavailable(too_long));
  EXPECT_THAT(std::string(too_long.message()), HasSubstr("it sends a message of 4097 bytes"));
}

}  // namespace
}  // namespace haven
