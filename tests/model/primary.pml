/* SPDX-License-Identifier: Apache-2.0
 *
 * The primary: the engine on P, and the guard after the engine's crash. One step per line of the
 * state x event table.
 */

/* States in which epochs go on as long as there is a link. */
#define EPOCH_LOOP (primary == PROM_ASKED || primary == PROTECTED || primary == SOLO_ASKED || \
	primary == NONE_ASKED)

#define ANSWERED(verdict) (request[SLOT_P].answer == verdict)

/* Acks that count: of this session and this link, for the epoch in flight. */
#define ANY_LINK(number) (ACK_BIT(1, number) | ACK_BIT(2, number) | ACK_BIT(3, number))
#define ACKED (unacked != 0 && ( \
	(ack[session] & ACK_BIT(link, unacked)) || \
	(IS(EPOCH_NUMBER_REUSED) && (ack[session] & ANY_LINK(unacked))) || \
	(IS(OLD_ACK_BELIEVED) && session == 2 && (ack[1] & ANY_LINK(unacked)))))

/* The next epoch ends: barrier, harvest, and its chunks and commit record are posted. */
inline checkpoint() {
	sent++;
	unacked = sent;
	wire[session] = sent;
	wire_at[session] = epoch;
	wire_link[session] = link;
	epoch++;
	released = (output_open -> epoch : released);
	if
	:: IS(RELEASE_BEFORE_COMMIT) && primary != SYNCING -> release_unacked()
	:: else
	fi
}

inline lose_link() {
	link_up = false;
	SAY("primary: no link\n")
}

inline begin_session() {
	session++;
	engaged = true;
	link = 1;
	link_up = true;
	primary = SYNCING;
	backup[session] = INCONSISTENT;
	SAY("primary: a session begins, syncing\n")
}

/* The session is over for this engine: its acks, welcomes and refusals mean nothing any more. */
inline end_session(next) {
	engaged = false;
	welcome[session] = 0;
	told_to_promote[session] = false;
	refused_to_promote[session] = false;
	forget(session);
	link_up = false;
	link = 0;
	unacked = 0;
	sent = 0;
	primary = next
}

inline run_alone() {
	open_output();
	end_session(UNPROTECTED)
}

/* An answer was heard: the engine may send its next request. */
inline take_answer(now_known) {
	known_stamp = now_known;
	abandon(SLOT_P, SLOT_P_STRAY)
}

/* Handed back before this engine knew that it was deposed, or refused by an operator: what is wanted is asked
 * for again with the value seen. A value that was merely reported opens nothing. */
inline ask_again() {
	take_answer(request[SLOT_P].seen_stamp);
	if
	:: primary == PROM_ASKED -> ask(SLOT_P, TO_PROMOTABLE, session, known_stamp)
	:: primary == SOLO_ASKED -> ask(SLOT_P, TO_SOLO, 0, known_stamp)
	:: primary == NONE_ASKED -> ask(SLOT_P, TO_NONE, 0, known_stamp)
	fi;
	SAY("primary: denied, and still the owner: asks again\n")
}

inline take_denial() {
	if
	:: request[SLOT_P].seen_owner != P ->
		take_answer(0);
		primary = DEPOSED;
		SAY("primary: denied, deposed; the guest is stopped, output stays held\n")
	:: request[SLOT_P].seen_owner == P && IS(REFUSAL_OPENS) ->
		take_answer(request[SLOT_P].seen_stamp);
		run_alone();
		SAY("mutant: denied, but the register names P; output open\n")
	:: request[SLOT_P].seen_owner == P && !IS(REFUSAL_OPENS) -> ask_again()
	fi
}

