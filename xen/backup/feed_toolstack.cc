// SPDX-License-Identifier: Apache-2.0
#include "xen/backup/feed_toolstack.h"

#include <poll.h>

#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "engine/base/status_macros.h"
#include "xen/backup/migration_stream.h"

namespace haven {
namespace {

// The words of tools/xl/xl.h. The second includes its terminating zero, as xl sends it.
constexpr absl::string_view kBanner = "xl migration receiver ready, send binary domain data.\n";
constexpr char kReadyWords[] = "domain received, ready to unpause";
constexpr absl::string_view kReady(kReadyWords, sizeof(kReadyWords));

constexpr int kStepMs = 20;

// Waits until the toolstack has named the domain.
absl::StatusOr<uint32_t> AwaitDomain(ReplicaHost& host, ToolstackChild& toolstack,
                                     const GuestConfig& config, const TimeLimit& limit) {
  for (;;) {
    const absl::StatusOr<uint32_t> domid = host.FindDomain(config.WaitingName());
    if (domid.ok() || !absl::IsNotFound(domid.status())) return domid;
    if (toolstack.Ended()) return absl::UnavailableError("the toolstack has ended");
    if (limit.Passed()) {
      return absl::DeadlineExceededError(
          absl::StrCat("the toolstack makes no domain: ", domid.status().message()));
    }
    poll(nullptr, 0, kStepMs);
  }
}

// "7.2" of "7.2.22 Debian 1:7.2+dfsg-7".
absl::string_view MajorMinor(absl::string_view version) {
  version = version.substr(0, version.find(' '));
  const size_t minor = version.find('.');
  return minor == version.npos ? version : version.substr(0, version.find('.', minor + 1));
}

// QEMU loads states of its own version alone with certainty; that it does not would show when the
// copy is to run and no sooner.
absl::Status CheckVersion(const std::string& here, const std::string& original) {
  if (MajorMinor(here) == MajorMinor(original)) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("this host's QEMU is ", here, ", the original's is ", original,
                   ": the first two numbers must be the same. Install the same QEMU on both hosts, "
                   "and start the guest anew if its QEMU is older than what is installed there"));
}

// Lets the device model of the copy come up, and the toolstack go on.
absl::Status Wake(ReplicaHost& host, ToolstackChild& toolstack, HeldDeviceModel& model,
                  uint32_t domid, const std::string& original, const TimeLimit& limit) {
  absl::Status woken = model.Wake(limit, [&] { return toolstack.Ended(); });
  if (woken.ok()) woken = CheckVersion(model.version(), original);
  // Also of one that will not do: else the toolstack would wait for this word for a minute, before
  // it sees that it is to take down what it has made.
  if (!toolstack.Ended()) {
    const absl::Status said = host.SayDeviceModelRuns(domid);
    if (woken.ok()) woken = said;
  }
  return woken;
}

}  // namespace

absl::StatusOr<FedCopy> FeedToolstack(ReplicaHost& host, ToolstackChild& toolstack,
                                      const XenDescription& description, const GuestConfig& config,
                                      const TimeLimit& limit) {
  FedCopy copy;
  HAVEN_RETURN_IF_ERROR(toolstack.Expect(kBanner, limit));
  HAVEN_RETURN_IF_ERROR(WriteMigrationStream(
      description, config.json,
      [&](std::span<const std::byte> bytes) { return toolstack.Write(bytes, limit); },
      [&]() -> absl::Status {
        HAVEN_ASSIGN_OR_RETURN(copy.domid, AwaitDomain(host, toolstack, config, limit));
        // Numbers begin anew when a host boots, and files of an earlier domain may be left.
        return HeldDeviceModel::RemoveLeftFile(
            host.FilesOfDeviceModel(copy.domid, config.WaitingName()));
      },
      [&]() -> absl::Status {
        HAVEN_ASSIGN_OR_RETURN(
            copy.device_model,
            HeldDeviceModel::Hold(host.FilesOfDeviceModel(copy.domid, config.WaitingName()), limit,
                                  [&] { return toolstack.Ended(); }));
        return absl::OkStatus();
      }));
  if (copy.device_model != nullptr) {
    HAVEN_RETURN_IF_ERROR(
        Wake(host, toolstack, *copy.device_model, copy.domid, description.device_model, limit));
  }
  HAVEN_RETURN_IF_ERROR(toolstack.Expect(kReady, limit));
  HAVEN_ASSIGN_OR_RETURN(copy.domid, host.FindDomain(config.WaitingName()));
  if (copy.device_model != nullptr) copy.device_model->ToolstackIsReady();
  return copy;
}

}  // namespace haven
