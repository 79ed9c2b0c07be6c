/** How a gpu node keeps known to its edge: `Registration` for one that the edge dials, `DialIn` for one that dials. */
export interface EdgeLink {
  /** Settles with the first accepted beat; rejects when the edge refuses the node, which no retry can change. */
  readonly registered: Promise<void>
  /** The edge counts on this node at present. */
  readonly holdsLease: boolean
  /** Tells the edge of a change without waiting for the next beat; nothing when it cannot be reached. */
  beatNow(): Promise<void>
  /** Leaves the fleet; the lease ends by itself when the edge cannot be told. */
  stop(): Promise<void>
}