inline rearm() {
	link++;
	link_up = true;
	if
	:: unacked != 0 && (welcome[session] - 1 == unacked || IS(REARM_COUNTS_AS_ACK)) ->
		REACHED(W_REARM_COUNTED_AS_ACK);
		release_unacked();
		if
		:: IS(OPENED_CHECKPOINT_COUNTS) && primary == SYNCING ->
			output_open = false;
			primary = FIRST
		:: else
		fi
	:: else ->
		/* The dirty set of the unacknowledged epoch goes into the next one, which has a new number. */
		if
		:: IS(EPOCH_NUMBER_REUSED) && unacked != 0 -> sent--
		:: else
		fi
	fi;
	unacked = 0;
	welcome[session] = 0;
	if
	:: primary == SYNCING -> REACHED(W_SYNC_REARMED)
	:: primary == LOST -> primary = PROTECTED
	:: primary == SOLO_ASKED && IS(REARM_FORGETS_SOLO) ->
		abandon(SLOT_P, SLOT_P_STRAY);
		primary = PROTECTED
	:: else
	fi;
	REACHED(W_REARMED);
	SAY("primary: re-armed on a new link\n")
}

proctype Primary() {
	byte old_wrote;		/* for REQUEST_ID_REUSED alone */
end:	do
	/* Sessions. After solo the new one may be synced onto the old replica, which is gone from then on. */
	:: d_step { primary == UNPROTECTED && session < SESSIONS -> begin_session() }
	:: d_step { primary == UNPROTECTED && session == 1 && (backup[1] == INCONSISTENT || backup[1] == REPLICA) ->
		backup[1] = ENDED;
		clear_wire(1);
		clear_journal(1);
		forget(1);
		begin_session()
	   }
	:: d_step { primary == SYNCING && link_up && unacked == 0 && epoch < EPOCHS ->
		output_open = IS(HELD_ONLY_WHEN_PROTECTED);
		checkpoint();
		primary = FIRST;
		SAY("primary: first barrier, output held\n")
	   }
	/* Nobody can be promoted yet, so nobody waits for a new link: output is open again, and the checkpoint
	 * under way does not start the protection, be it committed. */
	:: d_step { (primary == SYNCING || primary == FIRST) && link_up ->
		if
		:: primary == FIRST -> open_output()
		:: else
		fi;
		lose_link();
		primary = SYNCING
	   }
	:: d_step { primary == SYNCING || primary == FIRST ->
		run_alone();
		SAY("primary: backup lost, promotable never asked for; output open\n")
	   }
	:: d_step { primary == FIRST && (unacked == 0 || IS(PROMOTABLE_BEFORE_COMMIT)) ->
		ask(SLOT_P, TO_PROMOTABLE, session, known_stamp);
		primary = PROM_ASKED;
		SAY("primary: asks for promotable\n")
	   }
	:: d_step { primary == PROM_ASKED && ANSWERED(GRANTED) ->
		take_answer(request[SLOT_P].wrote);
		output_open = false;
		primary = (link_up -> PROTECTED : LOST);
		REACHED(W_PROTECTED);
		if
		:: session == 2 -> REACHED(W_SECOND_SESSION_PROTECTED)
		:: else
		fi;
		SAY("primary: promotable is granted\n")
	   }

	/* Epochs. */
	:: d_step { EPOCH_LOOP && link_up && unacked == 0 && epoch < EPOCHS ->
		checkpoint();
		SAY("primary: barrier, epoch sent\n")
	   }
	:: d_step { engaged && ACKED ->
		if
		:: ran_at != 0 -> REACHED(W_LATE_ACK_AFTER_PROMOTION)
		:: else
		fi;
		release_unacked();
		unacked = 0;
		SAY("primary: ack, the epoch's output is released\n")
	   }

	/* Loss of the backup, and a new link of the same session. */
	:: d_step { EPOCH_LOOP && link_up -> lose_link(); primary = (primary == PROTECTED -> LOST : primary) }
	:: d_step { primary == HANDOVER && link_up -> lose_link(); primary = LOST }
	:: d_step { MAY_REARM && !link_up && welcome[session] != 0 -> rearm() }

	/* Solo, asked for after a loss or when the pause budget has run out; and unprotect. */
	:: d_step { primary == PROTECTED || primary == LOST || primary == HANDOVER ->
		ask(SLOT_P, TO_SOLO, 0, known_stamp);
		primary = SOLO_ASKED;
		SAY("primary: asks for solo\n")
	   }
	:: d_step { primary == PROTECTED || primary == LOST || primary == HANDOVER ||
	   (primary == UNPROTECTED && reg.mode == SOLO) ->
		ask(SLOT_P, TO_NONE, 0, known_stamp);
		primary = NONE_ASKED;
		SAY("primary: asks for none\n")
	   }
	:: d_step { (primary == SOLO_ASKED || primary == NONE_ASKED) && ANSWERED(GRANTED) ->
		if
		:: primary == SOLO_ASKED -> REACHED(W_SOLO)
		:: else -> REACHED(W_UNPROTECTED_AGAIN)
		fi;
		take_answer(request[SLOT_P].wrote);
		run_alone();
		SAY("primary: granted; output open\n")
	   }
	:: d_step { (primary == PROM_ASKED || primary == SOLO_ASKED || primary == NONE_ASKED) && ANSWERED(DENIED) ->
		take_denial()
	   }

	/* It looks at the register when the backup says that it was promoted. */
	:: d_step { (primary == PROTECTED || primary == LOST || primary == HANDOVER) && reg.owner != P ->
		primary = DEPOSED;
		REACHED(W_DEPOSED_BY_READING);
		SAY("primary: reads the register, deposed\n")
	   }

	/* Handover: the guest is stopped with its last epoch. */
	:: d_step { primary == PROTECTED && unacked == 0 && epoch < EPOCHS ->
		checkpoint();
		primary = HANDOVER;
		SAY("primary: handover, the guest is stopped, last epoch sent\n")
	   }
	:: d_step { primary == HANDOVER && unacked == 0 && !told_to_promote[session] ->
		told_to_promote[session] = true;
		SAY("primary: tells the backup to promote\n")
	   }
	:: d_step { primary == HANDOVER && refused_to_promote[session] ->
		told_to_promote[session] = false;
		refused_to_promote[session] = false;
		primary = PROTECTED;
		REACHED(W_HANDOVER_REFUSED);
		SAY("primary: handover refused, the guest resumes\n")
	   }

	/* The backup is not told so, and may still do as it was told. */
	:: d_step { primary == HANDOVER && told_to_promote[session] ->
		primary = PROTECTED;
		REACHED(W_HANDOVER_GIVEN_UP);
		SAY("primary: the handover did not happen in time, the guest resumes\n")
	   }

	/* Deposed: the guest is stopped and kept until the new owner runs, or hands back. */
	:: d_step { primary == DEPOSED && reg.owner != P &&
	   (reg.running || IS(OLD_COPY_DESTROYED_BEFORE_RUNNING)) ->
		CHECK(D1_destroyed_after_running, reg.owner != P && reg.running);
		REACHED(W_DEPOSED_DESTROYED);
		if
		:: told_to_promote[session] -> REACHED(W_HANDOVER_DONE)
		:: else
		fi;
		end_session(DESTROYED);
		CHECK(L1_a_copy_remains, A_COPY_REMAINS);
		SAY("primary: the old copy is destroyed\n")
	   }
	:: d_step { primary == DEPOSED && reg.owner == P ->
		ask(SLOT_P, TO_SOLO, 0, reg.stamp);
		primary = GUARD_ASKED;
		REACHED(W_HANDED_BACK);
		SAY("primary: the term is handed back; asks for solo\n")
	   }
#ifdef RECLAIM
	:: d_step { primary == DEPOSED && reg.owner != P && !reg.running ->
		ask(SLOT_P, TO_RECLAIMED, 0, reg.stamp);
		primary = RECLAIM_ASKED;
		SAY("primary: asks for the term back\n")
	   }
	:: d_step { primary == RECLAIM_ASKED && ANSWERED(GRANTED) ->
		REACHED(W_RECLAIMED);
		take_answer(request[SLOT_P].wrote);
		run_alone();
		SAY("primary: the term is taken back; output open\n")
	   }
	:: d_step { primary == RECLAIM_ASKED && ANSWERED(DENIED) -> take_answer(0); primary = DEPOSED }
#endif

	/* The engine crashes. Output stays as it is, the guard resumes the guest. */
	:: d_step { engine_crashes < ENGINE_CRASHES && primary != DESTROYED && primary != GUARD ->
		engine_crashes++;
		if
		:: IS(REQUEST_ID_REUSED) -> old_wrote = request[SLOT_P].wrote
		:: else
		fi;
		abandon(SLOT_P, SLOT_P_STRAY);
		known_stamp = 0;
		end_session(GUARD);
		SAY("primary: the engine crashes; the guard resumes the guest\n")
	   }
	/* It asks even when it reads none or solo: only a grant proves that no request of the dead engine can
	 * change the register later, because every one of them names an older stamp. */
	:: d_step { primary == GUARD && reg.owner == P ->
		ask(SLOT_P, TO_SOLO, 0, reg.stamp);
		if
		:: IS(REQUEST_ID_REUSED) -> request[SLOT_P].wrote = old_wrote
		:: else
		fi;
		primary = GUARD_ASKED;
		SAY("guard: asks for solo\n")
	   }
	/* The operator has asked for the end of the protection, at whatever moment: the guard goes on with it. */
	:: d_step { primary == GUARD && reg.owner == P ->
		ask(SLOT_P, TO_NONE, 0, reg.stamp);
		primary = GUARD_ASKED;
		SAY("guard: asks for none\n")
	   }
	:: d_step { primary == GUARD && reg.owner != P ->
		primary = DEPOSED;
		REACHED(W_GUARD_DEPOSED);
		SAY("guard: the register names B, deposed\n")
	   }
	:: d_step { primary == GUARD_ASKED && ANSWERED(GRANTED) ->
		if
		:: reg.mode == NONE -> REACHED(W_GUARD_ENDED)
		:: else -> REACHED(W_GUARD_GRANTED)
		fi;
		take_answer(request[SLOT_P].wrote);
		run_alone();
		SAY("guard: granted; output open\n")
	   }
	:: d_step { primary == GUARD_ASKED && ANSWERED(DENIED) ->
		primary = (request[SLOT_P].seen_owner == P -> GUARD : DEPOSED);
		take_answer(0);
		SAY("guard: denied\n")
	   }

	/* Mutants. */
	:: d_step { IS(UNKNOWN_TAKEN_FOR_DENIED_PROMOTABLE) && primary == PROM_ASKED && ANSWERED(NO_ANSWER) ->
		abandon(SLOT_P, SLOT_P_STRAY);
		run_alone();
		SAY("mutant: promotable was not answered, so it was never granted; output open\n")
	   }
	:: d_step { IS(UNKNOWN_TAKEN_FOR_DENIED_SOLO) && primary == SOLO_ASKED && ANSWERED(NO_ANSWER) ->
		abandon(SLOT_P, SLOT_P_STRAY);
		run_alone();
		SAY("mutant: solo was not answered, so nobody was promoted; output open\n")
	   }
	:: d_step { IS(OPEN_BEFORE_SOLO_GRANT) && primary == LOST ->
		run_alone();
		SAY("mutant: output open before solo is granted\n")
	   }
	:: d_step { IS(GUARD_OPENS_WITHOUT_GRANT) && primary == GUARD ->
		run_alone();
		SAY("mutant: the guard opens the output\n")
	   }
	:: d_step { IS(GUARD_TRUSTS_READ) && primary == GUARD && reg.owner == P && reg.mode != PROMOTABLE ->
		known_stamp = reg.stamp;
		run_alone();
		SAY("mutant: the guard reads none or solo; output open\n")
	   }
	:: d_step { IS(STALE_READ_BELIEVED) && primary == DEPOSED ->
		run_alone();
		SAY("mutant: an old read names P; output open\n")
	   }
	od
}
