// SPDX-License-Identifier: Apache-2.0
//
// Real etcd servers for tests: the `etcd` of the PATH, on loopback ports, gone with the object.
#ifndef HAVEN_ENGINE_MEMBERSHIP_ARBITER_ETCD_TESTING_H_
#define HAVEN_ENGINE_MEMBERSHIP_ARBITER_ETCD_TESTING_H_

#include <sys/types.h>

#include <cstddef>
#include <string>
#include <vector>

#include "engine/membership/arbiter_http_client.h"

namespace haven {

struct EtcdTlsFiles {
  std::string ca;
  std::string server_cert;
  std::string server_key;
  HttpTlsFiles client;
};

// One cluster. A failure to start or to become ready fails the test with the servers' logs. Should
// the test die, the kernel kills the servers. Not thread-safe.
class TestEtcd {
 public:
  // Starts `members` servers with their data below `directory` and waits until they answer. With
  // `tls` the client side uses TLS and asks for client certificates.
  explicit TestEtcd(std::string directory, size_t members = 1, const EtcdTlsFiles* tls = nullptr);
  ~TestEtcd();
  TestEtcd(const TestEtcd&) = delete;
  TestEtcd& operator=(const TestEtcd&) = delete;

  // "127.0.0.1:PORT" of one member; all of them joined by commas, as a specification has them.
  std::string endpoint(size_t member = 0) const;
  std::string endpoints() const;
  std::string url(size_t member = 0) const;

  void Kill(size_t member = 0);     // SIGKILL.
  void Restart(size_t member = 0);  // With the data it had; waits until it answers.
  void Pause(size_t member = 0);    // SIGSTOP.
  void Resume(size_t member = 0);

 private:
  struct Member {
    int client_port = 0;
    int peer_port = 0;
    pid_t pid = -1;
  };

  bool StartAll();
  void Spawn(size_t index);
  bool AwaitReady(size_t index);
  std::string LogOf(size_t index) const;

  const std::string directory_;
  const EtcdTlsFiles* const tls_;
  HttpClient http_;
  std::vector<Member> members_;
};

}  // namespace haven

#endif  // HAVEN_ENGINE_MEMBERSHIP_ARBITER_ETCD_TESTING_H_
