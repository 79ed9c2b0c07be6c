import type { Lease } from '../../shared/protocol/fleet.ts'

/**
 * A lease expires after four missed heartbeats. A stream is given up when the lease has ended and a moment has passed
 * (edge/streams/silence.ts): well within the 15 s that docs/operations.md promises. Not shorter: an ordinary node
 * waits up to 8 s for the answer to a heartbeat, and then needs time for one more (gpu-node/edge-link/registration.ts).
 */
export const LEASE: Lease = { heartbeat_ms: 3_000, lease_ms: 12_000 }

/** A node with less left of its lease has missed a heartbeat: new requests go to others. */
export const OVERDUE_MS = LEASE.lease_ms - 2 * LEASE.heartbeat_ms
