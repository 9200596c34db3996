/* SPDX-License-Identifier: Apache-2.0
 *
 * The process on the backup that serves session s.
 */

/* States in which the old writer's queue pair exists and arriving epochs are verified and acknowledged. */
#define RECEIVING(s) (backup[s] == INCONSISTENT || backup[s] == REPLICA || backup[s] == ASKED || backup[s] == NAMED)

#define HAS_REPLICA(s) (RECEIVING(s) || backup[s] == CUT_OFF || backup[s] == RUN_ASKED)

#define HEARD(verdict) (request[s].answer == verdict)

/* Denied, and the term is still this process': somebody says no. */
#define REFUSED(s) (HEARD(DENIED) && request[s].seen_stamp == my_stamp)

inline arrive(s) {
	if
	:: wire[s] > committed[s] ->
		journal[s] = wire[s];
		journal_at[s] = wire_at[s];
		journal_link[s] = wire_link[s];
		SAY("backup: an epoch has arrived whole\n")
	:: else		/* not newer than what is committed: refused */
	fi;
	clear_wire(s)
}

inline commit(s) {
	committed[s] = journal[s];
	committed_at[s] = journal_at[s];
	backup[s] = (backup[s] == INCONSISTENT -> REPLICA : backup[s]);
	clear_journal(s)
}

/* The session's process has no replica to offer any more. */
inline finish_but_for_stamp(s, last) {
	backup[s] = last;
	chosen_at[s] = 0;
	clear_wire(s);
	clear_journal(s);
	forget(s)
}

inline finish(s, last) {
	my_stamp = 0;
	finish_but_for_stamp(s, last)
}

inline run_copy(s) {
	ran_at = chosen_at[s];
	CHECK(I3_durable, chosen_at[s] >= released);
	check_one_history();
	finish(s, RUNNING);
	REACHED(W_PROMOTED);
	if
	:: s == 2 -> REACHED(W_SECOND_SESSION_PROMOTED)
	:: else
	fi;
	if
	:: reg.term > 2 -> REACHED(W_PROMOTED_AFTER_HAND_BACK)
	:: else
	fi;
	SAY("backup: the copy runs, output open\n")
}

/* With the last epoch applied: ask for running = yes, or run at once in the mutant that asks nobody. */
inline choose(s) {
	chosen_at[s] = (IS(READ_BEFORE_CUTOFF) -> chosen_at[s] : committed_at[s]);
	if
	:: IS(PROMOTE_BEFORE_REGISTER) -> run_copy(s)
	:: else ->
		ask(s, TO_RUNNING, s, my_stamp);
		backup[s] = RUN_ASKED
	fi
}

