// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_TRANSPORT_TLS_SECURE_STREAM_H_
#define HAVEN_TRANSPORT_TLS_SECURE_STREAM_H_

#include <openssl/ssl.h>

#include <memory>

#include "absl/status/statusor.h"
#include "engine/base/fd.h"
#include "transport/tls/byte_stream.h"
#include "transport/tls/credentials.h"
#include "transport/tls/deadline.h"

namespace haven {

enum class StreamSide : uint8_t { kConnector, kAcceptor };

// TLS 1.3 over `socket`, after a handshake in which both sides have proved who they are: nothing of
// the peer's is returned before. PermissionDenied: it has not proved it, with the reason and the
// remedy (another key, an expired certificate, an unknown issuer); DataLoss: it does not speak TLS
// 1.3; DeadlineExceeded; Unavailable: it has closed.
absl::StatusOr<std::unique_ptr<ByteStream>> MakeSecureStream(
    UniqueFd socket, StreamSide side, std::shared_ptr<const Credentials> credentials,
    const NetDeadline& deadline);

}  // namespace haven

#endif  // HAVEN_TRANSPORT_TLS_SECURE_STREAM_H_
