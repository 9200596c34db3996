# SPDX-License-Identifier: Apache-2.0
"""What processes of a host use: processor time, system calls, and how often their threads were woken."""

import re

# Takes seconds and process ids; prints the seconds, how often their threads have waited, and then each thread's name, the
# number of a system call, and how often it was made. The kernel counts: a debugger would slow down what is measured.
_COUNT = """\
set -e
seconds=$1; shift
tracing=/sys/kernel/tracing
mountpoint -q $tracing || mount -t tracefs tracefs $tracing
counter=$tracing/instances/haven-$$
mkdir $counter
trap 'echo 0 >$counter/events/raw_syscalls/sys_enter/enable; rmdir $counter' EXIT
for process in "$@"; do ls /proc/$process/task; done >$counter/set_event_pid
waits() { for process in "$@"; do cat /proc/$process/task/*/status; done | awk '/^voluntary_ctxt_switches/ { sum += $2 } END { print sum }'; }
before=$(waits "$@")
from=$(cut -d' ' -f1 /proc/uptime)
echo 1 >$counter/events/raw_syscalls/sys_enter/enable
sleep $seconds
echo 0 >$counter/events/raw_syscalls/sys_enter/enable
to=$(cut -d' ' -f1 /proc/uptime)
after=$(waits "$@")
grep -q '^overrun: [1-9]' $counter/per_cpu/cpu*/stats && exit 1
awk -v a=$from -v b=$to -v c=$before -v d=$after 'BEGIN { print b - a, d - c }'
sed -n 's/^ *\\(.*\\)-[0-9]* .* NR \\([0-9]*\\) .*/\\1 \\2/p' $counter/trace | sort | uniq -c | sort -rn
"""


def cpu_s(host, pid):
    """Seconds of a processor that a process has used so far."""
    fields = host.get(f"/proc/{pid}/stat").decode().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def count(host, pids, seconds):
    """Of these processes, all threads, during so many seconds: (seconds, wakings, {(thread, number): system calls}). A thread
    that waits is woken."""
    words = ["bash", "-c", _COUNT, "count", seconds, *pids]
    first, *rows = host.run(words, timeout_s=seconds + 180).out.splitlines()
    took, wakings = first.split()
    calls = (re.match(r" *(\d+) (.*) (\d+)$", row).groups() for row in rows)
    return float(took), int(wakings), {(thread, int(number)): int(times) for times, thread, number in calls}
