// SPDX-License-Identifier: Apache-2.0
//
// Copies of a guest on a host without Xen, made by fake_xl.sh.
#ifndef HAVEN_XEN_BACKUP_XEN_REPLICA_TESTING_H_
#define HAVEN_XEN_BACKUP_XEN_REPLICA_TESTING_H_

#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/base/short_folder_testing.h"
#include "engine/control/time_limit.h"
#include "xen/backup/build_xen_replica.h"
#include "xen/backup/fake_incoming_qemu_testing.h"
#include "xen/backup/fake_replica_host.h"
#include "xen/backup/guest_config.h"
#include "xen/backup/migration_stream.h"
#include "xen/base/formats_testing.h"

namespace haven {

class XenReplicaTest : public ::testing::Test {
 protected:
  void SetUp() override {
    signal(SIGPIPE, SIG_IGN);
    world_->folder = folder_;
    world_->made = folder_ / "made";
    world_->unmade = folder_ / "unmade";
    world_->waiting_name = "web1--incoming";
    world_->bridges = {"br0"};
    description_ = FakeXenDescription();
    description_.config_json =
        R"({"c_info":{"type":"pvh","name":"web1"},)"
        R"("nics":[{"mac":"00:16:3e:00:00:01","bridge":"br0"},{"mac":"00:16:3e:00:00:02"}]})";
    hello_.name = "web1";
    hello_.uuid = "cb1ae9c3-8bd5-4d4b-a5d5-1a9c9a4b2a33";
    hello_.page_count = 0xff000;
    hello_.max_state_bytes = 65536;
    hello_.ram = {{0, 5}};
    options_.build_timeout = absl::Seconds(20);
    options_.destroy_timeout = absl::Seconds(20);
  }
  // The guest is one with a device model from here on. The copy's is of this manner, and starts
  // when the toolstack starts it.
  void MakeHvm(FakeIncomingQemuManner manner = {}) {
    world_->files = {"/guest/vmlinuz", "/guest/initrd.gz"};
    world_->waiting_name = "g1--incoming";
    world_->bridges = {"xenbr0"};
    nlohmann::json listed = nlohmann::json::parse(kListedHvmGuest);
    description_.config_json = listed[0]["config"].dump();
    description_.device_model = "7.2.1 Other";
    manner.start_sign = folder_ / "qemu-starts";
    qemu_.emplace(FakeReplicaHost(world_).FilesOfDeviceModel(FakeHostWorld::kDomid, ""),
                  std::move(manner));
  }

  // A copy made by a toolstack of this manner (fake_xl.sh).
  absl::StatusOr<std::unique_ptr<XenReplica>> Build(const std::string& manner) {
    const absl::StatusOr<std::string> config = EncodeXenDescription(description_);
    EXPECT_TRUE(config.ok()) << config.status();
    hello_.config = *config;
    options_.toolstack = {"xen/backup/fake_xl.sh", folder_, absl::StrCat(StreamBytes()), manner};
    return BuildXenReplica(std::make_unique<FakeReplicaHost>(world_), hello_, options_);
  }

  std::unique_ptr<XenReplica> Good(const std::string& manner = "good") {
    absl::StatusOr<std::unique_ptr<XenReplica>> replica = Build(manner);
    EXPECT_TRUE(replica.ok()) << replica.status();
    return *std::move(replica);
  }

  // How often the host was called so.
  ptrdiff_t Count(const std::string& call) const {
    const std::vector<std::string> calls = world_->Calls();
    return std::count(calls.begin(), calls.end(), call);
  }

  // Whether it comes true within 20 s.
  static bool Eventually(const std::function<bool()>& done) {
    const TimeLimit limit(absl::Seconds(20));
    while (!done()) {
      if (limit.Passed()) return false;
      poll(nullptr, 0, 1);
    }
    return true;
  }

  // The stream that the toolstack is to receive.
  std::string Stream() {
    std::string stream;
    const absl::StatusOr<GuestConfig> config =
        MapGuestConfig(description_.config_json, options_, !description_.device_model.empty());
    if (!config.ok()) return stream;
    const absl::Status written = WriteMigrationStream(
        *DecodeXenDescription(hello_.config), config->json, [&](std::span<const std::byte> bytes) {
          stream.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
          return absl::OkStatus();
        });
    EXPECT_TRUE(written.ok()) << written;
    return stream;
  }

  std::string ReadFolderFile(const std::string& name) const {
    std::ostringstream text;
    text << std::ifstream(folder_ / name, std::ios::binary).rdbuf();
    return text.str();
  }

  const ShortFolder temporary_;
  const std::filesystem::path folder_ = temporary_.path();
  const std::shared_ptr<FakeHostWorld> world_ = std::make_shared<FakeHostWorld>();
  XenDescription description_;
  HelloDomain hello_;
  XenReplicaOptions options_;
  std::optional<FakeIncomingQemu> qemu_;

 private:
  size_t StreamBytes() { return Stream().size(); }
};

}  // namespace haven

#endif  // HAVEN_XEN_BACKUP_XEN_REPLICA_TESTING_H_
