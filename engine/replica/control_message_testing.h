// SPDX-License-Identifier: Apache-2.0
//
// One encoding of each control message, made from docs/replica-format.md by an independent program.
#ifndef HAVEN_ENGINE_REPLICA_CONTROL_MESSAGE_TESTING_H_
#define HAVEN_ENGINE_REPLICA_CONTROL_MESSAGE_TESTING_H_

namespace haven {

inline constexpr char kHello[] =
    "4856434d"                                                          // magic "HVCM"
    "0100"                                                              // envelope version
    "0100"                                                              // type
    "ce000000"                                                          // body length
    "0100"                                                              // version_min
    "0200"                                                              // version_max
    "0100000000000000"                                                  // required features
    "0600000000000000"                                                  // optional features
    "06000000686f73742d61"                                              // node id
    "03000000776562"                                                    // group
    "8877665544332211"                                                  // session
    "0500000000000000"                                                  // base session
    "2900000000000000"                                                  // base epoch
    "00000400"                                                          // slot bytes
    "40000000"                                                          // max epoch slots
    "00e1f50500000000"                                                  // detect ns
    "40787d0100000000"                                                  // interval ns
    "0d00000031302e302e302e313a37303030"                                // return address
    "01000000"                                                          // domains
    "020000006731"                                                      // name
    "2400000030313233343536372d383961622d636465662d303132332d34353637"  // uuid
    "3839616263646566"                                                  // uuid ...
    "0200000000ff"                                                      // config
    "0010000000000000"                                                  // page count
    "00000100"                                                          // max state bytes
    "02000000"                                                          // RAM runs
    "0000000000000000"                                                  // first gfn
    "a000000000000000"                                                  // pages
    "0001000000000000"                                                  // first gfn
    "000f000000000000";                                                 // pages

inline constexpr char kWelcome[] =
    "4856434d"                            // magic "HVCM"
    "0100"                                // envelope version
    "0200"                                // type
    "4d000000"                            // body length
    "0100"                                // version
    "0300000000000000"                    // features
    "06000000686f73742d62"                // node id
    "8877665544332211"                    // session
    "00000400"                            // slot bytes
    "20000000"                            // ring slots
    "40000000"                            // pool slots
    "10000000"                            // extent slots
    "03000000010203"                      // journal region
    "0d00000031302e302e302e323a37303031"  // session address
    "01"                                  // base accepted
    "2900000000000000";                   // base epoch

inline constexpr char kRefuse[] =
    "4856434d"       // magic "HVCM"
    "0100"           // envelope version
    "0300"           // type
    "08000000"       // body length
    "0300"           // code: group-busy
    "020000006e6f";  // message

inline constexpr char kLinkRequest[] =
    "4856434d"          // magic "HVCM"
    "0100"              // envelope version
    "0400"              // type
    "11000000"          // body length
    "8877665544332211"  // session
    "03000000"          // link
    "010000000a";       // peer region

inline constexpr char kLinkOffer[] =
    "4856434d"          // magic "HVCM"
    "0100"              // envelope version
    "0500"              // type
    "39000000"          // body length
    "8877665544332211"  // session
    "03000000"          // link
    "0900000000000000"  // committed epoch
    "0800000000000000"  // applied epoch
    "1400000000000000"  // next position
    "1100000000000000"  // ring tail
    "02000000"          // lanes
    "0100000001"        // lane
    "00000000";         // lane

inline constexpr char kLinkReady[] =
    "4856434d"          // magic "HVCM"
    "0100"              // envelope version
    "0600"              // type
    "0c000000"          // body length
    "8877665544332211"  // session
    "03000000";         // link

inline constexpr char kExtentRequest[] =
    "4856434d"          // magic "HVCM"
    "0100"              // envelope version
    "0700"              // type
    "18000000"          // body length
    "8877665544332211"  // session
    "03000000"          // link
    "0900000000000000"  // epoch
    "02000000";         // extents

inline constexpr char kExtentGrant[] =
    "4856434d"          // magic "HVCM"
    "0100"              // envelope version
    "0800"              // type
    "20000000"          // body length
    "8877665544332211"  // session
    "03000000"          // link
    "0900000000000000"  // epoch
    "02000000"          // extents
    "03000000"          // extent
    "01000000";         // extent

inline constexpr char kHeartbeat[] =
    "4856434d"           // magic "HVCM"
    "0100"               // envelope version
    "0900"               // type
    "15000000"           // body length
    "8877665544332211"   // session
    "02"                 // sender: backup
    "02000000"           // state: standby
    "4600000000000000";  // counter

inline constexpr char kHandover[] =
    "4856434d"           // magic "HVCM"
    "0100"               // envelope version
    "0a00"               // type
    "10000000"           // body length
    "8877665544332211"   // session
    "0900000000000000";  // epoch

inline constexpr char kHandoverRefused[] =
    "4856434d"           // magic "HVCM"
    "0100"               // envelope version
    "0b00"               // type
    "10000000"           // body length
    "8877665544332211"   // session
    "0400000062757379";  // reason

inline constexpr char kPromoted[] =
    "4856434d"           // magic "HVCM"
    "0100"               // envelope version
    "0c00"               // type
    "10000000"           // body length
    "8877665544332211"   // session
    "0700000000000000";  // term

inline constexpr char kDrop[] =
    "4856434d"          // magic "HVCM"
    "0100"              // envelope version
    "0d00"              // type
    "11000000"          // body length
    "8877665544332211"  // session
    "0600"              // reason: verification
    "03000000626164";   // message

}  // namespace haven

#endif  // HAVEN_ENGINE_REPLICA_CONTROL_MESSAGE_TESTING_H_
