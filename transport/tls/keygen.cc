// SPDX-License-Identifier: Apache-2.0
#include "transport/tls/keygen.h"

#include <fcntl.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <ctime>
#include <memory>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "engine/base/fd.h"
#include "engine/base/file_util.h"
#include "engine/base/status_macros.h"
#include "transport/tls/credentials.h"

namespace haven {
namespace {

constexpr char kCurve[] = "P-256";
constexpr mode_t kSecretMode = 0600;
constexpr mode_t kPublicMode = 0644;
constexpr size_t kMaxPemBytes = 64 << 10;
constexpr size_t kMaxNodeBytes = 63;

struct Deleter {
  void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
  void operator()(X509* certificate) const { X509_free(certificate); }
  void operator()(X509_EXTENSION* extension) const { X509_EXTENSION_free(extension); }
  void operator()(BIO* bio) const { BIO_free(bio); }
};
template <typename T>
using Owned = std::unique_ptr<T, Deleter>;

absl::Status OpensslFailed(absl::string_view what) {
  return absl::InternalError(absl::StrCat(what, ": ", TakeOpensslErrors()));
}

absl::Status WriteNewFile(const std::string& path, absl::string_view contents, mode_t mode) {
  const UniqueFd file(open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode));
  if (!file) {
    if (errno == EEXIST) {
      return absl::AlreadyExistsError(
          absl::StrCat(path, " exists already; remove it if nothing uses it any more"));
    }
    return absl::ErrnoToStatus(errno, absl::StrCat("create ", path));
  }
  while (!contents.empty()) {
    const ssize_t written = write(file.get(), contents.data(), contents.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return absl::ErrnoToStatus(errno, absl::StrCat("write ", path));
    contents.remove_prefix(static_cast<size_t>(written));
  }
  if (fsync(file.get()) != 0) return absl::ErrnoToStatus(errno, absl::StrCat("fsync ", path));
  return absl::OkStatus();
}

absl::Status CheckNode(absl::string_view node) {
  bool sound = !node.empty() && node.size() <= kMaxNodeBytes && node[0] != '.';
  for (const char letter : node) {
    sound = sound && (absl::ascii_isalnum(static_cast<unsigned char>(letter)) || letter == '.' ||
                      letter == '-');
  }
  if (sound && node != "ca") return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("node \"", node, "\": 1 to ", kMaxNodeBytes,
                   " letters, digits, dots and hyphens, not beginning with a dot, and not \"ca\""));
}

absl::StatusOr<std::string> KeyAsPem(EVP_PKEY* key) {
  const Owned<BIO> bio(BIO_new(BIO_s_secmem()));
  if (bio == nullptr ||
      PEM_write_bio_PrivateKey(bio.get(), key, nullptr, nullptr, 0, nullptr, nullptr) != 1) {
    return OpensslFailed("write a key");
  }
  char* text = nullptr;
  const long bytes = BIO_get_mem_data(bio.get(), &text);
  return std::string(text, static_cast<size_t>(bytes));
}

absl::StatusOr<std::string> CertificateAsPem(X509* certificate) {
  const Owned<BIO> bio(BIO_new(BIO_s_mem()));
  if (bio == nullptr || PEM_write_bio_X509(bio.get(), certificate) != 1) {
    return OpensslFailed("write a certificate");
  }
  char* text = nullptr;
  const long bytes = BIO_get_mem_data(bio.get(), &text);
  return std::string(text, static_cast<size_t>(bytes));
}

absl::Status AddExtension(X509* certificate, X509* issuer, int kind, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  const Owned<X509_EXTENSION> extension(
      X509V3_EXT_conf_nid(nullptr, &context, kind, value.c_str()));
  if (extension == nullptr || X509_add_ext(certificate, extension.get(), -1) != 1) {
    return OpensslFailed("a certificate's extension");
  }
  return absl::OkStatus();
}

// A certificate with everything but its extensions and signature. `issuer` is null for one that
// signs itself.
absl::StatusOr<Owned<X509>> StartCertificate(const std::string& name, EVP_PKEY* key, X509* issuer,
                                             const CertificateTerm& term) {
  Owned<X509> certificate(X509_new());
  std::array<unsigned char, 8> serial;
  if (certificate == nullptr || RAND_bytes(serial.data(), serial.size()) != 1) {
    return OpensslFailed("a certificate");
  }
  X509* const raw = certificate.get();
  uint64_t number = 0;
  for (const unsigned char byte : serial) number = number << 8 | byte;
  X509_NAME* const subject = X509_get_subject_name(raw);
  const time_t now = time(nullptr);
  const time_t begins = now + absl::ToInt64Seconds(term.begins);
  const time_t ends = now + absl::ToInt64Seconds(term.ends);
  const bool filled =
      X509_set_version(raw, X509_VERSION_3) == 1 &&
      ASN1_INTEGER_set_uint64(X509_get_serialNumber(raw), number >> 1) == 1 &&
      X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC,
                                 reinterpret_cast<const unsigned char*>(name.data()),
                                 static_cast<int>(name.size()), -1, 0) == 1 &&
      X509_set_issuer_name(raw, issuer != nullptr ? X509_get_subject_name(issuer) : subject) == 1 &&
      X509_time_adj(X509_getm_notBefore(raw), 0, const_cast<time_t*>(&begins)) != nullptr &&
      X509_time_adj(X509_getm_notAfter(raw), 0, const_cast<time_t*>(&ends)) != nullptr &&
      X509_set_pubkey(raw, key) == 1;
  if (!filled) return OpensslFailed("a certificate's fields");
  return certificate;
}

