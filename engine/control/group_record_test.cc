// SPDX-License-Identifier: Apache-2.0
#include "engine/control/group_record.h"

#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/file_util.h"
#include "engine/base/short_folder_testing.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

GroupRecord MakeRecord(const std::string& group = "web") {
  GroupRecord record;
  record.group = group;
  record.owner = "host-a.0123456789abcdef";
  record.phase = GroupPhase::kProtecting;
  record.guests = {"synthetic:g1", "synthetic:g2"};
  record.backup_address = "unix:/run/b.sock";
  record.return_address = "unix:/run/\"a\".sock";
  record.arbiter = "file:/srv/arbiter";
  record.interval_us = 50'000;
  record.detect_us = 100'000;
  record.rearm_us = 2'000'000;
  record.pause_budget_us = 1;
  record.arbiter_timeout_us = 1'000'000;
  record.journal_bytes = uint64_t{1} << 40;
  record.copy_threads = 3;
  record.unsafe_disk = true;
  record.codec = "dense";
  record.codec_cache_bytes = uint64_t{3} << 30;
  record.codec_block_bytes = 256;
  record.codec_hashes = record.codec_verify = true;
  record.psk_file = "/etc/haven.psk";
  record.heartbeat_us = 10'000;
  record.seal = true;
  return record;
}

std::string Complaint(absl::string_view text) {
  const absl::StatusOr<GroupRecord> record = ParseGroupRecord(text);
  if (record.ok()) return "accepted";
  EXPECT_TRUE(absl::IsInvalidArgument(record.status())) << record.status();
  return std::string(record.status().message());
}

TEST(GroupRecordTest, ComesBackAsItWasWritten) {
  for (const GroupPhase phase : {GroupPhase::kNew, GroupPhase::kProtecting, GroupPhase::kDeposed}) {
    GroupRecord record = MakeRecord();
    record.phase = phase;
    const absl::StatusOr<GroupRecord> read = ParseGroupRecord(FormatGroupRecord(record));
    ASSERT_TRUE(read.ok()) << read.status();
    EXPECT_EQ(*read, record);
  }
}

