// SPDX-License-Identifier: Apache-2.0
#include "xen/primary/device_watch.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/base/status_macros.h"

namespace haven {

namespace {

std::string Names(const std::vector<std::string>& devices) {
  return devices.empty() ? "none" : absl::StrJoin(devices, " ");
}

}  // namespace

absl::StatusOr<std::unique_ptr<DeviceWatch>> DeviceWatch::Create(std::unique_ptr<XenStore> store,
                                                                 XenStore& patient,
                                                                 uint32_t domid) {
  // Before the first look, so that nothing falls between them.
  std::unique_ptr<DeviceWatch> watch(new DeviceWatch(std::move(store), domid));
  HAVEN_RETURN_IF_ERROR(watch->store_->Watch(watch->path_));
  watch->store_->TakeEvents();
  watch->Begin();
  while (!watch->questions_.empty()) HAVEN_RETURN_IF_ERROR(watch->Ask(patient));
  watch->first_ = watch->found_;
  return watch;
}

DeviceWatch::DeviceWatch(std::unique_ptr<XenStore> store, uint32_t domid)
    : store_(std::move(store)), path_(absl::StrCat("/libxl/", domid, "/device")) {}

void DeviceWatch::Begin() {
  found_.clear();
  questions_.assign(1, "");
}

absl::Status DeviceWatch::Ask(XenStore& store) {
  const std::string question = questions_.front();
  const auto depth = std::count(question.begin(), question.end(), '/');
  // What is not there any more is no device.
  if (depth < 2) {
    const absl::StatusOr<std::vector<std::string>> names =
        store.List(absl::StrCat(path_, question));
    if (!names.ok() && !absl::IsNotFound(names.status())) return names.status();
    questions_.pop_front();
    if (!names.ok()) return absl::OkStatus();
    for (const std::string& name : *names) {
      std::string entry = absl::StrCat(question, "/", name);
      if (depth == 0 || absl::StartsWith(entry, "/vif/")) {
        questions_.push_back(std::move(entry));
      } else {
        found_.push_back(entry.substr(1));
      }
    }
  } else {
    const absl::StatusOr<std::string> mac = store.Read(absl::StrCat(path_, question, "/mac"));
    if (!mac.ok() && !absl::IsNotFound(mac.status())) return mac.status();
    questions_.pop_front();
    found_.push_back(absl::StrCat(question.substr(1), mac.ok() ? "=" : "", mac.value_or("")));
  }
  if (questions_.empty()) std::sort(found_.begin(), found_.end());
  return absl::OkStatus();
}

const std::string& DeviceWatch::Changed() {
  if (store_->TakeEvents()) Begin();
  if (questions_.empty() || !Ask(*store_).ok() || !questions_.empty()) return changed_;
  changed_ = found_ == first_ ? "" : absl::StrCat(Names(first_), " to ", Names(found_));
  return changed_;
}

}  // namespace haven
