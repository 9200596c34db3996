// SPDX-License-Identifier: Apache-2.0
#include "engine/primary/epoch_sender.h"

#include "engine/base/check.h"

namespace haven {

EpochSender::EpochSender(const SenderOptions& options, Link& link)
    : options_(options), link_(link) {
  HAVEN_CHECK_NE(options.session, kNoSession);
  HAVEN_CHECK_NE(options.link_number, kNoLink);
  HAVEN_CHECK_OK(options.geometry.Validate());
  HAVEN_CHECK_GE(options.journal.bytes, options.geometry.total_bytes());
  HAVEN_CHECK_GE(options.scratch.size(), kScratchBytes);
  HAVEN_CHECK_GE(options.max_write_bytes, kCommitRecordBytes);
  HAVEN_CHECK_GE(options.group_chunks, 1u);
}

}  // namespace haven
