// SPDX-License-Identifier: Apache-2.0
//
// The headers of Xen's control libraries, which do not declare their linkage for C++ themselves and
// want GNU's dialect (-std=gnu++20). Only for the implementations of the interfaces beside this
// file.
#ifndef HAVEN_XEN_BASE_LIBXC_H_
#define HAVEN_XEN_BASE_LIBXC_H_

extern "C" {
#include <xenctrl.h>
#include <xendevicemodel.h>
#include <xenevtchn.h>
#include <xenforeignmemory.h>
#include <xenguest.h>

// Exported by libxenctrl, but in no header that is installed. The upper bits of each frame number
// are replaced by its type (XEN_DOMCTL_PFINFO_*); at most 1024 in one call.
int xc_get_pfn_type_batch(xc_interface* xch, uint32_t domid, unsigned int num, xen_pfn_t* frames);
}

#endif  // HAVEN_XEN_BASE_LIBXC_H_
