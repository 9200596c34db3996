/* SPDX-License-Identifier: Apache-2.0
 *
 * Constants: bounds of the model, states, and the switches for mutants and witnesses.
 */

/* Bounds. Each can be set with -D on spin's command line. */
#ifndef EPOCHS
#define EPOCHS 5		/* the guest's history: epochs 1..EPOCHS, the last one is never closed */
#endif
#ifndef ENGINE_CRASHES
#define ENGINE_CRASHES 1	/* of the primary's engine; the guard follows it */
#endif
#ifndef BACKUP_CRASHES
#define BACKUP_CRASHES 1	/* of a session's process on the backup */
#endif
#ifndef FAILED_PROMOTIONS
#define FAILED_PROMOTIONS 1	/* set-up errors after the register has named B */
#endif
#ifndef REARMS
#define REARMS 1		/* new links within a session */
#endif
#define SESSIONS 2
#if (REARMS + 1) * (EPOCHS - 1) > 15
#error "the set of acks in flight has 15 bits"
#endif

/* Hosts. B stands for every backup host: sessions 1 and 2 may be on the same one or not. */
#define P 0
#define B 1

/* Modes of the register. */
#define NONE 0
#define SOLO 1
#define PROMOTABLE 2

/* What a compare-and-set request wants to write. */
#define NOTHING 0		/* the slot is free */
#define TO_PROMOTABLE 1		/* P: this session's backup may take over */
#define TO_SOLO 2		/* P: the output may be opened; the guard asks for the same */
#define TO_NONE 3		/* P: unprotect; the guard asks for the same if it was under way */
#define TO_PROMOTED 4		/* B: owner of the next term, not running yet */
#define TO_RUNNING 5		/* B: set up, about to run */
#define TO_HANDED_BACK 6	/* B: the promotion failed, P owns the term after that */
#define TO_RECLAIMED 7		/* P: takes the term back while running = no (extension, RECLAIM) */

/* Answers. "Unknown" is not an answer: it is NO_ANSWER, for as long as the requester cares to wait. */
#define NO_ANSWER 0
#define GRANTED 1
#define DENIED 2

/* States of the primary. */
mtype = {
	UNPROTECTED,	/* no session; output open */
	SYNCING,	/* a session has begun, no barrier yet, or none that counts; output open */
	FIRST,		/* from the first barrier on output is held; promotable was not asked for */
	PROM_ASKED,	/* first checkpoint committed; the request for promotable is out */
	PROTECTED,	/* the register is known to say promotable with this session */
	HANDOVER,	/* guest stopped, last epoch sent, backup told to promote */
	LOST,		/* no link; output held, nothing asked yet */
	SOLO_ASKED,	/* output held, the request for solo is out */
	NONE_ASKED,	/* unprotect: the request for none is out; output held if there is a session */
	DEPOSED,	/* the register names B: guest stopped, output held */
	RECLAIM_ASKED,	/* deposed, and asks for the term (extension) */
	DESTROYED,	/* the old copy is gone */
	GUARD,		/* the engine died: guest resumed, output as it was, register not read yet */
	GUARD_ASKED	/* the guard's request for solo, or none, is out */
};

/* States of a session's process on the backup. */
mtype = {
	IDLE,		/* the session has not begun */
	INCONSISTENT,	/* syncing, before the first committed checkpoint */
	REPLICA,	/* a committed replica */
	ASKED,		/* the request for promotion is out: neither runs nor gives up its replica */
	NAMED,		/* granted; the old writer still can write */
	CUT_OFF,	/* every queue pair of the session is destroyed */
	RUN_ASKED,	/* last epoch applied, group set up; the request for running = yes is out */
	RUNNING,	/* the promoted copy runs, output open */
	BACK_ASKED,	/* promotion failed, copy destroyed, the request to hand back is out */
	ENDED,		/* no copy any more: denied, handed back, overwritten or replaced */
	CRASHED		/* the process died, and its copy with it */
};

