/* SPDX-License-Identifier: Apache-2.0
 *
 * The register / commit / cut-off / promote / solo / unprotect protocol of haven-engine.
 *
 * One guest (or group) runs on host P and is replicated to host B. Three processes and a network:
 *
 *   Primary      the engine on P, and the guard that follows when the engine has crashed
 *   Backup(s)    the process on B that serves session s; one per session, so two may live at a time
 *   Arbiter      the register, changed by compare-and-set only
 *   the network  variables: what is in flight may arrive at any later step, many times or never
 *
 * What is checked, what is left out and how to read a counterexample: README.md. Run it: ./run.
 */

#include "names.pml"
#include "world.pml"
#include "arbiter.pml"
#include "primary.pml"
#include "backup.pml"

init {
	atomic {
		reg.term = 1;
		reg.owner = P;
		reg.mode = NONE;
		reg.running = true;
		reg.stamp = 1;
		known_stamp = 1;
		run Arbiter();
		run Primary();
		run Backup(1);
		run Backup(2)
	}
}
