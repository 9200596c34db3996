// SPDX-License-Identifier: Apache-2.0
//
// The main of tests that start synthetic guests: the test's own program is the guest's program too.
#include <cstring>

#include "engine/synthetic/guest_main.h"
#include "engine/synthetic/testing.h"
#include "gtest/gtest.h"

int main(int argc, char** argv) {
  if (argc > 1 && std::strcmp(argv[1], haven::kTestGuestWord) == 0) {
    return haven::SyntheticGuestMain(argc - 2, argv + 2);
  }
  ::testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