absl::Status WritePair(const std::string& stem, X509* certificate, EVP_PKEY* key) {
  HAVEN_ASSIGN_OR_RETURN(std::string key_text, KeyAsPem(key));
  const absl::Status written = WriteNewFile(stem + ".key", key_text, kSecretMode);
  OPENSSL_cleanse(key_text.data(), key_text.size());
  HAVEN_RETURN_IF_ERROR(written);
  HAVEN_ASSIGN_OR_RETURN(const std::string text, CertificateAsPem(certificate));
  return WriteNewFile(stem + ".crt", text, kPublicMode);
}

struct Authority {
  Owned<EVP_PKEY> key;
  Owned<X509> certificate;
};

absl::StatusOr<Authority> LoadAuthority(const std::string& directory) {
  HAVEN_ASSIGN_OR_RETURN(const std::string certificate,
                         ReadBoundedFile(absl::StrCat(directory, "/ca.crt"), kMaxPemBytes));
  HAVEN_ASSIGN_OR_RETURN(std::string key,
                         ReadBoundedFile(absl::StrCat(directory, "/ca.key"), kMaxPemBytes));
  const Owned<BIO> certificate_bio(
      BIO_new_mem_buf(certificate.data(), static_cast<int>(certificate.size())));
  const Owned<BIO> key_bio(BIO_new_mem_buf(key.data(), static_cast<int>(key.size())));
  Authority authority;
  authority.certificate.reset(PEM_read_bio_X509(certificate_bio.get(), nullptr, nullptr, nullptr));
  authority.key.reset(PEM_read_bio_PrivateKey(key_bio.get(), nullptr, nullptr, nullptr));
  OPENSSL_cleanse(key.data(), key.size());
  if (authority.certificate == nullptr || authority.key == nullptr ||
      X509_check_private_key(authority.certificate.get(), authority.key.get()) != 1) {
    return absl::InvalidArgumentError(
        absl::StrCat(directory, "/ca.crt and ca.key are no pair: ", TakeOpensslErrors()));
  }
  return authority;
}

}  // namespace

absl::Status MakePskFile(const std::string& path) {
  std::string key(kPskBytes, '\0');
  if (RAND_priv_bytes(reinterpret_cast<unsigned char*>(key.data()), kPskBytes) != 1) {
    return OpensslFailed("random bytes");
  }
  std::string text = absl::StrCat(absl::BytesToHexString(key), "\n");
  const absl::Status written = WriteNewFile(path, text, kSecretMode);
  OPENSSL_cleanse(key.data(), key.size());
  OPENSSL_cleanse(text.data(), text.size());
  return written;
}

absl::Status MakeAuthority(const std::string& directory, const CertificateTerm& term) {
  ERR_clear_error();
  const Owned<EVP_PKEY> key(EVP_EC_gen(kCurve));
  if (key == nullptr) return OpensslFailed("an authority's key");
  HAVEN_ASSIGN_OR_RETURN(const Owned<X509> certificate,
                         StartCertificate("haven-engine authority", key.get(), nullptr, term));
  X509* const raw = certificate.get();
  HAVEN_RETURN_IF_ERROR(
      AddExtension(raw, raw, NID_basic_constraints, "critical,CA:TRUE,pathlen:0"));
  HAVEN_RETURN_IF_ERROR(AddExtension(raw, raw, NID_key_usage, "critical,keyCertSign,cRLSign"));
  HAVEN_RETURN_IF_ERROR(AddExtension(raw, raw, NID_subject_key_identifier, "hash"));
  if (X509_sign(raw, key.get(), EVP_sha256()) == 0) return OpensslFailed("sign the authority");
  return WritePair(absl::StrCat(directory, "/ca"), raw, key.get());
}

absl::Status IssueCertificate(const std::string& directory, absl::string_view node,
                              const CertificateTerm& term) {
  HAVEN_RETURN_IF_ERROR(CheckNode(node));
  ERR_clear_error();
  HAVEN_ASSIGN_OR_RETURN(const Authority authority, LoadAuthority(directory));
  const Owned<EVP_PKEY> key(EVP_EC_gen(kCurve));
  if (key == nullptr) return OpensslFailed("a node's key");
  X509* const issuer = authority.certificate.get();
  HAVEN_ASSIGN_OR_RETURN(const Owned<X509> certificate,
                         StartCertificate(std::string(node), key.get(), issuer, term));
  X509* const raw = certificate.get();
  HAVEN_RETURN_IF_ERROR(AddExtension(raw, issuer, NID_basic_constraints, "critical,CA:FALSE"));
  HAVEN_RETURN_IF_ERROR(AddExtension(raw, issuer, NID_key_usage, "critical,digitalSignature"));
  HAVEN_RETURN_IF_ERROR(AddExtension(raw, issuer, NID_ext_key_usage, "serverAuth,clientAuth"));
  HAVEN_RETURN_IF_ERROR(AddExtension(raw, issuer, NID_authority_key_identifier, "keyid"));
  HAVEN_RETURN_IF_ERROR(
      AddExtension(raw, issuer, NID_subject_alt_name, absl::StrCat("DNS:", node)));
  if (X509_sign(raw, authority.key.get(), EVP_sha256()) == 0) return OpensslFailed("sign a node");
  return WritePair(absl::StrCat(directory, "/", node), raw, key.get());
}

}  // namespace haven