/* Mutants: -DMUTANT=name breaks the protocol in one place. Each must make a check fail. */
#define RELEASE_BEFORE_COMMIT 1			/* output leaves when an epoch is sent */
#define PROMOTE_BEFORE_REGISTER 2		/* the backup runs on suspicion, without the arbiter */
#define READ_BEFORE_CUTOFF 3			/* the last epoch is chosen while the writer can still write */
#define STALE_REPLICA_PROMOTED_AFTER_SOLO 4	/* the backup asks without comparing the session */
#define UNKNOWN_TAKEN_FOR_DENIED_PROMOTABLE 5	/* P: unanswered promotable = never promotable */
#define UNKNOWN_TAKEN_FOR_DENIED_SOLO 6		/* P: unanswered solo = not promoted, so runs on alone */
#define UNKNOWN_TAKEN_FOR_DENIED_PROMOTED 7	/* B: unanswered promotion = denied, gives up its replica */
#define OPEN_BEFORE_SOLO_GRANT 8		/* output opened on loss of the backup */
#define GUARD_OPENS_WITHOUT_GRANT 9		/* a restarted guard opens the output at once */
#define GUARD_TRUSTS_READ 10			/* ... when it reads none or solo, without a request */
#define OLD_ACK_BELIEVED 11			/* an ack of an older session releases output */
#define EPOCH_NUMBER_REUSED 12			/* re-arm sends more under an old number, any link's ack counts */
#define REARM_COUNTS_AS_ACK 13			/* re-arm releases whatever epoch the backup names */
#define OLD_COPY_DESTROYED_BEFORE_RUNNING 14	/* a deposed primary does not wait for running = yes */
#define STALE_READ_BELIEVED 15			/* ... takes a read from before its deposition for the way back */
#define STAMP_NOT_COMPARED 16			/* compare-and-set compares the value without its stamp */
#define REQUEST_ID_REUSED 17			/* the guard's request has the dead engine's id */
#define REARM_FORGETS_SOLO 18			/* re-arm reports protected with solo unanswered */
#define ORPHAN_TERM_KEPT 19			/* a restarted backup process does not hand back its term */
#define BACKUP_BESIDE_OLD_COPY 20		/* host P takes a replica while its own deposed copy exists */
#define HAND_BACK_WITH_RUNNING_UNKNOWN 21	/* a promotion fails after running = yes was asked for */
#define PROMOTABLE_BEFORE_COMMIT 22		/* promotable is asked for before the first ack */
#define HELD_ONLY_WHEN_PROTECTED 23		/* output stays open from the first barrier to the grant */
#define OPENED_CHECKPOINT_COUNTS 24		/* a checkpoint starts the protection though output was opened since */
#define REFUSAL_OPENS 25			/* P: a denial that names P as the owner is taken for solo */
#define REFUSAL_TAKEN_FOR_LOSS 26		/* B: running = yes refused by an operator = the term is lost */
#ifndef MUTANT
#define MUTANT 0
#endif
#define IS(mutant) (MUTANT == mutant)

/* Requests that an operator denies although nothing stands against them: a bound as those above. */
#ifndef REFUSALS
#if MUTANT == REFUSAL_OPENS || MUTANT == REFUSAL_TAKEN_FOR_LOSS
#define REFUSALS 1
#else
#define REFUSALS 0
#endif
#endif

/* Verdicts, for -DONLY. */
#define V_I2_output_commit 1
#define V_I3_durable 2
#define V_I4_one_history 3
#define V_D1_destroyed_after_running 4
#define V_L1_a_copy_remains 5
#define V_O1_owner_has_a_copy 6
#define V_H1_protected_is_honest 7
#define V_S1_nobody_is_stuck 8
#ifndef ONLY
#define ONLY 0
#endif

/* Witnesses: -DWITNESS=name makes reaching the named situation an error, so that spin must find it. */
#define W_PROTECTED 1
#define W_PROMOTED 2
#define W_DEPOSED_DESTROYED 3
#define W_SOLO 4
#define W_HANDED_BACK 5
#define W_REARMED 6
#define W_REARM_COUNTED_AS_ACK 7
#define W_UNPROTECTED_AGAIN 8
#define W_SECOND_SESSION_PROTECTED 9
#define W_SECOND_SESSION_PROMOTED 10
#define W_PROMOTED_WITH_UNACKED_EPOCH 11
#define W_GUARD_GRANTED 12
#define W_GUARD_DEPOSED 13
#define W_HANDOVER_REFUSED 14
#define W_HANDOVER_DONE 15
#define W_LATE_ACK_AFTER_PROMOTION 16
#define W_REFUSED_STALE_SESSION 17
#define W_ORPHAN_TERM_HANDED_BACK 18
#define W_PROMOTED_AFTER_HAND_BACK 19
#define W_RECLAIMED 20
#define W_GUARD_ENDED 21
#define W_SYNC_REARMED 22
#define W_HANDOVER_GIVEN_UP 23
#define W_DEPOSED_BY_READING 24
#define W_REFUSED_AND_GRANTED 25
#ifndef WITNESS
#define WITNESS 0
#endif
