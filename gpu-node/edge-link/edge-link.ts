/**
 * Keeps a gpu node registered with its edge: `Registration` if the edge connects to the node, `DialIn` if the
 * node connects to the edge.
 */
export interface EdgeLink {
  /** Settles when the first heartbeat is accepted; rejects when the edge refuses the node: retrying would not help. */
  readonly registered: Promise<void>
  /** Whether the node's registration is valid now. */
  readonly holdsLease: boolean
  /** Reports a change at once, before the next heartbeat is due. Does nothing when the edge cannot be reached. */
  sendHeartbeat(): Promise<void>
  /** Ends the registration; if the edge cannot be reached, the lease expires. */
  stop(): Promise<void>
}