TEST(GroupRecordTest, ARecordThatWasTornAnywhereIsRefused) {
  std::string text = FormatGroupRecord(MakeRecord());
  while (text.back() != '}') text.pop_back();
  for (size_t size = 0; size < text.size(); ++size) {
    EXPECT_NE(Complaint(absl::string_view(text).substr(0, size)), "accepted") << size << " bytes";
  }
  EXPECT_NE(Complaint(text + "{"), "accepted");
  EXPECT_NE(Complaint(std::string(4096, '\0')), "accepted");
  EXPECT_NE(Complaint(std::string(60'000, '[')), "accepted");
}

TEST(GroupRecordTest, EveryFieldIsNeededAndHasItsType) {
  const json whole = json::parse(FormatGroupRecord(MakeRecord()));
  for (const auto& [field, value] : whole.items()) {
    json without = whole;
    without.erase(field);
    EXPECT_THAT(Complaint(without.dump()), HasSubstr(absl::StrCat("\"", field, "\" is missing")));
    const json other = value.is_boolean() ? json(1) : json(true);
    for (const json& wrong : {json(), other, json(1.5), json::object(), json::array({7})}) {
      json changed = whole;
      changed[field] = wrong;
      EXPECT_THAT(Complaint(changed.dump()), HasSubstr(absl::StrCat("\"", field, "\" has ")));
    }
  }
  json more = whole;
  more["colour"] = "green";
  EXPECT_THAT(Complaint(more.dump()), HasSubstr("\"colour\" is not known"));
}

TEST(GroupRecordTest, AValueOutOfItsRangeIsNamed) {
  const json whole = json::parse(FormatGroupRecord(MakeRecord()));
  const std::vector<std::pair<std::string, json>> wrong = {
      {"version", 2},
      {"phase", "sleeping"},
      {"guests", json::array()},
      {"guests", json(std::vector<std::string>(17, "synthetic:g"))},
      {"interval_us", 0},
      {"detect_us", -1},
      {"rearm_us", std::numeric_limits<int64_t>::max()},
      {"pause_budget_us", -5},
      {"arbiter_timeout_us", 0},
      {"journal_bytes", 0},
      {"copy_threads", uint64_t{1} << 32},
      {"codec", "on"},
      {"codec_cache_bytes", -1},
      {"codec_block_bytes", 96},
      {"codec_hashes", "yes"},
      {"heartbeat_us", -1},
      {"heartbeat_us", 999},
      {"heartbeat_us", 1'000'001},
      {"seal", 1},
  };
  for (const auto& [field, value] : wrong) {
    json changed = whole;
    changed[field] = value;
    EXPECT_THAT(Complaint(changed.dump()), HasSubstr(absl::StrCat("\"", field, "\""))) << value;
  }
  for (const char* field : {"group", "owner"}) {
    for (const char* name : {"", "..", "a/b", "a b"}) {
      json changed = whole;
      changed[field] = name;
      EXPECT_THAT(Complaint(changed.dump()), HasSubstr(absl::StrCat(field, " \"", name, "\"")));
    }
  }
}

TEST(CheckNameTest, AllowsWhatTheProtocolCarries) {
  EXPECT_TRUE(CheckName("group", "A-z_0.9").ok());
  EXPECT_TRUE(CheckName("group", std::string(63, 'x')).ok());
  for (const std::string& name : {std::string(64, 'x'), std::string("a\0b", 3), std::string("é"),
                                  std::string("."), std::string("a\n")}) {
    EXPECT_TRUE(absl::IsInvalidArgument(CheckName("group", name))) << name;
  }
}

class GroupDirectoryTest : public testing::Test {
 protected:
  const ShortFolder folder_;
  const GroupDirectory directory_{folder_.File("node")};
};

TEST_F(GroupDirectoryTest, SavesLoadsRemoves) {
  ASSERT_TRUE(directory_.Ensure().ok());
  ASSERT_TRUE(directory_.Ensure().ok()) << "it is there already";
  struct stat info = {};
  ASSERT_EQ(stat(directory_.path().c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0700u);
  EXPECT_FALSE(directory_.Exists("web"));
  EXPECT_TRUE(absl::IsNotFound(directory_.Load("web").status()));
  ASSERT_TRUE(directory_.Save(MakeRecord()).ok());
  EXPECT_TRUE(directory_.Exists("web"));
  EXPECT_EQ(*directory_.Load("web"), MakeRecord());
  ASSERT_TRUE(directory_.Remove("web").ok());
  EXPECT_FALSE(directory_.Exists("web"));
  EXPECT_TRUE(directory_.Remove("web").ok());
  EXPECT_TRUE(std::filesystem::is_empty(directory_.path()));
}

TEST_F(GroupDirectoryTest, ADamagedRecordIsNamedByItsPath) {
  ASSERT_TRUE(directory_.Ensure().ok());
  ASSERT_TRUE(WriteFileAtomically(directory_.RecordPath("web"), "{\"version\": 1,").ok());
  const absl::Status torn = directory_.Load("web").status();
  EXPECT_TRUE(absl::IsDataLoss(torn)) << torn;
  EXPECT_THAT(std::string(torn.message()), HasSubstr(directory_.RecordPath("web")));
  EXPECT_TRUE(directory_.Exists("web")) << "there may be a copy";

  ASSERT_TRUE(WriteFileAtomically(directory_.RecordPath("web"), std::string(70'000, ' ')).ok());
  EXPECT_FALSE(directory_.Load("web").ok());

  ASSERT_TRUE(
      WriteFileAtomically(directory_.RecordPath("web"), FormatGroupRecord(MakeRecord("db"))).ok());
  EXPECT_THAT(std::string(directory_.Load("web").status().message()),
              HasSubstr("record of group db"));

  ASSERT_TRUE(directory_.Remove("web").ok());
  ASSERT_EQ(mkdir(directory_.RecordPath("web").c_str(), 0700), 0);
  EXPECT_FALSE(directory_.Load("web").ok());
}

TEST_F(GroupDirectoryTest, SavesNothingThatCouldNotBeLoaded) {
  ASSERT_TRUE(directory_.Ensure().ok());
  ASSERT_TRUE(directory_.Save(MakeRecord()).ok());
  GroupRecord record = MakeRecord();
  record.backup_address = "unix:/run/\xff.sock";
  const absl::Status bytes = directory_.Save(record);
  EXPECT_TRUE(absl::IsInvalidArgument(bytes)) << bytes;
  EXPECT_THAT(std::string(bytes.message()), HasSubstr("UTF-8"));
  record = MakeRecord();
  record.guests.clear();
  EXPECT_TRUE(absl::IsInvalidArgument(directory_.Save(record)));
  EXPECT_EQ(*directory_.Load("web"), MakeRecord()) << "the one before is still there";
}

TEST_F(GroupDirectoryTest, AMissingDirectoryIsNamed) {
  const auto names = [this](const absl::Status& status) {
    EXPECT_TRUE(absl::IsNotFound(status)) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(directory_.path()));
  };
  names(directory_.Groups().status());
  names(directory_.Lock("web").status());
  names(directory_.Load("web").status());
  EXPECT_FALSE(directory_.Save(MakeRecord()).ok());
}

TEST_F(GroupDirectoryTest, ADirectoryThatCanNotBeMadeIsNamed) {
  ASSERT_TRUE(WriteFileAtomically(folder_.File("file"), "").ok());
  const std::string below = folder_.File("file/node");
  EXPECT_THAT(std::string(GroupDirectory(below).Ensure().message()), HasSubstr(below));
  EXPECT_THAT(std::string(GroupDirectory(folder_.File("file")).Ensure().message()),
              HasSubstr("no directory"));
}

TEST_F(GroupDirectoryTest, ListsGroupsOnceAndNothingElse) {
  ASSERT_TRUE(directory_.Ensure().ok());
  for (const char* name : {"/b.group", "/a.status", "/b.status", "/a.lock", "/c.group.tmp",
                           "/a b.group", "/.group", "/d.events"}) {
    ASSERT_TRUE(WriteFileAtomically(directory_.path() + name, "").ok());
  }
  EXPECT_THAT(*directory_.Groups(), ElementsAre("a", "b"));
}

TEST_F(GroupDirectoryTest, TheLockHasOneHolder) {
  ASSERT_TRUE(directory_.Ensure().ok());
  absl::StatusOr<UniqueFd> first = directory_.Lock("web");
  ASSERT_TRUE(first.ok()) << first.status();
  const absl::Status second = directory_.Lock("web").status();
  EXPECT_TRUE(absl::IsFailedPrecondition(second)) << second;
  EXPECT_THAT(std::string(second.message()),
              AllOf(HasSubstr("\"web\""), HasSubstr(absl::StrCat("pid ", getpid(), " "))));
  EXPECT_TRUE(directory_.Lock("db").ok()) << "another group's lock is another one";
  first = absl::NotFoundError("");
  EXPECT_TRUE(directory_.Lock("web").ok());
}

TEST_F(GroupDirectoryTest, ALockFileOfADeadProcessIsNoLock) {
  ASSERT_TRUE(directory_.Ensure().ok());
  ASSERT_TRUE(WriteFileAtomically(directory_.path() + "/web.lock", std::string(100, '9')).ok());
  const absl::StatusOr<UniqueFd> lock = directory_.Lock("web");
  ASSERT_TRUE(lock.ok()) << lock.status();
  EXPECT_EQ(*ReadBoundedFile(directory_.path() + "/web.lock", 100), absl::StrCat(getpid()));
}

TEST_F(GroupDirectoryTest, ALockThatCanNotBeOpenedIsNamed) {
  ASSERT_TRUE(directory_.Ensure().ok());
  ASSERT_EQ(mkdir((directory_.path() + "/web.lock").c_str(), 0700), 0);
  const absl::Status status = directory_.Lock("web").status();
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(std::string(status.message()), HasSubstr("web.lock"));
}

}  // namespace
}  // namespace haven
