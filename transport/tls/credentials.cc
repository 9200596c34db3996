// SPDX-License-Identifier: Apache-2.0
#include "transport/tls/credentials.h"

#include <openssl/err.h>
#include <openssl/x509.h>
#include <sys/stat.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <ctime>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "engine/base/check.h"
#include "engine/base/file_util.h"
#include "engine/base/log.h"
#include "engine/base/status_macros.h"

namespace haven {
namespace {

// One cipher suite: an external pre-shared key is bound to one hash (RFC 8446 4.2.11).
constexpr char kCipherSuite[] = "TLS_AES_256_GCM_SHA384";
constexpr std::array<unsigned char, 2> kCipherSuiteId = {0x13, 0x02};
constexpr std::array<unsigned char, 14> kPskIdentity = {'h', 'a', 'v', 'e', 'n', '-', 'e',
                                                        'n', 'g', 'i', 'n', 'e', '-', '1'};
constexpr size_t kMaxSecretFileBytes = 16 << 10;

absl::Status OpensslError(absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(what, ": ", TakeOpensslErrors()));
}

absl::Status CheckSecret(const std::string& path) {
  struct stat info;
  if (stat(path.c_str(), &info) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("key file ", path));
  }
  if ((info.st_mode & (S_IRWXG | S_IRWXO)) != 0) {
    return absl::PermissionDeniedError(
        absl::StrCat("key file ", path,
                     " can be used by others than its owner; chmod 600 it, and make a new "
                     "key if others may have read it"));
  }
  return absl::OkStatus();
}

// A session of TLS 1.3 that stands for the key. Null if OpenSSL is out of memory.
SSL_SESSION* MakePskSession(SSL* ssl, const std::vector<unsigned char>& key) {
  const SSL_CIPHER* const cipher = SSL_CIPHER_find(ssl, kCipherSuiteId.data());
  SSL_SESSION* const session = SSL_SESSION_new();
  if (cipher != nullptr && session != nullptr &&
      SSL_SESSION_set1_master_key(session, key.data(), key.size()) == 1 &&
      SSL_SESSION_set_cipher(session, cipher) == 1 &&
      SSL_SESSION_set_protocol_version(session, TLS1_3_VERSION) == 1 &&
      SSL_SESSION_set1_id_context(session, kPskIdentity.data(), kPskIdentity.size()) == 1) {
    return session;
  }
  SSL_SESSION_free(session);
  return nullptr;
}

const std::vector<unsigned char>& KeyOf(SSL* ssl) {
  return *static_cast<const std::vector<unsigned char>*>(
      SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), 0));
}

int OfferPsk(SSL* ssl, const EVP_MD* /*hash*/, const unsigned char** identity,
             size_t* identity_bytes, SSL_SESSION** session) {
  *session = MakePskSession(ssl, KeyOf(ssl));
  *identity = kPskIdentity.data();
  *identity_bytes = kPskIdentity.size();
  return *session != nullptr ? 1 : 0;
}

int FindPsk(SSL* ssl, const unsigned char* identity, size_t identity_bytes, SSL_SESSION** session) {
  *session = nullptr;
  const bool ours = identity_bytes == kPskIdentity.size() &&
                    std::memcmp(identity, kPskIdentity.data(), identity_bytes) == 0;
  if (!ours) return 1;  // The handshake goes on without, and fails for want of a certificate.
  *session = MakePskSession(ssl, KeyOf(ssl));
  return *session != nullptr ? 1 : 0;
}

