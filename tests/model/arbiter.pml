/* SPDX-License-Identifier: Apache-2.0
 *
 * The arbiter: a register that is changed only by compare-and-set on its whole value, stamp included.
 */

/* The value without its stamp, in a byte; NO_VALUE equals none. Running = no is possible with solo only. */
#define VALUE (reg.term * 32 + reg.session * 8 + (reg.running -> reg.mode : 3) * 2 + reg.owner)
#define NO_VALUE 255

#define MATCHES(slot) (IS(STAMP_NOT_COMPARED) \
	-> request[slot].expected_value == VALUE : request[slot].expected == reg.stamp)

inline ask(slot, wanted, of_session, expected_stamp) {
	request[slot].want = wanted;
	request[slot].session = of_session;
	request[slot].expected = expected_stamp;
	if
	:: IS(STAMP_NOT_COMPARED) ->
		request[slot].expected_value = (expected_stamp == reg.stamp -> VALUE : NO_VALUE)
	:: else
	fi
}

inline clear(slot) {
	request[slot].want = NOTHING;
	request[slot].session = 0;
	request[slot].expected = 0;
	request[slot].expected_value = 0;
	request[slot].wrote = 0;
	request[slot].answer = NO_ANSWER;
	request[slot].seen_owner = 0;
	request[slot].seen_mode = 0;
	request[slot].seen_stamp = 0
}

inline copy_request(from, to) {
	request[to].want = request[from].want;
	request[to].session = request[from].session;
	request[to].expected = request[from].expected;
	request[to].expected_value = request[from].expected_value
}

#define MAY_BE_APPLIED_LATER(slot) (request[slot].want != NOTHING && \
	(IS(STAMP_NOT_COMPARED) || request[slot].expected == reg.stamp))

/* Nobody waits for the request in `slot` any more, but copies of it may be in flight: it moves to one of two
 * slots for strays. One whose expected value has passed can only be denied, which no one hears: it is dropped.
 * Two are enough for the bounds: unless its owner has crashed, an answered request has passed. */
inline abandon(slot, stray) {
	if
	:: !MAY_BE_APPLIED_LATER(slot)
	:: MAY_BE_APPLIED_LATER(slot) && request[stray].want == NOTHING -> copy_request(slot, stray)
	:: MAY_BE_APPLIED_LATER(slot) && request[stray].want != NOTHING -> copy_request(slot, stray + 1)
	fi;
	clear(slot)
}

/* The register takes the value that the request in `slot` wants. */
inline apply(slot) {
	if
	:: request[slot].want == TO_PROMOTABLE ->
		CHECK(H1_protected_is_honest, backup[request[slot].session] != INCONSISTENT);
		reg.mode = PROMOTABLE;
		reg.session = request[slot].session;
		SAY("arbiter: promotable\n")
	:: request[slot].want == TO_SOLO ->
		CHECK(H1_protected_is_honest, primary != PROTECTED);
		reg.mode = SOLO;
		reg.session = 0;
		SAY("arbiter: solo\n")
	:: request[slot].want == TO_NONE ->
		CHECK(H1_protected_is_honest, primary != PROTECTED);
		reg.mode = NONE;
		reg.session = 0;
		SAY("arbiter: none\n")
	:: request[slot].want == TO_PROMOTED ->
		CHECK(O1_owner_has_a_copy, backup[request[slot].session] == ASKED ||
			backup[request[slot].session] == CRASHED);
		reg.term++;
		reg.owner = B;
		reg.mode = SOLO;
		reg.session = 0;
		reg.running = false;
		SAY("arbiter: B owns the next term, running = no\n")
	:: request[slot].want == TO_RUNNING ->
		reg.running = true;
		SAY("arbiter: running = yes\n")
	:: request[slot].want == TO_HANDED_BACK || request[slot].want == TO_RECLAIMED ->
		reg.term++;
		reg.owner = P;
		reg.running = true;
		SAY("arbiter: P owns the next term, solo\n")
	fi;
	reg.stamp++;
	request[slot].wrote = reg.stamp
}

/* A request arrives, for the first time or again, and changes the register. Its answer may be lost. */
#define CAN_APPLY(slot) (request[slot].want != NOTHING && request[slot].answer == NO_ANSWER && \
	request[slot].wrote != reg.stamp && MATCHES(slot))

/* A request arrives (again) whose answer the requester will hear and believe. */
#define CAN_ANSWER(slot) (request[slot].want != NOTHING && request[slot].answer == NO_ANSWER && \
	(request[slot].wrote == reg.stamp || !MATCHES(slot)))

inline give_answer(slot) {
	if
	:: request[slot].wrote == reg.stamp -> request[slot].answer = GRANTED
	:: else ->
		request[slot].answer = DENIED;
		request[slot].seen_owner = reg.owner;
		request[slot].seen_mode = reg.mode;
		request[slot].seen_stamp = reg.stamp
	fi
}

/* An operator says no, whatever the register holds. No other copy of that request is carried out later: no
 * register has the stamp 0. */
inline refuse(slot) {
	refusals++;
	request[slot].expected = 0;
	request[slot].expected_value = NO_VALUE;
	give_answer(slot);
	SAY("arbiter: refused by an operator\n")
}

inline drop_passed_stray(stray) {
	if
	:: !IS(STAMP_NOT_COMPARED) && request[stray].expected != reg.stamp -> clear(stray)
	:: else
	fi
}

inline apply_request(slot) {
	apply(slot);
	drop_passed_stray(SLOT_P_STRAY);
	drop_passed_stray(SLOT_P_STRAY + 1);
	drop_passed_stray(SLOT_B_STRAY);
	drop_passed_stray(SLOT_B_STRAY + 1)
}

proctype Arbiter() {
end:	do
	:: d_step { CAN_APPLY(SLOT_P) -> apply_request(SLOT_P) }
	:: d_step { CAN_APPLY(1) -> apply_request(1) }
	:: d_step { CAN_APPLY(2) -> apply_request(2) }
	:: d_step { CAN_APPLY(SLOT_P_STRAY) -> apply_request(SLOT_P_STRAY) }
	:: d_step { CAN_APPLY(SLOT_P_STRAY + 1) -> apply_request(SLOT_P_STRAY + 1) }
	:: d_step { CAN_APPLY(SLOT_B_STRAY) -> apply_request(SLOT_B_STRAY) }
	:: d_step { CAN_APPLY(SLOT_B_STRAY + 1) -> apply_request(SLOT_B_STRAY + 1) }
	:: d_step { CAN_ANSWER(SLOT_P) -> give_answer(SLOT_P) }
	:: d_step { CAN_ANSWER(1) && backup[1] != CRASHED -> give_answer(1) }
	:: d_step { CAN_ANSWER(2) && backup[2] != CRASHED -> give_answer(2) }
	:: d_step { refusals < REFUSALS && CAN_APPLY(SLOT_P) -> refuse(SLOT_P) }
	:: d_step { refusals < REFUSALS && CAN_APPLY(1) && backup[1] != CRASHED -> refuse(1) }
	:: d_step { refusals < REFUSALS && CAN_APPLY(2) && backup[2] != CRASHED -> refuse(2) }
	/* Nothing else can happen, ever. */
	:: timeout ->
		CHECK(S1_nobody_is_stuck, PRIMARY_AT_REST && BACKUP_AT_REST(1) && BACKUP_AT_REST(2));
		break
	od
}
