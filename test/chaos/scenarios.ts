import { checkpoints } from './checkpoints.ts'
import { drops } from './drops.ts'
import { evictions } from './evictions.ts'
import { fuzz } from './fuzz.ts'
import { kills } from './kills.ts'
import { limits } from './limits.ts'
import type { Scenario } from './scenario.ts'
import { soak } from './soak.ts'

interface Sized {
  readonly run: Scenario
  /** The size for the figures in issues. */
  readonly full: number
  /** All scenarios together take less than 90 s at this size. */
  readonly quick: number
}

export const SCENARIOS: Record<string, Sized> = {
  drops: { run: drops, full: 1_000, quick: 60 },
  kills: { run: kills, full: 100, quick: 5 },
  evictions: { run: evictions, full: 200, quick: 20 },
  checkpoints: { run: checkpoints, full: 1_000_000, quick: 20_000 },
  fuzz: { run: fuzz, full: 1_000_000, quick: 20_000 },
  limits: { run: limits, full: 10_000, quick: 1_000 },
  soak: { run: soak, full: 1_800, quick: 10 },
}
