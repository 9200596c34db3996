// SPDX-License-Identifier: Apache-2.0
#include "engine/synthetic/report.h"

#include <unistd.h>

#include <fstream>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace haven {
namespace {

std::string PathOf(const char* name) {
  const std::string path = ::testing::TempDir() + name;
  unlink(path.c_str());
  return path;
}

SyntheticReport SomeReport() {
  SyntheticReport report;
  report.name = "web1";
  report.verdict = SyntheticReport::Verdict::kDifferent;
  report.finding = "frame 7: byte 3 = 1";
  report.state.generation = 2;
  report.state.stops = 17;
  report.state.next_sequence = 300;
  report.state.vcpus[0] = {100, UINT64_MAX};
  report.state.vcpus[3] = {400, 4};
  return report;
}

TEST(SyntheticReportTest, AReportIsReadBackUnchanged) {
  const std::string path = PathOf("report");
  for (const auto verdict :
       {SyntheticReport::Verdict::kNotChecked, SyntheticReport::Verdict::kEqual,
        SyntheticReport::Verdict::kDifferent}) {
    SyntheticReport report = SomeReport();
    report.verdict = verdict;
    ASSERT_TRUE(WriteSyntheticReport(path, report).ok());
    const absl::StatusOr<SyntheticReport> read = ReadSyntheticReport(path);
    ASSERT_TRUE(read.ok()) << read.status();
    EXPECT_EQ(*read, report);
  }
  EXPECT_NE(access((path + ".tmp").c_str(), F_OK), 0);
}

TEST(SyntheticReportTest, AFindingOfSeveralLinesBecomesOne) {
  const std::string path = PathOf("report_lines");
  SyntheticReport report = SomeReport();
  report.finding = "one\nverdict=equal";
  ASSERT_TRUE(WriteSyntheticReport(path, report).ok());
  EXPECT_EQ(ReadSyntheticReport(path)->finding, "one verdict=equal");
}

TEST(SyntheticReportTest, WhatIsNoReportIsRefused) {
  EXPECT_EQ(ReadSyntheticReport(PathOf("report_none")).status().code(),
            absl::StatusCode::kNotFound);
  const std::string path = PathOf("report_bad");
  for (const char* text :
       {"", "garbage\n", "name=x\nname=y\n", "name=x\nfinding=\nverdict=maybe\n",
        "name=x\nfinding=\nverdict=equal\ngeneration=-1\n",
        "name=x\nfinding=\nverdict=equal\ngeneration=1\nstops=1\nnext_sequence=1\n"}) {
    std::ofstream(path) << text;
    const absl::Status status = ReadSyntheticReport(path).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << text;
    EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr(path));
  }
}

TEST(SyntheticReportTest, APlaceThatCanNotBeWrittenIsReported) {
  EXPECT_FALSE(WriteSyntheticReport("/no/such/directory/report", SomeReport()).ok());
}

}  // namespace
}  // namespace haven
