// SPDX-License-Identifier: Apache-2.0
//
// The serving process of verbs_check: does what it is told, as the backup of a session would.
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "engine/base/crc32c.h"
#include "engine/base/status_macros.h"
#include "transport/verbs/link_check_wire.h"

namespace haven {
namespace {

constexpr int kDeathStatus = 9;

class CheckServer {
 public:
  static absl::StatusOr<std::unique_ptr<CheckServer>> Make(Transport& transport, int connection) {
    std::unique_ptr<CheckServer> server(new CheckServer());
    HAVEN_ASSIGN_OR_RETURN(server->channel_, transport.Adopt(connection, kCheckTimeout));
    HAVEN_ASSIGN_OR_RETURN(server->endpoint_, transport.MakeEndpoint(*server->channel_));
    HAVEN_ASSIGN_OR_RETURN(server->journal_, server->endpoint_->Register(
                                                 kCheckJournalBytes, RegionAccess::kRemoteWrite));
    HAVEN_ASSIGN_OR_RETURN(server->scratch_,
                           server->endpoint_->Register(kCheckBlockBytes, RegionAccess::kLocal));
    std::memset(server->scratch_.bytes.data(), kCheckServedByte, server->scratch_.bytes.size());
    return server;
  }

  absl::Status Run() {
    for (;;) {
      HAVEN_ASSIGN_OR_RETURN(const CheckMessage order, ReceiveCheck(*channel_));
      if (order.word == "bye") return SendCheck(*channel_, "ok", "");
      const absl::StatusOr<std::string> done = Obey(order);
      HAVEN_RETURN_IF_ERROR(done.ok() ? SendCheck(*channel_, "ok", *done)
                                      : SendCheck(*channel_, "error", done.status().ToString()));
    }
  }

 private:
  absl::StatusOr<std::string> Obey(const CheckMessage& order) {
    if (order.word == "region") return endpoint_->Offer(journal_);
    if (order.word == "prepare") return endpoint_->PrepareLink();
    if (order.word == "peer") {
      HAVEN_ASSIGN_OR_RETURN(peer_, endpoint_->Import(order.body, kCheckTimeout));
      return "";
    }
    if (order.word == "accept") {
      HAVEN_ASSIGN_OR_RETURN(link_, endpoint_->AcceptLink(kCheckTimeout));
      return "";
    }
    if (order.word == "drop") {
      link_.reset();
      return "";
    }
    if (order.word == "die") _exit(kDeathStatus);
    if (order.word == "sum") return Sum(order.body);
    if (link_ == nullptr) return absl::FailedPreconditionError("there is no link");
    if (order.word == "receives") return Receives(order.body);
    if (order.word == "immediates") return Immediates(order.body);
    if (order.word == "write") return Write();
    if (order.word == "revoke") return Revoke();
    return absl::InvalidArgumentError(absl::StrCat("unknown order ", order.word));
  }

  static absl::StatusOr<std::vector<uint64_t>> Numbers(const std::string& body, size_t count) {
    std::vector<uint64_t> numbers;
    for (const absl::string_view word : absl::StrSplit(body, ' ', absl::SkipEmpty())) {
      uint64_t number = 0;
      if (!absl::SimpleAtoi(word, &number)) return absl::InvalidArgumentError("no number");
      numbers.push_back(number);
    }
    if (numbers.size() != count) return absl::InvalidArgumentError("wrong number of numbers");
    return numbers;
  }

  absl::StatusOr<std::string> Sum(const std::string& body) const {
    HAVEN_ASSIGN_OR_RETURN(const std::vector<uint64_t> range, Numbers(body, 2));
    if (range[0] > kCheckJournalBytes || range[1] > kCheckJournalBytes - range[0]) {
      return absl::InvalidArgumentError("beyond the journal");
    }
    return absl::StrCat(Crc32c(journal_.bytes.subspan(range[0], range[1])));
  }

  absl::StatusOr<std::string> Receives(const std::string& body) {
    HAVEN_ASSIGN_OR_RETURN(const std::vector<uint64_t> count, Numbers(body, 1));
    HAVEN_RETURN_IF_ERROR(link_->PostReceives(static_cast<uint32_t>(count[0])));
    return "";
  }

  // Waits for so many; they count up from the second number.
  absl::StatusOr<std::string> Immediates(const std::string& body) {
    HAVEN_ASSIGN_OR_RETURN(const std::vector<uint64_t> want, Numbers(body, 2));
    for (uint64_t i = 0; i < want[0]; ++i) {
      HAVEN_ASSIGN_OR_RETURN(const Completion got, NextCompletion(*link_, kCheckTimeout));
      if (got.kind != CompletionKind::kImmediate || got.result != CompletionResult::kOk ||
          got.immediate != want[1] + i) {
        return absl::InternalError(absl::StrCat(
            "expected immediate ", want[1] + i, ", got kind ", static_cast<int>(got.kind),
            ", result ", static_cast<int>(got.result), ", value ", got.immediate));
      }
    }
    return "";
  }

  // Fills the peer's block and wakes it.
  absl::StatusOr<std::string> Write() {
    const WriteRequest request = {
        .id = 1,
        .local_region = scratch_.id,
        .remote = peer_,
        .bytes = static_cast<uint32_t>(std::min(peer_.bytes, kCheckBlockBytes)),
        .signaled = true,
        .has_immediate = true,
        .immediate = 77};
    HAVEN_RETURN_IF_ERROR(link_->PostWrites({&request, 1}));
    HAVEN_ASSIGN_OR_RETURN(const Completion done, NextCompletion(*link_, kCheckTimeout));
    if (done.result == CompletionResult::kOk) return "";
    return absl::InternalError(
        absl::StrCat("the write has failed: ", static_cast<int>(done.result)));
  }

  absl::StatusOr<std::string> Revoke() {
    const absl::Time start = absl::Now();
    HAVEN_RETURN_IF_ERROR(link_->Revoke());
    const int64_t took_us = absl::ToInt64Microseconds(absl::Now() - start);
    HAVEN_ASSIGN_OR_RETURN(const std::string sum, Sum(absl::StrCat("0 ", kCheckJournalBytes)));
    return absl::StrCat(took_us, " ", sum);
  }

  // Links go before the endpoint.
  std::unique_ptr<ControlChannel> channel_;
  std::unique_ptr<Endpoint> endpoint_;
  LocalRegion journal_;
  LocalRegion scratch_;
  RemoteRegion peer_;
  std::unique_ptr<Link> link_;
};

}  // namespace

absl::Status ServeCheck(Transport& transport, int connection) {
  HAVEN_ASSIGN_OR_RETURN(const std::unique_ptr<CheckServer> server,
                         CheckServer::Make(transport, connection));
  return server->Run();
}

}  // namespace haven
