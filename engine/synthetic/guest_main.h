// SPDX-License-Identifier: Apache-2.0
#ifndef HAVEN_ENGINE_SYNTHETIC_GUEST_MAIN_H_
#define HAVEN_ENGINE_SYNTHETIC_GUEST_MAIN_H_

namespace haven {

// The whole life of a synthetic guest's process, which launcher.h starts: `argv` are its own
// arguments, without the program and without the words that led here. Must be called before the
// program has started a thread. Returns the exit status.
int SyntheticGuestMain(int argc, char** argv);

// The descriptor at which a guest finds the socket to its starter.
inline constexpr int kGuestStarterFd = 3;

}  // namespace haven

#endif  // HAVEN_ENGINE_SYNTHETIC_GUEST_MAIN_H_
