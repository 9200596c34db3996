// SPDX-License-Identifier: Apache-2.0
#include "transport/tls/credentials.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <string>

#include "engine/base/file_util.h"
#include "transport/tls/channel_testing.h"
#include "transport/tls/keygen.h"

namespace haven {
namespace {

using ::testing::HasSubstr;

mode_t ModeOf(const std::string& path) {
  struct stat info = {};
  EXPECT_EQ(stat(path.c_str(), &info), 0) << path;
  return info.st_mode & 0777;
}

TEST(Keygen, SecretsAreForTheirOwnerOnly) {
  KeyFolder keys;
  keys.Psk("psk");
  keys.Node("n");
  EXPECT_EQ(ModeOf(keys.path("psk")), 0600u);
  EXPECT_EQ(ModeOf(keys.path("ca.key")), 0600u);
  EXPECT_EQ(ModeOf(keys.path("n.key")), 0600u);
}

TEST(Keygen, NothingIsOverwritten) {
  KeyFolder keys;
  keys.Psk("psk");
  const std::string before = *ReadBoundedFile(keys.path("psk"), 4096);
  EXPECT_TRUE(absl::IsAlreadyExists(MakePskFile(keys.path("psk"))));
  EXPECT_EQ(*ReadBoundedFile(keys.path("psk"), 4096), before);
  keys.Node("n");
  EXPECT_TRUE(absl::IsAlreadyExists(MakeAuthority(keys.folder())));
  EXPECT_TRUE(absl::IsAlreadyExists(IssueCertificate(keys.folder(), "n")));
}

TEST(Keygen, KeysDiffer) {
  KeyFolder keys;
  keys.Psk("a");
  keys.Psk("b");
  EXPECT_NE(*ReadBoundedFile(keys.path("a"), 4096), *ReadBoundedFile(keys.path("b"), 4096));
}

TEST(Keygen, ANodesNameMustBeFitForAFile) {
  KeyFolder keys;
  ASSERT_TRUE(MakeAuthority(keys.folder()).ok());
  for (const char* name : {"", "../x", "a/b", ".hidden", "a b", "ca", "a,DNS:b"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(IssueCertificate(keys.folder(), name))) << name;
  }
  EXPECT_TRUE(absl::IsInvalidArgument(IssueCertificate(keys.folder(), std::string(64, 'a'))));
  EXPECT_TRUE(IssueCertificate(keys.folder(), std::string(63, 'a')).ok());
}

TEST(Keygen, NoAuthorityNoCertificate) {
  KeyFolder keys;
  EXPECT_TRUE(absl::IsNotFound(IssueCertificate(keys.folder(), "n")));
}

TEST(Credentials, ExactlyOneKindMustBeChosen) {
  KeyFolder keys;
  CredentialOptions options;
  EXPECT_TRUE(absl::IsInvalidArgument(Credentials::Load(options).status()));
  options = keys.Psk("psk");
  options.insecure = true;
  EXPECT_TRUE(absl::IsInvalidArgument(Credentials::Load(options).status()));
  options = keys.Node("n");
  options.key_file.clear();
  EXPECT_TRUE(absl::IsInvalidArgument(Credentials::Load(options).status()));
}

TEST(Credentials, ASecretThatOthersCanReadIsRefusedWithTheRemedy) {
  KeyFolder keys;
  CredentialOptions options = keys.Psk("psk");
  ASSERT_EQ(chmod(options.psk_file.c_str(), 0640), 0);
  absl::Status status = Credentials::Load(options).status();
  EXPECT_TRUE(absl::IsPermissionDenied(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("chmod 600"));
  options = keys.Node("n");
  ASSERT_EQ(chmod(options.key_file.c_str(), 0604), 0);
  EXPECT_TRUE(absl::IsPermissionDenied(Credentials::Load(options).status()));
}

TEST(Credentials, AFileThatHoldsSomethingElseIsRefused) {
  KeyFolder keys;
  CredentialOptions options;
  options.psk_file = keys.path("bad");
  for (const std::string& text :
       {std::string(), std::string(63, 'a'), std::string(66, 'a'), std::string(64, 'x')}) {
    ASSERT_TRUE(WriteFileAtomically(options.psk_file, text).ok());
    EXPECT_TRUE(absl::IsInvalidArgument(Credentials::Load(options).status())) << text;
  }
  options = keys.Node("n");
  ASSERT_TRUE(WriteFileAtomically(options.certificate_file, "not a certificate").ok());
  EXPECT_TRUE(absl::IsInvalidArgument(Credentials::Load(options).status()));
}

TEST(Credentials, AMissingFileIsNotFound) {
  CredentialOptions options;
  options.psk_file = "/nonexistent/key";
  EXPECT_TRUE(absl::IsNotFound(Credentials::Load(options).status()));
}

TEST(Credentials, AKeyOfAnotherCertificateIsRefused) {
  KeyFolder keys;
  CredentialOptions options = keys.Node("n");
  options.key_file = keys.Node("m").key_file;
  EXPECT_TRUE(absl::IsInvalidArgument(Credentials::Load(options).status()));
}

TEST(Credentials, AnOwnExpiredCertificateIsRefusedWhenItIsLoaded) {
  KeyFolder keys;
  const CredentialOptions options =
      keys.Node("old", {.begins = -absl::Hours(48), .ends = -absl::Hours(24)});
  const absl::Status status = Credentials::Load(options).status();
  EXPECT_TRUE(absl::IsPermissionDenied(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("expired"));
  const auto shown = Credentials::Load(options, ExpiredCertificate::kShown);
  ASSERT_TRUE(shown.ok()) << shown.status();
  EXPECT_EQ((*shown)->Warning(absl::Now()), status.message());
}

TEST(Credentials, AnOperatorIsWarnedBeforeACertificateExpires) {
  KeyFolder keys;
  const auto loaded = LoadOrDie(keys.Node("n", {.ends = absl::Hours(24 * 30)}));
  const absl::Time end = loaded->ends();
  EXPECT_LT(end - absl::Now(), absl::Hours(24 * 30) + absl::Minutes(1));
  EXPECT_GT(end - absl::Now(), absl::Hours(24 * 29));
  EXPECT_EQ(loaded->Warning(absl::Now()), "");
  const std::string before = loaded->Warning(end - absl::Hours(1));
  EXPECT_THAT(before, HasSubstr("n.crt will expire on 2"));
  EXPECT_THAT(loaded->Warning(end), HasSubstr("n.crt has expired on 2"));
  EXPECT_EQ(LoadOrDie(keys.Psk("key"))->Warning(absl::Now() + absl::Hours(24 * 36500)), "");
}

}  // namespace
}  // namespace haven
