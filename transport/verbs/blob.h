// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_TRANSPORT_VERBS_BLOB_H_
#define HAVEN_TRANSPORT_VERBS_BLOB_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "transport/tls/inet_address.h"

namespace haven {

// What the endpoints of the verbs transport say to each other inside control messages, and the
// token inside a connection request. Little-endian, fixed width, versioned; a decoder trusts
// nothing: InvalidArgument names what is wrong.

// Paths to the peer: a device's port each. Both sides number them alike.
inline constexpr size_t kMaxRails = 2;

inline constexpr size_t kLinkTokenBytes = 16;
using LinkToken = std::array<std::byte, kLinkTokenBytes>;

// The longest region that a peer may claim.
inline constexpr uint64_t kMaxRegionBytes = uint64_t{1} << 44;

// A region on all rails of its owner: it lies at one address and has one key for each rail's
// device.
//
//   magic u32, kind u16, version u16, rails u32, rkey u32 [2], reserved u32, address u64, bytes u64
struct VerbsRegionBlob {
  uint32_t rails = 0;  // 1 .. kMaxRails; keys beyond are 0.
  std::array<uint32_t, kMaxRails> rkeys = {};
  uint64_t address = 0;  // Of whole pages.
  uint64_t bytes = 0;    // Whole pages, 1 .. kMaxRegionBytes.
};
std::string EncodeVerbsRegionBlob(const VerbsRegionBlob& blob);
absl::StatusOr<VerbsRegionBlob> DecodeVerbsRegionBlob(absl::string_view text);

// Where a prepared link can be connected to: one way of several, each to be tried once. The way to
// try first stands first.
//
//   magic u32, kind u16, version u16, ways u32,
//   then for each: rail u16, family u16 (4 or 6), port u16, reserved u16, address [16], token [16]
struct LinkWayBlob {
  uint32_t rail = 0;    // Below kMaxRails, none twice.
  InetAddress address;  // Unicast, with a port.
  LinkToken token = {};
};
struct VerbsLinkBlob {
  std::vector<LinkWayBlob> ways;  // 1 .. kMaxRails.
};
std::string EncodeVerbsLinkBlob(const VerbsLinkBlob& blob);
absl::StatusOr<VerbsLinkBlob> DecodeVerbsLinkBlob(absl::string_view text);

// The private data of a connection request. Bytes behind it are ignored: InfiniBand pads the field.
//
//   magic u32, kind u16, version u16, rail u32, token [16]
inline constexpr size_t kJoinBytes = 4 + 2 + 2 + 4 + kLinkTokenBytes;
struct Join {
  uint32_t rail = 0;  // Of the side that asks, below kMaxRails.
  LinkToken token = {};
};
std::array<std::byte, kJoinBytes> EncodeJoin(const Join& join);
absl::StatusOr<Join> DecodeJoin(std::span<const std::byte> data);

// Compares in a time that does not depend on where the tokens differ.
bool SameToken(const LinkToken& a, const LinkToken& b);

}  // namespace haven

#endif  // HAVEN_TRANSPORT_VERBS_BLOB_H_
