// SPDX-License-Identifier: Apache-2.0
//
// A host without Xen, for tests of XenReplica.
#ifndef HAVEN_XEN_BACKUP_FAKE_REPLICA_HOST_H_
#define HAVEN_XEN_BACKUP_FAKE_REPLICA_HOST_H_

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "xen/backup/replica_host.h"
#include "xen/base/interfaces_testing.h"

namespace haven {

// What a test sees of the host, and sets. The host may be used by another thread after Run().
struct FakeHostWorld {
  static constexpr uint32_t kDomid = 7;

  std::mutex mutex;
  std::vector<std::string> calls;  // Those that change something, in their order.
  std::set<std::string> bridges;
  std::set<std::string> refused;  // Calls that fail.
  std::string waiting_name;       // Of the copy, once the toolstack has made it.
  std::filesystem::path made;     // The toolstack's sign that there is a copy ..
  std::filesystem::path unmade;   // .. and that it has destroyed it.
  std::filesystem::path folder;   // Where a device model's files are.
  std::set<std::string> files;    // That CheckFile() finds.
  bool running = false;
  bool destroyed = false;
  uint64_t free_bytes = uint64_t{1} << 30;
  std::vector<std::byte> context;  // What SetHvmContext was given.
  XenTscInfo tsc;
  std::map<uint64_t, int> unmappable;  // Frames that can not be mapped, with their errno.

  std::vector<std::string> Calls() {
    const std::lock_guard<std::mutex> lock(mutex);
    return calls;
  }
};

class FakeReplicaHost final : public ReplicaHost {
 public:
  explicit FakeReplicaHost(std::shared_ptr<FakeHostWorld> world) : world_(std::move(world)) {}

  absl::StatusOr<uint32_t> FindDomain(const std::string& name) override {
    if (name == world_->waiting_name && !Gone()) return FakeHostWorld::kDomid;
    return absl::NotFoundError("no such domain");
  }

  absl::StatusOr<DomainState> StateOf(uint32_t domid) override {
    if (Refuses("state")) return Refusal("state");
    if (domid != FakeHostWorld::kDomid || Gone()) return DomainState::kGone;
    return world_->running ? DomainState::kRunning : DomainState::kWaiting;
  }

  absl::StatusOr<std::unique_ptr<ForeignMapper>> MapperFor(uint32_t) override {
    auto mapper = std::make_unique<FakeMapper>();
    *mapper->failing = world_->unmappable;
    return mapper;
  }

  absl::Status SetTsc(uint32_t, const XenTscInfo& tsc) override {
    world_->tsc = tsc;
    return Note("tsc");
  }
  absl::Status SetHvmParam(uint32_t, const HvmParam& param) override {
    return Note(absl::StrCat("param ", param.index, "=", param.value));
  }
  absl::Status SetHvmContext(uint32_t, std::span<const std::byte> context) override {
    world_->context.assign(context.begin(), context.end());
    return Note("context");
  }
  absl::Status Unpause(uint32_t) override {
    const absl::Status noted = Note("unpause");
    if (noted.ok()) world_->running = true;
    return noted;
  }
  absl::Status Pause(uint32_t) override {
    const absl::Status noted = Note("pause");
    if (noted.ok()) world_->running = false;
    return noted;
  }
  absl::Status Destroy(uint32_t) override {
    const absl::Status noted = Note("destroy");
    if (noted.ok()) world_->destroyed = true;
    return noted;
  }
  absl::Status Rename(uint32_t, const std::string& name) override {
    return Note(absl::StrCat("rename ", name));
  }
  absl::Status OfferSuspend(uint32_t) override { return Note("offer suspend"); }
  absl::StatusOr<uint64_t> FreeMemoryBytes() override { return world_->free_bytes; }
  absl::Status CheckBridge(const std::string& bridge) override {
    if (world_->bridges.contains(bridge)) return absl::OkStatus();
    return absl::NotFoundError(absl::StrCat("there is no bridge ", bridge, " on this host"));
  }
  absl::Status CheckFile(const std::string& path) override {
    if (world_->files.contains(path)) return absl::OkStatus();
    return absl::NotFoundError(absl::StrCat("there is no file ", path, " on this host"));
  }
  DeviceModelFiles FilesOfDeviceModel(uint32_t domid, const std::string&) const override {
    return {.state_file = world_->folder / absl::StrCat("qemu-resume.", domid),
            .qmp_socket = world_->folder / absl::StrCat("qmp-", domid),
            .log = world_->folder / "qemu.log"};
  }
  // The toolstack looks for the file.
  absl::Status SayDeviceModelRuns(uint32_t) override {
    const absl::Status noted = Note("device model runs");
    if (noted.ok()) std::ofstream(world_->folder / "device-model-runs").put('x');
    return noted;
  }
  absl::Status Announce(const GuestNic& nic) override {
    return Note(absl::StrCat("announce ", nic.bridge));
  }

 private:
  bool Gone() const {
    return world_->destroyed || !std::filesystem::exists(world_->made) ||
           std::filesystem::exists(world_->unmade);
  }
  bool Refuses(const std::string& call) {
    const std::lock_guard<std::mutex> lock(world_->mutex);
    return world_->refused.contains(call);
  }
  static absl::Status Refusal(const std::string& call) {
    return absl::InternalError(absl::StrCat(call, " was refused"));
  }
  absl::Status Note(const std::string& call) {
    if (Refuses(call)) return Refusal(call);
    const std::lock_guard<std::mutex> lock(world_->mutex);
    world_->calls.push_back(call);
    return absl::OkStatus();
  }

  const std::shared_ptr<FakeHostWorld> world_;
};

}  // namespace haven

#endif  // HAVEN_XEN_BACKUP_FAKE_REPLICA_HOST_H_
