// SPDX-License-Identifier: Apache-2.0
//
// The commit record: the last thing the primary writes of an epoch (DESIGN.md section 5,
// docs/replica-format.md). It is a request; the epoch is committed when the backup acknowledges it.
#ifndef HAVEN_ENGINE_REPLICA_COMMIT_RECORD_H_
#define HAVEN_ENGINE_REPLICA_COMMIT_RECORD_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/status/status.h"
#include "engine/replica/chunk.h"
#include "engine/replica/identity.h"
#include "engine/replica/layout.h"

namespace haven {

inline constexpr size_t kCommitRecordBytes = 352;

struct CommitRecord {
  SessionId session = kNoSession;
  LinkNumber link = kNoLink;
  EpochKind kind = EpochKind::kSync;
  Epoch epoch = kNoEpoch;
  // The last epoch that the primary knows to be committed, below `epoch`; kNoEpoch before the
  // first. The backup refuses the record if it is not its own last committed epoch.
  Epoch base_epoch = kNoEpoch;
  uint16_t domain_count = 0;  // Of the session, 1 .. kMaxDomains.
  EpochPlacement placement{};
  EpochTotals totals{};

  friend bool operator==(const CommitRecord&, const CommitRecord&) = default;
};

// Writes the record. Does not allocate. At most kMaxEpochExtents extents (checked).
void EncodeCommitRecord(const CommitRecord& record, std::span<std::byte, kCommitRecordBytes> out);

// Reads a record that the peer may be writing at this moment; the bytes are copied before they are
// checked. `in` is the record or the whole commit slot. Checks everything that needs no more than
// the geometry: names present, epoch above base, placement within the journal, totals possible for
// that many chunks. The caller compares session, link and base with its own; the rest is
// EpochValidator::Finish()'s. `*out` is set only if OK. Does not allocate if OK.
//   NotFound         never written (all bytes zero).
//   DataLoss         the CRC does not fit: torn, or not complete.
//   InvalidArgument  the CRC fits and a field is wrong: names the field and its value. Also for a
//                    span shorter than kCommitRecordBytes.
absl::Status DecodeCommitRecord(std::span<const std::byte> in, const JournalGeometry& geometry,
                                CommitRecord* out);

}  // namespace haven

#endif  // HAVEN_ENGINE_REPLICA_COMMIT_RECORD_H_
