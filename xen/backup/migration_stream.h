// SPDX-License-Identifier: Apache-2.0
//
// The migration stream that makes the stock receiver build a copy of a guest. Format: xl's header
// with the configuration (tools/xl/xl.h), libxl's stream version 2 (docs/specs/libxl-migration-
// stream), in it libxc's version 3 (docs/specs/libxc-migration-stream); all of Xen 4.17. It has no
// page's content: every frame is only allocated. Nor has it a state of the guest's device model, if
// there is one, but an empty one in its place (held_device_model.h).
#ifndef HAVEN_XEN_BACKUP_MIGRATION_STREAM_H_
#define HAVEN_XEN_BACKUP_MIGRATION_STREAM_H_

#include <cstddef>
#include <functional>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "xen/base/description.h"

namespace haven {

// Takes the next bytes of a stream. An error ends it.
using StreamSink = std::function<absl::Status(std::span<const std::byte>)>;

// Writes the whole stream, to libxl's END, in pieces of at most about 64 KiB. `config_json` is what
// MapGuestConfig() made of the description's. Errors: those of `sink`, and InvalidArgument if the
// description's first state is none.
// For a guest with a device model, unless they are empty: `before_state` is called when the sink
// has all before the empty state: the receiver has then made a domain, and opens no file for that
// state yet. `before_end` is called when it has all but END: the receiver has then taken the state
// and starts no device model yet. Their errors end the stream there.
absl::Status WriteMigrationStream(const XenDescription& description, const std::string& config_json,
                                  const StreamSink& sink,
                                  const std::function<absl::Status()>& before_state = nullptr,
                                  const std::function<absl::Status()>& before_end = nullptr);

}  // namespace haven

#endif  // HAVEN_XEN_BACKUP_MIGRATION_STREAM_H_
