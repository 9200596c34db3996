// SPDX-License-Identifier: Apache-2.0
//
// The checking process of verbs_check: one function for each part of the contract.
#include <algorithm>
#include <array>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "engine/base/byte_order.h"
#include "engine/base/crc32c.h"
#include "engine/base/log.h"
#include "engine/base/random.h"
#include "engine/base/status_macros.h"
#include "transport/verbs/link_check_wire.h"

namespace haven {
namespace {

// A session with one link; each case has its own.
class Checker {
 public:
  static absl::StatusOr<std::unique_ptr<Checker>> Make(Transport& transport,
                                                       const std::string& address) {
    std::unique_ptr<Checker> checker(new Checker());
    HAVEN_ASSIGN_OR_RETURN(checker->channel_, transport.Connect(address, kCheckTimeout));
    HAVEN_ASSIGN_OR_RETURN(checker->endpoint_, transport.MakeEndpoint(*checker->channel_));
    HAVEN_ASSIGN_OR_RETURN(checker->staging_,
                           checker->endpoint_->Register(kCheckJournalBytes, RegionAccess::kLocal));
    HAVEN_ASSIGN_OR_RETURN(checker->block_, checker->endpoint_->Register(
                                                kCheckBlockBytes, RegionAccess::kRemoteWrite));
    HAVEN_ASSIGN_OR_RETURN(const std::string journal, checker->Order("region", ""));
    HAVEN_ASSIGN_OR_RETURN(checker->journal_, checker->endpoint_->Import(journal, kCheckTimeout));
    HAVEN_ASSIGN_OR_RETURN(const std::string own, checker->endpoint_->Offer(checker->block_));
    HAVEN_RETURN_IF_ERROR(checker->Order("peer", own).status());
    Random random(20);
    for (size_t at = 0; at < checker->staging_.bytes.size(); at += sizeof(uint64_t)) {
      StoreLe64(&checker->staging_.bytes[at], random.Next());
    }
    HAVEN_RETURN_IF_ERROR(checker->OpenLink());
    return checker;
  }

  absl::StatusOr<std::string> Order(absl::string_view word, absl::string_view body) {
    HAVEN_RETURN_IF_ERROR(SendCheck(*channel_, word, body));
    return Answer();
  }

  absl::StatusOr<std::string> Answer() {
    HAVEN_ASSIGN_OR_RETURN(CheckMessage answer, ReceiveCheck(*channel_));
    if (answer.word == "ok") return std::move(answer.body);
    return absl::InternalError(absl::StrCat("the serving process: ", answer.body));
  }

  absl::Status OpenLink() {
    link_.reset();
    HAVEN_ASSIGN_OR_RETURN(const std::string blob, Order("prepare", ""));
    last_blob_ = blob;
    HAVEN_RETURN_IF_ERROR(SendCheck(*channel_, "accept", ""));
    HAVEN_ASSIGN_OR_RETURN(link_, endpoint_->ConnectLink(blob, kCheckTimeout));
    return Answer().status();
  }

  // A signalled write of part of the staging area to the same place of the journal.
  WriteRequest Part(uint64_t id, uint64_t offset, uint32_t bytes) const {
    return {.id = id,
            .local_region = staging_.id,
            .local_offset = offset,
            .remote = journal_,
            .remote_offset = offset,
            .bytes = bytes,
            .signaled = true};
  }

  absl::Status Expect(uint64_t id, CompletionKind kind, CompletionResult result) {
    HAVEN_ASSIGN_OR_RETURN(const Completion got, NextCompletion(*link_, kCheckTimeout));
    if (got.id == id && got.kind == kind && got.result == result) return absl::OkStatus();
    return absl::InternalError(
        absl::StrFormat("expected id %d kind %d result %d, got id %d kind %d result %d", id,
                        static_cast<int>(kind), static_cast<int>(result), got.id,
                        static_cast<int>(got.kind), static_cast<int>(got.result)));
  }

