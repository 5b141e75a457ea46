"""Which function applies which record: all that changes the durable state, decided now or read from the log."""

from __future__ import annotations

from typing import Final

from cluster_agent.coordinator.book import Appliers
from cluster_agent.coordinator.cache import caching, recalling, seeking
from cluster_agent.coordinator.cache import records as cache_records
from cluster_agent.coordinator.clusters import early, offering, pushing, receiving, spilling
from cluster_agent.coordinator.clusters import records as cluster_records
from cluster_agent.coordinator.nodes import placement, presence
from cluster_agent.coordinator.nodes import records as node_records
from cluster_agent.coordinator.runs import alone, assigning, ending, expiring, reserving, timing
from cluster_agent.coordinator.runs import records as run_records
from cluster_agent.coordinator.tasks import (
    batching,
    closing,
    committing,
    crossing,
    grouping,
    meeting,
    retrying,
    sources,
    surrendering,
)
from cluster_agent.coordinator.tasks import records as task_records
from cluster_agent.coordinator.units import clearing, fetching, mending, shared
from cluster_agent.coordinator.units import records as unit_records

APPLIERS: Final[Appliers] = {
    run_records.FragmentTaken: assigning.apply_taken,
    run_records.DesiredSet: ending.apply_desired,
    run_records.DirectoryLearned: assigning.apply_directory,
    node_records.NodeMet: presence.apply_met,
    cluster_records.MessageKept: early.apply_kept,
    cluster_records.EarlyRefused: early.apply_refused,
    run_records.EarlyHeard: assigning.apply_early_heard,
    run_records.Reserved: reserving.apply_reserved,
    run_records.HalfExpired: reserving.apply_half_expired,
    run_records.HalfDropped: reserving.apply_half_dropped,
    run_records.FreedSaid: reserving.apply_freed_said,
    run_records.AloneCounted: alone.apply_counted,
    task_records.PartPlaced: sources.apply_part_placed,
    task_records.PartOpened: sources.apply_part_opened,
    task_records.PartFailed: sources.apply_part_failed,
    node_records.Assigned: placement.apply_assigned,
    task_records.Produced: committing.apply_produced,
    task_records.Committed: committing.apply_committed,
    task_records.AttemptEnded: retrying.apply_attempt_ended,
    task_records.Surrendered: surrendering.apply_surrendered,
    run_records.RetentionOver: ending.apply_retention_over,
    run_records.OutputsExpired: expiring.apply_expired,
    run_records.RunTimed: timing.apply_timed,
    task_records.SidesComplete: grouping.apply_sides_complete,
    task_records.Gathered: grouping.apply_gathered,
    task_records.Batched: batching.apply_batched,
    task_records.Crossed: crossing.apply_crossed,
    task_records.Met: meeting.apply_met,
    cluster_records.Spilled: spilling.apply_spilled,
    cluster_records.Offered: offering.apply_offered,
    cluster_records.Rerouted: offering.apply_rerouted,
    cluster_records.GrantGiven: offering.apply_grant_given,
    cluster_records.GrantHeard: offering.apply_grant_heard,
    cluster_records.OutReleased: offering.apply_out_released,
    cluster_records.OfferTaken: receiving.apply_offer_taken,
    cluster_records.OfferDropped: receiving.apply_offer_dropped,
    cluster_records.OfferHeld: receiving.apply_offer_held,
    cluster_records.GrantTaken: receiving.apply_grant_taken,
    unit_records.FetchPlaced: fetching.apply_fetch_placed,
    unit_records.Fetched: fetching.apply_fetched,
    unit_records.Shared: shared.apply_shared,
    unit_records.Cleared: clearing.apply_cleared,
    unit_records.CopiesLost: mending.apply_copies_lost,
    cluster_records.PushWanted: pushing.apply_push_wanted,
    cluster_records.PushSettled: pushing.apply_push_settled,
    unit_records.Remade: mending.apply_remade,
    unit_records.RemakeDropped: mending.apply_remake_dropped,
    cache_records.Recalled: recalling.apply_recalled,
    cache_records.Reused: seeking.apply_reused,
    cache_records.ResultHeard: seeking.apply_heard,
    cache_records.CacheFilled: caching.apply_filled,
    cache_records.CacheDropped: caching.apply_dropped,
    task_records.Reported: closing.apply_reported,
    task_records.Closed: closing.apply_closed,
    run_records.Ended: ending.apply_ended,
}
