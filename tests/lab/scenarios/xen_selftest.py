# SPDX-License-Identifier: Apache-2.0
"""Whether the lab's Xen hosts can be believed: a hypervisor with nested paging, its toolstack, soft-RoCE in its first domain."""

import re

from haven_lab.machine import HostSpec
from haven_lab.registry import scenario

_HOSTS = (HostSpec("a", kind="xen", memory_mb=2048),)


@scenario("xen-selftest", "a Xen host: nested paging, the toolstack, and soft-RoCE in its first domain", hosts=_HOSTS)
def selftest(lab, report):
    host = lab.host("a")
    info = host.run("xl info").out
    capabilities = re.search(r"virt_caps *: (.*)", info).group(1)
    report.check("guests can be run with nested paging", {"hvm", "hap"} <= set(capabilities.split()), capabilities)
    report.check("the first domain is there", "Domain-0" in host.run("xl list").out)
    shares = host.run("xl sched-credit2 -d Domain-0").out
    report.check("and goes before the guests", re.search(r"Domain-0 +0 +8192\b", shares), shares)
    links = host.run("rdma link").out
    report.check("both soft-RoCE links are active", links.count("state ACTIVE") == 2)