  // The journal holds there what the staging area holds.
  absl::Status Compare(uint64_t offset, uint64_t bytes) {
    HAVEN_ASSIGN_OR_RETURN(const std::string sum, Order("sum", absl::StrCat(offset, " ", bytes)));
    const uint32_t own = Crc32c(staging_.bytes.subspan(offset, bytes));
    if (sum == absl::StrCat(own)) return absl::OkStatus();
    return absl::DataLossError(absl::StrCat("bytes differ: CRC ", sum, " there, ", own, " here"));
  }

  // The first completion that is not OK; all others up to it are.
  absl::StatusOr<Completion> FirstFailure(absl::Duration timeout) {
    const absl::Time end = absl::Now() + timeout;
    while (absl::Now() < end) {
      HAVEN_ASSIGN_OR_RETURN(const Completion got, NextCompletion(*link_, end - absl::Now()));
      if (got.result != CompletionResult::kOk) return got;
    }
    return absl::DeadlineExceededError("nothing has failed");
  }

  ControlChannel& channel() { return *channel_; }
  Endpoint& endpoint() { return *endpoint_; }
  Link& link() { return *link_; }
  const RemoteRegion& journal() const { return journal_; }
  const LocalRegion& staging() const { return staging_; }
  const LocalRegion& block() const { return block_; }
  const std::string& last_blob() const { return last_blob_; }

