// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_TRANSPORT_TLS_SOCKET_BIO_H_
#define HAVEN_TRANSPORT_TLS_SOCKET_BIO_H_

#include <openssl/bio.h>

namespace haven {

// OpenSSL's way to a connected socket, which stays the caller's. Unlike its own one it neither
// raises SIGPIPE nor needs the socket to be non-blocking. Null: out of memory.
BIO* MakeSocketBio(int socket);

}  // namespace haven

#endif  // HAVEN_TRANSPORT_TLS_SOCKET_BIO_H_
