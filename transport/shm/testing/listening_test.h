// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_TRANSPORT_SHM_TESTING_LISTENING_TEST_H_
#define HAVEN_TRANSPORT_SHM_TESTING_LISTENING_TEST_H_

#include <gtest/gtest.h>

#include <filesystem>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "engine/base/short_folder_testing.h"
#include "transport/shm/shm_transport.h"

namespace haven {

// A fixture with a listener to which children connect. Each test forks its children before it makes
// anything else; they end by _exit or a signal, so never by destructors.
class ListeningTest : public testing::Test {
 protected:
  void TearDown() override {
    listener_.reset();
    EXPECT_TRUE(std::filesystem::is_empty(directory_.path()));
  }

  const ShortFolder directory_;
  const std::string address_ = absl::StrCat("unix:", (directory_.path() / "b.sock").string());
  std::unique_ptr<Listener> listener_ = *ShmTransport().Listen(address_);
};

}  // namespace haven

#endif  // HAVEN_TRANSPORT_SHM_TESTING_LISTENING_TEST_H_