 private:
  std::unique_ptr<ControlChannel> channel_;
  std::unique_ptr<Endpoint> endpoint_;
  LocalRegion staging_;
  LocalRegion block_;
  RemoteRegion journal_;
  std::string last_blob_;
  std::unique_ptr<Link> link_;
};

using Note = absl::StatusOr<std::string>;

absl::Status Need(bool condition, absl::string_view what) {
  return condition ? absl::OkStatus() : absl::InternalError(what);
}

constexpr CompletionResult kOk = CompletionResult::kOk;
constexpr CompletionKind kWrite = CompletionKind::kWrite;

Note Sizes(Checker& checker) {
  // Commit records (352 bytes, sealed 368); around the inline limit of most devices, the page, the
  // MTU, and the largest request.
  constexpr std::array<uint32_t, 18> kSizes = {0,    1,    64,    255,           256,     257,
                                               352,  368,  383,   384,           385,     4095,
                                               4096, 4097, 65536, (1 << 20) - 1, 1 << 20, 3};
  uint64_t id = 100;
  for (const uint32_t bytes : kSizes) {
    const WriteRequest request = checker.Part(++id, 4096, bytes);
    HAVEN_RETURN_IF_ERROR(checker.link().PostWrites({&request, 1}));
    HAVEN_RETURN_IF_ERROR(checker.Expect(id, kWrite, kOk));
    if (bytes > 0) HAVEN_RETURN_IF_ERROR(checker.Compare(4096, bytes));
  }
  return absl::StrCat(kSizes.size(), " sizes");
}

Note Lists(Checker& checker) {
  std::vector<WriteRequest> list;
  for (uint32_t i = 0; i < 300; ++i) {
    list.push_back(checker.Part(1000 + i, i * 4096, 4096));
    list.back().signaled = i == 299;
  }
  HAVEN_RETURN_IF_ERROR(checker.link().PostWrites(list));
  HAVEN_RETURN_IF_ERROR(checker.Expect(1299, kWrite, kOk));
  std::array<Completion, 4> more;
  HAVEN_RETURN_IF_ERROR(Need(checker.link().Poll(more) == 0, "a completion nobody asked for"));
  HAVEN_RETURN_IF_ERROR(checker.Compare(0, 300 * 4096));
  return "300 requests, one completion";
}

Note Immediates(Checker& checker) {
  HAVEN_RETURN_IF_ERROR(checker.Order("receives", "64").status());
  std::vector<WriteRequest> list;
  for (uint32_t i = 0; i < 64; ++i) {
    list.push_back(checker.Part(i + 1, i * 64, i % 2 == 0 ? 64 : 0));
    list.back().signaled = i == 63;
    list.back().has_immediate = true;
    list.back().immediate = 5000 + i;
  }
  HAVEN_RETURN_IF_ERROR(checker.link().PostWrites(list));
  HAVEN_RETURN_IF_ERROR(checker.Expect(64, kWrite, kOk));
  HAVEN_RETURN_IF_ERROR(checker.Order("immediates", "64 5000").status());
  return "64 in order";
}

Note Event(Checker& checker) {
  HAVEN_RETURN_IF_ERROR(checker.link().PostReceives(1));
  HAVEN_RETURN_IF_ERROR(checker.Order("write", "").status());
  HAVEN_ASSIGN_OR_RETURN(const Completion got, NextCompletion(checker.link(), kCheckTimeout));
  HAVEN_RETURN_IF_ERROR(Need(got.kind == CompletionKind::kImmediate && got.immediate == 77,
                             "another completion than the peer's immediate"));
  const std::span<const std::byte> block = checker.block().bytes;
  HAVEN_RETURN_IF_ERROR(
      Need(std::all_of(block.begin(), block.end(),
                       [](std::byte byte) { return byte == std::byte{kCheckServedByte}; }),
           "the immediate came before its bytes"));
  return "woken by the peer's immediate";
}

Note QueueFull(Checker& checker) {
  uint64_t posted = 0;
  absl::Status status;
  while (status.ok() && posted < 100'000) {
    const WriteRequest request = checker.Part(posted + 1, 0, 64);
    status = checker.link().PostWrites({&request, 1});
    if (status.ok()) ++posted;
  }
  HAVEN_RETURN_IF_ERROR(Need(absl::IsResourceExhausted(status), status.ToString()));
  for (uint64_t id = 1; id <= posted; ++id) {
    HAVEN_RETURN_IF_ERROR(checker.Expect(id, kWrite, kOk));
  }
  const WriteRequest request = checker.Part(7, 0, 64);
  HAVEN_RETURN_IF_ERROR(checker.link().PostWrites({&request, 1}));
  HAVEN_RETURN_IF_ERROR(checker.Expect(7, kWrite, kOk));
  return absl::StrCat("full at ", posted);
}

Note BadRequests(Checker& checker) {
  WriteRequest request = checker.Part(1, kCheckJournalBytes - 10, 64);
  HAVEN_RETURN_IF_ERROR(
      Need(absl::IsInvalidArgument(checker.link().PostWrites({&request, 1})), "local bounds"));
  request = checker.Part(1, 0, 64);
  request.remote_offset = kCheckJournalBytes;
  HAVEN_RETURN_IF_ERROR(
      Need(absl::IsInvalidArgument(checker.link().PostWrites({&request, 1})), "remote bounds"));
  request = checker.Part(1, 0, checker.endpoint().max_write_bytes());
  request.bytes += 1;
  HAVEN_RETURN_IF_ERROR(
      Need(absl::IsInvalidArgument(checker.link().PostWrites({&request, 1})), "size"));
  const std::vector<WriteRequest> list(10'000, checker.Part(1, 0, 8));
  HAVEN_RETURN_IF_ERROR(
      Need(absl::IsInvalidArgument(checker.link().PostWrites(list)), "length of the list"));
  request = checker.Part(2, 0, 64);
  HAVEN_RETURN_IF_ERROR(checker.link().PostWrites({&request, 1}));
  HAVEN_RETURN_IF_ERROR(checker.Expect(2, kWrite, kOk));
  return "refused, and the link goes on";
}

Note Read(Checker& checker) {
  const WriteRequest request = checker.Part(1, 8192, 100'000);
  HAVEN_RETURN_IF_ERROR(checker.link().PostWrites({&request, 1}));
  HAVEN_RETURN_IF_ERROR(checker.Expect(1, kWrite, kOk));
  HAVEN_RETURN_IF_ERROR(
      checker.link().PostRead(2, checker.block().id, 512, checker.journal(), 8192, 100'000));
  HAVEN_RETURN_IF_ERROR(checker.Expect(2, CompletionKind::kRead, kOk));
  const bool same = std::memcmp(checker.block().bytes.data() + 512,
                                checker.staging().bytes.data() + 8192, 100'000) == 0;
  HAVEN_RETURN_IF_ERROR(Need(same, "read other bytes than were written"));
  return "100000 bytes";
}

Note Permission(Checker& checker) {
  RemoteRegion beyond = checker.journal();
  beyond.bytes *= 2;
  std::array<WriteRequest, 3> list = {checker.Part(1, 0, 64), checker.Part(2, 0, 64),
                                      checker.Part(3, 64, 64)};
  list[1].remote = beyond;
  list[1].remote_offset = kCheckJournalBytes + 4096;
  HAVEN_RETURN_IF_ERROR(checker.link().PostWrites(list));
  HAVEN_RETURN_IF_ERROR(checker.Expect(1, kWrite, kOk));
  HAVEN_RETURN_IF_ERROR(checker.Expect(2, kWrite, CompletionResult::kPermission));
  HAVEN_RETURN_IF_ERROR(checker.Expect(3, kWrite, CompletionResult::kFlushed));
  HAVEN_RETURN_IF_ERROR(Need(absl::IsUnavailable(checker.link().PostWrites({list.data(), 1})),
                             "the link goes on after a failure"));
  HAVEN_RETURN_IF_ERROR(checker.OpenLink());
  HAVEN_RETURN_IF_ERROR(checker.link().PostWrites({list.data(), 1}));
  HAVEN_RETURN_IF_ERROR(checker.Expect(1, kWrite, kOk));
  return "refused, flushed, and a new link works with the old regions";
}

Note NoCredit(Checker& checker) {
  WriteRequest request = checker.Part(1, 0, 64);
  request.has_immediate = true;
  const absl::Time start = absl::Now();
  HAVEN_RETURN_IF_ERROR(checker.link().PostWrites({&request, 1}));
  HAVEN_RETURN_IF_ERROR(checker.Expect(1, kWrite, CompletionResult::kRetry));
  return absl::StrCat("given up after ", absl::ToInt64Milliseconds(absl::Now() - start), " ms");
}

// The peer revokes while writes are on the wire: afterwards its memory stays as it was.
Note RevokeDuringWrites(Checker& checker) {
  std::vector<WriteRequest> list;
  for (uint32_t i = 0; i < 64; ++i) list.push_back(checker.Part(i + 1, i * 65536, 65536));
  HAVEN_RETURN_IF_ERROR(checker.link().PostWrites(list));
  HAVEN_RETURN_IF_ERROR(SendCheck(checker.channel(), "revoke", ""));
  uint64_t finished = 0;
  Completion failed;
  for (bool over = false; !over;) {
    HAVEN_ASSIGN_OR_RETURN(failed, NextCompletion(checker.link(), kCheckTimeout));
    over = failed.result != kOk;
    if (over) break;
    ++finished;
    // Other bytes each time, so that a late write would be seen.
    for (std::byte& byte : checker.staging().bytes.subspan(0, 4096)) byte ^= std::byte{0xff};
    const WriteRequest next = checker.Part(100 + finished, finished % 64 * 65536, 65536);
    const absl::Status posted = checker.link().PostWrites({&next, 1});
    if (!posted.ok() && !absl::IsUnavailable(posted)) return posted;
  }
  HAVEN_ASSIGN_OR_RETURN(const std::string answer, checker.Answer());
  const std::vector<std::string> fields = absl::StrSplit(answer, ' ');
  HAVEN_ASSIGN_OR_RETURN(const std::string after,
                         checker.Order("sum", absl::StrCat("0 ", kCheckJournalBytes)));
  HAVEN_RETURN_IF_ERROR(Need(fields.size() == 2 && fields[1] == after,
                             "the memory has changed after Revoke() has returned"));
  HAVEN_RETURN_IF_ERROR(Need(
      failed.result == CompletionResult::kPermission || failed.result == CompletionResult::kRetry,
      "the writer has learned nothing"));
  return absl::StrCat(finished, " writes before, revoked in ", fields[0], " us, the writer sees ",
                      failed.result == CompletionResult::kPermission ? "permission" : "retry");
}

Note Tokens(Checker& checker) {
  const std::string used = checker.last_blob();
  absl::Status status = checker.endpoint().ConnectLink(used, absl::Seconds(1)).status();
  // Nobody looks at connection requests before the next AcceptLink.
  HAVEN_RETURN_IF_ERROR(Need(absl::IsDeadlineExceeded(status) || absl::IsPermissionDenied(status),
                             absl::StrCat("used token: ", status.ToString())));
  HAVEN_ASSIGN_OR_RETURN(std::string blob, checker.Order("prepare", ""));
  HAVEN_RETURN_IF_ERROR(SendCheck(checker.channel(), "accept", ""));
  std::string wrong = blob;
  wrong.back() = static_cast<char>(wrong.back() ^ 1);
  status = checker.endpoint().ConnectLink(wrong, kCheckTimeout).status();
  HAVEN_RETURN_IF_ERROR(
      Need(absl::IsPermissionDenied(status), absl::StrCat("wrong token: ", status.ToString())));
  status = checker.endpoint().ConnectLink(used, kCheckTimeout).status();
  HAVEN_RETURN_IF_ERROR(
      Need(absl::IsPermissionDenied(status), absl::StrCat("used token: ", status.ToString())));
  HAVEN_ASSIGN_OR_RETURN(const std::unique_ptr<Link> link,
                         checker.endpoint().ConnectLink(blob, kCheckTimeout));
  HAVEN_RETURN_IF_ERROR(checker.Answer().status());
  return "wrong and used ones refused, the right one taken";
}

Note PeerGivesUp(Checker& checker) {
  HAVEN_RETURN_IF_ERROR(checker.link().PostReceives(8));
  const absl::Time start = absl::Now();
  HAVEN_RETURN_IF_ERROR(checker.Order("drop", "").status());
  HAVEN_RETURN_IF_ERROR(checker.Expect(0, CompletionKind::kImmediate, CompletionResult::kRetry));
  HAVEN_RETURN_IF_ERROR(Need(absl::IsUnavailable(checker.link().ArmEvent()), "still armed"));
  return absl::StrCat("an idle link learns it after ",
                      absl::ToInt64Milliseconds(absl::Now() - start), " ms");
}

Note PeerDies(Checker& checker) {
  const absl::Time start = absl::Now();
  HAVEN_RETURN_IF_ERROR(SendCheck(checker.channel(), "die", ""));
  absl::Status posted;
  for (uint64_t id = 1; posted.ok() || absl::IsResourceExhausted(posted); ++id) {
    HAVEN_RETURN_IF_ERROR(Need(absl::Now() - start < kCheckTimeout, "nothing fails"));
    const WriteRequest request = checker.Part(id, 0, 4096);
    posted = checker.link().PostWrites({&request, 1});
    std::array<Completion, 8> done;
    checker.link().Poll(done);
  }
  return absl::StrCat("a busy link fails after ", absl::ToInt64Milliseconds(absl::Now() - start),
                      " ms");
}

// MiB per second of the whole journal written in requests of one size, several times.
absl::StatusOr<double> Goodput(Checker& checker, uint32_t bytes) {
  constexpr uint32_t kRounds = 8;
  std::vector<WriteRequest> list;
  for (uint64_t offset = 0; offset < kCheckJournalBytes; offset += bytes) {
    list.push_back(checker.Part(offset / bytes + 1, offset, bytes));
    list.back().signaled = offset + bytes == kCheckJournalBytes;
  }
  const absl::Time start = absl::Now();
  for (uint32_t round = 0; round < kRounds; ++round) {
    HAVEN_RETURN_IF_ERROR(checker.link().PostWrites(list));
    const absl::Status done = checker.Expect(list.size(), kWrite, kOk);
    if (!done.ok()) {
      return absl::InternalError(
          absl::StrCat(done.message(), " in round ", round, " of ", bytes,
                       " byte writes: ", checker.link().PostReceives(0).message()));
    }
  }
  const double seconds = absl::ToDoubleSeconds(absl::Now() - start);
  HAVEN_RETURN_IF_ERROR(checker.Compare(0, kCheckJournalBytes));
  return static_cast<double>(kRounds * (kCheckJournalBytes >> 20)) / seconds;
}

// Microseconds of the median write of 64 bytes, polled for.
absl::StatusOr<int64_t> SmallWriteUs(Checker& checker) {
  std::vector<int64_t> all_us;
  for (uint32_t i = 0; i < 201; ++i) {
    const absl::Time posted = absl::Now();
    const WriteRequest request = checker.Part(1, 0, 64);
    HAVEN_RETURN_IF_ERROR(checker.link().PostWrites({&request, 1}));
    Completion done;
    while (checker.link().Poll({&done, 1}) == 0) {
      HAVEN_RETURN_IF_ERROR(Need(absl::Now() - posted < kCheckTimeout, "no completion"));
    }
    HAVEN_RETURN_IF_ERROR(Need(done.result == kOk, "a small write has failed"));
    all_us.push_back(absl::ToInt64Microseconds(absl::Now() - posted));
  }
  std::nth_element(all_us.begin(), all_us.begin() + 100, all_us.end());
  return all_us[100];
}

Note Figures(Checker& checker) {
  std::string note;
  for (const uint32_t bytes : {uint32_t{16} << 10, uint32_t{64} << 10, uint32_t{1} << 20}) {
    HAVEN_ASSIGN_OR_RETURN(const double goodput, Goodput(checker, bytes));
    absl::StrAppend(&note, absl::StrFormat("%d KiB writes %.1f MiB/s, ", bytes >> 10, goodput));
  }
  HAVEN_ASSIGN_OR_RETURN(const int64_t small_us, SmallWriteUs(checker));
  return absl::StrCat(note, "64 byte write polled ", small_us, " us median");
}

struct Case {
  const char* name;
  Note (*run)(Checker&);
  bool measures = false;  // And checks nothing that others do not: it runs if it is named.
};
constexpr std::array<Case, 14> kCases = {{{"sizes", Sizes},
                                          {"lists", Lists},
                                          {"immediates", Immediates},
                                          {"event", Event},
                                          {"queue-full", QueueFull},
                                          {"bad-requests", BadRequests},
                                          {"read", Read},
                                          {"permission", Permission},
                                          {"no-credit", NoCredit},
                                          {"revoke", RevokeDuringWrites},
                                          {"tokens", Tokens},
                                          {"peer-gives-up", PeerGivesUp},
                                          {"peer-dies", PeerDies},
                                          {"figures", Figures, /*measures=*/true}}};

Note RunCase(Transport& transport, const std::string& address, const Case& one) {
  HAVEN_ASSIGN_OR_RETURN(const std::unique_ptr<Checker> checker, Checker::Make(transport, address));
  return one.run(*checker);
}

}  // namespace

absl::StatusOr<int> RunChecks(Transport& transport, const std::string& address,
                              const std::string& only) {
  HAVEN_RETURN_IF_ERROR(Checker::Make(transport, address).status());
  int failed = 0;
  int ran = 0;
  for (const Case& one : kCases) {
    if (only.empty() ? one.measures : only != one.name) continue;
    ++ran;
    const Note note = RunCase(transport, address, one);
    if (!note.ok()) ++failed;
    HAVEN_LOG(kInfo, "check") << (note.ok() ? "PASS " : "FAIL ") << one.name << ": "
                              << (note.ok() ? *note : note.status().ToString());
  }
  if (ran == 0) return absl::NotFoundError(absl::StrCat("there is no case ", only));
  HAVEN_LOG(kInfo, "check") << ran << " cases, " << failed << " failed";
  return failed;
}

}  // namespace haven
