// SPDX-License-Identifier: Apache-2.0
#include "transport/verbs/wc_status.h"

#include <gtest/gtest.h>

#include <array>

namespace haven {
namespace {

TEST(WcStatus, OnlySuccessIsOk) {
  for (int status = 0; status < 32; ++status) {
    const CompletionResult result = ResultOfWcStatus(static_cast<ibv_wc_status>(status));
    EXPECT_EQ(result == CompletionResult::kOk, status == IBV_WC_SUCCESS) << status;
  }
}

TEST(WcStatus, WhatAFencedWriterSees) {
  constexpr std::array<ibv_wc_status, 2> kFenced = {IBV_WC_REM_INV_REQ_ERR, IBV_WC_REM_ACCESS_ERR};
  for (const ibv_wc_status status : kFenced) {
    EXPECT_EQ(ResultOfWcStatus(status), CompletionResult::kPermission);
  }
  EXPECT_EQ(ResultOfWcStatus(IBV_WC_RETRY_EXC_ERR), CompletionResult::kRetry);
  EXPECT_EQ(ResultOfWcStatus(IBV_WC_RNR_RETRY_EXC_ERR), CompletionResult::kRetry);
  EXPECT_EQ(ResultOfWcStatus(IBV_WC_WR_FLUSH_ERR), CompletionResult::kFlushed);
}

TEST(WcStatus, OwnFaultsAndUnknownValuesAreOther) {
  EXPECT_EQ(ResultOfWcStatus(IBV_WC_LOC_PROT_ERR), CompletionResult::kOther);
  EXPECT_EQ(ResultOfWcStatus(IBV_WC_GENERAL_ERR), CompletionResult::kOther);
  EXPECT_EQ(ResultOfWcStatus(static_cast<ibv_wc_status>(31)), CompletionResult::kOther);
}

}  // namespace
}  // namespace haven