proctype Backup(byte s) {
	byte my_stamp;		/* the register's value that made this process the owner */
	byte orphan_stamp;	/* the same, as a restarted process finds it in the local state */
end:	do
	/* Data path. */
	:: d_step { RECEIVING(s) && wire[s] != 0 -> arrive(s) }
	:: d_step { RECEIVING(s) && journal[s] != 0 ->
		if
		:: (engaged && session == s) || IS(OLD_ACK_BELIEVED) ->
			ack[s] = ack[s] | ACK_BIT(journal_link[s], journal[s])
		:: else		/* nobody would believe it */
		fi;
		commit(s);
		SAY("backup: commits and acknowledges\n")
	   }
	/* P's proposal of a new link arrives. The old queue pair is destroyed first; what had arrived whole may
	 * still be committed later. A proposal that arrives when P has given up changes no more than its loss. */
	:: d_step { (backup[s] == INCONSISTENT || backup[s] == REPLICA || backup[s] == ASKED) && engaged && session == s && MAY_REARM &&
	   !link_up && welcome[s] == 0 && rearms < REARMS ->
		rearms++;
		clear_wire(s);
		welcome[s] = committed[s] + 1;
		SAY("backup: accepts a new link, tells its committed epoch\n")
	   }

	/* Promotion, on suspicion (right or wrong) or because of a handover. It reads the register first. */
	:: d_step { backup[s] == REPLICA && reg.owner == P && reg.mode == PROMOTABLE &&
	   (reg.session == s || IS(STALE_REPLICA_PROMOTED_AFTER_SOLO)) ->
		ask(s, TO_PROMOTED, s, reg.stamp);
		backup[s] = ASKED;
		SAY("backup: suspects, asks for the next term\n")
	   }
	:: d_step { backup[s] == REPLICA && told_to_promote[s] && !refused_to_promote[s] ->
		refused_to_promote[s] = true;
		SAY("backup: refuses the handover\n")
	   }
	/* Refused, or the register has changed: it is read again, and may name this session still. */
	:: d_step { backup[s] == ASKED && HEARD(DENIED) ->
		abandon(s, SLOT_B_STRAY);
		backup[s] = REPLICA;
		REACHED(W_REFUSED_STALE_SESSION);
		SAY("backup: denied, the replica is kept\n")
	   }
	:: d_step { backup[s] == ASKED && HEARD(GRANTED) ->
		my_stamp = request[s].wrote;
		abandon(s, SLOT_B_STRAY);
		backup[s] = NAMED;
		SAY("backup: granted\n")
	   }
	:: d_step { IS(READ_BEFORE_CUTOFF) && backup[s] == NAMED && chosen_at[s] == 0 ->
		chosen_at[s] = committed_at[s];
		SAY("mutant: reads the journal before the cut-off\n")
	   }
	:: d_step { backup[s] == NAMED && !(IS(READ_BEFORE_CUTOFF) && chosen_at[s] == 0) ->
		clear_wire(s);
		backup[s] = CUT_OFF;
		SAY("backup: the old writer is cut off\n")
	   }
	/* The last epoch: what is committed, or what arrived whole and was not acknowledged. It is applied, the
	 * group is set up; no one sees any of this before the next request. */
	:: d_step { backup[s] == CUT_OFF ->
		choose(s);
		SAY("backup: applies the last committed epoch, asks for running = yes\n")
	   }
	:: d_step { backup[s] == CUT_OFF && journal[s] != 0 ->
		commit(s);
		choose(s);
		REACHED(W_PROMOTED_WITH_UNACKED_EPOCH);
		SAY("backup: commits and applies the epoch in the journal, asks for running = yes\n")
	   }
	:: d_step { backup[s] == RUN_ASKED && HEARD(GRANTED) ->
		abandon(s, SLOT_B_STRAY);
		if
		:: refusals > 0 -> REACHED(W_REFUSED_AND_GRANTED)
		:: else
		fi;
		run_copy(s)
	   }

	/* A promotion that fails before running = yes was asked for. */
	:: d_step { (backup[s] == CUT_OFF || (IS(HAND_BACK_WITH_RUNNING_UNKNOWN) && backup[s] == RUN_ASKED)) &&
	   failed_promotions < FAILED_PROMOTIONS ->
		failed_promotions++;
		abandon(s, SLOT_B_STRAY);
		ask(s, TO_HANDED_BACK, s, my_stamp);
		finish_but_for_stamp(s, BACK_ASKED);
		CHECK(L1_a_copy_remains, A_COPY_REMAINS);
		SAY("backup: the promotion fails, the copy is destroyed, hands the term back\n")
	   }
	:: d_step { backup[s] == BACK_ASKED && !HEARD(NO_ANSWER) && !REFUSED(s) ->
		abandon(s, SLOT_B_STRAY);
		finish(s, ENDED);
		SAY("backup: answered, the session is over\n")
	   }
	:: d_step { backup[s] == BACK_ASKED && REFUSED(s) ->
		abandon(s, SLOT_B_STRAY);
		ask(s, TO_HANDED_BACK, s, my_stamp);
		SAY("backup: refused, asks again to hand the term back\n")
	   }
	:: d_step { backup[s] == RUN_ASKED && HEARD(DENIED) && (!REFUSED(s) || IS(REFUSAL_TAKEN_FOR_LOSS)) ->
		abandon(s, SLOT_B_STRAY);
		finish(s, ENDED);
		CHECK(L1_a_copy_remains, A_COPY_REMAINS);
		SAY("backup: the term was taken back, the copy is destroyed\n")
	   }
	:: d_step { backup[s] == RUN_ASKED && REFUSED(s) && !IS(REFUSAL_TAKEN_FOR_LOSS) ->
		abandon(s, SLOT_B_STRAY);
		ask(s, TO_RUNNING, s, my_stamp);
		SAY("backup: refused, asks again for running = yes\n")
	   }

	/* Later terms in one step: the copy on B is replicated to host P and that replica is promoted. Host P
	 * takes no replica of a guest whose old copy it still has. */
	:: d_step { backup[s] == RUNNING && (primary == DESTROYED || IS(BACKUP_BESIDE_OLD_COPY)) ->
		reg.term++;
		reg.owner = P;
		reg.stamp++;
		finish(s, ENDED);
		SAY("backup: replicates to host P, where the new replica is promoted and runs\n")
	   }

	/* The process dies, and its copy with it. A new one has no replica and never asks for promotion. But the
	 * old one wrote the id of its request down before it was sent: when the register carries that id, the
	 * term is handed back. Owner = B alone would not tell it from a promotion of the other session. */
	:: d_step { HAS_REPLICA(s) && backup_crashes < BACKUP_CRASHES ->
		backup_crashes++;
		if
		:: backup[s] == ASKED || backup[s] == NAMED || backup[s] == CUT_OFF ->
			orphan_stamp = my_stamp;
			finish(s, CRASHED)
		:: backup[s] == RUN_ASKED ->
			orphan_stamp = my_stamp;
			abandon(s, SLOT_B_STRAY);
			finish(s, CRASHED)
		:: else -> finish(s, ENDED)
		fi;
		SAY("backup: the session's process dies\n")
	   }
	:: d_step { backup[s] == CRASHED && !IS(ORPHAN_TERM_KEPT) &&
	   (reg.stamp == orphan_stamp || reg.stamp == request[s].wrote) ->
		orphan_stamp = 0;
		clear(s);
		my_stamp = reg.stamp;
		ask(s, TO_HANDED_BACK, s, my_stamp);
		backup[s] = BACK_ASKED;
		REACHED(W_ORPHAN_TERM_HANDED_BACK);
		SAY("backup: restarted without a copy, hands the term back\n")
	   }
	:: d_step { backup[s] == CRASHED && !IS(ORPHAN_TERM_KEPT) && reg.stamp != orphan_stamp &&
	   reg.stamp != request[s].wrote && (request[s].want == NOTHING || request[s].expected < reg.stamp) ->
		orphan_stamp = 0;
		clear(s);
		finish(s, ENDED)
	   }

	/* Mutants. */
	:: d_step { IS(PROMOTE_BEFORE_REGISTER) && backup[s] == REPLICA ->
		backup[s] = NAMED;
		SAY("mutant: promotes on suspicion alone\n")
	   }
	:: d_step { IS(UNKNOWN_TAKEN_FOR_DENIED_PROMOTED) && backup[s] == ASKED && HEARD(NO_ANSWER) ->
		abandon(s, SLOT_B_STRAY);
		finish(s, ENDED);
		SAY("mutant: the promotion was not answered, gives up its replica\n")
	   }
	od
}