absl::StatusOr<std::unique_ptr<SSL_CTX, OpensslDeleter>> MakeContext() {
  ERR_clear_error();
  std::unique_ptr<SSL_CTX, OpensslDeleter> context(SSL_CTX_new(TLS_method()));
  if (context == nullptr) return OpensslError("SSL_CTX_new");
  SSL_CTX* const raw = context.get();
  // Sessions are not resumed: each connection proves both sides anew.
  SSL_CTX_set_session_cache_mode(raw, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_options(raw, SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION);
  SSL_CTX_set_mode(raw, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  // A record is read by one system call, not by one for its head and one for the rest.
  SSL_CTX_set_read_ahead(raw, 1);
  SSL_CTX_set_verify(raw, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
  const bool set =
      SSL_CTX_set_min_proto_version(raw, TLS1_3_VERSION) == 1 &&
      SSL_CTX_set_max_proto_version(raw, TLS1_3_VERSION) == 1 &&
      SSL_CTX_set_ciphersuites(raw, kCipherSuite) == 1 && SSL_CTX_set_num_tickets(raw, 0) == 1 &&
      SSL_CTX_set_session_id_context(raw, kPskIdentity.data(), kPskIdentity.size()) == 1;
  if (!set) return OpensslError("TLS 1.3 with AES-256-GCM is not available in this OpenSSL");
  return context;
}

absl::Status CheckChoice(const CredentialOptions& options) {
  const bool any_certificate =
      !options.ca_file.empty() || !options.certificate_file.empty() || !options.key_file.empty();
  const int kinds =
      (options.psk_file.empty() ? 0 : 1) + (any_certificate ? 1 : 0) + (options.insecure ? 1 : 0);
  if (kinds != 1) {
    return absl::InvalidArgumentError(
        "the control channel needs exactly one of: a pre-shared key file; an authority's "
        "certificate, a node certificate and its key; or --insecure. haven-engine keygen makes the "
        "files");
  }
  if (any_certificate &&
      (options.ca_file.empty() || options.certificate_file.empty() || options.key_file.empty())) {
    return absl::InvalidArgumentError(
        "certificates need three files: the authority's certificate, the node's and its key");
  }
  return absl::OkStatus();
}

// A time that can not be read has passed.
absl::Time EndOf(const X509* certificate) {
  std::tm end = {};
  if (ASN1_TIME_to_tm(X509_get0_notAfter(certificate), &end) != 1) return absl::InfinitePast();
  return absl::FromTM(end, absl::UTCTimeZone());
}

}  // namespace

std::string TakeOpensslErrors() {
  std::string all;
  while (const unsigned long error = ERR_get_error()) {
    std::array<char, 256> text;
    ERR_error_string_n(error, text.data(), text.size());
    absl::StrAppend(&all, all.empty() ? "" : "; ", text.data());
  }
  return all.empty() ? "no reason given" : all;
}

Credentials::~Credentials() { OPENSSL_cleanse(psk_.data(), psk_.size()); }

absl::StatusOr<std::shared_ptr<const Credentials>> Credentials::Load(
    const CredentialOptions& options, ExpiredCertificate expired) {
  HAVEN_RETURN_IF_ERROR(CheckChoice(options));
  std::shared_ptr<Credentials> credentials(new Credentials());
  if (options.insecure) {
    HAVEN_LOG(kWarning, "tls") << "--insecure: the control channel is neither encrypted nor "
                                  "authenticated; anybody who reaches the port can take part";
    return std::shared_ptr<const Credentials>(std::move(credentials));
  }
  HAVEN_ASSIGN_OR_RETURN(credentials->context_, MakeContext());
  const absl::Status loaded = options.psk_file.empty()
                                  ? credentials->LoadCertificates(options, expired)
                                  : credentials->LoadPsk(options.psk_file);
  HAVEN_RETURN_IF_ERROR(loaded);
  return std::shared_ptr<const Credentials>(std::move(credentials));
}

absl::Status Credentials::LoadPsk(const std::string& path) {
  HAVEN_RETURN_IF_ERROR(CheckSecret(path));
  HAVEN_ASSIGN_OR_RETURN(std::string text, ReadBoundedFile(path, kMaxSecretFileBytes));
  const absl::string_view digits = absl::StripAsciiWhitespace(text);
  bool sound = digits.size() == 2 * kPskBytes;
  for (const char digit : digits)
    sound = sound && absl::ascii_isxdigit(static_cast<unsigned char>(digit));
  if (sound) {
    std::string bytes = absl::HexStringToBytes(digits);
    psk_.assign(bytes.begin(), bytes.end());
    OPENSSL_cleanse(bytes.data(), bytes.size());
  }
  OPENSSL_cleanse(text.data(), text.size());
  if (!sound) {
    return absl::InvalidArgumentError(absl::StrCat(
        "key file ", path, " does not hold ", 2 * kPskBytes,
        " hexadecimal digits; make one with haven-engine keygen and copy it to both hosts"));
  }
  if (SSL_CTX_set_ex_data(context_.get(), 0, &psk_) != 1)
    return OpensslError("SSL_CTX_set_ex_data");
  SSL_CTX_set_psk_use_session_callback(context_.get(), OfferPsk);
  SSL_CTX_set_psk_find_session_callback(context_.get(), FindPsk);
  return absl::OkStatus();
}

absl::Status Credentials::LoadCertificates(const CredentialOptions& options,
                                           ExpiredCertificate expired) {
  HAVEN_RETURN_IF_ERROR(CheckSecret(options.key_file));
  SSL_CTX* const context = context_.get();
  ERR_clear_error();
  if (SSL_CTX_load_verify_file(context, options.ca_file.c_str()) != 1) {
    return OpensslError(absl::StrCat("the authority's certificate ", options.ca_file));
  }
  if (SSL_CTX_use_certificate_chain_file(context, options.certificate_file.c_str()) != 1) {
    return OpensslError(absl::StrCat("certificate ", options.certificate_file));
  }
  if (SSL_CTX_use_PrivateKey_file(context, options.key_file.c_str(), SSL_FILETYPE_PEM) != 1 ||
      SSL_CTX_check_private_key(context) != 1) {
    return OpensslError(absl::StrCat("key ", options.key_file));
  }
  certificate_file_ = options.certificate_file;
  ends_ = EndOf(SSL_CTX_get0_certificate(context));
  const absl::Time now = absl::Now();
  if (now < ends_) return absl::OkStatus();
  if (expired == ExpiredCertificate::kRefused) return absl::PermissionDeniedError(Warning(now));
  HAVEN_LOG(kError, "tls") << Warning(now);
  return absl::OkStatus();
}

std::string Credentials::Warning(absl::Time now) const {
  if (now < ends_ - kWarnAhead) return "";
  const std::string end = absl::FormatTime("%Y-%m-%d %H:%M UTC", ends_, absl::UTCTimeZone());
  return absl::StrCat("certificate ", certificate_file_,
                      now < ends_ ? " will expire on " : " has expired on ", end,
                      now < ends_ ? ": from then on peers refuse" : ": peers refuse",
                      " every new connection with it; issue a new one with haven-engine keygen and "
                      "put it and its key in the place of the old");
}

}  // namespace haven
