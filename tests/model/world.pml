/* SPDX-License-Identifier: Apache-2.0
 *
 * Shared state: the register, the network, the guest's history, and the checks.
 *
 * Time is counted in epochs of the guest's history: `epoch` is the one that P's guest runs in. A barrier
 * closes it. A checkpoint taken at the end of epoch e holds everything up to e. Sessions number their
 * epochs from 1 again, which is the worst case for confusing them; the place in the history travels along
 * as a ghost (`*_at`), which no decision of the protocol reads.
 */

/* The register. `stamp` is the id of the last successful request. As every id is used once and only the
 * last successful one can be in the register, the model names it by the count of changes: equal stamps
 * mean the same request, and a stamp never comes back. */
typedef Register {
	byte term;
	bit owner;
	byte mode;
	byte session;
	bool running;
	byte stamp
};
Register reg;

/* A compare-and-set request in flight, and its answer. The network may repeat and delay the request:
 * the arbiter may apply it in any step for as long as the slot is used. The requester believes one answer,
 * so one answer is kept; all others may count as lost. */
typedef Request {
	byte want;
	byte expected;		/* stamp of the value that it replaces */
	byte expected_value;	/* that value without its stamp; for STAMP_NOT_COMPARED alone */
	byte session;
	byte wrote;		/* stamp of the value that it wrote; 0: not (yet) successful */
	byte answer;
	bit seen_owner;		/* the register as a denial reported it */
	byte seen_mode;
	byte seen_stamp
};
#define SLOT_P 0		/* sessions 1 and 2 of the backup have slots 1 and 2 */
#define SLOT_P_STRAY 3		/* 3 and 4: copies in flight of requests that P no longer waits for */
#define SLOT_B_STRAY 5		/* 5 and 6: the same for the backup's processes */
#define SLOTS 7
Request request[SLOTS];

/* P's guest and its output. */
byte epoch = 1;
bool output_open = true;
byte released = 1;		/* ghost: highest epoch of which output has left; open output counts its own */

/* P's engine. The link and the sessions' counts are lost in a crash; the session number is not. */
mtype primary = UNPROTECTED;
byte session;			/* last session begun; kept in the local state file */
bool engaged;			/* this engine incarnation serves that session */
byte link;
bool link_up;
byte sent;			/* last epoch number used in the session */
byte unacked;			/* epoch in flight, or 0 */
byte known_stamp;		/* the register's value as this engine knows it */

/* The data path, one entry per session (index 0 is unused). */
byte wire[3];			/* epoch posted by P, not landed; may land until the queue pair is destroyed */
byte wire_at[3];
byte wire_link[3];
byte journal[3];		/* epoch that arrived whole in the backup's journal */
byte journal_at[3];
byte journal_link[3];
short ack[3];			/* acks in flight, a set: see ACK_BIT; late, repeated or never delivered */
byte welcome[3];		/* re-arm: the backup's committed epoch + 1, in flight to P */
bool told_to_promote[3];	/* handover */
bool refused_to_promote[3];
#define ACK_BIT(link, number) (1 << (((link) - 1) * (EPOCHS - 1) + (number) - 1))

/* States in which a lost link may be replaced by a new one of the same session. */
#define MAY_REARM (primary == SYNCING || primary == PROM_ASKED || primary == LOST || primary == SOLO_ASKED || primary == NONE_ASKED)

/* The backup's sessions. */
mtype backup[3] = IDLE;
byte committed[3];		/* private truth of what is committed */
byte committed_at[3];
byte chosen_at[3];		/* ghost: place in the history of the epoch chosen for promotion */
byte ran_at;			/* ghost: the same for the copy that has run; 0: none has */

byte engine_crashes;
byte backup_crashes;
byte failed_promotions;
byte rearms;
byte refusals;

/* Verdicts. Named variables, so that spin's message says which invariant broke. */
bit I2_output_commit = 1;
bit I3_durable = 1;
bit I4_one_history = 1;
bit D1_destroyed_after_running = 1;
bit L1_a_copy_remains = 1;
bit O1_owner_has_a_copy = 1;
bit H1_protected_is_honest = 1;
bit S1_nobody_is_stuck = 1;

/* Where each process may stay for ever when nothing else can happen. */
#define PRIMARY_AT_REST (primary == UNPROTECTED || primary == DESTROYED)
#define BACKUP_AT_REST(s) (backup[s] == IDLE || backup[s] == INCONSISTENT || backup[s] == REPLICA || \
	backup[s] == RUNNING || backup[s] == ENDED || backup[s] == CRASHED)

/* With -DONLY=V_verdict all other verdicts are passed over. */
#define CHECK(verdict, condition) \
	verdict = ((condition) || (ONLY != 0 && ONLY != V_##verdict)); assert(verdict)

/* Checked whenever a copy has been destroyed on purpose: a crash of the backup is not the protocol's doing. */
#define MAY_STILL_RUN(s) (backup[s] == ASKED || backup[s] == NAMED || backup[s] == CUT_OFF || \
	backup[s] == RUN_ASKED)
#define A_COPY_REMAINS (primary != DESTROYED || ran_at != 0 || MAY_STILL_RUN(1) || MAY_STILL_RUN(2) || \
	backup_crashes > 0)

/* Makes reaching a situation an error when the witness is asked for. */
bit witness_not_reached = 1;
#define REACHED(name) witness_not_reached = (WITNESS != name); assert(witness_not_reached)

/* Printed when a trail is replayed; costs the verification nothing. */
#define SAY(text) printf(text)

/* What no step will look at again is set to zero, so that states which differ in it only are one state. */
inline forget(s) {
	if
	:: !(engaged && session == s) && (backup[s] == RUNNING || backup[s] == ENDED || backup[s] == CRASHED) ->
		committed[s] = 0;
		committed_at[s] = 0
	:: else
	fi;
	if
	:: !(engaged && session == s) && !IS(OLD_ACK_BELIEVED) -> ack[s] = 0
	:: else
	fi
}

inline clear_wire(s) {
	wire[s] = 0;
	wire_at[s] = 0;
	wire_link[s] = 0
}

inline clear_journal(s) {
	journal[s] = 0;
	journal_at[s] = 0;
	journal_link[s] = 0
}

/* Once a copy has run with epoch p, nothing of an older term beyond p leaves: two copies are never both
 * visible, because P's running epoch is always beyond what the backup has. */
inline check_one_history() {
	CHECK(I4_one_history, ran_at == 0 || released <= ran_at)
}

/* Output of the epoch in flight leaves. Only one barrier is pending, so it closed `epoch` - 1. */
inline release_unacked() {
	CHECK(I2_output_commit, committed_at[session] >= epoch - 1);
	released = (epoch - 1 > released -> epoch - 1 : released);
	check_one_history()
}

/* Everything held leaves, and the guest's output passes from now on. */
inline open_output() {
	CHECK(I2_output_commit, reg.owner == P && reg.mode != PROMOTABLE);
	output_open = true;
	released = epoch;
	check_one_history()
}
