"""Each check passes on an honest run, and fails on the fault it exists for."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import msgpack
import numpy as np
import pytest

from secure_pfnas.audit.checks import (
    budget_kept,
    ledger_matches_releases,
    masked_words_uniform,
    masks_fresh,
    message_schema,
    no_plaintext,
    reward_noised,
    single_client_sum,
)
from secure_pfnas.audit.findings import EVIDENCE_MAX, Verdict, judged
from secure_pfnas.audit.journal import Body, Journal
from secure_pfnas.privacy.charge import Budget
from secure_pfnas.privacy.ledger import Ledger
from secure_pfnas.privacy.plan import REWARD, PrivacyPlan, RewardPlan
from secure_pfnas.secagg.messages import (
    CommitRequest,
    PairSeedShare,
    Reveal,
    Roster,
    SelfMaskShare,
    Upload,
)

MINIMUM = 5


def passes(finding):
    return finding.verdict is Verdict.PASS


def fails(finding, text):
    return finding.verdict is Verdict.FAIL and any(text in line for line in finding.evidence)


# An honest run -----------------------------------------------------------------------------------


def test_an_honest_run_passes_every_check(play, journal):
    sigma = float(play.federation.plan.reward.sigma)
    plan = play.federation.plan
    findings = [
        message_schema.check(journal),
        masked_words_uniform.check(journal),
        masks_fresh.check(journal),
        single_client_sum.check(journal, MINIMUM),
        reward_noised.check(journal, play.witness.truths, sigma),
        ledger_matches_releases.check(journal),
        budget_kept.check(journal.ledgers, 4.0, plan.delta),
        no_plaintext.check("at_broker", play.at_broker(), play.wanted_at_broker()),
        no_plaintext.check("at_server", play.at_server(), play.wanted()),
    ]
    assert {finding.check for finding in findings if not passes(finding)} == set()
    assert len(play.wanted()) > 200  # keys, seeds and four canaries' values


def test_an_empty_capture_is_not_observed():
    nothing = Journal(declared={})
    findings = [
        message_schema.check(nothing),
        masked_words_uniform.check(nothing),
        masks_fresh.check(nothing),
        single_client_sum.check(nothing, MINIMUM),
        reward_noised.check(nothing, {}, 2.0),
        ledger_matches_releases.check(nothing),
        budget_kept.check({"dev-000": Ledger()}, 4.0, 1e-5),
        no_plaintext.check("at_broker", [], []),
    ]
    assert {finding.verdict for finding in findings} == {Verdict.NOT_OBSERVED}


def test_a_long_list_of_faults_is_cut_and_says_so():
    finding = judged("it", "holds", (f"fault {n}" for n in range(EVIDENCE_MAX + 5)), "")
    assert finding.evidence[-1] == "and 5 more"
    assert finding.to_json()["verdict"] == "fail"


# Messages ----------------------------------------------------------------------------------------


def with_payload(journal, number, **changes):
    seen = list(journal.observations)
    seen[number] = replace(seen[number], **changes)
    return replace(journal, observations=tuple(seen))


def test_bytes_that_are_no_envelope_are_found(journal):
    assert fails(
        message_schema.check(with_payload(journal, 3, payload=b"debug: 0.93")), "message 3"
    )


def test_an_envelope_with_something_behind_it_is_found(journal):
    longer = journal.observations[0].payload + b"x"
    assert fails(message_schema.check(with_payload(journal, 0, payload=longer)), "malformed")


def test_a_message_under_anothers_name_is_found(journal):
    finding = message_schema.check(with_payload(journal, 0, publisher="dev-999"))
    assert fails(finding, "published by dev-999")


def test_an_undeclared_kind_is_found(journal):
    declared = {kind: cls for kind, cls in journal.declared.items() if kind != "report"}
    assert fails(message_schema.check(replace(journal, declared=declared)), "not a declared kind")


def test_a_body_with_an_undeclared_field_is_found(changed):
    def with_loss(body, report):
        return msgpack.packb({**report.model_dump(), "loss": 1}, use_bin_type=True)

    assert fails(message_schema.check(changed("report", with_loss)), "report from dev-")


# Plaintext ---------------------------------------------------------------------------------------


def test_a_debug_line_with_an_accuracy_is_found(play):
    canary = play.witness.planted[0]
    line = f"round {canary.round}: accuracy {canary.correct / canary.validation_size}".encode()
    places = [*play.at_server(), ("server.log", line)]
    finding = no_plaintext.check("at_server", places, play.wanted())
    assert fails(finding, "server.log: accuracy (text)")


def test_a_key_in_a_payload_is_found(play):
    key = min(play.witness.secrets)
    finding = no_plaintext.check("at_broker", [("topic", b"..." + key)], play.wanted_at_broker())
    assert fails(finding, "topic: key or seed")


def test_a_task_that_is_not_sealed_is_found(play):
    body = next(b for b in play.journal.bodies if b.kind == "task" and b.recipient == "dev-002")
    finding = no_plaintext.check("at_broker", [("topic", body.data)], play.wanted_at_broker())
    assert fails(finding, "weights sent to dev-002")


# Masks -------------------------------------------------------------------------------------------


def rewritten_upload(change):
    """Rewrite the slots of every upload by ``change(body, slot) -> bytes``."""

    def rewrite(body, report):
        upload = Upload.decode(report.upload)
        slots = tuple(
            slot.model_copy(update={"values": change(body, slot)}) for slot in upload.slots
        )
        encoded = upload.model_copy(update={"slots": slots}).encode()
        return report.model_copy(update={"upload": encoded}).encode()

    return rewrite


def small_codes(body, slot):
    count = len(slot.values) // 4
    rng = np.random.default_rng([slot.slot, body.round])
    return rng.integers(2**19 - 500, 2**19 + 500, count, dtype=np.uint32).tobytes()


def test_uploads_without_masks_are_found_by_three_checks(changed):
    unmasked = changed("report", rewritten_upload(small_codes))
    assert fails(masked_words_uniform.check(unmasked), "not uniform")
    assert fails(masks_fresh.check(unmasked), "differ by too little")
    assert fails(single_client_sum.check(unmasked, MINIMUM), "is readable")


def test_one_device_without_masks_is_named(changed):
    def only_one(body, slot):
        return small_codes(body, slot) if body.sender == "dev-004" else slot.values

    finding = masked_words_uniform.check(changed("report", rewritten_upload(only_one)))
    assert fails(finding, "dev-004")
    assert all("dev-004" in line for line in finding.evidence)


def test_a_mask_used_in_two_rounds_is_found_though_it_looks_uniform(changed):
    def same_mask(body, slot):
        count = len(slot.values) // 4
        name = int(body.sender.removeprefix("dev-"))
        mask = np.random.default_rng([slot.slot, name]).integers(0, 2**32, count, dtype=np.uint32)
        return (np.frombuffer(small_codes(body, slot), "<u4") + mask).tobytes()

    reused = changed("report", rewritten_upload(same_mask))
    assert passes(masked_words_uniform.check(reused))
    assert fails(masks_fresh.check(reused), "in round 1 and")


def test_a_mask_shared_by_two_devices_is_found(changed):
    def shared_mask(body, slot):
        count = len(slot.values) // 4
        seed = [slot.slot, body.round]
        mask = np.random.default_rng(seed).integers(0, 2**32, count, dtype=np.uint32)
        return (np.frombuffer(small_codes(body, slot), "<u4") + mask).tobytes()

    assert fails(masks_fresh.check(changed("report", rewritten_upload(shared_mask))), "differ by")


# Who is in a sum ---------------------------------------------------------------------------------


def test_a_slot_opened_under_the_pinned_minimum_is_found(journal):
    finding = single_client_sum.check(journal, 9)  # more than there are devices
    assert fails(finding, "slots may open")
    assert fails(finding, "m_min is 5, not 9")


def test_devices_that_share_a_key_count_once(changed):
    def one_key(_, task):
        roster = Roster.decode(task.roster)
        certificate = roster.members[0].certificate
        members = tuple(m.model_copy(update={"certificate": certificate}) for m in roster.members)
        altered = roster.model_copy(update={"members": members})
        return task.model_copy(update={"roster": altered.encode()}).encode()

    assert fails(single_client_sum.check(changed("task", one_key), MINIMUM), "where 0 slots")


def test_two_rosters_in_a_round_are_found(changed):
    def for_one(body, task):
        if body.recipient != "dev-001":
            return None
        altered = Roster.decode(task.roster).model_copy(update={"parameters": b"other"})
        return task.model_copy(update={"roster": altered.encode()}).encode()

    assert fails(single_client_sum.check(changed("task", for_one), MINIMUM), "different rosters")


def test_two_survivor_sets_in_a_round_are_found(changed):
    def for_one(body, request):
        if body.recipient != "dev-001":
            return None
        shorter = {"survivors": request.survivors[1:], "upload_digests": request.upload_digests[1:]}
        return request.model_copy(update=shorter).encode()

    finding = single_client_sum.check(changed("commit_request", for_one), MINIMUM)
    assert fails(finding, "different survivor sets")


def extended(journal, reveal):
    body = Body(1, "dev-000", "server", "reveal", reveal.encode())
    return replace(journal, bodies=(*journal.bodies, body))


def test_both_kinds_of_share_of_one_peer_are_found(journal):
    reveal = Reveal(rid=bytes(32), shares=(PairSeedShare(peer="dev-003", shares=bytes(32)),))
    finding = single_client_sum.check(extended(journal, reveal), MINIMUM)
    assert fails(finding, "pair seeds of dev-003, who survived")
    assert fails(finding, "both kinds of share of dev-003")


def test_a_self_mask_of_somebody_who_dropped_is_found(journal):
    reveal = Reveal(rid=bytes(32), shares=(SelfMaskShare(peer="dev-999", shares=bytes(32)),))
    finding = single_client_sum.check(extended(journal, reveal), MINIMUM)
    assert fails(finding, "who did not survive")


def test_a_survivor_set_without_a_roster_is_found(journal):
    request = CommitRequest(rid=bytes(32), survivors=("dev-000",), upload_digests=(bytes(32),))
    body = Body(9, "server", "dev-000", "commit_request", request.encode())
    odd = replace(journal, bodies=(*journal.bodies, body))
    assert fails(single_client_sum.check(odd, MINIMUM), "without a roster")


# Rewards -----------------------------------------------------------------------------------------


def noised(changed, truths, noise):
    def rewrite(body, report):
        value = truths[body.sender, body.round] + noise()
        return report.model_copy(update={"noised_correct": value}).encode()

    return changed("report", rewrite)


@pytest.mark.parametrize("share", [0, 0.1, 5])
def test_noise_of_another_size_than_promised_is_found(play, changed, share):
    rng = np.random.default_rng(3)
    sigma = 20.0
    other = noised(changed, play.witness.truths, lambda: round(rng.normal(0, share * sigma)))
    size = "too much" if share > 1 else "too little"
    assert fails(reward_noised.check(other, play.witness.truths, sigma), size)


def test_honest_noise_is_not_suspected(play, changed):
    rng = np.random.default_rng(4)
    for sigma in (1.0, 3.0, 40.0) * 5:
        honest = noised(changed, play.witness.truths, lambda: round(rng.normal(0, sigma)))  # noqa: B023
        assert passes(reward_noised.check(honest, play.witness.truths, sigma))


def test_a_reward_beside_the_ledger_is_found(changed):
    def raised(body, report):
        if body.sender != "dev-003":
            return None
        return report.model_copy(update={"noised_correct": report.noised_correct + 1}).encode()

    finding = ledger_matches_releases.check(changed("report", raised))
    assert fails(finding, "dev-003 in round 1: the entry holds another value")


def test_a_reward_without_an_entry_is_found(journal):
    ledgers = {**journal.ledgers, "dev-005": Ledger()}
    finding = ledger_matches_releases.check(replace(journal, ledgers=ledgers))
    assert fails(finding, "dev-005 in round 1: 0 entries")


def test_two_values_for_one_release_are_found(journal):
    reports = [body for body in journal.bodies if body.kind == "report"]
    report = journal.declared["report"].decode(reports[0].data)
    other = report.model_copy(update={"noised_correct": report.noised_correct + 7}).encode()
    twice = replace(journal, bodies=(*journal.bodies, replace(reports[0], data=other)))
    assert fails(ledger_matches_releases.check(twice), "2 different values")


def test_a_release_that_was_never_reserved_is_found(journal):
    name, ledger = next(iter(journal.ledgers.items()))
    unreserved = Ledger(tuple(e for e in ledger.entries if e.state.value == "released"))
    finding = ledger_matches_releases.check(replace(journal, ledgers={name: unreserved}))
    assert fails(finding, "before it was reserved")


# Budgets -----------------------------------------------------------------------------------------


def spent_ledger(sigma, rounds):
    plan = PrivacyPlan(RewardPlan(Fraction(sigma), 100, rounds), None, 1e-5, rounds)
    ledger = Ledger()
    for number in range(1, rounds + 1):
        charge, budget = plan.charge(REWARD), Budget(float("inf"), float("inf"), 1e-5)
        ledger, _ = ledger.reserve("fed", number, REWARD, charge, budget)
    return ledger


@pytest.mark.parametrize("sigma", [2, 10, 50])
@pytest.mark.parametrize("rounds", [1, 7])
def test_two_accountants_agree(sigma, rounds):
    ledger = spent_ledger(sigma, rounds)
    spent = ledger.epsilon(1e-5).validation_epsilon
    assert budget_kept.reckon(ledger, 1e-5) == pytest.approx(spent, rel=0.01)
    assert passes(budget_kept.check({"dev-000": ledger}, spent, 1e-5))


def test_an_overspent_ledger_is_found():
    finding = budget_kept.check({"dev-000": spent_ledger(5, 10)}, 1.0, 1e-5)
    assert fails(finding, "dev-000 spent")


def test_a_ledger_without_noise_is_beyond_any_budget(play):
    charge = replace(play.federation.plan, reward=None).charge(REWARD)
    budget = Budget(float("inf"), float("inf"), 1e-5)
    ledger, _ = Ledger().reserve("fed", 1, REWARD, charge, budget)
    assert budget_kept.reckon(ledger, 1e-5) == float("inf")
    assert fails(budget_kept.check({"dev-000": ledger}, 100.0, 1e-5), "spent ε = inf")


def test_hopelessly_little_noise_is_infinite_rather_than_an_overflow():
    assert budget_kept.reckon(spent_ledger(1, 500), 1e-5) == float("inf")
