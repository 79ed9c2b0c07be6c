/** What one check has found. `warning`: apar works, but not all of it. */
export interface Finding {
  readonly check: string
  readonly state: 'ok' | 'warning' | 'error'
  readonly found: string
  /** One line: what to do about it. */
  readonly remedy?: string
}
